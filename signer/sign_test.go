package signer

import (
	"errors"
	"slices"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/frost"
	"github.com/vigil-ark/vigil/frost/chilldkg"
	"github.com/vigil-ark/vigil/internal/turns"
	"github.com/vigil-ark/vigil/secret"
)

// ask is a request for the given number of signatures by device and Vigil.
func (d *device) ask(t testing.TB, count int) SignRequest {
	info := d.key.Info
	set, err := info.Signers(0, Own)
	must(t, err)
	share, err := frost.NewShare(info, 0, d.shares[0])
	must(t, err)
	r := SignRequest{Wallet: vigil.WalletID(info.PubKey().XOnly()), Info: info, Epoch: info.Epoch(), Signers: []int{0, Own}, Session: frost.SessionID{3}}
	for i := range count {
		msg := bip340.TaggedHash("vigil/test", []byte{byte(i)})
		p, err := share.Commit(set.Untweaked(), r.Session, msg)
		must(t, err)
		r.Messages, r.Nonces = append(r.Messages, msg), append(r.Nonces, []frost.PubNonce{p.PubNonce()})
	}
	return r
}

func TestSignRefuses(t *testing.T) {
	s, d := newServer(), newDevice(t, 3)
	must(t, d.keygen(t, s, 2))
	foreign, e := newServer(), newDevice(t, 3)
	must(t, e.keygen(t, foreign, 2))
	contribution := (*frost.ContributionError)(nil)
	for name, c := range map[string]struct {
		bend func(*SignRequest)
		want error
	}{
		"nothing":               {func(*SignRequest) {}, nil},
		"no record":             {func(r *SignRequest) { r.Info = nil }, ErrRequest},
		"another epoch":         {func(r *SignRequest) { r.Epoch++ }, ErrRequest},
		"another wallet":        {func(r *SignRequest) { r.Wallet[0] ^= 1 }, ErrRequest},
		"another's record":      {func(r *SignRequest) { r.Info = e.key.Info }, ErrRequest},
		"a wallet not here":     {func(r *SignRequest) { r.Info, r.Wallet = e.key.Info, e.key.wallet() }, delegate.ErrSecretMissing},
		"no message":            {func(r *SignRequest) { r.Messages, r.Nonces = nil, nil }, ErrRequest},
		"too many":              {func(r *SignRequest) { r.Messages = make([][32]byte, frost.MaxMessages+1) }, ErrRequest},
		"fewer nonces":          {func(r *SignRequest) { r.Nonces = r.Nonces[:1] }, ErrRequest},
		"nonces of nobody":      {func(r *SignRequest) { r.Nonces[1] = nil }, ErrRequest},
		"a nonce too many":      {func(r *SignRequest) { r.Nonces[1] = append(r.Nonces[1], r.Nonces[0]...) }, ErrRequest},
		"without Vigil":         {func(r *SignRequest) { r.Signers = []int{0, 2} }, ErrRequest},
		"not in order":          {func(r *SignRequest) { r.Signers = []int{Own, 0} }, ErrRequest},
		"Vigil twice":           {func(r *SignRequest) { r.Signers = []int{Own, Own} }, frost.ErrSigners},
		"Vigil alone":           {func(r *SignRequest) { r.Signers, r.Nonces = []int{Own}, [][]frost.PubNonce{{}, {}} }, frost.ErrSigners},
		"a stranger":            {func(r *SignRequest) { r.Signers = []int{Own, 3} }, frost.ErrSigners},
		"a nonce for two":       {func(r *SignRequest) { r.Nonces[1] = r.Nonces[0] }, frost.ErrNonceRepeated},
		"a nonce off the curve": {func(r *SignRequest) { r.Nonces[0] = []frost.PubNonce{{2, 5}} }, contribution},
	} {
		r := d.ask(t, 2)
		c.bend(&r)
		parts, err := s.signer.Sign(t.Context(), r)
		switch c.want {
		case error(contribution):
			if !errors.As(err, &contribution) || contribution.Index != 0 {
				t.Errorf("%s: %v", name, err)
			}
		default:
			if !errors.Is(err, c.want) {
				t.Errorf("%s: %v, want %v", name, err, c.want)
			}
		}
		if (err == nil) != (len(parts) == 2) {
			t.Errorf("%s: %d parts with %v", name, len(parts), err)
		}
	}
}

