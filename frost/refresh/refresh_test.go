package refresh

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/frost"
	"github.com/vigil-ark/vigil/frost/chilldkg"
	"github.com/vigil-ark/vigil/frost/internal/dkgtest"
	"github.com/vigil-ark/vigil/secret"
)

// epoch is one epoch of a key with all its participants in one place.
type epoch struct {
	info     *frost.Info
	shares   []secret.Bytes
	hosts    []*chilldkg.HostKey
	recovery []byte
}

// dkg makes a key.
func dkg(tb testing.TB, t, n int) *epoch {
	tb.Helper()
	k := dkgtest.Make(tb, t, n)
	return &epoch{k.Info, k.Shares, k.Hosts, k.Record}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ceremony is a refresh half-way, for tests to meddle with.
type ceremony struct {
	old    *epoch
	hosts  []*chilldkg.HostKey
	params *Params
	p1     []*Participant1
	msgs   [][]byte
}

func begin(t testing.TB, old *epoch, healing bool) *ceremony {
	t.Helper()
	c := &ceremony{old: old, hosts: old.hosts}
	if healing {
		c.hosts = dkgtest.Hosts(t, len(old.hosts))
	}
	var err error
	c.params, err = NewParams(old.info, old.recovery, dkgtest.Pubs(old.hosts), dkgtest.Pubs(c.hosts))
	must(t, err)
	for _, h := range c.hosts {
		p, m, err := Step1(h, c.params)
		must(t, err)
		if len(m) != LenPmsg1(old.info.Threshold(), len(old.hosts)) {
			t.Fatalf("first message of %d bytes", len(m))
		}
		c.p1, c.msgs = append(c.p1, p), append(c.msgs, m)
	}
	return c
}

// finish runs the rest and returns the new epoch and its certificate.
func (c *ceremony) finish(t testing.TB) (*epoch, []byte) {
	t.Helper()
	session, cmsg1, err := Coordinate(c.params, c.msgs)
	must(t, err)
	if len(cmsg1) != LenCmsg1(c.old.info.Threshold(), len(c.hosts)) {
		t.Fatalf("coordinator's message of %d bytes", len(cmsg1))
	}
	var p2 []*Participant2
	var msgs [][]byte
	for i, p := range c.p1 {
		p, m, err := p.Step2(c.hosts[i], c.old.hosts[i], c.old.shares[i], cmsg1)
		must(t, err)
		p2, msgs = append(p2, p), append(msgs, m)
	}
	cmsg2, record, err := session.Finalize(msgs)
	must(t, err)
	e := &epoch{hosts: c.hosts, recovery: record}
	for _, p := range p2 {
		out, rec, err := p.Finalize(cmsg2)
		must(t, err)
		if !bytes.Equal(rec, record) {
			t.Fatal("participants have different records")
		}
		e.info, e.shares = out.Info, append(e.shares, out.Share)
	}
	return e, cmsg2
}

// sign makes a signature by the given participants and verifies it.
func (e *epoch) sign(t testing.TB, ids ...int) error {
	t.Helper()
	signers, err := e.info.Signers(ids...)
	if err != nil {
		return err
	}
	ctx, err := signers.Untweaked().TapTweak([]byte("root"))
	must(t, err)
	msg := bip340.TaggedHash("vigil/test", []byte("message"))
	var pending []*frost.Pending
	var nonces []frost.PubNonce
	for _, id := range ids {
		s, err := frost.NewShare(e.info, id, e.shares[id])
		if err != nil {
			return err
		}
		p, err := s.Commit(ctx, frost.SessionID{1}, msg)
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
	if err != nil {
		return err
	}
	if !bip340.Verify(ctx.OutputKey(), msg[:], sig) {
		t.Fatal("does not verify")
	}
	return nil
}

func TestRefresh(t *testing.T) {
	t.Parallel()
	for _, size := range [][2]int{{2, 2}, {2, 3}, {3, 5}} {
		for _, healing := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d of %d, healing %v", size[0], size[1], healing), func(t *testing.T) {
				t.Parallel()
				first := dkg(t, size[0], size[1])
				c := begin(t, first, healing)
				second, _ := c.finish(t)
				third, _ := begin(t, second, healing).finish(t) // a refresh of a refresh
				for i, e := range []*epoch{first, second, third} {
					if e.info.Epoch() != uint32(i) || e.info.PubKey() != first.info.PubKey() {
						t.Fatalf("epoch %d of %s", e.info.Epoch(), e.info.PubKey())
					}
					ids := []int{0, 1, 2, 3, 4}[:size[1]]
					for gone := range size[1] {
						some := slices.Delete(slices.Clone(ids), gone, gone+1)
						if len(some) >= size[0] {
							must(t, e.sign(t, some...))
						}
					}
					must(t, e.sign(t, ids[:size[0]]...))
				}
				mixed(t, first, second)
				restore(t, c, second)
			})
		}
	}
}

