package chilldkg

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/frost"
	"github.com/vigil-ark/vigil/secret"
)

// party is one participant of a test session.
type party struct {
	host *HostKey
	out  *Output
}

// run makes a key among n parties with messages over the wire alone, the last
// one serving as coordinator, and with all acknowledgments.
func run(tb testing.TB, t, n int) ([]*party, []byte) {
	tb.Helper()
	check := func(err error) {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
	}
	parties, keys := make([]*party, n), make([]bip340.PubKey, n)
	for i := range parties {
		parties[i] = &party{host: testHost(tb, byte(40+i))}
		keys[i] = parties[i].host.PubKey()
	}
	params, err := NewParams(t, keys)
	check(err)
	pmsgs1, pmsgs2, p1 := make([][]byte, n), make([][]byte, n), make([]*Participant1, n-1)
	for i := range p1 {
		p1[i], pmsgs1[i], err = Step1(parties[i].host, params)
		check(err)
		if p1[i].ID() != i || len(pmsgs1[i]) != LenPmsg1(t, n) {
			tb.Fatalf("participant %d: %d bytes", p1[i].ID(), len(pmsgs1[i]))
		}
	}
	serving, cmsg1, err := Serve(parties[n-1].host, params, pmsgs1)
	check(err)
	p2 := make([]*Participant2, n-1)
	for i := range p2 {
		p2[i], pmsgs2[i], err = p1[i].Step2(parties[i].host, cmsg1)
		check(err)
		if !bytes.Equal(p2[i].Transcript(), serving.Transcript()) {
			tb.Fatal("two transcripts")
		}
	}
	cmsg2, out, recovery, err := serving.Certify(pmsgs2)
	check(err)
	if len(recovery) != LenRecovery(t, n) || len(cmsg2) != LenCmsg2(n) {
		tb.Fatalf("%d and %d bytes", len(recovery), len(cmsg2))
	}
	parties[n-1].out = out
	for i := range p2 {
		var r []byte
		parties[i].out, r, err = p2[i].Finalize(cmsg2)
		check(err)
		if !bytes.Equal(r, recovery) {
			tb.Fatal("two recovery data")
		}
	}
	for i, p := range parties {
		ack, err := Acknowledge(p.host, params, recovery)
		check(err)
		check(VerifyAcknowledgment(params, recovery, i, ack))
	}
	return parties, recovery
}

