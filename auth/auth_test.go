package auth_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/auth"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/secret"
	"github.com/vigil-ark/vigil/vigilpb"
)

var update = flag.Bool("update", false, "rewrite the vectors")

const (
	vectorFile = "testdata/vectors.json"
	sign       = vigilpb.WalletService_Sign_FullMethodName
)

// hx is bytes in hexadecimal.
type hx []byte

func (b hx) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(b)), nil }

func (b *hx) UnmarshalText(t []byte) (err error) {
	*b, err = hex.DecodeString(string(t))
	return err
}

// vectors are what a client in another language can be held to.
type vectors struct {
	Note     string           `json:"note"`
	Requests []requestVector  `json:"requests"`
	Answers  []answerVector   `json:"answers"`
	Clocks   []clockVector    `json:"clocks"`
	Prepared []preparedVector `json:"prepared"`
	Webhooks []webhookVector  `json:"webhooks"`
}

type requestVector struct {
	Name      string `json:"name"`
	Server    hx     `json:"server"`
	Network   string `json:"network"`
	Method    string `json:"method"`
	Wallet    hx     `json:"wallet"`
	Key       hx     `json:"key"`
	Epoch     uint32 `json:"epoch"`
	Timestamp int64  `json:"timestamp"`
	Nonce     hx     `json:"nonce"`
	Payload   hx     `json:"payload"`
	Hash      hx     `json:"hash"`
	Signature hx     `json:"signature"`
	Encoded   hx     `json:"encoded"`    // the whole SignedRequest in protobuf
	SecretKey hx     `json:"secret_key"` // of Key, for a client to sign with; signatures here use 32 zero bytes of randomness
}

type answerVector struct {
	Name      string `json:"name"`
	Server    hx     `json:"server"`
	Request   hx     `json:"request"`
	Seq       uint64 `json:"seq"`
	Timestamp int64  `json:"timestamp"`
	Payload   hx     `json:"payload"`
	Hash      hx     `json:"hash"`
	Signature hx     `json:"signature"`
}

type clockVector struct {
	Server    hx    `json:"server"`
	Request   hx    `json:"request"`
	Timestamp int64 `json:"timestamp"`
	Hash      hx    `json:"hash"`
	Signature hx    `json:"signature"`
}

type preparedVector struct {
	Server    hx    `json:"server"`
	Wallet    hx    `json:"wallet"`
	ID        hx    `json:"id"`
	TreeKey   hx    `json:"tree_key"`
	ExpiresAt int64 `json:"expires_at"`
	Hash      hx    `json:"hash"`
	Signature hx    `json:"signature"`
}

type webhookVector struct {
	Server    hx     `json:"server"`
	Timestamp int64  `json:"timestamp"`
	Body      string `json:"body"`
	Hash      hx     `json:"hash"`
	Signature hx     `json:"signature"`
}

// key makes the key whose scalar is n.
func key(t testing.TB, n byte) *bip340.Key {
	t.Helper()
	b := make([]byte, 32)
	b[31] = n
	s := secret.New(b)
	defer s.Burn()
	k, err := bip340.NewKey(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Burn)
	return k
}

// signed signs without randomness, so that a vector can be made again.
func signed(t testing.TB, k *bip340.Key, hash [32]byte) []byte {
	t.Helper()
	sig, err := bip340.Standard().Sign(k, bytes.NewReader(make([]byte, 32)), hash[:])
	if err != nil {
		t.Fatal(err)
	}
	return sig[:]
}

func seq(from byte, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = from + byte(i)
	}
	return b
}

