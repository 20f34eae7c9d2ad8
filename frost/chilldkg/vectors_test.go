package chilldkg

import (
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/secret"
)

// hexed is a byte string in JSON; absent and null are nil.
type hexed []byte

func (h *hexed) UnmarshalJSON(b []byte) error {
	var s *string
	if err := json.Unmarshal(b, &s); err != nil || s == nil {
		return err
	}
	raw, err := hex.DecodeString(*s)
	*h = append(hexed{}, raw...)
	return err
}

type vectorParams struct {
	Hosts []hexed `json:"hostpubkeys"`
	T     int
}

func (v *vectorParams) params() (*Params, error) {
	hosts := make([]bip340.PubKey, len(v.Hosts))
	for i, h := range v.Hosts {
		if len(h) != 33 {
			return nil, errors.New("host public key of another length cannot be written down")
		}
		hosts[i] = bip340.PubKey(h)
	}
	return NewParams(v.T, hosts)
}

// vectorFile has the fields of all files together; a file without groups is one
// group.
type vectorFile struct {
	Total  int         `json:"totalTests"`
	Groups []testGroup `json:"testGroups"`
	testGroup
}

type testGroup struct {
	Params              vectorParams
	HostSec             hexed `json:"hostseckey"`
	Random              hexed
	AuxRand             hexed `json:"auxRand"`
	Pmsg1, Pmsg2, Cmsg1 hexed
	Pmsgs1              []hexed
	Pmsg1Pool           []hexed  `json:"pmsg1Pool"`
	Pmsg2Pool           []hexed  `json:"pmsg2Pool"`
	Cmsg1Pool           []hexed  `json:"cmsg1Pool"`
	Valid               []vector `json:"validTestCases"`
	Errors              []vector `json:"errorTestCases"`
}

type vector struct {
	ID           int `json:"tcId"`
	Comment      string
	Params       vectorParams
	HostSec      hexed `json:"hostseckey"`
	HostPub      hexed `json:"expectedHostpubkey"`
	Hash         hexed `json:"expectedParamsHash"`
	Random       hexed
	AuxRand      hexed   `json:"auxRand"`
	WantPmsg1    hexed   `json:"expectedPmsg1"`
	WantPmsg2    hexed   `json:"expectedPmsg2"`
	WantCmsg1    hexed   `json:"expectedCmsg1"`
	WantCinv     []hexed `json:"expectedCinvMsgs"`
	Pmsg1At      []int   `json:"pmsg1Indices"`
	Pmsg2At      []int   `json:"pmsg2Indices"`
	Cmsg1At      int     `json:"cmsg1Index"`
	Cmsg1, Cmsg2 hexed
	Cinv         hexed `json:"cinvMsg"`
	Recovery     hexed `json:"recoveryData"`
	Want         struct {
		Cmsg2    hexed
		Recovery hexed `json:"recoveryData"`
		Params   vectorParams
		DKG      struct {
			Share     hexed   `json:"secshare"`
			Key       hexed   `json:"threshPk"`
			PubShares []hexed `json:"pubshares"`
		} `json:"dkgOutput"`
	} `json:"expectedOutput"`
	Error vectorError `json:"expectedError"`
}

type vectorError struct {
	Type, Message string
	ID            int `json:"participantId"`
	ID1           int `json:"participantId1"`
	ID2           int `json:"participantId2"`
}

func unzip(t testing.TB, name string, v any) {
	t.Helper()
	f, err := os.Open("testdata/" + name + ".json.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.NewDecoder(z).Decode(v); err != nil {
		t.Fatal(err)
	}
}

// load reads a file and checks the number of its cases.
func load(t *testing.T, name string, cases int) []testGroup {
	t.Helper()
	var v vectorFile
	unzip(t, name, &v)
	if v.Groups == nil {
		v.Groups = []testGroup{v.testGroup}
	}
	n := 0
	for _, g := range v.Groups {
		n += len(g.Valid) + len(g.Errors)
	}
	if n != cases || v.Total != cases {
		t.Fatalf("%s has %d cases and says %d, want %d", name, n, v.Total, cases)
	}
	return v.Groups
}

func (v *vector) name() string { return fmt.Sprintf("case %d, %s", v.ID, v.Comment) }