// sign makes a signature by the given parties, the last of them answering.
func sign(t *testing.T, parties []*party, ids ...int) {
	t.Helper()
	info, err := parties[0].out.Info()
	if err != nil {
		t.Fatal(err)
	}
	signers, err := info.Signers(ids...)
	if err != nil {
		t.Fatal(err)
	}
	c := signers.Untweaked()
	msg := bip340.TaggedHash("vigil/test", []byte{1})
	last := len(ids) - 1
	nonces, sigs := make([]frost.PubNonce, len(ids)), make([]frost.PartialSig, len(ids))
	pending := make([]*frost.Pending, last)
	share := func(i int) *frost.Share {
		s, err := frost.NewShare(info, ids[i], parties[ids[i]].out.Share)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for i := range pending {
		if pending[i], err = share(i).Commit(c, frost.SessionID{1}, msg); err != nil {
			t.Fatal(err)
		}
		nonces[i] = pending[i].PubNonce()
	}
	a, err := share(last).Answer(frost.Query{Context: c, Session: frost.SessionID{1}, Msg: msg, Nonces: nonces})
	if err != nil {
		t.Fatal(err)
	}
	nonces[last], sigs[last] = a.Nonce, a.Sig
	for i := range pending {
		if sigs[i], _, err = pending[i].Sign(nonces); err != nil {
			t.Fatal(err)
		}
	}
	sig, err := a.Session.Aggregate(sigs, nonces)
	if err != nil || !bip340.Verify(parties[0].out.Key.XOnly(), msg[:], sig) {
		t.Errorf("%v: %v", ids, err)
	}
}

func TestKeysSign(t *testing.T) {
	t.Parallel()
	for _, size := range [][2]int{{1, 1}, {2, 2}, {2, 3}, {3, 5}} {
		parties, recovery := run(t, size[0], size[1])
		ids := []int{0, 1, 2, 3, 4}[:size[1]]
		sign(t, parties, ids...)
		for gone := range ids {
			some := append(append([]int{}, ids[:gone]...), ids[gone+1:]...)
			if len(some) >= size[0] {
				sign(t, parties, some...)
			}
		}
		// Everybody comes back from a host key and public data alone, and signs on.
		for _, p := range parties {
			p.out.Share.Burn()
			out, params, err := Recover(p.host, recovery)
			if err != nil || params.Threshold() != size[0] || len(params.HostPubKeys()) != size[1] {
				t.Fatalf("recover: %v", err)
			}
			p.out = out
		}
		sign(t, parties, ids[:size[0]]...)
	}
}

// TestPhoneVigilAndColdShare is the 2-of-3 that the product offers: signing goes
// on with any one gone.
func TestPhoneVigilAndColdShare(t *testing.T) {
	t.Parallel()
	const phone, cold, server = 0, 1, 2
	parties, _ := run(t, 2, 3)
	for _, left := range [][]int{{phone, server}, {phone, cold}, {cold, server}} {
		sign(t, parties, left...)
	}
}

// TestServerBlames lets a device lie in each part of its messages to a server
// that takes part and coordinates.
func TestServerBlames(t *testing.T) {
	t.Parallel()
	hosts := [2]*HostKey{testHost(t, 1), testHost(t, 2)}
	params, err := NewParams(2, []bip340.PubKey{hosts[0].PubKey(), hosts[1].PubKey()})
	if err != nil {
		t.Fatal(err)
	}
	p1, msg, err := Step1(hosts[0], params)
	if err != nil {
		t.Fatal(err)
	}
	const pop, nonce, enc = 66, 66 + 64, 66 + 64 + 33
	for name, c := range map[string]struct {
		at   int
		flip byte
	}{
		"first commitment is no point":  {0, 4},
		"second commitment is no point": {33, 4},
		"proof of possession":           {pop + 40, 1},
		"nonce is no point":             {nonce, 4},
		"nonce of another parity":       {nonce, 1},
		"share to the server":           {enc + 32 + 31, 1},
	} {
		bad := bytes.Clone(msg)
		bad[c.at] ^= c.flip
		_, _, err := Serve(hosts[1], params, [][]byte{bad, nil})
		var fault *FaultError
		if !errors.As(err, &fault) || fault.By != Participant || fault.ID != 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	// One coefficient more would raise the threshold: the length forbids it.
	longer := append(bytes.Clone(msg[:66]), msg[33:]...)
	if _, _, err := Serve(hosts[1], params, [][]byte{longer, nil}); !errors.Is(err, ErrLength) {
		t.Errorf("a coefficient more: %v", err)
	}
	serving, cmsg1, err := Serve(hosts[1], params, [][]byte{msg, nil})
	if err != nil {
		t.Fatal(err)
	}
	_, msg2, err := p1.Step2(hosts[0], cmsg1)
	if err != nil {
		t.Fatal(err)
	}
	msg2[9] ^= 1
	var fault *FaultError
	if _, _, _, err := serving.Certify([][]byte{msg2, nil}); !errors.As(err, &fault) || fault.By != Participant || fault.ID != 0 {
		t.Errorf("certificate: %v", err)
	}
	if _, _, _, err := serving.Certify([][]byte{msg2[:63], nil}); !errors.Is(err, ErrLength) {
		t.Errorf("short: %v", err)
	}
	msg2[9] ^= 1
	if _, _, _, err := serving.Certify([][]byte{msg2, nil}); err != nil { // a lie spoils nothing
		t.Error(err)
	}
}

// TestSessionsAreApart plays messages of one session into another with the same
// parties.
func TestSessionsAreApart(t *testing.T) {
	t.Parallel()
	a, b := newFixture(t, 2), newFixture(t, 3)
	if a.params.Hash() == b.params.Hash() {
		t.Fatal("two thresholds, one hash")
	}
	p1, _, err := step1(a.hosts[0], a.params, &[32]byte{77})
	if err != nil {
		t.Fatal(err)
	}
	var fault *FaultError
	if _, _, err := p1.Step2(a.hosts[0], a.cmsg1); !errors.As(err, &fault) || fault.By != Coordinator {
		t.Errorf("the sums of an earlier session: %v", err)
	}
	if _, err := Acknowledge(a.hosts[0], b.params, a.recovery); !errors.Is(err, ErrRecoveryData) {
		t.Errorf("acknowledged data of another session: %v", err)
	}
	ack, err := Acknowledge(a.hosts[0], a.params, a.recovery)
	if err != nil {
		t.Fatal(err)
	}
	if err := VerifyAcknowledgment(b.params, b.recovery, 0, ack); !errors.Is(err, ErrSignature) {
		t.Errorf("acknowledgment of another session: %v", err)
	}
	if err := VerifyAcknowledgment(a.params, a.recovery, 3, ack); !errors.Is(err, ErrLength) {
		t.Errorf("participant 3 of 3: %v", err)
	}
	if err := VerifyAcknowledgment(a.params, a.recovery, 0, ack[1:]); !errors.Is(err, ErrLength) {
		t.Errorf("short acknowledgment: %v", err)
	}
	if _, err := Acknowledge(testHost(t, 99), a.params, a.recovery); !errors.Is(err, ErrHostKey) {
		t.Errorf("a stranger acknowledges: %v", err)
	}
	// A certificate signature is no acknowledgment, and the other way round.
	if err := VerifyAcknowledgment(a.params, a.recovery, 0, a.pmsgs2[0]); !errors.Is(err, ErrSignature) {
		t.Errorf("certificate signature as acknowledgment: %v", err)
	}
}

// TestCertificateIsWhole: a participant looks at its own signature too, and what
// everybody signed is looked at again when it recovers.
func TestCertificateIsWhole(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 2)
	for at := 5; at < len(f.cmsg2); at += 64 {
		bad := bytes.Clone(f.cmsg2)
		bad[at] ^= 1
		var fault *FaultError
		if _, _, err := f.p2[0].Finalize(bad); !errors.As(err, &fault) || fault.By != Coordinator {
			t.Errorf("byte %d: %v", at, err)
		}
	}
	eq := f.p2[0].Transcript()
	eq[len(eq)-2*32-1] ^= 1 // the share for participant 0
	data := bytes.Clone(eq)
	for i, h := range f.hosts {
		sig, err := h.Sign(bytes.NewReader(make([]byte, 32)), signed(certTag, i, eq))
		if err != nil {
			t.Fatal(err)
		}
		data = append(data, sig[:]...)
	}
	if _, _, err := RecoverPublic(data); err != nil {
		t.Errorf("its public part: %v", err)
	}
	if _, _, err := Recover(f.hosts[0], data); !errors.Is(err, ErrRecoveryData) {
		t.Errorf("a certified wrong share: %v", err)
	}
}

func TestNoMoreThan128(t *testing.T) {
	t.Parallel()
	keys := make([]bip340.PubKey, frost.MaxParticipants+1)
	for i := range keys {
		keys[i] = testHost(t, byte(i+1)).PubKey()
	}
	if _, err := NewParams(2, keys); !errors.Is(err, ErrThreshold) {
		t.Errorf("129 participants: %v", err)
	}
	if _, err := NewParams(2, keys[:frost.MaxParticipants]); err != nil {
		t.Errorf("128 participants: %v", err)
	}
	if _, err := NewParams(1, nil); !errors.Is(err, ErrThreshold) {
		t.Errorf("no participants: %v", err)
	}
}

func TestNothingPrints(t *testing.T) {
	t.Parallel()
	raw := []byte("a host key that nobody may see!!")
	canary, list := hex.EncodeToString(raw), fmt.Sprint(raw)
	host, err := NewHostKey(secret.New(bytes.Clone(raw)))
	if err != nil {
		t.Fatal(err)
	}
	parties, _ := run(t, 1, 1)
	for _, v := range []any{host, struct{ H *HostKey }{host}, parties[0].out, *parties[0].out} {
		out := fmt.Sprintf("%v %+v %#v %s %x", v, v, v, v, v)
		if j, err := json.Marshal(v); err == nil {
			out += string(j)
		}
		if strings.Contains(out, canary) || strings.Contains(out, list) || strings.Contains(out, string(raw)) {
			t.Errorf("%T shows the host key", v)
		}
	}
	host.Burn()
	if _, err := host.Sign(bytes.NewReader(make([]byte, 32)), nil); !errors.Is(err, secret.ErrBurned) {
		t.Errorf("a burned host key signs: %v", err)
	}
}
