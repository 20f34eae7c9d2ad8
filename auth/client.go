package auth

import (
	"errors"

	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/vigilpb"
)

// ErrAnswer says that an answer is not the pinned server's answer to this
// request: nothing of it may be believed.
var ErrAnswer = errors.New("auth: the answer is not signed by the pinned server for this request")

// Sign makes a signed request of r, whose Key is set to key's, and returns its
// hash too, which its answer must be verified against. r.Nonce must be fresh
// randomness. The error is secret.ErrBurned when the key is gone.
func Sign(key *bip340.Key, server bip340.PubKey, network, method string, r Request) (*vigilpb.SignedRequest, [32]byte, error) {
	r.Key = key.PubKey()
	hash := RequestHash(server, network, method, r)
	sig, err := key.Sign(hash[:])
	if err != nil {
		return nil, hash, err
	}
	return &vigilpb.SignedRequest{
		Wallet: r.Wallet, Key: r.Key[:], Epoch: r.Epoch, Timestamp: r.Timestamp,
		Nonce: r.Nonce[:], Payload: r.Payload, Signature: sig[:],
	}, hash, nil
}

// VerifyAnswer checks that a is the answer of the server to the request with the
// given hash, and that its place in a stream is seq, which is 0 for an answer
// that is not of a stream. The error is ErrAnswer.
func VerifyAnswer(server bip340.PubKey, request [32]byte, seq uint64, a *vigilpb.SignedAnswer) error {
	hash := AnswerHash(request, seq, a.GetTimestamp(), a.GetPayload())
	if a.GetSeq() != seq || !verify(server, hash, a.GetSignature()) {
		return ErrAnswer
	}
	return nil
}

// VerifyClock checks that c is the server's time, told to the request with the
// given hash. The error is ErrAnswer.
func VerifyClock(server bip340.PubKey, request [32]byte, c *vigilpb.ServerClock) error {
	if !verify(server, ClockHash(request, c.GetTimestamp()), c.GetSignature()) {
		return ErrAnswer
	}
	return nil
}

func verify(key bip340.PubKey, hash [32]byte, sig []byte) bool {
	return len(sig) == 64 && bip340.Verify(key.XOnly(), hash[:], [64]byte(sig))
}
