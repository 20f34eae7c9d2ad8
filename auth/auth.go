// Package auth owns who is calling and who answers: the hashes that devices and
// Vigil sign around every call of a wallet, and the checks of both sides. It
// knows nothing of wallets' state, transports or storage.
package auth

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/bip340"
)

// Request is what a signature of a request is about, beside the server, its
// network and the method.
type Request struct {
	// Wallet is the wallet's 32-byte id; or the device's 33-byte host key, for
	// keygen and recovery; or empty, for a request that nobody signs.
	Wallet    []byte
	Key       bip340.PubKey // who signs
	Epoch     uint32
	Timestamp int64 // unix seconds
	Nonce     [16]byte
	Payload   []byte
}

// RequestHash is what a request's key signs: BIP-340 tagged "vigil/request/v1"
// over server, u8 length and network, u8 length and method (in full, as in
// "/vigil.v1.WalletService/Sign"), u8 length and wallet, key, be32 epoch,
// SHA-256 of the payload, be64 timestamp and nonce. Network, method and wallet
// are under 256 bytes.
func RequestHash(server bip340.PubKey, network, method string, r Request) [32]byte {
	b := make([]byte, 0, 256)
	b = append(b, server[:]...)
	b = append(append(b, byte(len(network))), network...)
	b = append(append(b, byte(len(method))), method...)
	b = append(append(b, byte(len(r.Wallet))), r.Wallet...)
	b = append(b, r.Key[:]...)
	b = binary.BigEndian.AppendUint32(b, r.Epoch)
	payload := sha256.Sum256(r.Payload)
	b = append(b, payload[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Timestamp))
	b = append(b, r.Nonce[:]...)
	return bip340.TaggedHash("vigil/request/v1", b)
}

// AnswerHash is what Vigil's host key signs of an answer to the request with the
// given hash: tagged "vigil/answer/v1" over that hash, be64 seq (0, or the
// place in a stream, from 1), be64 timestamp and SHA-256 of the payload.
func AnswerHash(request [32]byte, seq uint64, timestamp int64, payload []byte) [32]byte {
	sum := sha256.Sum256(payload)
	return bip340.TaggedHash("vigil/answer/v1", request[:], be64(seq), be64(uint64(timestamp)), sum[:])
}

// ClockHash is what Vigil's host key signs to tell its time to a request that
// came with another: tagged "vigil/clock/v1" over the request's hash and the
// be64 timestamp. It can never be taken for an answer.
func ClockHash(request [32]byte, timestamp int64) [32]byte {
	return bip340.TaggedHash("vigil/clock/v1", request[:], be64(uint64(timestamp)))
}

// PreparedHash is what Vigil's host key signs of a delegate's id and tree key
// that it issued: tagged "vigil/prepared/v1" over wallet, id, tree key and the
// be64 second at which they lapse.
func PreparedHash(wallet vigil.WalletID, id vigil.DelegateID, treeKey bip340.PubKey, expiresAt int64) [32]byte {
	return bip340.TaggedHash("vigil/prepared/v1", wallet[:], id[:], treeKey[:], be64(uint64(expiresAt)))
}

// WebhookHash is what Vigil's host key signs of a webhook's body: tagged
// "vigil/webhook/v1" over the be64 timestamp and SHA-256 of the body.
func WebhookHash(timestamp int64, body []byte) [32]byte {
	sum := sha256.Sum256(body)
	return bip340.TaggedHash("vigil/webhook/v1", be64(uint64(timestamp)), sum[:])
}

func be64(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }
