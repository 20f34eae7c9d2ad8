// Package delegate owns what an owner signed ahead: the checks of its intake,
// the persisted record, the table of its states and the times at which it is
// due. It is pure: it knows no store, no transport, no clock, and no secret.
package delegate
