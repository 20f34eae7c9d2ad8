package reshare

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/frost"
	"github.com/vigil-ark/vigil/frost/chilldkg"
	"github.com/vigil-ark/vigil/frost/internal/dkgtest"
	"github.com/vigil-ark/vigil/secret"
)

// epoch is one epoch of a key with all its participants in one place.
type epoch struct {
	info   *frost.Info
	shares []secret.Bytes
	hosts  []*chilldkg.HostKey
	made   []byte // recovery data or record
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// dkg makes a key.
func dkg(tb testing.TB, t, n int) *epoch {
	tb.Helper()
	k := dkgtest.Make(tb, t, n)
	return &epoch{k.Info, k.Shares, k.Hosts, k.Record}
}

// ceremony is one with its first messages made, for tests to meddle with.
type ceremony struct {
	old    *epoch
	params *Params
	hosts  []*chilldkg.HostKey // afterwards
	deals  [][]byte
}

func (c *ceremony) deal(t testing.TB) *ceremony {
	t.Helper()
	for _, id := range c.params.dealers {
		m, err := c.params.Deal(c.old.hosts[id], c.old.shares[id])
		must(t, err)
		if len(m) != c.params.LenDeal() {
			t.Fatalf("a dealer's message of %d bytes, want %d", len(m), c.params.LenDeal())
		}
		c.deals = append(c.deals, m)
	}
	return c
}

func beginReshare(tb testing.TB, old *epoch, dealers []int, t int, hosts []*chilldkg.HostKey) *ceremony {
	tb.Helper()
	p, err := NewReshare(Accepted, old.info, old.made, dkgtest.Pubs(old.hosts), dealers, t, dkgtest.Pubs(hosts))
	must(tb, err)
	return (&ceremony{old: old, params: p, hosts: hosts}).deal(tb)
}

func beginRepair(tb testing.TB, old *epoch, helpers []int, id int, host *chilldkg.HostKey) *ceremony {
	tb.Helper()
	p, err := NewRepair(Accepted, old.info, old.made, dkgtest.Pubs(old.hosts), helpers, id, host.PubKey())
	must(tb, err)
	hosts := append(slices.Clone(old.hosts), nil)
	hosts[id] = host
	return (&ceremony{old: old, params: p, hosts: hosts[:len(p.hosts)]}).deal(tb)
}

// transcript runs the rounds up to the certificate.
func (c *ceremony) transcript(t testing.TB) []byte {
	t.Helper()
	all, err := c.params.Collect(c.deals)
	must(t, err)
	if c.params.kind == handOver {
		return all
	}
	passes := c.passes(t, all)
	all, err = c.params.CollectPasses(all, passes)
	must(t, err)
	return all
}

func (c *ceremony) passes(t testing.TB, deals []byte) (out [][]byte) {
	t.Helper()
	for _, id := range c.params.dealers {
		m, err := c.params.Pass(c.old.hosts[id], deals)
		must(t, err)
		out = append(out, m)
	}
	return out
}

// keeps is what participant id hands to Accept as its old share.
func (c *ceremony) keeps(id int) secret.Bytes {
	if c.params.kind == rebuild && id != c.params.target {
		return c.old.shares[id]
	}
	return secret.Bytes{}
}

// finish ends the ceremony.
func (c *ceremony) finish(t testing.TB) *epoch {
	t.Helper()
	transcript := c.transcript(t)
	var pending []*Pending
	var sigs [][]byte
	for id, h := range c.hosts {
		p, sig, err := c.params.Accept(h, c.keeps(id), transcript)
		must(t, err)
		pending, sigs = append(pending, p), append(sigs, sig)
	}
	record, err := c.params.Certify(transcript, sigs)
	must(t, err)
	e := &epoch{hosts: c.hosts, made: record}
	for id, p := range pending {
		out, err := p.Finalize(record)
		must(t, err)
		if out.ID != id || p.Pending() != out {
			t.Fatalf("participant %d is %d", id, out.ID)
		}
		e.info, e.shares = out.Info, append(e.shares, out.Share)
		if id >= sets && id != c.params.target {
			continue
		}
		again, err := Recover(Accepted, c.hosts[id], record, c.keeps(id))
		must(t, err)
		if !sameSecret(t, again.Share, out.Share) {
			t.Errorf("participant %d recovers another share", id)
		}
	}
	info, p, err := RecoverPublic(Accepted, record)
	must(t, err)
	if !bytes.Equal(info.Encode(), e.info.Encode()) || p.Hash() != c.params.Hash() || !slices.Equal(p.Hosts(), dkgtest.Pubs(c.hosts)) {
		t.Error("the record tells of another ceremony")
	}
	if !p.Follows(c.old.info.Encode(), c.old.made, dkgtest.Pubs(c.old.hosts)) || p.Follows(c.old.info.Encode(), record, dkgtest.Pubs(c.old.hosts)) {
		t.Error("the record follows another epoch")
	}
	return e
}

func sameSecret(t testing.TB, a, b secret.Bytes) (same bool) {
	t.Helper()
	must(t, a.Use(func(x []byte) error {
		return b.Use(func(y []byte) error {
			same = bytes.Equal(x, y)
			return nil
		})
	}))
	return same
}

// sign makes a signature by the participants of ids, each with the epoch that of
// says, and verifies it under key.
func sign(t testing.TB, key bip340.PubKey, ids []int, of func(id int) *epoch) error {
	t.Helper()
	msg := bip340.TaggedHash("vigil/test", []byte("message"))
	var pending []*frost.Pending
	var nonces []frost.PubNonce
	for _, id := range ids {
		e := of(id)
		signers, err := e.info.Signers(ids...)
		must(t, err)
		s, err := frost.NewShare(e.info, id, e.shares[id])
		must(t, err)
		p, err := s.Commit(signers.Untweaked(), frost.SessionID{1}, msg)
		must(t, err)
		pending, nonces = append(pending, p), append(nonces, p.PubNonce())
	}
	var sigs []frost.PartialSig
	var session *frost.Session
	for _, p := range pending {
		sig, s, err := p.Sign(nonces)
		must(t, err)
		sigs, session = append(sigs, sig), s
	}
	sig, err := session.Aggregate(sigs, nonces)
	if err == nil && !bip340.Verify(key.XOnly(), msg[:], sig) {
		t.Error("does not verify")
	}
	return err
}

// signs has sets of neighbours sign under the first key.
func signs(t *testing.T, first, e *epoch) {
	t.Helper()
	n := e.info.Participants()
	for at := range min(n, sets) {
		var ids []int
		for k := range e.info.Threshold() {
			ids = append(ids, (at+k)%n)
		}
		must(t, sign(t, first.info.PubKey(), ids, func(int) *epoch { return e }))
	}
}

// TestReshare hands a key over, then over again.
func TestReshare(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		t, n    int
		dealers []int
		t2, n2  int
		keep    int // old hosts that go on
	}{
		{2, 3, []int{0, 2}, 3, 5, 0},
		{3, 5, []int{1, 2, 4}, 2, 3, 2},
		{2, 2, []int{0, 1}, 2, 2, 2},
	} {
		t.Run(fmt.Sprintf("%d of %d to %d of %d", c.t, c.n, c.t2, c.n2), func(t *testing.T) {
			t.Parallel()
			first := dkg(t, c.t, c.n)
			hosts := append(slices.Clone(first.hosts[:c.keep]), dkgtest.Hosts(t, c.n2-c.keep)...)
			second := beginReshare(t, first, c.dealers, c.t2, hosts).finish(t)
			if in := second.info; in.Epoch() != 1 || in.PubKey() != first.info.PubKey() || in.Threshold() != c.t2 || in.Participants() != c.n2 {
				t.Fatalf("epoch %d: %d of %d", in.Epoch(), in.Threshold(), in.Participants())
			}
			signs(t, first, second)
			apart(t, first, second)
			if sets == 1 {
				return
			}
			var dealers []int
			for id := range c.t2 {
				dealers = append(dealers, id)
			}
			third := beginReshare(t, second, dealers, c.t, dkgtest.Hosts(t, c.n)).finish(t)
			if third.info.Epoch() != 2 {
				t.Errorf("epoch %d", third.info.Epoch())
			}
			signs(t, first, third)
			apart(t, first, third)
		})
	}
}