// mixed says that shares of two epochs do not sign together, wherever it is
// tried.
func mixed(t *testing.T, a, b *epoch) {
	t.Helper()
	shares := a.info.PubShares()
	shares[1], _ = b.info.PubShare(1)
	if _, err := frost.NewInfo(1, a.info.Threshold(), a.info.PubKey(), shares); !errors.Is(err, frost.ErrInfo) {
		t.Errorf("a record of two epochs: %v", err)
	}
	if _, err := frost.NewShare(b.info, 1, a.shares[1]); !errors.Is(err, frost.ErrShare) {
		t.Errorf("an old share under the new record: %v", err)
	}
	s, err := frost.NewShare(a.info, 1, a.shares[1])
	must(t, err)
	ids := []int{0, 1, 2}[:a.info.Threshold()]
	signers, err := b.info.Signers(ids...)
	must(t, err)
	if _, err := s.Commit(signers.Untweaked(), frost.SessionID{}, [32]byte{}); !errors.Is(err, frost.ErrSigners) {
		t.Errorf("an old share in a new context: %v", err)
	}
	parts(t, a, b, ids)
}

// parts signs with one partial signature of another epoch: it is blamed.
func parts(t *testing.T, a, b *epoch, ids []int) {
	t.Helper()
	msg := [32]byte{5}
	var pending []*frost.Pending
	var nonces []frost.PubNonce
	for _, id := range ids {
		e := b
		if id == 1 {
			e = a
		}
		signers, err := e.info.Signers(ids...)
		must(t, err)
		s, err := frost.NewShare(e.info, id, e.shares[id])
		must(t, err)
		p, err := s.Commit(signers.Untweaked(), frost.SessionID{2}, msg)
		must(t, err)
		pending, nonces = append(pending, p), append(nonces, p.PubNonce())
	}
	var sigs []frost.PartialSig
	var session *frost.Session
	for i, p := range pending {
		sig, s, err := p.Sign(nonces)
		must(t, err)
		if sigs = append(sigs, sig); ids[i] != 1 {
			session = s
		}
	}
	var blame *frost.ContributionError
	if _, err := session.Aggregate(sigs, nonces); !errors.As(err, &blame) || ids[blame.Index] != 1 {
		t.Errorf("parts of two epochs: %v", err)
	}
}