// made makes all vectors anew.
func made(t testing.TB) vectors {
	t.Helper()
	server, device := key(t, 1), key(t, 2)
	sk, dk := server.PubKey(), device.PubKey()
	v := vectors{Note: "Made by auth's own tests: go test ./auth -update. The scalars of the keys are 1 (server) and 2 (device)."}
	for _, c := range []requestVector{
		{Name: "sign", Network: "regtest", Method: sign, Wallet: seq(0x10, 32), Epoch: 1, Timestamp: 1_800_000_000, Nonce: seq(0xa0, 16), Payload: []byte{0x0a, 0x02, 0x00, 0x01}},
		{Name: "an empty payload", Network: "signet", Method: vigilpb.WalletService_Devices_FullMethodName, Wallet: seq(0x10, 32), Timestamp: 1_800_000_001, Nonce: seq(0xb0, 16)},
		{Name: "keygen: the wallet is the host key", Network: "bitcoin", Method: vigilpb.WalletService_BeginKeygen_FullMethodName, Wallet: dk[:], Timestamp: 1_800_000_002, Nonce: seq(0xc0, 16), Payload: seq(0, 200)},
		{Name: "the largest numbers", Network: "regtest", Method: sign, Wallet: seq(0x10, 32), Epoch: 1<<32 - 1, Timestamp: 1<<63 - 1, Nonce: make([]byte, 16)},
		{Name: "nobody signs", Network: "regtest", Method: vigilpb.WalletService_GetServer_FullMethodName, Nonce: seq(0xd0, 16)},
	} {
		r := auth.Request{Wallet: c.Wallet, Epoch: c.Epoch, Timestamp: c.Timestamp, Nonce: [16]byte(c.Nonce), Payload: c.Payload}
		c.Server = sk[:]
		q := &vigilpb.SignedRequest{Wallet: c.Wallet, Epoch: c.Epoch, Timestamp: c.Timestamp, Nonce: c.Nonce, Payload: c.Payload}
		if len(c.Wallet) > 0 {
			r.Key, c.Key, q.Key = dk, dk[:], dk[:]
			c.SecretKey = append(make([]byte, 31), 2)
		}
		hash := auth.RequestHash(sk, c.Network, c.Method, r)
		c.Hash = hash[:]
		if len(c.Wallet) > 0 {
			c.Signature = signed(t, device, hash)
			q.Signature = c.Signature
		}
		var err error
		if c.Encoded, err = (proto.MarshalOptions{Deterministic: true}).Marshal(q); err != nil {
			t.Fatal(err)
		}
		v.Requests = append(v.Requests, c)
	}
	request := [32]byte(v.Requests[0].Hash)
	for _, c := range []answerVector{
		{Name: "of a unary call", Timestamp: 1_800_000_003, Payload: seq(0x30, 20)},
		{Name: "without a payload", Timestamp: 1_800_000_003},
		{Name: "the third of a stream", Seq: 3, Timestamp: 1_800_000_004, Payload: seq(0x40, 9)},
	} {
		hash := auth.AnswerHash(request, c.Seq, c.Timestamp, c.Payload)
		c.Server, c.Request, c.Hash, c.Signature = sk[:], request[:], hash[:], signed(t, server, hash)
		v.Answers = append(v.Answers, c)
	}
	clock := auth.ClockHash(request, 1_800_000_005)
	v.Clocks = []clockVector{{sk[:], request[:], 1_800_000_005, clock[:], signed(t, server, clock)}}
	prepared := auth.PreparedHash(vigil.WalletID(seq(0x10, 32)), vigil.DelegateID(seq(0x50, 16)), dk, 1_800_003_600)
	v.Prepared = []preparedVector{{sk[:], seq(0x10, 32), seq(0x50, 16), dk[:], 1_800_003_600, prepared[:], signed(t, server, prepared)}}
	const body = `{"wallet":"1011","kind":"uncovered"}`
	hook := auth.WebhookHash(1_800_000_006, []byte(body))
	v.Webhooks = []webhookVector{{sk[:], 1_800_000_006, body, hook[:], signed(t, server, hook)}}
	return v
}