// apart says that shares of two epochs do not work together, wherever it is
// tried.
func apart(t *testing.T, a, b *epoch) {
	t.Helper()
	if _, err := frost.NewShare(b.info, 1, a.shares[1]); !errors.Is(err, frost.ErrShare) {
		t.Errorf("an old share under the new record: %v", err)
	}
	shares := b.info.PubShares()
	shares[1], _ = a.info.PubShare(1)
	if _, err := frost.NewInfo(1, b.info.Threshold(), b.info.PubKey(), shares); !errors.Is(err, frost.ErrInfo) {
		t.Errorf("a record of two epochs: %v", err)
	}
	otherRecord(t, a, b)
	if a.info.Threshold() != b.info.Threshold() {
		return
	}
	ids := []int{0, 1, 2}[:a.info.Threshold()]
	err := sign(t, a.info.PubKey(), ids, func(id int) *epoch {
		if id == 1 {
			return a
		}
		return b
	})
	if err == nil {
		t.Error("parts of two epochs made a signature")
	}
}

// otherRecord says that a share signs in no context of another epoch's record.
func otherRecord(t *testing.T, a, b *epoch) {
	t.Helper()
	s, err := frost.NewShare(a.info, 1, a.shares[1])
	must(t, err)
	signers, err := b.info.Signers([]int{0, 1, 2}[:b.info.Threshold()]...)
	must(t, err)
	if _, err := s.Commit(signers.Untweaked(), frost.SessionID{}, [32]byte{}); !errors.Is(err, frost.ErrSigners) {
		t.Errorf("an old share in a new context: %v", err)
	}
}