// check compares an error with the class and the blame that the vector gives.
func (v *vector) check(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: no error, want %s", v.name(), v.Error.Type)
		return
	}
	var fault *FaultError
	blamed := func(by Party, id int) bool { return errors.As(err, &fault) && fault.By == by && fault.ID == id }
	ok := false
	switch v.Error.Type {
	case "ValueError": // no class of its own
		ok = errors.Is(err, ErrLength) || errors.Is(err, ErrHostKey) || errors.Is(err, errRandomLength)
	case "HostSeckeyError":
		ok = errors.Is(err, ErrHostKey)
	case "ThresholdOrCountError":
		ok = errors.Is(err, ErrThreshold)
	case "InvalidHostPubkeyError":
		var e *HostPubKeyError
		ok = errors.As(err, &e) && e.ID == v.Error.ID
	case "DuplicateHostPubkeyError":
		var e *DuplicateError
		ok = errors.As(err, &e) && e.ID1 == v.Error.ID1 && e.ID2 == v.Error.ID2
	case "RandomnessError":
		ok = errors.Is(err, ErrRandomness)
	case "FaultyParticipantError":
		ok = blamed(Participant, v.Error.ID)
	case "FaultyParticipantOrCoordinatorError":
		ok = blamed(ParticipantOrCoordinator, v.Error.ID)
	case "FaultyCoordinatorError":
		ok = blamed(Coordinator, -1)
	case "UnknownFaultyParticipantOrCoordinatorError":
		var e *UnknownFaultError
		ok = errors.As(err, &e)
	case "RecoveryDataError":
		ok = errors.Is(err, ErrRecoveryData)
	}
	if !ok {
		t.Errorf("%s: error %v, want %s of %d", v.name(), err, v.Error.Type, v.Error.ID)
	}
}

func hostKey(h hexed) (*HostKey, error) { return NewHostKey(secret.New(bytes.Clone(h))) }

// errRandomLength stands for randomness of another length than 32 bytes, which
// the production API draws itself.
var errRandomLength = errors.New("randomness of another length cannot be written down")

func runStep1(sec hexed, params *vectorParams, random hexed) (*Participant1, *HostKey, []byte, error) {
	host, err := hostKey(sec)
	if err != nil {
		return nil, nil, nil, err
	}
	p, err := params.params()
	if err != nil {
		return nil, nil, nil, err
	}
	if _, err := p.ID(host.PubKey()); err == nil && len(random) != 32 {
		return nil, nil, nil, errRandomLength
	}
	s, msg, err := step1(host, p, (*[32]byte)(random))
	return s, host, msg, err
}

// after1 replays step 1 of a group.
func (g *testGroup) after1(t *testing.T) (*Participant1, *HostKey) {
	t.Helper()
	s, host, msg, err := runStep1(g.HostSec, &g.Params, g.Random)
	if err != nil || !bytes.Equal(msg, g.Pmsg1) {
		t.Fatalf("step 1: %v", err)
	}
	return s, host
}

func TestVectorsHostKey(t *testing.T) {
	t.Parallel()
	for _, g := range load(t, "hostpubkey_gen", 4) {
		for _, v := range g.Valid {
			h, err := hostKey(v.HostSec)
			if err != nil {
				t.Fatal(err)
			}
			if k := h.PubKey(); !bytes.Equal(k[:], v.HostPub) {
				t.Errorf("%s: %s", v.name(), k)
			}
		}
		for _, v := range g.Errors {
			_, err := hostKey(v.HostSec)
			v.check(t, err)
		}
	}
}

func TestVectorsParamsHash(t *testing.T) {
	t.Parallel()
	for _, g := range load(t, "params_hash", 6) {
		for _, v := range g.Valid {
			p, err := v.Params.params()
			if err != nil {
				t.Fatal(err)
			}
			if h := p.Hash(); !bytes.Equal(h[:], v.Hash) {
				t.Errorf("%s: %x", v.name(), h)
			}
		}
		for _, v := range g.Errors {
			_, err := v.Params.params()
			v.check(t, err)
		}
	}
}

func TestVectorsStep1(t *testing.T) {
	t.Parallel()
	for _, g := range load(t, "participant_step1", 52) {
		for _, v := range g.Valid {
			_, _, msg, err := runStep1(v.HostSec, &v.Params, v.Random)
			if err != nil || !bytes.Equal(msg, v.WantPmsg1) {
				t.Errorf("%s: %x, %v", v.name(), msg, err)
			}
		}
		for _, v := range g.Errors {
			_, _, _, err := runStep1(v.HostSec, &v.Params, v.Random)
			v.check(t, err)
		}
	}
}