// restore takes the ways back to a participant's new share.
func restore(t *testing.T, c *ceremony, e *epoch) {
	t.Helper()
	info, p, err := RecoverPublic(e.recovery)
	must(t, err)
	if p.Hash() != c.params.Hash() || !bytes.Equal(info.Encode(), e.info.Encode()) {
		t.Error("the record tells of another refresh")
	}
	for id := range e.hosts {
		out := &Output{ID: id, Info: e.info, Share: e.shares[id]}
		sealed, err := Seal(e.hosts[id], out, e.recovery)
		must(t, err)
		back, err := Recover(e.hosts[id], e.recovery, sealed)
		must(t, err)
		late, err := Apply(e.hosts[id], e.recovery, c.old.shares[id])
		must(t, err)
		for _, o := range []*Output{back, late} {
			if o.ID != id || !sameSecret(t, o.Share, e.shares[id]) {
				t.Errorf("participant %d gets another share back", id)
			}
		}
		sealed[31] ^= 1
		if _, err := Recover(e.hosts[id], e.recovery, sealed); !errors.Is(err, frost.ErrShare) {
			t.Errorf("a changed sealed share: %v", err)
		}
		if _, err := Apply(e.hosts[id], e.recovery, e.shares[id]); !errors.Is(err, frost.ErrShare) {
			t.Errorf("applied to the share of another epoch: %v", err)
		}
		ack, err := Acknowledge(e.hosts[id], e.recovery)
		must(t, err)
		must(t, VerifyAcknowledgment(e.recovery, id, ack))
		if err := VerifyAcknowledgment(e.recovery, (id+1)%len(e.hosts), ack); !errors.Is(err, ErrSignature) {
			t.Errorf("acknowledgment of another: %v", err)
		}
		if c.params.Healing() { // the old host key is of no use any more
			if _, err := Recover(c.old.hosts[id], e.recovery, sealed); !errors.Is(err, chilldkg.ErrHostKey) {
				t.Errorf("recovered with the old host key: %v", err)
			}
		}
	}
}

func sameSecret(t *testing.T, a, b secret.Bytes) (same bool) {
	t.Helper()
	must(t, a.Use(func(x []byte) error {
		return b.Use(func(y []byte) error {
			same = bytes.Equal(x, y)
			return nil
		})
	}))
	return same
}

// TestRecordIsWhole changes each part of a record: none is taken.
func TestRecordIsWhole(t *testing.T) {
	t.Parallel()
	old := dkg(t, 2, 2)
	for _, healing := range []bool{false, true} {
		e, _ := begin(t, old, healing).finish(t)
		for at := 0; at < len(e.recovery); at += 7 {
			bad := bytes.Clone(e.recovery)
			bad[at] ^= 1
			if _, _, err := RecoverPublic(bad); !errors.Is(err, ErrRecord) {
				t.Errorf("healing %v, byte %d of %d: %v", healing, at, len(bad), err)
			}
		}
		for _, n := range []int{0, 6, 7, 100, len(e.recovery) - 1} {
			if _, _, err := RecoverPublic(e.recovery[:n]); !errors.Is(err, ErrRecord) {
				t.Errorf("%d bytes: %v", n, err)
			}
		}
	}
}

// TestFollows: a record belongs to one epoch, by what that was, what made it, and
// whose host keys it had.
func TestFollows(t *testing.T) {
	t.Parallel()
	old, other := dkg(t, 2, 2), dkg(t, 2, 2)
	for _, healing := range []bool{false, true} {
		e, _ := begin(t, old, healing).finish(t)
		_, p, err := RecoverPublic(e.recovery)
		must(t, err)
		if !slices.Equal(p.Hosts(), dkgtest.Pubs(e.hosts)) {
			t.Errorf("healing %v: hosts %v", healing, p.Hosts())
		}
		info, hosts := old.info.Encode(), dkgtest.Pubs(old.hosts)
		if !p.Follows(info, old.recovery, hosts) {
			t.Errorf("healing %v: not of its own epoch", healing)
		}
		if p.Follows(other.info.Encode(), old.recovery, hosts) || p.Follows(info, other.recovery, hosts) || p.Follows(info, old.recovery, dkgtest.Pubs(other.hosts)) {
			t.Errorf("healing %v: of another epoch", healing)
		}
	}
}