// TestSignTellsMissingFromDown: of what is stored, only the wallet's own share
// signs.
func TestSignTellsMissingFromDown(t *testing.T) {
	s, d := newServer(), newDevice(t, 2)
	must(t, d.keygen(t, s, 2))
	r := d.ask(t, 1)
	name := dkgName(r.Wallet)
	right, err := s.store.Get(t.Context(), name)
	must(t, err)
	hs, err := decodeHolding(right)
	must(t, err)
	encode := func(hs holding) secret.Bytes {
		b, err := hs.encode()
		must(t, err)
		return b
	}
	// spoilt is the right value but for what is said of it: it must not be read.
	spoilt := func(hs holding, spoil func([]byte)) secret.Bytes {
		var b []byte
		must(t, encode(hs).Use(func(whole []byte) error { b = slices.Clone(whole); return nil }))
		spoil(b)
		return secret.New(b)
	}
	two := secret.New([]byte{31: 2})
	next := held{1, hs[0].host, hs[0].share}
	for what, c := range map[string]struct {
		value secret.Bytes
		want  error
	}{
		"nothing":             {secret.New(nil), delegate.ErrSecretWrong},
		"another version":     {secret.New(append([]byte{2, 1}, make([]byte, heldLen)...)), delegate.ErrSecretWrong},
		"no epoch":            {secret.New([]byte{1, 0}), delegate.ErrSecretWrong},
		"three epochs":        {secret.New(append([]byte{1, 3}, make([]byte, 3*heldLen)...)), delegate.ErrSecretWrong},
		"cut short":           {secret.New(append([]byte{1, 1}, make([]byte, heldLen-1)...)), delegate.ErrSecretWrong},
		"one epoch twice":     {secret.New(append([]byte{1, 2}, make([]byte, 2*heldLen)...)), delegate.ErrSecretWrong},
		"of a later version":  {spoilt(hs, func(b []byte) { b[0] = 2 }), delegate.ErrSecretWrong},
		"epochs with a gap":   {encode(holding{hs[0], {2, next.host, next.share}}), delegate.ErrSecretWrong},
		"epochs in disorder":  {encode(holding{next, hs[0]}), delegate.ErrSecretWrong},
		"two of them":         {encode(holding{hs[0], next}), nil},
		"another share":       {encode(holding{{0, hs[0].host, two}}), delegate.ErrSecretWrong},
		"only a later epoch":  {encode(holding{{1, hs[0].host, hs[0].share}}), ErrEpoch},
		"the right one again": {encode(hs), nil},
	} {
		must(t, s.store.Put(t.Context(), name, c.value))
		if _, err := s.signer.Sign(t.Context(), r); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", what, err, c.want)
		}
	}
	s.store.dead = true
	if _, err := s.signer.Sign(t.Context(), r); !errors.Is(err, errCrash) || errors.Is(err, delegate.ErrSecretMissing) {
		t.Errorf("a store that is down: %v", err)
	}
	s.store.dead = false
	must(t, s.store.Delete(t.Context(), name))
	if _, err := s.signer.Sign(t.Context(), r); !errors.Is(err, delegate.ErrSecretMissing) {
		t.Errorf("a share that is gone: %v", err)
	}
}

// TestEveryPartHasANonceOfItsOwn within a request and when it is made again: three
// messages under one nonce would be three equations in two nonces and the share.
func TestEveryPartHasANonceOfItsOwn(t *testing.T) {
	s, d := newServer(), newDevice(t, 2)
	must(t, d.keygen(t, s, 2))
	r := d.ask(t, 3)
	r.Messages[2] = r.Messages[1]
	seen := map[[33]byte]bool{}
	for range 3 {
		parts, err := s.signer.Sign(t.Context(), r)
		must(t, err)
		for _, p := range parts {
			for _, half := range [][33]byte{[33]byte(p.Nonce[:33]), [33]byte(p.Nonce[33:])} {
				if seen[half] {
					t.Fatal("a nonce was used twice")
				}
				seen[half] = true
			}
		}
	}
	if len(seen) != 18 {
		t.Errorf("%d nonces of 18", len(seen))
	}
}

func TestEraseKeepsWhatIsAskedFor(t *testing.T) {
	s, d := newServer(), newDevice(t, 2)
	must(t, d.keygen(t, s, 2))
	w := d.key.wallet()
	if err := s.signer.Erase(t.Context(), w, 1); !errors.Is(err, ErrEpoch) {
		t.Errorf("all but an epoch that is not there: %v", err)
	}
	must(t, d.sign(t, s, []int{0, 1}, 1))
	if err := s.signer.Erase(t.Context(), vigil.WalletID{1}, 0); !errors.Is(err, delegate.ErrSecretMissing) {
		t.Errorf("of no wallet: %v", err)
	}
}

const pool = 16 // calls per slice