func pick(pool []hexed, at []int) (out [][]byte) {
	for _, i := range at {
		out = append(out, pool[i])
	}
	return out
}

func raw(pool []hexed) (out [][]byte) {
	for _, b := range pool {
		out = append(out, b)
	}
	return out
}

func TestVectorsCoordinate(t *testing.T) {
	t.Parallel()
	for _, g := range load(t, "coordinator_step1", 44) {
		run := func(v vector) ([]byte, error) {
			p, err := v.Params.params()
			if err != nil {
				return nil, err
			}
			_, msg, err := Coordinate(p, pick(g.Pmsg1Pool, v.Pmsg1At))
			return msg, err
		}
		for _, v := range g.Valid {
			if msg, err := run(v); err != nil || !bytes.Equal(msg, v.WantCmsg1) {
				t.Errorf("%s: %x, %v", v.name(), msg, err)
			}
		}
		for _, v := range g.Errors {
			_, err := run(v)
			v.check(t, err)
		}
	}
}

func (g *testGroup) runStep2(t *testing.T, v vector) (*Participant2, []byte, error) {
	s, host := g.after1(t)
	if v.HostSec != nil {
		var err error
		if host, err = hostKey(v.HostSec); err != nil {
			return nil, nil, err
		}
	}
	aux := g.AuxRand
	if v.AuxRand != nil {
		aux = v.AuxRand
	}
	if len(aux) != 32 {
		return nil, nil, errRandomLength
	}
	return s.step2(host, v.Cmsg1, bytes.NewReader(aux))
}

func TestVectorsStep2(t *testing.T) {
	t.Parallel()
	for _, g := range load(t, "participant_step2", 74) {
		for _, v := range g.Valid {
			_, msg, err := g.runStep2(t, v)
			if err != nil || !bytes.Equal(msg, v.WantPmsg2) {
				t.Errorf("%s: %x, %v", v.name(), msg, err)
			}
		}
		for _, v := range g.Errors {
			_, _, err := g.runStep2(t, v)
			v.check(t, err)
		}
	}
}

// checkOutput compares an outcome with the vector's.
func (v *vector) checkOutput(t *testing.T, out *Output, recovery []byte) {
	t.Helper()
	want := v.Want.DKG
	same := bytes.Equal(out.Key[:], want.Key) && len(out.PubShares) == len(want.PubShares)
	for i := range want.PubShares {
		same = same && bytes.Equal(out.PubShares[i][:], want.PubShares[i])
	}
	err := out.Share.Use(func(b []byte) error {
		same = same && bytes.Equal(b, want.Share)
		return nil
	})
	if !same || (err == nil) != (want.Share != nil) || !bytes.Equal(recovery, v.Want.Recovery) {
		t.Errorf("%s: another outcome (%v)", v.name(), err)
	}
	if info, err := out.Info(); err != nil || info.PubKey() != out.Key {
		t.Errorf("%s: not a record: %v", v.name(), err)
	}
}

func TestVectorsFinalize(t *testing.T) {
	t.Parallel()
	for _, g := range load(t, "participant_finalize", 16) {
		s, host := g.after1(t)
		p2, msg, err := s.step2(host, g.Cmsg1, bytes.NewReader(g.AuxRand))
		if err != nil || !bytes.Equal(msg, g.Pmsg2) {
			t.Fatalf("step 2: %v", err)
		}
		for _, v := range g.Valid {
			out, recovery, err := p2.Finalize(v.Cmsg2)
			if err != nil {
				t.Fatal(err)
			}
			v.checkOutput(t, out, recovery)
		}
		for _, v := range g.Errors {
			_, _, err := p2.Finalize(v.Cmsg2)
			v.check(t, err)
		}
	}
}