// TestVoid: a participant that lost a ceremony before it signed lets its peer,
// who signed and waits, go on.
func TestVoid(t *testing.T) {
	t.Parallel()
	old := dkg(t, 2, 2)
	c := begin(t, old, false)
	_, cmsg1, err := Coordinate(c.params, c.msgs)
	must(t, err)
	p2, pmsg2, err := c.p1[0].Step2(c.hosts[0], old.hosts[0], old.shares[0], cmsg1)
	must(t, err)
	transcript := p2.Transcript()
	void, err := Void(c.hosts[1], transcript)
	must(t, err)
	must(t, VerifyVoid(transcript, 1, void))
	other := begin(t, old, false)
	_, cmsg1, err = Coordinate(other.params, other.msgs)
	must(t, err)
	q2, _, err := other.p1[0].Step2(c.hosts[0], old.hosts[0], old.shares[0], cmsg1)
	must(t, err)
	for name, err := range map[string]error{
		"of another ceremony":     VerifyVoid(q2.Transcript(), 1, void),
		"of another participant":  VerifyVoid(transcript, 0, void),
		"a certificate signature": VerifyVoid(transcript, 0, pmsg2),
	} {
		if !errors.Is(err, ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := VerifyVoid(transcript[:50], 1, void); !errors.Is(err, ErrRecord) {
		t.Errorf("half a transcript: %v", err)
	}
	if err := VerifyVoid(transcript, 2, void); !errors.Is(err, chilldkg.ErrLength) {
		t.Errorf("participant 2 of 2: %v", err)
	}
	if _, err := Void(dkgtest.Host(t), transcript); !errors.Is(err, chilldkg.ErrHostKey) {
		t.Errorf("a stranger's: %v", err)
	}
}

func TestParamsRefuse(t *testing.T) {
	t.Parallel()
	one, two := dkg(t, 1, 2), dkg(t, 2, 2)
	fresh := dkgtest.Hosts(t, 2)
	half := []bip340.PubKey{two.hosts[0].PubKey(), fresh[1].PubKey()}
	shares := dkg(t, 2, 3)
	partial := shares.info.PubShares()
	partial[2] = bip340.PubKey{}
	absent, err := frost.NewInfo(0, 2, shares.info.PubKey(), partial)
	must(t, err)
	for name, try := range map[string]func() (*Params, error){
		"t of 1": func() (*Params, error) {
			return NewParams(one.info, nil, dkgtest.Pubs(one.hosts), dkgtest.Pubs(one.hosts))
		},
		"half the host keys": func() (*Params, error) { return NewParams(two.info, nil, dkgtest.Pubs(two.hosts), half) },
		"too few host keys":  func() (*Params, error) { return NewParams(two.info, nil, dkgtest.Pubs(two.hosts), half[:1]) },
		"absent share": func() (*Params, error) {
			return NewParams(absent, nil, dkgtest.Pubs(shares.hosts), dkgtest.Pubs(shares.hosts))
		},
		"one key twice": func() (*Params, error) {
			return NewParams(two.info, nil, dkgtest.Pubs(two.hosts), []bip340.PubKey{fresh[0].PubKey(), fresh[0].PubKey()})
		},
		"no point": func() (*Params, error) {
			return NewParams(two.info, nil, dkgtest.Pubs(two.hosts), []bip340.PubKey{{2, 1}, {3, 1}})
		},
	} {
		if _, err := try(); !errors.Is(err, ErrParams) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestBlame lets one participant, or the coordinator, lie at each place of the
// first round.
func TestBlame(t *testing.T) {
	t.Parallel()
	old := dkg(t, 3, 5)
	first := 0 // offsets in the coordinator's message
	pops := 33*5 + 33*(3-2)
	nonces := pops + 64*5
	enc := nonces + 33*5
	cases := map[string]struct {
		at   int
		by   chilldkg.Party
		id   int
		kind error
	}{
		"own first commitment":     {at: first + 2*33 + 5, by: chilldkg.Coordinator, id: -1},
		"own nonce":                {at: nonces + 2*33 + 5, by: chilldkg.Coordinator, id: -1},
		"another's proof":          {at: pops + 64 + 40, by: chilldkg.ParticipantOrCoordinator, id: 1},
		"encrypted share":          {at: enc + 2*32 + 31, kind: ErrShare},
		"another's nonce is wrong": {at: nonces, by: chilldkg.ParticipantOrCoordinator, id: 0},
	}
	for name, c := range cases {
		cer := begin(t, old, false)
		_, cmsg1, err := Coordinate(cer.params, cer.msgs)
		must(t, err)
		cmsg1[c.at] ^= 4 // an x on the curve may become one off it, a first byte 2 or 3 becomes 6 or 7
		_, _, err = cer.p1[2].Step2(old.hosts[2], old.hosts[2], old.shares[2], cmsg1)
		var fault *chilldkg.FaultError
		switch {
		case c.kind != nil && !errors.Is(err, c.kind):
			t.Errorf("%s: %v", name, err)
		case c.kind == nil && (!errors.As(err, &fault) || fault.By != c.by || fault.ID != c.id):
			t.Errorf("%s: %v", name, err)
		}
	}
	cer := begin(t, old, false)
	_, cmsg1, err := Coordinate(cer.params, cer.msgs)
	must(t, err)
	copy(cmsg1[2*33:], cmsg1[33:66]) // participant 1's first commitment for 2's
	var fault *chilldkg.FaultError
	if _, _, err := cer.p1[2].Step2(old.hosts[2], old.hosts[2], old.shares[2], cmsg1); !errors.As(err, &fault) || fault.By != chilldkg.Coordinator {
		t.Errorf("another's commitment for the own one: %v", err)
	}
	secondMessages(t, old)
}

// secondMessages lets a participant's second message be wrong.
func secondMessages(t *testing.T, old *epoch) {
	t.Helper()
	cer := begin(t, old, true)
	session, cmsg1, err := Coordinate(cer.params, cer.msgs)
	must(t, err)
	var msgs [][]byte
	for i, p := range cer.p1 {
		_, m, err := p.Step2(cer.hosts[i], old.hosts[i], old.shares[i], cmsg1)
		must(t, err)
		msgs = append(msgs, m)
	}
	for _, at := range []int{3, 64 + 3} { // the new host key's signature, the old one's
		msgs[4][at] ^= 1
		var fault *chilldkg.FaultError
		if _, _, err := session.Finalize(msgs); !errors.As(err, &fault) || fault.By != chilldkg.Participant || fault.ID != 4 {
			t.Errorf("second message, byte %d: %v", at, err)
		}
		msgs[4][at] ^= 1
	}
	if _, _, err := cer.p1[0].Step2(cer.hosts[1], old.hosts[0], old.shares[0], cmsg1); !errors.Is(err, chilldkg.ErrHostKey) {
		t.Errorf("another's host key: %v", err)
	}
	if _, _, err := cer.p1[0].Step2(cer.hosts[0], old.hosts[1], old.shares[0], cmsg1); !errors.Is(err, chilldkg.ErrHostKey) {
		t.Errorf("another's old host key: %v", err)
	}
	if _, _, err := cer.p1[0].Step2(cer.hosts[0], old.hosts[0], old.shares[1], cmsg1); !errors.Is(err, frost.ErrShare) {
		t.Errorf("another's old share: %v", err)
	}
}

// party is one side in the model of a cut-over.
type party struct {
	c    Cutover
	cert bool // it signed for the pending epoch
}

// TestBothSidesShareAnEpoch lets two parties go through refreshes, each step
// early, late or repeated, with crashes between (a Cutover is stored before its
// effect leaves, so a crash changes nothing): there is always an epoch that both
// may sign with.
func TestBothSidesShareAnEpoch(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := [2]party{}
		for range rapid.IntRange(1, 120).Draw(t, "steps") {
			me := rapid.IntRange(0, 1).Draw(t, "who")
			you := 1 - me
			a, b := &p[me], &p[you]
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0: // both must be at the same epoch for a ceremony to exist
				if next, err := a.c.Prepare(); err == nil && (b.c.Active == a.c.Active || b.c.Pending && b.c.Active == a.c.Active) {
					a.c = next
				}
			case 1: // the second message leaves
				a.cert = a.cert || a.c.Pending
			case 2: // a certificate exists once both signed, or one has it already
				if (a.cert && b.cert) || (a.cert && b.c.Active > a.c.Active) {
					if next, err := a.c.Certified(2); err == nil {
						a.c, a.cert = next, false
						b.cert = b.cert || b.c.Pending
						a.c, _ = a.c.Acknowledged(me)
						if b.c.Active == a.c.Active {
							a.c, _ = a.c.Acknowledged(you)
							b.c, _ = b.c.Acknowledged(me)
						}
					}
				}
			case 3: // abandon, before signing or when the other, who has nothing pending, gives its Void
				if void := !b.c.Pending && b.c.Active == a.c.Active; !a.cert || void {
					if next, err := a.c.Abandon(); err == nil {
						a.c, a.cert = next, false
					}
				}
			}
			common := false
			for e := range max(p[0].c.Active, p[1].c.Active) + 2 {
				common = common || p[0].c.MaySign(e) && p[1].c.MaySign(e)
			}
			if !common {
				t.Fatalf("no epoch in common: %+v", p)
			}
		}
	})
}

func TestCutoverSteps(t *testing.T) {
	t.Parallel()
	var c Cutover
	fail := func(_ Cutover, err error) {
		t.Helper()
		if !errors.Is(err, ErrCutover) {
			t.Errorf("%v", err)
		}
	}
	fail(c.Certified(2))
	fail(c.Abandon())
	fail(c.Acknowledged(0))
	c, err := c.Prepare()
	must(t, err)
	fail(c.Prepare())
	if c.MaySign(1) || !c.MaySign(0) {
		t.Error("a pending epoch signs, or the active one does not")
	}
	c, err = c.Certified(2)
	must(t, err)
	fail(c.Prepare()) // never three
	fail(c.Acknowledged(2))
	if !c.MaySign(1) || !c.MaySign(0) {
		t.Error("the active or the retiring epoch does not sign")
	}
	c, err = c.Acknowledged(1)
	must(t, err)
	if !c.MaySign(0) {
		t.Error("the retiring epoch is gone too early")
	}
	c, err = c.Acknowledged(0)
	must(t, err)
	if c.MaySign(0) || !c.MaySign(1) || c.Retiring {
		t.Errorf("%+v", c)
	}
	if (Cutover{}).MaySign(1<<32 - 1) {
		t.Error("the epoch before the first signs")
	}
}

// TestEnvelopesFit compares the lengths that package frost gives to messages
// with those of the ceremonies.
func TestEnvelopesFit(t *testing.T) {
	t.Parallel()
	for _, size := range [][2]int{{2, 2}, {2, 3}, {3, 5}, {128, 128}} {
		th, n := size[0], size[1]
		for typ, want := range map[frost.Type]int{
			frost.TypeKeygen1:         chilldkg.LenPmsg1(th, n),
			frost.TypeKeygenSums:      chilldkg.LenCmsg1(th, n),
			frost.TypeKeygen2:         chilldkg.LenPmsg2,
			frost.TypeKeygenAck:       chilldkg.LenPmsg2,
			frost.TypeKeygenCert:      chilldkg.LenCmsg2(n),
			frost.TypeKeygenInquiry:   chilldkg.LenInvestigation(n),
			frost.TypeRefresh1:        LenPmsg1(th, n),
			frost.TypeRefreshSums:     LenCmsg1(th, n),
			frost.TypeRefresh2:        LenPmsg2(false),
			frost.TypeRefreshHealing2: LenPmsg2(true),
			frost.TypeRefreshCert:     n * LenPmsg2(false),
			frost.TypeRefreshHealCert: n * LenPmsg2(true),
			frost.TypeRefreshSealed:   len(Sealed{}),
		} {
			if got, err := typ.BodyLen(frost.Shape{T: th, N: n}); err != nil || got != want {
				t.Errorf("type %d, %d of %d: %d bytes, %v, want %d", typ, th, n, got, err, want)
			}
		}
	}
}