// The vectors are as they ever were, and what the documents say gives them: the
// hashes are computed here once more, from the words alone.
func TestVectors(t *testing.T) {
	text, err := json.MarshalIndent(made(t), "", " ")
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, '\n')
	if *update {
		if err := os.WriteFile(vectorFile, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	file, err := os.ReadFile(vectorFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(file, text) {
		t.Fatalf("%s is not what is made: signatures of devices in the world would not verify any more", vectorFile)
	}
	var v vectors
	if err := json.Unmarshal(file, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Requests) != 5 || len(v.Answers) != 3 || len(v.Clocks) != 1 || len(v.Prepared) != 1 || len(v.Webhooks) != 1 {
		t.Error("cases are missing")
	}
	for _, c := range v.Requests {
		key := c.Key
		if len(key) == 0 {
			key = make([]byte, 33)
		}
		check(t, c.Name, "vigil/request/v1", c.Hash, c.Key, c.Signature, c.Server, short(c.Network), short(c.Method), short(string(c.Wallet)),
			key, be(4, uint64(c.Epoch)), sha(c.Payload), be(8, uint64(c.Timestamp)), c.Nonce)
	}
	for _, c := range v.Answers {
		check(t, c.Name, "vigil/answer/v1", c.Hash, c.Server, c.Signature, c.Request, be(8, c.Seq), be(8, uint64(c.Timestamp)), sha(c.Payload))
	}
	for _, c := range v.Clocks {
		check(t, "clock", "vigil/clock/v1", c.Hash, c.Server, c.Signature, c.Request, be(8, uint64(c.Timestamp)))
	}
	for _, c := range v.Prepared {
		check(t, "prepared", "vigil/prepared/v1", c.Hash, c.Server, c.Signature, c.Wallet, c.ID, c.TreeKey, be(8, uint64(c.ExpiresAt)))
	}
	for _, c := range v.Webhooks {
		check(t, "webhook", "vigil/webhook/v1", c.Hash, c.Server, c.Signature, be(8, uint64(c.Timestamp)), sha([]byte(c.Body)))
	}
}

// check holds a hash to BIP-340's words on tagged hashes, and its signature.
func check(t *testing.T, name, tag string, hash, key, sig []byte, parts ...[]byte) {
	t.Helper()
	t1 := sha([]byte(tag))
	if want := sha(slices.Concat(t1, t1, slices.Concat(parts...))); !bytes.Equal(want, hash) {
		t.Errorf("%s: the hash is %x by the words and %x here", name, want, hash)
	}
	if len(sig) > 0 && !bip340.Verify(bip340.XOnly(key[1:]), hash, [64]byte(sig)) {
		t.Errorf("%s: the signature does not verify", name)
	}
}

func sha(b []byte) []byte { s := sha256.Sum256(b); return s[:] }

func short(s string) []byte { return append([]byte{byte(len(s))}, s...) }

func be(n int, v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v)[8-n:] }

// The vectors' requests pass the server's own check, as their bytes.
func TestVectorsVerify(t *testing.T) {
	for _, c := range made(t).Requests {
		q := &vigilpb.SignedRequest{}
		if err := proto.Unmarshal(c.Encoded, q); err != nil {
			t.Fatal(err)
		}
		var call auth.Call
		var err error
		if len(c.Wallet) == 0 {
			call, err = auth.Unsigned(bip340.PubKey(c.Server), c.Network, c.Method, q)
		} else {
			call, err = auth.Verify(bip340.PubKey(c.Server), c.Network, c.Method, q, time.Unix(c.Timestamp, 0), time.Minute)
		}
		if err != nil || !bytes.Equal(call.Hash[:], c.Hash) || !bytes.Equal(call.Payload, c.Payload) {
			t.Errorf("%s: %+v, %v", c.Name, call, err)
		}
	}
}

func good(t testing.TB) (*vigilpb.SignedRequest, [32]byte, bip340.PubKey) {
	t.Helper()
	server := key(t, 1).PubKey()
	q, hash, err := auth.Sign(key(t, 2), server, "regtest", sign, auth.Request{
		Wallet: seq(1, 32), Epoch: 2, Timestamp: 1_800_000_000, Nonce: [16]byte{3}, Payload: []byte("what is asked"),
	})
	if err != nil {
		t.Fatal(err)
	}
	return q, hash, server
}

// Every byte of a request counts: whichever is changed, it is refused, or it is
// another request.
func TestEveryByteCounts(t *testing.T) {
	q, hash, server := good(t)
	raw, err := proto.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_800_000_000, 0)
	call, err := auth.Verify(server, "regtest", sign, q, now, time.Minute)
	if err != nil || call.Hash != hash || call.Wallet != vigil.WalletID(seq(1, 32)) || call.Key != key(t, 2).PubKey() || call.Host != (bip340.PubKey{}) {
		t.Fatalf("%+v, %v", call, err)
	}
	for i := range raw {
		for _, bit := range []byte{1, 0x80} {
			b := slices.Clone(raw)
			b[i] ^= bit
			bad := &vigilpb.SignedRequest{}
			if proto.Unmarshal(b, bad) != nil {
				continue
			}
			if _, err := auth.Verify(server, "regtest", sign, bad, now, 1<<62); err == nil {
				t.Errorf("byte %d may change", i)
			}
		}
	}
	for name, f := range map[string]func() error{
		"server": func() error {
			_, err := auth.Verify(key(t, 3).PubKey(), "regtest", sign, q, now, time.Minute)
			return err
		},
		"network": func() error { _, err := auth.Verify(server, "regtes", sign, q, now, time.Minute); return err },
		"method":  func() error { _, err := auth.Verify(server, "regtest", sign+"x", q, now, time.Minute); return err },
		// Lengths stand before what could run into its neighbour.
		"border": func() error { _, err := auth.Verify(server, "regtest/", sign[1:], q, now, time.Minute); return err },
	} {
		if err := f(); vigil.CodeOf(err) != vigil.CodeRequestSignature {
			t.Errorf("another %s: %v", name, err)
		}
	}
}

