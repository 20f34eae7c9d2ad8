package rpc

import (
	"bytes"
	"context"
	"encoding/binary"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/auth"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/vigilpb"
)

// prompt is a port that answers at once.
type prompt struct{ quiet }

func (prompt) Sign(context.Context, auth.Call, *vigilpb.SignRequest) (*vigilpb.SignAnswer, error) {
	return &vigilpb.SignAnswer{Parts: []*vigilpb.SignaturePart{{Nonce: make([]byte, 66), Sig: make([]byte, 32)}}}, nil
}

// noDelegates serves nobody.
type noDelegates struct{ vigil.Delegates }

// BenchmarkCall is one request of a wallet through the whole edge, store and
// work left out. Its floor is what cannot be spared: one signature verified and
// one made.
func BenchmarkCall(b *testing.B) {
	key, s, err := bip340.GenerateKey()
	if err != nil {
		b.Fatal(err)
	}
	s.Burn()
	defer key.Burn()
	const most = 1e9
	server, err := New(Config{
		Limits:  Limits{Rate: most, Burst: most, WalletRate: most, WalletBurst: most},
		Wallets: &WalletService{Wallets: prompt{}, Replay: forgetful{}, Signer: hostKey{key}, Network: "regtest"},
	}, noDelegates{})
	if err != nil {
		b.Fatal(err)
	}
	defer server.Close()
	payload, err := proto.Marshal(&vigilpb.SignRequest{Signers: []uint32{0, 1}, Session: make([]byte, 32), Nonces: [][]byte{make([]byte, 66)}})
	if err != nil {
		b.Fatal(err)
	}
	const method = vigilpb.WalletService_Sign_FullMethodName
	q, hash, err := auth.Sign(key, key.PubKey(), "regtest", method, auth.Request{
		Wallet: append(make([]byte, 31), 1), Timestamp: time.Now().Unix(), Nonce: [16]byte{1}, Payload: payload,
	})
	if err != nil {
		b.Fatal(err)
	}
	body, err := proto.Marshal(q)
	if err != nil {
		b.Fatal(err)
	}
	framed := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(body))), body...)
	text, err := strictJSON{}.Marshal(q)
	if err != nil {
		b.Fatal(err)
	}
	floor := func(n int) time.Duration {
		begun := time.Now()
		for range n {
			if !bip340.Verify(key.PubKey().XOnly(), hash[:], [64]byte(q.GetSignature())) {
				b.Fatal("does not verify")
			}
			if _, err := key.Sign(hash[:]); err != nil {
				b.Fatal(err)
			}
		}
		return time.Since(begun)
	}
	for _, c := range []struct {
		name, path, kind string
		body             []byte
	}{
		{"gRPC", method, "application/grpc", framed},
		{"Connect", method, "application/proto", body},
		{"REST", walletREST + "sign", "application/json", text},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				r := httptest.NewRequest(http.MethodPost, c.path, bytes.NewReader(c.body))
				r.Header.Set("Content-Type", c.kind)
				r.ProtoMajor = 2
				w := httptest.NewRecorder()
				server.ServeHTTP(w, r)
				if w.Code != http.StatusOK || w.Body.Len() == 0 {
					b.Fatalf("%d %s", w.Code, w.Body)
				}
			}
			took := b.Elapsed()
			b.ReportMetric(float64(took)/float64(floor(b.N)), "ratio")
		})
	}
}
