package chilldkg

import (
	"bytes"
	"errors"
	"testing"

	"github.com/vigil-ark/vigil/bip340"
)

// fixture is a session of three that went well, the same in every run, for
// fuzzing any message of it.
type fixture struct {
	params   *Params
	hosts    [3]*HostKey
	p1       [3]*Participant1
	pmsgs1   [][]byte
	session  *Session
	cmsg1    []byte
	p2       [3]*Participant2
	pmsgs2   [][]byte
	cmsg2    []byte
	recovery []byte
}

func newFixture(tb testing.TB, t int) *fixture {
	tb.Helper()
	f := new(fixture)
	var keys []bip340.PubKey
	for i := range f.hosts {
		f.hosts[i] = testHost(tb, byte(10+i))
		keys = append(keys, f.hosts[i].PubKey())
	}
	var err error
	check := func() {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
	}
	f.params, err = NewParams(t, keys)
	check()
	f.pmsgs1, f.pmsgs2 = make([][]byte, 3), make([][]byte, 3)
	for i := range f.hosts {
		f.p1[i], f.pmsgs1[i], err = step1(f.hosts[i], f.params, &[32]byte{byte(i), 1})
		check()
	}
	f.session, f.cmsg1, err = Coordinate(f.params, f.pmsgs1)
	check()
	for i := range f.hosts {
		f.p2[i], f.pmsgs2[i], err = f.p1[i].step2(f.hosts[i], f.cmsg1, bytes.NewReader(make([]byte, 32)))
		check()
	}
	f.cmsg2, _, f.recovery, err = f.session.Finalize(f.pmsgs2)
	check()
	return f
}

// blamed says whether an error is one that peers' bytes may cause.
func blamed(err error) bool {
	var fault *FaultError
	var unknown *UnknownFaultError
	return errors.As(err, &fault) || errors.As(err, &unknown) || errors.Is(err, ErrLength) || errors.Is(err, bip340.ErrInfinity)
}

func FuzzPmsg1(f *testing.F) {
	fix := newFixture(f, 2)
	f.Add(fix.pmsgs1[1])
	f.Add(make([]byte, LenPmsg1(2, 3)))
	f.Add(bytes.Repeat([]byte{255}, LenPmsg1(2, 3)))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		msgs := [][]byte{fix.pmsgs1[0], b, fix.pmsgs1[2]}
		if _, _, err := Coordinate(fix.params, msgs); err != nil && !blamed(err) {
			t.Errorf("coordinate: %v", err)
		}
		if _, err := Investigate(fix.params, msgs); err != nil && !blamed(err) {
			t.Errorf("investigate: %v", err)
		}
		msgs[0] = nil
		if _, _, err := serve(fix.hosts[0], fix.params, msgs, &[32]byte{9}, bytes.NewReader(make([]byte, 32))); err != nil && !blamed(err) {
			t.Errorf("serve: %v", err)
		}
		if c, err := parseContribution(b, 2, 3); err == nil && !bytes.Equal(c.encode(), b) {
			t.Error("two encodings of one message")
		}
	})
}

func FuzzCmsg1(f *testing.F) {
	fix := newFixture(f, 2)
	f.Add(fix.cmsg1)
	f.Add(make([]byte, LenCmsg1(2, 3)))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		p2, _, err := fix.p1[0].Step2(fix.hosts[0], b)
		if err != nil && !blamed(err) {
			t.Errorf("%v", err)
		}
		if s, perr := parseSums(b, 2, 3); perr == nil && !bytes.Equal(s.encode(), b) {
			t.Error("two encodings of one message")
		}
		if err != nil {
			return
		}
		if _, err := p2.Unconfirmed().Info(); err != nil {
			t.Errorf("a share of no key: %v", err)
		}
		p2.Unconfirmed().Share.Burn()
	})
}

func FuzzPmsg2(f *testing.F) {
	fix := newFixture(f, 2)
	f.Add(fix.pmsgs2[1])
	f.Add(make([]byte, 64))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _, _, err := fix.session.Finalize([][]byte{fix.pmsgs2[0], b, fix.pmsgs2[2]})
		if err == nil && !bytes.Equal(b, fix.pmsgs2[1]) || err != nil && !blamed(err) {
			t.Errorf("%v", err)
		}
	})
}

func FuzzCmsg2(f *testing.F) {
	fix := newFixture(f, 2)
	f.Add(fix.cmsg2)
	f.Add(make([]byte, 192))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _, err := fix.p2[0].Finalize(b)
		if err == nil && !bytes.Equal(b, fix.cmsg2) || err != nil && !blamed(err) {
			t.Errorf("%v", err)
		}
	})
}

func FuzzRecovery(f *testing.F) {
	fix := newFixture(f, 2)
	f.Add(fix.recovery)
	f.Add([]byte{0, 0, 0, 0})
	f.Add(bytes.Repeat([]byte{255}, 500))
	f.Add(append([]byte{0, 0, 0, 1}, make([]byte, 33+162*129)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _, err := Recover(fix.hosts[0], b)
		if err == nil && !bytes.Equal(b, fix.recovery) {
			t.Error("other data recover")
		}
		if err != nil && !errors.Is(err, ErrRecoveryData) && !errors.Is(err, ErrHostKey) {
			t.Errorf("%v", err)
		}
	})
}

func FuzzInvestigation(f *testing.F) {
	fix := newFixture(f, 2)
	msgs, err := Investigate(fix.params, fix.pmsgs1)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(msgs[0])
	f.Add(make([]byte, LenInvestigation(3)))
	f.Add([]byte{})
	bad := bytes.Clone(fix.cmsg1)
	bad[len(bad)-3*32+31] ^= 1 // the share for participant 0
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _, err := fix.p1[0].Step2(fix.hosts[0], bad)
		var unknown *UnknownFaultError
		if !errors.As(err, &unknown) {
			t.Fatalf("%v", err)
		}
		var fault *FaultError
		if err := unknown.Investigate(b); !errors.As(err, &fault) && !errors.Is(err, ErrLength) {
			t.Errorf("%v", err)
		}
	})
}