func TestEnrolment(t *testing.T) {
	t.Parallel()
	for _, size := range [][2]int{{2, 2}, {3, 4}}[:min(2, sets)] {
		t.Run(fmt.Sprintf("%d of %d", size[0], size[1]), func(t *testing.T) {
			t.Parallel()
			first := dkg(t, size[0], size[1])
			helpers := []int{0, 1, 3}[:size[0]]
			second := beginRepair(t, first, helpers, size[1], dkgtest.Hosts(t, 1)[0]).finish(t)
			if in := second.info; in.Epoch() != 1 || in.PubKey() != first.info.PubKey() || in.Threshold() != size[0] || in.Participants() != size[1]+1 {
				t.Fatalf("epoch %d: %d of %d", in.Epoch(), in.Threshold(), in.Participants())
			}
			signs(t, first, second)
			otherRecord(t, first, second)
			if sets == 1 {
				return
			}
			// Enrolled, the new one can be repaired, and its share handed over.
			third := beginRepair(t, second, helpers, size[1], dkgtest.Hosts(t, 1)[0]).finish(t)
			if third.info.Epoch() != 1 || !sameSecret(t, third.shares[size[1]], second.shares[size[1]]) {
				t.Error("the enrolled share was not repaired")
			}
			fourth := beginReshare(t, second, append(slices.Clone(helpers[1:]), size[1]), 2, dkgtest.Hosts(t, 3)).finish(t)
			signs(t, first, fourth)
			apart(t, second, fourth)
		})
	}
}

func TestRepair(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		t, n, lost int
		helpers    []int
		fresh      bool // a new host key
	}{{2, 3, 1, []int{0, 2}, false}, {3, 5, 4, []int{0, 1, 3}, true}, {2, 3, 0, []int{1, 2}, true}, {3, 5, 2, []int{1, 3, 4}, false}}[:min(4, sets)] {
		t.Run(fmt.Sprintf("%d in %d of %d", c.lost, c.t, c.n), func(t *testing.T) {
			t.Parallel()
			old := dkg(t, c.t, c.n)
			host := old.hosts[c.lost]
			if c.fresh {
				host = dkgtest.Hosts(t, 1)[0]
			}
			e := beginRepair(t, old, c.helpers, c.lost, host).finish(t)
			if !bytes.Equal(e.info.Encode(), old.info.Encode()) {
				t.Error("a repair changed the record of the key")
			}
			for id := range e.shares {
				if !sameSecret(t, e.shares[id], old.shares[id]) {
					t.Errorf("participant %d has another share", id)
				}
			}
			signs(t, old, e)
		})
	}
}