func TestWindow(t *testing.T) {
	q, hash, server := good(t)
	for off, want := range map[time.Duration]vigil.Code{
		0: "", 60 * time.Second: "", -60 * time.Second: "", 61 * time.Second: vigil.CodeClockSkew, -61 * time.Second: vigil.CodeClockSkew,
		1<<63 - 1: vigil.CodeClockSkew, -1 << 63: vigil.CodeClockSkew,
	} {
		call, err := auth.Verify(server, "regtest", sign, q, time.Unix(1_800_000_000, 0).Add(off), time.Minute)
		if want == "" && err != nil || want != "" && vigil.CodeOf(err) != want {
			t.Errorf("%v off: %v", off, err)
		}
		if call.Hash != hash {
			t.Errorf("%v off: the call is not told", off)
		}
	}
	far, _, err := auth.Sign(key(t, 2), server, "regtest", sign, auth.Request{Wallet: seq(1, 32), Timestamp: -1 << 63})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := auth.Verify(server, "regtest", sign, far, time.Unix(1_800_000_000, 0), time.Minute); vigil.CodeOf(err) != vigil.CodeClockSkew {
		t.Errorf("a time before all times: %v", err)
	}
}

func TestVerifyAnswer(t *testing.T) {
	server := key(t, 1)
	_, request, _ := good(t)
	hash := auth.AnswerHash(request, 0, 7, []byte("yes"))
	a := func(edit ...func(*vigilpb.SignedAnswer)) *vigilpb.SignedAnswer {
		a := &vigilpb.SignedAnswer{Payload: []byte("yes"), Timestamp: 7, Signature: signed(t, server, hash)}
		for _, f := range edit {
			f(a)
		}
		return a
	}
	if err := auth.VerifyAnswer(server.PubKey(), request, 0, a()); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"payload":   auth.VerifyAnswer(server.PubKey(), request, 0, a(func(a *vigilpb.SignedAnswer) { a.Payload = []byte("no") })),
		"time":      auth.VerifyAnswer(server.PubKey(), request, 0, a(func(a *vigilpb.SignedAnswer) { a.Timestamp++ })),
		"seq":       auth.VerifyAnswer(server.PubKey(), request, 0, a(func(a *vigilpb.SignedAnswer) { a.Seq++ })),
		"wanted":    auth.VerifyAnswer(server.PubKey(), request, 1, a()),
		"both":      auth.VerifyAnswer(server.PubKey(), request, 1, a(func(a *vigilpb.SignedAnswer) { a.Seq++ })),
		"unsigned":  auth.VerifyAnswer(server.PubKey(), request, 0, a(func(a *vigilpb.SignedAnswer) { a.Signature = nil })),
		"request":   auth.VerifyAnswer(server.PubKey(), [32]byte{}, 0, a()),
		"server":    auth.VerifyAnswer(key(t, 5).PubKey(), request, 0, a()),
		"nothing":   auth.VerifyAnswer(server.PubKey(), request, 0, nil),
		"the clock": auth.VerifyClock(server.PubKey(), request, &vigilpb.ServerClock{Timestamp: 7, Signature: a().GetSignature()}),
		"no clock":  auth.VerifyClock(server.PubKey(), request, nil),
	} {
		if !errors.Is(err, auth.ErrAnswer) {
			t.Errorf("another %s: %v", name, err)
		}
	}
	clock := auth.ClockHash(request, 7)
	if err := auth.VerifyClock(server.PubKey(), request, &vigilpb.ServerClock{Timestamp: 7, Signature: signed(t, server, clock)}); err != nil {
		t.Error(err)
	}
}

func TestSignWithABurnedKey(t *testing.T) {
	k := key(t, 9)
	k.Burn()
	if _, _, err := auth.Sign(k, bip340.PubKey{}, "regtest", sign, auth.Request{}); !errors.Is(err, secret.ErrBurned) {
		t.Error(err)
	}
}

// Whatever is decoded as a request is refused or is one that somebody signed.
func FuzzVerify(f *testing.F) {
	q, hash, server := good(f)
	raw, err := proto.Marshal(q)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte{})
	known := [][32]byte{hash} // what was ever signed here
	for _, c := range made(f).Requests {
		f.Add([]byte(c.Encoded))
		known = append(known, [32]byte(c.Hash))
	}
	now := time.Unix(1_800_000_000, 0)
	f.Fuzz(func(t *testing.T, b []byte) {
		q := &vigilpb.SignedRequest{}
		if proto.Unmarshal(b, q) != nil {
			return
		}
		call, err := auth.Verify(server, "regtest", sign, q, now, time.Minute)
		switch code := vigil.CodeOf(err); {
		case err == nil && !slices.Contains(known, call.Hash):
			t.Errorf("passes: %x", b)
		case err != nil && code != vigil.CodeMalformed && code != vigil.CodeRequestSignature && code != vigil.CodeClockSkew:
			t.Error(err)
		}
		if _, err := auth.Unsigned(server, "regtest", sign, q); err != nil && vigil.CodeOf(err) != vigil.CodeMalformed {
			t.Error(err)
		}
	})
}

