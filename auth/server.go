package auth

import (
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/vigilpb"
)

// Call is a request whose signature was verified. Whether its key may do what
// it asks is not known yet.
type Call struct {
	Method  string         // in full, as in "/vigil.v1.WalletService/Sign"
	Wallet  vigil.WalletID // zero for keygen and recovery
	Host    bip340.PubKey  // for keygen and recovery: the device's host key, which is Key; else zero
	Key     bip340.PubKey  // who signed
	Epoch   uint32
	At      time.Time // the request's own time, to the second
	Nonce   [16]byte
	Hash    [32]byte // identifies the request: all its fields, this server and method
	Payload []byte
	// Source is where the request came from, as far as limits tell sources apart:
	// an IPv4 address or an IPv6 /64. It is no part of the request and set by the
	// transport; empty in process.
	Source string
}

// Verify checks a request to the server with the given host key: its form, its
// signature, and that its time is within window of now. Errors are *vigil.Error
// with CodeMalformed, CodeRequestSignature or CodeClockSkew; with the last the
// call is returned too, so that its sender can be told the time.
func Verify(server bip340.PubKey, network, method string, r *vigilpb.SignedRequest, now time.Time, window time.Duration) (Call, error) {
	req, sig, err := parse(r)
	if err != nil {
		return Call{}, err
	}
	c := Call{
		Method: method, Key: req.Key, Epoch: req.Epoch, At: time.Unix(req.Timestamp, 0),
		Nonce: req.Nonce, Hash: RequestHash(server, network, method, req), Payload: req.Payload,
	}
	if len(req.Wallet) == len(c.Wallet) {
		copy(c.Wallet[:], req.Wallet)
	} else {
		c.Host = req.Key
	}
	if !bip340.Verify(c.Key.XOnly(), c.Hash[:], sig) {
		return Call{}, vigil.Errorf(vigil.CodeRequestSignature, "the signature does not verify: it was made over other bytes, or for another server than %s, another network than %s or another method than %s", server, network, method)
	}
	if age := now.Sub(c.At); age > window || age < -window {
		return c, vigil.Errorf(vigil.CodeClockSkew, "the request's time is %d, the server's is %d: set the clock and sign anew", req.Timestamp, now.Unix())
	}
	return c, nil
}

// Unsigned checks the form of a request that nobody signs, which has a nonce and
// a payload only, and returns it as a call with zero keys. The error is a
// *vigil.Error with CodeMalformed.
func Unsigned(server bip340.PubKey, network, method string, r *vigilpb.SignedRequest) (Call, error) {
	req := Request{Payload: r.GetPayload()}
	rest := proto.Size(r) // what is left once the two fields are taken away
	if err := fill(req.Nonce[:], r.GetNonce(), "nonce"); err != nil {
		return Call{}, err
	}
	if rest != proto.Size(&vigilpb.SignedRequest{Nonce: r.GetNonce(), Payload: r.GetPayload()}) {
		return Call{}, vigil.Errorf(vigil.CodeMalformed, "this call takes a nonce and a payload, and no other field")
	}
	return Call{Method: method, Nonce: req.Nonce, Payload: req.Payload, Hash: RequestHash(server, network, method, req)}, nil
}

// parse reads the fields of a request. Every byte of it counts: there is no
// field that a signature does not cover.
func parse(r *vigilpb.SignedRequest) (req Request, sig [64]byte, err error) {
	if len(r.ProtoReflect().GetUnknown()) > 0 {
		return req, sig, vigil.Errorf(vigil.CodeMalformed, "the request has fields that this server does not know")
	}
	if req.Key, err = bip340.ParsePubKey(r.GetKey()); err != nil {
		return req, sig, vigil.Errorf(vigil.CodeMalformed, "field key: %w", err)
	}
	switch n := len(r.GetWallet()); {
	case n == len(vigil.WalletID{}):
	case n == len(req.Key) && string(r.GetWallet()) == string(req.Key[:]):
	case n == len(req.Key):
		return req, sig, vigil.Errorf(vigil.CodeMalformed, "field wallet: a host key there must be the key that signs")
	default:
		return req, sig, vigil.Errorf(vigil.CodeMalformed, "field wallet: want 32 bytes, or 33 for keygen and recovery, got %d", n)
	}
	if err := fill(req.Nonce[:], r.GetNonce(), "nonce"); err != nil {
		return req, sig, err
	}
	if err := fill(sig[:], r.GetSignature(), "signature"); err != nil {
		return req, sig, err
	}
	req.Wallet, req.Epoch, req.Timestamp, req.Payload = r.GetWallet(), r.GetEpoch(), r.GetTimestamp(), r.GetPayload()
	return req, sig, nil
}

// fill copies a field of fixed length.
func fill(to, from []byte, name string) error {
	if len(from) != len(to) {
		return vigil.Errorf(vigil.CodeMalformed, "field %s: want %d bytes, got %d", name, len(to), len(from))
	}
	copy(to, from)
	return nil
}