// TestOffByDefault: without the word nothing is made.
func TestOffByDefault(t *testing.T) {
	t.Parallel()
	e, host := dkg(t, 2, 2), dkgtest.Hosts(t, 1)[0]
	var no Experimental
	_, err1 := NewReshare(no, e.info, e.made, dkgtest.Pubs(e.hosts), []int{0, 1}, 2, dkgtest.Pubs(e.hosts))
	_, err2 := NewRepair(no, e.info, e.made, dkgtest.Pubs(e.hosts), []int{0, 1}, 2, host.PubKey())
	_, _, err3 := RecoverPublic(no, nil)
	_, err4 := Recover(no, host, nil, secret.Bytes{})
	for i, err := range []error{err1, err2, err3, err4} {
		if !errors.Is(err, ErrExperimental) {
			t.Errorf("%d: %v", i, err)
		}
	}
}

func TestParamsRefuse(t *testing.T) {
	t.Parallel()
	e := dkg(t, 2, 3)
	hosts, host := dkgtest.Pubs(e.hosts), dkgtest.Hosts(t, 1)[0].PubKey()
	partial := e.info.PubShares()
	partial[2] = bip340.PubKey{}
	absent, err := frost.NewInfo(0, 2, e.info.PubKey(), partial)
	must(t, err)
	last, err := frost.NewInfo(1<<32-1, 2, e.info.PubKey(), e.info.PubShares())
	must(t, err)
	reshare := func(in *frost.Info, oldHosts []bip340.PubKey, dealers []int, t int, hosts []bip340.PubKey) error {
		_, err := NewReshare(Accepted, in, nil, oldHosts, dealers, t, hosts)
		return err
	}
	repair := func(helpers []int, id int, host bip340.PubKey) error {
		_, err := NewRepair(Accepted, e.info, nil, hosts, helpers, id, host)
		return err
	}
	for name, err := range map[string]error{
		"an absent share":         reshare(absent, hosts, []int{0, 1}, 2, hosts),
		"the last epoch":          reshare(last, hosts, []int{0, 1}, 2, hosts),
		"too few old hosts":       reshare(e.info, hosts[:2], []int{0, 1}, 2, hosts),
		"one dealer":              reshare(e.info, hosts, []int{0}, 2, hosts),
		"three dealers":           reshare(e.info, hosts, []int{0, 1, 2}, 2, hosts),
		"a dealer twice":          reshare(e.info, hosts, []int{1, 1}, 2, hosts),
		"dealers not in order":    reshare(e.info, hosts, []int{2, 1}, 2, hosts),
		"a stranger deals":        reshare(e.info, hosts, []int{0, 3}, 2, hosts),
		"a threshold of 1":        reshare(e.info, hosts, []int{0, 1}, 1, hosts),
		"a threshold over n":      reshare(e.info, hosts, []int{0, 1}, 4, hosts),
		"one host twice":          reshare(e.info, hosts, []int{0, 1}, 2, append(hosts[:2:2], hosts[0])),
		"no point":                reshare(e.info, hosts, []int{0, 1}, 2, make([]bip340.PubKey, 3)),
		"129 holders":             reshare(e.info, hosts, []int{0, 1}, 2, make([]bip340.PubKey, 129)),
		"its own helper":          repair([]int{0, 1}, 1, host),
		"beyond the next":         repair([]int{0, 1}, 4, host),
		"before the first":        repair([]int{0, 1}, -1, host),
		"enrolled with a present": repair([]int{0, 1}, 3, hosts[2]),
	} {
		if !errors.Is(err, ErrParams) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
