// Package operator owns the client of one Ark operator: its parameters, intents,
// tree signing, off-chain transactions, indexer and event stream, over gRPC. It
// must not know what Vigil does with them: it stores nothing, holds no key, and
// believes an answer no further than its form.
//
// Every call has a deadline, every answer is bounded before it is kept, and every
// failure says through ClassOf whether the same request may pass later. Section
// numbers in comments are those of the Ark protocol description.
package operator
