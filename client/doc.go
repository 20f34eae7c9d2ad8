// Package client owns the device's side of a wallet: its keys, its store, every
// transaction that it signs, and its way out when Vigil is gone. It must not know
// any server room: it speaks to Vigil as a stranger would, over the wire, and
// believes nothing that it has not built, recomputed or seen signed.
//
// A device and Vigil make the key together (Create), sign together, and neither
// can sign alone. The device talks to the Ark operator itself; Vigil is asked for
// the second half of each signature, in one round trip, and is always the last to
// sign. Open takes a wallet up again, Recover makes a new device from the seed.
//
// The seed's words are shown once and are not kept. The device's store holds
// what the seed gives to the device, the host and identity keys, and not the
// recovery key, which stands on a hardened branch of its own: a thief with the
// unlocked device does not have it. What a device needs to leave without Vigil
// is in Export; Leave does it.
package client