func TestVectorsCoordinatorFinalize(t *testing.T) {
	t.Parallel()
	for _, g := range load(t, "coordinator_finalize", 20) {
		p, err := g.Params.params()
		if err != nil {
			t.Fatal(err)
		}
		s, msg, err := Coordinate(p, raw(g.Pmsgs1))
		if err != nil || !bytes.Equal(msg, g.Cmsg1) {
			t.Fatalf("step 1: %v", err)
		}
		for _, v := range g.Valid {
			cmsg2, out, recovery, err := s.Finalize(pick(g.Pmsg2Pool, v.Pmsg2At))
			if err != nil || !bytes.Equal(cmsg2, v.Want.Cmsg2) {
				t.Fatalf("%s: %x, %v", v.name(), cmsg2, err)
			}
			v.checkOutput(t, out, recovery)
		}
		for _, v := range g.Errors {
			_, _, _, err := s.Finalize(pick(g.Pmsg2Pool, v.Pmsg2At))
			v.check(t, err)
		}
	}
}

func TestVectorsCoordinatorInvestigate(t *testing.T) {
	t.Parallel()
	for _, g := range load(t, "coordinator_investigate", 4) {
		p, err := g.Params.params()
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range g.Valid {
			msgs, err := Investigate(p, raw(g.Pmsgs1))
			if err != nil || len(msgs) != len(v.WantCinv) {
				t.Fatalf("%s: %v", v.name(), err)
			}
			for i := range msgs {
				if !bytes.Equal(msgs[i], v.WantCinv[i]) {
					t.Errorf("%s: message %d is %x", v.name(), i, msgs[i])
				}
			}
		}
	}
}

func TestVectorsInvestigate(t *testing.T) {
	t.Parallel()
	for _, g := range load(t, "participant_investigate", 16) {
		for _, v := range g.Errors {
			s, host := g.after1(t)
			_, _, err := s.step2(host, g.Cmsg1Pool[v.Cmsg1At], bytes.NewReader(g.AuxRand))
			var unknown *UnknownFaultError
			if !errors.As(err, &unknown) {
				t.Fatalf("%s: step 2: %v", v.name(), err)
			}
			v.check(t, unknown.Investigate(v.Cinv))
			if err := unknown.Investigate(v.Cinv); !errors.Is(err, secret.ErrBurned) {
				t.Errorf("%s: a second investigation: %v", v.name(), err)
			}
		}
	}
}

func TestVectorsRecover(t *testing.T) {
	t.Parallel()
	for _, g := range load(t, "recover", 13) {
		run := func(v vector) (*Output, *Params, error) {
			if v.HostSec == nil {
				return RecoverPublic(v.Recovery)
			}
			host, err := hostKey(v.HostSec)
			if err != nil {
				return nil, nil, err
			}
			return Recover(host, v.Recovery)
		}
		for _, v := range g.Valid {
			out, p, err := run(v)
			if err != nil {
				t.Fatal(err)
			}
			v.checkOutput(t, out, nil)
			want, err := v.Want.Params.params()
			if err != nil || p.Hash() != want.Hash() {
				t.Errorf("%s: other parameters (%v)", v.name(), err)
			}
		}
		for _, v := range g.Errors {
			_, _, err := run(v)
			v.check(t, err)
		}
	}
}

// transcript is one 2-of-2 session of the draft's own program.
type transcript struct {
	T         int
	HostSecs  []hexed `json:"hostseckeys"`
	Hosts     []hexed `json:"hostpubkeys"`
	Hash      hexed   `json:"params_hash"`
	Random    []hexed
	AuxRand   []hexed `json:"aux_rand"`
	Pmsgs1    []hexed
	Cmsg1     hexed
	Pmsgs2    []hexed
	Cmsg2     hexed
	Cinv      []hexed
	Recovery  hexed   `json:"recovery_data"`
	Acks      []hexed `json:"recovery_acks"`
	Key       hexed   `json:"thresh_pk"`
	PubShares []hexed
	Secshares []hexed
}