// primitives are B, masked B with its inversion, A, masked A with its inversion, I
// and D.
func primitives() []func(int) {
	var scalars [pool]btcec.ModNScalar
	var points [pool]bip340.Point
	var raw, affine [pool]btcec.JacobianPoint
	for i := range pool {
		sum := bip340.TaggedHash("vigil/test floor", []byte{byte(i)})
		scalars[i].SetBytes(&sum)
		points[i] = bip340.MulBase(&scalars[i])
		btcec.ScalarBaseMultNonConst(&scalars[i], &raw[i])
		affine[i] = raw[i]
		affine[i].ToAffine()
	}
	return []func(int){
		func(i int) { var j btcec.JacobianPoint; btcec.ScalarBaseMultNonConst(&scalars[i], &j) },
		func(i int) { bip340.MulBase(&scalars[i]) },
		func(i int) {
			var j btcec.JacobianPoint
			btcec.ScalarMultNonConst(&scalars[i], &affine[(i+1)%pool], &j)
		},
		func(i int) { bip340.MulSecret(&scalars[i], points[(i+1)%pool]) },
		func(i int) { j := raw[i]; j.ToAffine() },
		func(i int) {
			var y btcec.FieldVal
			if !btcec.DecompressY(&affine[i].X, false, &y) {
				panic("not on the curve")
			}
		},
	}
}

// BenchmarkSign is the server's side of one 2-of-2 signature, from the request to
// the part, with the share looked up in a store in memory and held against its
// public share: 2B + 1A + 2I + 2D + 2us, both B on secrets. The same for 43
// messages, a delegate over 20 VTXOs.
func BenchmarkSign(b *testing.B) {
	s, d := newServer(), newDevice(b, 2)
	must(b, d.keygen(b, s, 2))
	var one [pool]SignRequest
	for i := range one {
		one[i] = d.ask(b, 1)
	}
	many := d.ask(b, 43)
	sign := func(r SignRequest) {
		if _, err := s.signer.Sign(b.Context(), r); err != nil {
			b.Fatal(err)
		}
	}
	t := turns.Fastest(b, pool, append(primitives(), func(i int) { sign(one[i]) }, func(i int) {
		if i == 0 {
			sign(many)
		}
	})...)
	base, masked, arbitrary, inversion, decompression := t[0], t[1]-t[4], t[2], t[4], t[5]
	floor := 2*masked + arbitrary + 2*inversion + 2*decompression + 2
	each := t[7] * pool / 43
	b.ReportMetric(t[6], "us/signature")
	b.ReportMetric(t[6]/floor, "x-floor")
	b.ReportMetric(t[6]/(2*base+arbitrary+2*inversion+2*decompression+2), "x-variable-time-floor")
	b.ReportMetric(each/floor, "x-floor-each-of-43")
}

// BenchmarkKeygen is the server's side of making a 2-of-2 wallet, from the first
// request to the certificate, with the wallet's delegate key and without a disk. The
// floor is that of the key ceremony (9B + 4A + 9I + 3D + 10us, six B and two A on
// secrets) and the B + I of each of the two keys that are drawn.
func BenchmarkKeygen(b *testing.B) {
	s, d := newServer(), newDevice(b, 2)
	s.cs = s.signer.Ceremonies(CeremonyLimits{PerOwner: 1 << 20, Total: 1 << 20}, func() int64 { return now })
	var sessions [pool]frost.SessionID
	var params [pool]*chilldkg.Params
	var p1 [pool]*chilldkg.Participant1
	var msgs [pool][][]byte
	t := turns.Fastest(b, pool, append(primitives(), func(i int) {
		session, host, err := s.cs.BeginKeygen(d.owner(), pubs(d.hosts), 2)
		must(b, err)
		sessions[i] = session
		params[i], err = chilldkg.NewParams(2, []bip340.PubKey{d.owner(), host})
		must(b, err)
	}, func(i int) { // the device's, not counted
		p, m, err := chilldkg.Step1(d.hosts[0], params[i])
		must(b, err)
		p1[i], msgs[i] = p, [][]byte{m, nil}
	}, func(i int) {
		cmsg1, err := s.cs.Keygen(sessions[i], d.owner(), msgs[i])
		must(b, err)
		msgs[i][1] = cmsg1
	}, func(i int) { // the device's
		_, m, err := p1[i].Step2(d.hosts[0], msgs[i][1])
		must(b, err)
		msgs[i] = [][]byte{m, nil}
	}, func(i int) {
		_, err := s.cs.Ready(sessions[i], d.owner(), msgs[i])
		must(b, err)
		must(b, s.cs.Keep(b.Context(), sessions[i], d.owner()))
		s.cs.Forget(sessions[i])
	})...)
	base, masked, arbitrary, foreign, inversion, decompression := t[0], t[1]-t[4], t[2], t[3]-t[4], t[4], t[5]
	server := t[6] + t[8] + t[10]
	ceremony := 6*masked + 3*base + 2*foreign + 2*arbitrary + 9*inversion + 3*decompression + 10
	b.ReportMetric(server, "us/server")
	b.ReportMetric(server/(ceremony+2*(masked+inversion)), "x-floor")
}
