package stock_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/rpc"
)

// sent is a body as it travels.
type sent struct {
	Intent struct {
		Message string `json:"message"`
		Proof   string `json:"proof"`
	} `json:"intent"`
	Forfeits []string `json:"forfeit_txs"`
}

// spoil bends a good body somewhere: a bit of a PSBT, a piece cut out or
// doubled, the message, the number of forfeits.
func spoil(r *rand.Rand, s vigil.Submission) sent {
	var b sent
	b.Intent.Message, b.Intent.Proof, b.Forfeits = s.Message, s.Proof, append([]string(nil), s.Forfeits...)
	bend := func(b64 string) string {
		raw, err := base64.StdEncoding.DecodeString(b64)
		if err != nil || len(raw) == 0 {
			return b64
		}
		at := r.IntN(len(raw))
		switch r.IntN(3) {
		case 0:
			raw[at] ^= 1 << r.IntN(8)
		case 1:
			raw = append(raw[:at:at], raw[min(len(raw), at+1+r.IntN(40)):]...)
		default:
			raw = append(append(raw[:at:at], raw[max(0, at-40):]...), make([]byte, r.IntN(3))...)
		}
		return base64.StdEncoding.EncodeToString(raw)
	}
	switch r.IntN(5) {
	case 0, 1:
		b.Intent.Proof = bend(b.Intent.Proof)
	case 2:
		b.Forfeits[0] = bend(b.Forfeits[0])
	case 3:
		i := r.IntN(len(b.Intent.Message))
		b.Intent.Message = b.Intent.Message[:i] + string(rune(r.IntN(0x3000))) + b.Intent.Message[i+1:]
	default:
		b.Forfeits = append(b.Forfeits, strings.Split(strings.Repeat(b.Forfeits[0]+" ", r.IntN(140)), " ")...)
	}
	return b
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Ten thousand bodies that are nearly right, each from an address of its own,
// leave nothing behind in the whole of the intake. A bit of a proof that nobody
// signs and nothing reads, as in its copy of the message, makes it no other
// proof: such a body is taken once, and from then on every body over that proof
// is known.
func TestHostileBodies(t *testing.T) {
	const most = 5 << 20
	f := newFixture(t)
	w := newWallet(f, 0x11)
	good := []vigil.Submission{w.body(1), w.body(2, 3)}
	s, err := rpc.New(rpc.Config{Now: f.now}, f.service)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r := rand.New(rand.NewPCG(3, 4))
	var early int64
	codes := map[int]int{}
	for n := 1; n <= hostileRequests; n++ {
		body, err := json.Marshal(spoil(r, good[n%2]))
		if err != nil {
			t.Fatal(err)
		}
		req := httptest.NewRequest("POST", "/v1/delegate", strings.NewReader(string(body)))
		req.RemoteAddr = fmt.Sprintf("10.%d.%d.%d:1", n>>16&255, n>>8&255, n&255)
		rec := httptest.NewRecorder()
		s.ServeHTTP(rec, req)
		codes[rec.Code]++
		if rec.Code >= 500 {
			t.Fatalf("request %d: %d %s", n, rec.Code, rec.Body)
		}
		if n%100 == 0 {
			f.at++
		}
		if n == hostileRequests/10 {
			early = heap()
		}
	}
	if grown := heap() - early; grown > most || grown < -most {
		t.Errorf("the heap grew by %d bytes after the first tenth of %d requests", grown, hostileRequests)
	}
	counts, err := f.ledger.Counts(t.Context())
	if err != nil || counts[delegate.Armed] > 2 {
		t.Errorf("%v stored, %v", counts, err)
	}
	if codes[400] < hostileRequests/2 {
		t.Errorf("they were not hostile: %v", codes)
	}
	t.Logf("answers by status: %v; the heap grew by %d", codes, heap()-early)
	f.at += int64(time.Hour.Seconds())
	for _, b := range good {
		f.submit(b)
	}
	if counts, err = f.ledger.Counts(t.Context()); err != nil || counts[delegate.Armed] != 2 {
		t.Errorf("the good ones afterwards: %v, %v", counts, err)
	}
}
