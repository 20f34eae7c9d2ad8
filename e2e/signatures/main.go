// Command signatures makes a key for every way in which we sign, signs with it, and
// prints key, message and signature, one JSON object a line: for an implementation
// that shares nothing with ours to verify (e2e/sdk/test/signatures.test.js).
package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"

	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/frost"
	"github.com/vigil-ark/vigil/frost/chilldkg"
	"github.com/vigil-ark/vigil/musig2"
	"github.com/vigil-ark/vigil/secret"
)

// signed is one signature.
type signed struct {
	How string `json:"how"`
	Key string `json:"key"`
	Msg string `json:"msg"`
	Sig string `json:"sig"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "signatures:", err)
		os.Exit(1)
	}
}

func run() error {
	out := json.NewEncoder(os.Stdout)
	tell := func(how string, key bip340.XOnly, msg [32]byte, sig [64]byte) error {
		return out.Encode(signed{how, key.String(), hex.EncodeToString(msg[:]), hex.EncodeToString(sig[:])})
	}
	for range 8 {
		key, _, err := bip340.GenerateKey()
		if err != nil {
			return err
		}
		msg := random()
		sig, err := key.Sign(msg[:])
		if err != nil {
			return err
		}
		if err := tell("BIP-340", key.PubKey().XOnly(), msg, sig); err != nil {
			return err
		}
	}
	for _, n := range []int{2, 3, 10} {
		for _, root := range [][]byte{nil, make([]byte, 32)} {
			msg := random()
			key, sig, err := together(n, root, msg)
			if err != nil {
				return err
			}
			if err := tell(fmt.Sprintf("MuSig2 of %d, tweaked by %d bytes", n, len(root)), key, msg, sig); err != nil {
				return err
			}
		}
	}
	for _, c := range []struct {
		t, n int
		ids  []int
	}{{2, 2, []int{0, 1}}, {2, 3, []int{0, 1}}, {2, 3, []int{0, 2}}, {2, 3, []int{1, 2}}, {3, 5, []int{0, 1, 4}}, {3, 5, []int{1, 2, 3}}} {
		shares, err := ceremony(c.t, c.n)
		if err != nil {
			return err
		}
		set, err := shares[0].Info().Signers(c.ids...)
		if err != nil {
			return err
		}
		taproot, err := set.Untweaked().TapTweak(make([]byte, 32))
		if err != nil {
			return err
		}
		for name, key := range map[string]*frost.Context{"under a tapleaf": set.Untweaked(), "on the key path": taproot} {
			msg := random()
			sig, err := among(key, shares, c.ids, msg)
			if err != nil {
				return err
			}
			if err := tell(fmt.Sprintf("FROST %d of %d by %v %s", c.t, c.n, c.ids, name), key.OutputKey(), msg, sig); err != nil {
				return err
			}
		}
	}
	return nil
}

func random() (b [32]byte) {
	_, _ = rand.Read(b[:]) // never fails: crypto/rand
	return b
}

// ceremony makes a threshold key among n, each with a host key of its own.
func ceremony(t, n int) ([]*frost.Share, error) {
	hosts, keys := make([]*chilldkg.HostKey, n), make([]bip340.PubKey, n)
	for i := range hosts {
		scalar := random()
		var err error
		if hosts[i], err = chilldkg.NewHostKey(secret.New(scalar[:])); err != nil {
			return nil, err
		}
		keys[i] = hosts[i].PubKey()
	}
	params, err := chilldkg.NewParams(t, keys)
	if err != nil {
		return nil, err
	}
	first, pmsgs1 := make([]*chilldkg.Participant1, n), make([][]byte, n)
	for i, host := range hosts {
		if first[i], pmsgs1[i], err = chilldkg.Step1(host, params); err != nil {
			return nil, err
		}
	}
	coordinator, cmsg1, err := chilldkg.Coordinate(params, pmsgs1)
	if err != nil {
		return nil, err
	}
	second, pmsgs2 := make([]*chilldkg.Participant2, n), make([][]byte, n)
	for i, host := range hosts {
		if second[i], pmsgs2[i], err = first[i].Step2(host, cmsg1); err != nil {
			return nil, err
		}
	}
	cmsg2, _, _, err := coordinator.Finalize(pmsgs2)
	if err != nil {
		return nil, err
	}
	shares := make([]*frost.Share, n)
	var info *frost.Info // the same for all
	for i := range hosts {
		out, _, err := second[i].Finalize(cmsg2)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			if info, err = out.Info(); err != nil {
				return nil, err
			}
		}
		if shares[i], err = frost.NewShare(info, i, out.Share); err != nil {
			return nil, err
		}
	}
	return shares, nil
}

// among has the participants named sign.
func among(key *frost.Context, shares []*frost.Share, ids []int, msg [32]byte) (sig [64]byte, err error) {
	session := frost.SessionID(random())
	pending, nonces := make([]*frost.Pending, len(ids)), make([]frost.PubNonce, len(ids))
	for i, id := range ids {
		if pending[i], err = shares[id].Commit(key, session, msg); err != nil {
			return sig, err
		}
		nonces[i] = pending[i].PubNonce()
	}
	var whole *frost.Session
	parts := make([]frost.PartialSig, len(ids))
	for i := range ids {
		if parts[i], whole, err = pending[i].Sign(nonces); err != nil {
			return sig, err
		}
	}
	return whole.Aggregate(parts, nonces)
}

// together has n cosigners sign, under their aggregate key as it stands or tweaked by
// a script's root.
func together(n int, root []byte, msg [32]byte) (out bip340.XOnly, sig [64]byte, err error) {
	keys, pubs := make([]*bip340.Key, n), make([]bip340.PubKey, n)
	for i := range keys {
		if keys[i], _, err = bip340.GenerateKey(); err != nil {
			return out, sig, err
		}
		pubs[i] = keys[i].PubKey()
	}
	key, err := musig2.NewContext(pubs)
	if root != nil {
		key, err = musig2.NewTaprootContext(pubs, root)
	}
	if err != nil {
		return out, sig, err
	}
	secrets, nonces := make([]*musig2.SecNonce, n), make([]musig2.PubNonce, n)
	for i := range keys {
		if secrets[i], nonces[i], err = musig2.NewNonce(keys[i], key, &msg, nil); err != nil {
			return out, sig, err
		}
	}
	all, err := musig2.AggregateNonces(nonces)
	if err != nil {
		return out, sig, err
	}
	parts := make([]musig2.PartialSig, n)
	for i := range keys {
		if parts[i], err = key.Sign(keys[i], secrets[i], all, msg); err != nil {
			return out, sig, err
		}
	}
	sig, err = key.Combine(all, msg, parts)
	return key.OutputKey(), sig, err
}