// The form of a request is judged before its signature, field by field.
func TestForm(t *testing.T) {
	for name, edit := range map[string]func(*vigilpb.SignedRequest){
		"no wallet":       func(q *vigilpb.SignedRequest) { q.Wallet = nil },
		"long wallet":     func(q *vigilpb.SignedRequest) { q.Wallet = seq(0, 34) },
		"another's host":  func(q *vigilpb.SignedRequest) { q.Wallet = append([]byte{2}, seq(1, 32)...) },
		"no key":          func(q *vigilpb.SignedRequest) { q.Key = nil },
		"x-only key":      func(q *vigilpb.SignedRequest) { q.Key = q.Key[1:] },
		"key with prefix": func(q *vigilpb.SignedRequest) { q.Key[0] = 4 },
		"short nonce":     func(q *vigilpb.SignedRequest) { q.Nonce = q.Nonce[1:] },
		"long nonce":      func(q *vigilpb.SignedRequest) { q.Nonce = append(q.Nonce, 0) },
		"no signature":    func(q *vigilpb.SignedRequest) { q.Signature = nil },
		"long signature":  func(q *vigilpb.SignedRequest) { q.Signature = append(q.Signature, 0) },
		"unknown field":   func(q *vigilpb.SignedRequest) { q.ProtoReflect().SetUnknown([]byte{0x78, 1}) },
	} {
		q, _, server := good(t)
		edit(q)
		if _, err := auth.Verify(server, "regtest", sign, q, time.Unix(1_800_000_000, 0), time.Minute); vigil.CodeOf(err) != vigil.CodeMalformed {
			t.Errorf("%s: %v", name, err)
		}
	}
	// What nobody signs has two fields, and no third that could be believed.
	for name, edit := range map[string]func(*vigilpb.SignedRequest){
		"a wallet":      func(q *vigilpb.SignedRequest) { q.Wallet = seq(0, 32) },
		"a key":         func(q *vigilpb.SignedRequest) { q.Key = seq(0, 33) },
		"an epoch":      func(q *vigilpb.SignedRequest) { q.Epoch = 1 },
		"a time":        func(q *vigilpb.SignedRequest) { q.Timestamp = 1 },
		"a signature":   func(q *vigilpb.SignedRequest) { q.Signature = seq(0, 64) },
		"another field": func(q *vigilpb.SignedRequest) { q.ProtoReflect().SetUnknown([]byte{0x78, 1}) },
		"no nonce":      func(q *vigilpb.SignedRequest) { q.Nonce = nil },
	} {
		q := &vigilpb.SignedRequest{Nonce: seq(0, 16), Payload: []byte("payload")}
		if _, err := auth.Unsigned(key(t, 1).PubKey(), "regtest", sign, q); err != nil {
			t.Fatal(err)
		}
		edit(q)
		if _, err := auth.Unsigned(key(t, 1).PubKey(), "regtest", sign, q); vigil.CodeOf(err) != vigil.CodeMalformed {
			t.Errorf("unsigned, with %s: %v", name, err)
		}
	}
	k := key(t, 2)
	pub, server := k.PubKey(), key(t, 1).PubKey()
	// Whoever signs in the name of another host key is told before the signature is
	// looked at, and has no call.
	other := key(t, 3).PubKey()
	forged, _, err := auth.Sign(k, server, "regtest", sign, auth.Request{Wallet: other[:], Timestamp: 1_800_000_000})
	if err != nil {
		t.Fatal(err)
	}
	if c, err := auth.Verify(server, "regtest", sign, forged, time.Unix(1_800_000_000, 0), time.Minute); vigil.CodeOf(err) != vigil.CodeMalformed || c.Host == other {
		t.Errorf("for another's host key: %+v, %v", c, err)
	}
	q, _, err := auth.Sign(k, server, "regtest", sign, auth.Request{Wallet: pub[:], Timestamp: 1_800_000_000})
	if err != nil {
		t.Fatal(err)
	}
	if c, err := auth.Verify(server, "regtest", sign, q, time.Unix(1_800_000_000, 0), time.Minute); err != nil || c.Host != pub || c.Wallet != (vigil.WalletID{}) {
		t.Errorf("of a host key: %+v, %v", c, err)
	}
}
