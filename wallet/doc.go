// Package wallet owns one actor per wallet, the registry that spawns,
// rehydrates and evicts them, and what a wallet's device may ask of Vigil (spec
// sections 5 to 9): it composes the ledger, the signer, policy, audit, the
// operator and the renewal engine, and knows nothing of transports, encodings
// of rows or secrets.
package wallet
