package bip340

// PubKey is a compressed SEC1 public key: one parity byte (2 or 3) and the
// 32-byte x coordinate. A value made by ParsePubKey is on the curve.
type PubKey [33]byte

// XOnly is a BIP-340 public key: the 32-byte x coordinate of a point with even
// y. A value made by ParseXOnly is on the curve.
type XOnly [32]byte