// TestVectors2of2 replays each transcript three ways: both participants and the
// coordinator apart, and the server as participant and coordinator in either
// place.
func TestVectors2of2(t *testing.T) {
	t.Parallel()
	var f struct{ Cases []transcript }
	unzip(t, "transcripts_2of2", &f)
	if len(f.Cases) != 6 {
		t.Fatalf("%d transcripts, want 6", len(f.Cases))
	}
	for i := range f.Cases {
		c := &f.Cases[i]
		params, err := (&vectorParams{Hosts: c.Hosts, T: c.T}).params()
		if err != nil {
			t.Fatal(err)
		}
		if h := params.Hash(); !bytes.Equal(h[:], c.Hash) {
			t.Errorf("transcript %d: parameters hash to %x", i, h)
		}
		session, cmsg1, err := Coordinate(params, raw(c.Pmsgs1))
		if err != nil || !bytes.Equal(cmsg1, c.Cmsg1) {
			t.Fatalf("transcript %d: coordinate: %v", i, err)
		}
		cmsg2, _, _, err := session.Finalize(raw(c.Pmsgs2))
		if err != nil || !bytes.Equal(cmsg2, c.Cmsg2) {
			t.Fatalf("transcript %d: finalize: %v", i, err)
		}
		msgs, err := Investigate(params, raw(c.Pmsgs1))
		if err != nil || !bytes.Equal(msgs[0], c.Cinv[0]) || !bytes.Equal(msgs[1], c.Cinv[1]) {
			t.Errorf("transcript %d: investigate: %v", i, err)
		}
		for id := range 2 {
			c.replay(t, params, id)
			c.serve(t, params, id)
		}
	}
}

func (c *transcript) replay(t *testing.T, params *Params, id int) {
	t.Helper()
	host, err := hostKey(c.HostSecs[id])
	if err != nil {
		t.Fatal(err)
	}
	p1, msg, err := step1(host, params, (*[32]byte)(c.Random[id]))
	if err != nil || !bytes.Equal(msg, c.Pmsgs1[id]) {
		t.Fatalf("step 1: %v", err)
	}
	p2, msg, err := p1.step2(host, c.Cmsg1, bytes.NewReader(c.AuxRand[id]))
	if err != nil || !bytes.Equal(msg, c.Pmsgs2[id]) {
		t.Fatalf("step 2: %v", err)
	}
	out, recovery, err := p2.Finalize(c.Cmsg2)
	if err != nil || !bytes.Equal(recovery, c.Recovery) {
		t.Fatalf("finalize: %v", err)
	}
	c.checkOutput(t, out, id)
	again, _, err := Recover(host, append(p2.Transcript(), c.Cmsg2...))
	if err != nil {
		t.Fatalf("recover: %v", err)
	}
	c.checkOutput(t, again, id)
	ack, err := acknowledge(host, params, recovery, bytes.NewReader(c.AuxRand[id]))
	if err != nil || !bytes.Equal(ack, c.Acks[id]) {
		t.Errorf("acknowledgment: %x, %v", ack, err)
	}
	if err := VerifyAcknowledgment(params, recovery, id, c.Acks[id]); err != nil {
		t.Error(err)
	}
	if err := VerifyAcknowledgment(params, recovery, 1-id, c.Acks[id]); !errors.Is(err, ErrSignature) {
		t.Errorf("acknowledgment of another: %v", err)
	}
}

func (c *transcript) checkOutput(t *testing.T, out *Output, id int) {
	t.Helper()
	err := out.Share.Use(func(b []byte) error {
		if !bytes.Equal(b, c.Secshares[id]) {
			t.Error("another share")
		}
		return nil
	})
	if err != nil || out.ID != id || !bytes.Equal(out.Key[:], c.Key) || !bytes.Equal(out.PubShares[0][:], c.PubShares[0]) || !bytes.Equal(out.PubShares[1][:], c.PubShares[1]) {
		t.Errorf("another outcome: %v", err)
	}
}

func (c *transcript) serve(t *testing.T, params *Params, id int) {
	t.Helper()
	host, err := hostKey(c.HostSecs[id])
	if err != nil {
		t.Fatal(err)
	}
	others := func(msgs []hexed) [][]byte {
		out := raw(msgs)
		out[id] = nil
		return out
	}
	s, cmsg1, err := serve(host, params, others(c.Pmsgs1), (*[32]byte)(c.Random[id]), bytes.NewReader(c.AuxRand[id]))
	if err != nil || !bytes.Equal(cmsg1, c.Cmsg1) {
		t.Fatalf("serve: %v", err)
	}
	cmsg2, out, recovery, err := s.Certify(others(c.Pmsgs2))
	if err != nil || !bytes.Equal(cmsg2, c.Cmsg2) || !bytes.Equal(recovery, c.Recovery) {
		t.Fatalf("certify: %v", err)
	}
	c.checkOutput(t, out, id)
}
