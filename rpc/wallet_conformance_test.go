package rpc_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/auth"
	"github.com/vigil-ark/vigil/vigilpb"
)

// described is a method as the service's description has it.
type described struct {
	name, full string
	stream     bool
	request    proto.Message
	answer     proto.Message
}

// everyMethod walks the description, so that no method can be forgotten here.
func everyMethod(t testing.TB) (list []described) {
	t.Helper()
	service := vigilpb.File_vigil_v1_wallet_proto.Services().ByName("WalletService")
	for i := range service.Methods().Len() {
		m := service.Methods().Get(i)
		d := described{name: string(m.Name()), full: fmt.Sprintf("/%s/%s", service.FullName(), m.Name()), stream: m.IsStreamingServer()}
		d.request = message(t, d.name+"Request")
		switch d.name {
		case "GetServer":
			d.answer = message(t, "ServerInfo")
		case "Watch":
			d.answer = message(t, "Event")
		default:
			d.answer = message(t, d.name+"Answer")
		}
		list = append(list, d)
	}
	if len(list) != 33 {
		t.Fatalf("%d methods are described", len(list))
	}
	return list
}

func message(t testing.TB, name string) proto.Message {
	t.Helper()
	m, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName("vigil.v1." + name))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return m.New().Interface()
}

// fill puts something into every field, so that none is lost unseen.
func fill(m protoreflect.Message, depth int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if f.ContainingOneof() != nil && m.WhichOneof(f.ContainingOneof()) != nil || depth == 0 && f.Message() != nil {
			continue
		}
		if !f.IsList() {
			m.Set(f, some1(m.NewField(f), f, depth))
			continue
		}
		l := m.NewField(f).List()
		for range 2 {
			var v protoreflect.Value
			if f.Message() != nil {
				v = l.NewElement()
			}
			l.Append(some1(v, f, depth))
		}
		m.Set(f, protoreflect.ValueOfList(l))
	}
}

func some1(v protoreflect.Value, f protoreflect.FieldDescriptor, depth int) protoreflect.Value {
	switch f.Kind() {
	case protoreflect.MessageKind:
		fill(v.Message(), depth-1)
		return v
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(f.Name()))
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(string(f.Name()))
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(uint32(f.Number()))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(uint64(f.Number()))
	}
	return protoreflect.ValueOfInt64(int64(f.Number()))
}

// Every method that the service describes is served on every transport: its
// payload arrives whole, with its sender, and its answer is signed.
func TestEveryMethodOnEveryTransport(t *testing.T) {
	r := newRig(t, &wallets{}, roomy())
	for _, tr := range transports(t, r.addr) {
		for _, m := range everyMethod(t) {
			if m.stream {
				continue // TestWatch
			}
			fill(m.request.ProtoReflect(), 5)
			q, hash := r.request(t, m.full, m.request)
			before := len(r.port.all())
			a, err := tr.call(t.Context(), m.full, q)
			if err != nil {
				t.Errorf("%s: %s: %v", tr.name, m.name, err)
				continue
			}
			if err := auth.VerifyAnswer(r.server, hash, 0, a); err != nil {
				t.Errorf("%s: %s: %v", tr.name, m.name, err)
			}
			if err := (proto.UnmarshalOptions{}).Unmarshal(a.GetPayload(), m.answer); err != nil || len(m.answer.ProtoReflect().GetUnknown()) > 0 {
				t.Errorf("%s: %s: the answer is no %T: %v", tr.name, m.name, m.answer, err)
			}
			calls := r.port.all()
			if len(calls) != before+1 || calls[before].method != m.name {
				t.Errorf("%s: %s reached %v", tr.name, m.name, calls[before:])
				continue
			}
			got := calls[before]
			if m.name == "GetServer" {
				continue // has no sender and no payload
			}
			if !proto.Equal(got.request, m.request) {
				t.Errorf("%s: %s: arrived as %v", tr.name, m.name, got.request)
			}
			c := got.call
			if c.Key != r.device.PubKey() || c.Epoch != 3 || c.Hash != hash || c.Method != m.full || !bytes.Equal(c.Nonce[:], q.GetNonce()) || !c.At.Equal(r.clock.now()) || c.Source != "127.0.0.1" {
				t.Errorf("%s: %s: the sender is %+v", tr.name, m.name, c)
			}
			if ofHost[m.full] != (c.Host == c.Key) || ofHost[m.full] == (c.Wallet[0] == 7) {
				t.Errorf("%s: %s: of wallet %s, host %s", tr.name, m.name, c.Wallet, c.Host)
			}
		}
	}
}

// A request that comes again is never carried out again. Its answer is the same
// to the byte; that of one that only reads is not kept.
func TestRetries(t *testing.T) {
	r := newRig(t, &wallets{}, roomy())
	all := transports(t, r.addr)
	for _, m := range everyMethod(t) {
		if m.stream || m.name == "GetServer" {
			continue
		}
		q, _ := r.request(t, m.full, m.request)
		first, err := all[0].call(t.Context(), m.full, q)
		if err != nil {
			t.Fatal(m.name, err)
		}
		before := len(r.port.all())
		r.clock.advance(time.Second)
		for _, tr := range all { // also on another transport than it came by
			again, err := tr.call(t.Context(), m.full, q)
			if reads(m.name) {
				if codeIn(err) != vigil.CodeRetryNonce {
					t.Errorf("%s: %s again: %v", tr.name, m.name, err)
				}
			} else if err != nil || !proto.Equal(again, first) {
				t.Errorf("%s: %s again: %v, %v", tr.name, m.name, again, err)
			}
			other, _ := r.request(t, m.full, m.request, func(o *auth.Request) { o.Nonce, o.Epoch = [16]byte(q.GetNonce()), 4 })
			if _, err := tr.call(t.Context(), m.full, other); codeIn(err) != vigil.CodeReplayed {
				t.Errorf("%s: %s, another request with its nonce: %v", tr.name, m.name, err)
			}
		}
		if len(r.port.all()) != before {
			t.Errorf("%s was carried out again", m.name)
		}
	}
}

func reads(name string) bool {
	switch name {
	case "WalletDelegates", "ListVtxos", "Coverage", "History", "Branches", "Devices", "GetPolicy":
		return true
	}
	return false
}

// What only reads but also prepares is kept, so that its keys are not lost with
// an answer.
func TestPreparingAnswersAreKept(t *testing.T) {
	r := newRig(t, &wallets{}, roomy())
	tr := transports(t, r.addr)[0]
	for method, payload := range map[string]proto.Message{
		vigilpb.WalletService_ListVtxos_FullMethodName: &vigilpb.ListVtxosRequest{Prepare: 2},
		vigilpb.WalletService_Coverage_FullMethodName:  &vigilpb.CoverageRequest{Prepare: 1},
	} {
		q, _ := r.request(t, method, payload)
		first, err := tr.call(t.Context(), method, q)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := tr.call(t.Context(), method, q); err != nil || !proto.Equal(first, again) {
			t.Errorf("%s: %v, %v", method, again, err)
		}
	}
}

// A refusal of the port is an outcome like any other: kept, and told again.
func TestRefusalsAreKept(t *testing.T) {
	r := newRig(t, &wallets{fail: func(auth.Call) error {
		return fmt.Errorf("inside: %w", vigil.Errorf(vigil.CodeTooManyDevices, "one is %s", "enough"))
	}}, roomy())
	q, _ := r.request(t, vigilpb.WalletService_AddDevice_FullMethodName, &vigilpb.AddDeviceRequest{})
	for _, tr := range transports(t, r.addr) {
		_, err := tr.call(t.Context(), vigilpb.WalletService_AddDevice_FullMethodName, q)
		if codeIn(err) != vigil.CodeTooManyDevices || !strings.Contains(err.Error(), "one is enough") {
			t.Errorf("%s: %v", tr.name, err)
		}
	}
	if n := len(r.port.all()); n != 1 {
		t.Errorf("it was carried out %d times", n)
	}
	// A payload that cannot be decoded is refused like that, too.
	bad, _ := r.request(t, vigilpb.WalletService_AddDevice_FullMethodName, &vigilpb.AddDeviceRequest{}, func(q *auth.Request) { q.Payload = []byte{0xff} })
	for _, tr := range transports(t, r.addr) {
		if _, err := tr.call(t.Context(), vigilpb.WalletService_AddDevice_FullMethodName, bad); codeIn(err) != vigil.CodeMalformed {
			t.Errorf("%s: %v", tr.name, err)
		}
	}
}

// Every way in which a request can be wrong has its code, on every transport,
// and nothing of it is carried out or remembered.
func TestWrongRequests(t *testing.T) {
	const sign = vigilpb.WalletService_Sign_FullMethodName
	port := &wallets{permit: func(c auth.Call) error {
		if c.Wallet[0] == 9 {
			return vigil.Errorf(vigil.CodeNotPermitted, "no such key there")
		}
		return nil
	}}
	r := newRig(t, port, roomy())
	at := func(d time.Duration) func(*auth.Request) {
		return func(q *auth.Request) { q.Timestamp = r.clock.now().Add(d).Unix() }
	}
	good := func() *vigilpb.SignedRequest { q, _ := r.request(t, sign, &vigilpb.SignRequest{}); return q }
	tampered := func(f func(q *vigilpb.SignedRequest)) *vigilpb.SignedRequest { q := good(); f(q); return q }
	elsewhere := func(network, method string, server [33]byte) *vigilpb.SignedRequest {
		q, _, err := auth.Sign(r.device, server, network, method, auth.Request{Wallet: make([]byte, 32), Timestamp: r.clock.now().Unix(), Nonce: nonce()})
		if err != nil {
			t.Fatal(err)
		}
		return q
	}
	edited := func(f func(*auth.Request)) *vigilpb.SignedRequest {
		q, _ := r.request(t, sign, &vigilpb.SignRequest{}, f)
		return q
	}
	key := r.device.PubKey()
	for name, c := range map[string]struct {
		q    *vigilpb.SignedRequest
		code vigil.Code
		in   string // what the sentence says
	}{
		"stale":                  {edited(at(-61 * time.Second)), vigil.CodeClockSkew, "the server's is 1800000000"},
		"future":                 {edited(at(61 * time.Second)), vigil.CodeClockSkew, "set the clock"},
		"of no time":             {edited(func(q *auth.Request) { q.Timestamp = 0 }), vigil.CodeClockSkew, ""},
		"other server":           {elsewhere(network, sign, newKey(t).PubKey()), vigil.CodeRequestSignature, "another server"},
		"other network":          {elsewhere("signet", sign, r.server), vigil.CodeRequestSignature, "another network"},
		"other method":           {elsewhere(network, vigilpb.WalletService_Devices_FullMethodName, r.server), vigil.CodeRequestSignature, "another method"},
		"other wallet":           {tampered(func(q *vigilpb.SignedRequest) { q.Wallet[3] = 1 }), vigil.CodeRequestSignature, ""},
		"other key":              {tampered(func(q *vigilpb.SignedRequest) { k := newKey(t).PubKey(); q.Key = k[:] }), vigil.CodeRequestSignature, ""},
		"tampered payload":       {tampered(func(q *vigilpb.SignedRequest) { q.Payload = append(q.Payload, 0x08, 1) }), vigil.CodeRequestSignature, ""},
		"tampered epoch":         {tampered(func(q *vigilpb.SignedRequest) { q.Epoch++ }), vigil.CodeRequestSignature, ""},
		"tampered time":          {tampered(func(q *vigilpb.SignedRequest) { q.Timestamp++ }), vigil.CodeRequestSignature, ""},
		"tampered nonce":         {tampered(func(q *vigilpb.SignedRequest) { q.Nonce[0]++ }), vigil.CodeRequestSignature, ""},
		"tampered signature":     {tampered(func(q *vigilpb.SignedRequest) { q.Signature[40]++ }), vigil.CodeRequestSignature, ""},
		"unsigned":               {tampered(func(q *vigilpb.SignedRequest) { q.Signature = nil }), vigil.CodeMalformed, "field signature: want 64 bytes, got 0"},
		"long signature":         {tampered(func(q *vigilpb.SignedRequest) { q.Signature = append(q.Signature, 0) }), vigil.CodeMalformed, "field signature"},
		"short nonce":            {tampered(func(q *vigilpb.SignedRequest) { q.Nonce = q.Nonce[1:] }), vigil.CodeMalformed, "field nonce"},
		"no key":                 {tampered(func(q *vigilpb.SignedRequest) { q.Key = nil }), vigil.CodeMalformed, "field key"},
		"key off the curve":      {tampered(func(q *vigilpb.SignedRequest) { q.Key = append([]byte{2}, bytes.Repeat([]byte{0xff}, 32)...) }), vigil.CodeMalformed, "field key"},
		"short wallet":           {tampered(func(q *vigilpb.SignedRequest) { q.Wallet = q.Wallet[1:] }), vigil.CodeMalformed, "field wallet"},
		"another's host key":     {tampered(func(q *vigilpb.SignedRequest) { q.Wallet = append([]byte{2}, q.Wallet...) }), vigil.CodeMalformed, "field wallet"},
		"host key for a wallet":  {edited(func(q *auth.Request) { q.Wallet = key[:] }), vigil.CodeMalformed, "field wallet"},
		"another wallet's key":   {edited(func(q *auth.Request) { q.Wallet[0] = 9 }), vigil.CodeNotPermitted, "no such key there"},
		"empty":                  {&vigilpb.SignedRequest{}, vigil.CodeMalformed, ""},
		"with nonce and payload": {&vigilpb.SignedRequest{Nonce: make([]byte, 16), Payload: []byte{1}}, vigil.CodeMalformed, ""},
	} {
		for _, tr := range transports(t, r.addr) {
			_, err := tr.call(t.Context(), sign, c.q)
			if codeIn(err) != c.code || !strings.Contains(err.Error(), c.in) {
				t.Errorf("%s: %s: %v, want %s", tr.name, name, err, c.code)
			}
		}
	}
	if len(port.all()) != 0 || r.replay.len() != 0 {
		t.Errorf("%d were carried out, %d remembered", len(port.all()), r.replay.len())
	}
	for _, code := range []vigil.Code{vigil.CodeClockSkew, vigil.CodeRequestSignature, vigil.CodeMalformed, vigil.CodeNotPermitted} {
		if r.count.of(code) == 0 {
			t.Errorf("%s is not counted", code)
		}
	}
}

// Keygen and recovery take the host key and no wallet.
func TestWalletWhereAHostKeyBelongs(t *testing.T) {
	r := newRig(t, &wallets{}, roomy())
	for method := range ofHost {
		q, _ := r.request(t, method, &vigilpb.RecoverRequest{}, func(q *auth.Request) { q.Wallet = make([]byte, 32); q.Wallet[0] = 1 })
		if _, err := transports(t, r.addr)[0].call(t.Context(), method, q); codeIn(err) != vigil.CodeMalformed {
			t.Errorf("%s: %v", method, err)
		}
	}
	// An id of zeros is nobody's wallet, and no host key either.
	const sign = vigilpb.WalletService_Sign_FullMethodName
	q, _ := r.request(t, sign, &vigilpb.SignRequest{}, func(q *auth.Request) { q.Wallet = make([]byte, 32) })
	if _, err := transports(t, r.addr)[0].call(t.Context(), sign, q); codeIn(err) != vigil.CodeMalformed {
		t.Errorf("a wallet of zeros: %v", err)
	}
}

// A clock that is off is told the time, signed for its very request.
func TestClockRefusalsTellSignedTime(t *testing.T) {
	const sign = vigilpb.WalletService_Sign_FullMethodName
	r := newRig(t, &wallets{}, roomy())
	for _, tr := range transports(t, r.addr) {
		q, hash := r.request(t, sign, &vigilpb.SignRequest{}, func(q *auth.Request) { q.Timestamp -= 3600 })
		_, err := tr.call(t.Context(), sign, q)
		told, ok := err.(*refusedErr) //nolint:errorlint // a transport returns its own
		if !ok || told.clock.GetTimestamp() != r.clock.now().Unix() || auth.VerifyClock(r.server, hash, told.clock) != nil {
			t.Fatalf("%s: %v", tr.name, err)
		}
		if auth.VerifyClock(r.server, [32]byte{1}, told.clock) == nil {
			t.Errorf("%s: the time is good for any request", tr.name)
		}
		// Set by it, the clock is right.
		q, _ = r.request(t, sign, &vigilpb.SignRequest{}, func(q *auth.Request) { q.Timestamp = told.clock.GetTimestamp() })
		if _, err := tr.call(t.Context(), sign, q); err != nil {
			t.Errorf("%s: %v", tr.name, err)
		}
	}
}

// A field that this version does not know is refused where it stands, in the
// request or in its payload, in every encoding.
func TestUnknownFields(t *testing.T) {
	const add = vigilpb.WalletService_AddDevice_FullMethodName
	r := newRig(t, &wallets{}, roomy())
	unknown := protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 1)
	wrongType := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 1)
	nested, err := proto.Marshal(&vigilpb.SignRequest{Documents: []*vigilpb.Document{{}}})
	if err != nil {
		t.Fatal(err)
	}
	nested = append(nested[:1], append([]byte{byte(len(unknown))}, unknown...)...)
	for _, tr := range transports(t, r.addr) {
		for name, payload := range map[string][]byte{"unknown": unknown, "of another type": wrongType} {
			q, _ := r.request(t, add, &vigilpb.AddDeviceRequest{}, func(q *auth.Request) { q.Payload = payload })
			if _, err := tr.call(t.Context(), add, q); codeIn(err) != vigil.CodeMalformed || !strings.Contains(err.Error(), "unknown field") {
				t.Errorf("%s: payload, %s: %v", tr.name, name, err)
			}
		}
		q, _ := r.request(t, vigilpb.WalletService_Sign_FullMethodName, &vigilpb.SignRequest{}, func(q *auth.Request) { q.Payload = nested })
		if _, err := tr.call(t.Context(), vigilpb.WalletService_Sign_FullMethodName, q); codeIn(err) != vigil.CodeMalformed || !strings.Contains(err.Error(), "Document") {
			t.Errorf("%s: nested payload: %v", tr.name, err)
		}
		if tr.json {
			continue // cannot carry one; below
		}
		q, _ = r.request(t, add, &vigilpb.AddDeviceRequest{})
		q.ProtoReflect().SetUnknown(unknown)
		if _, err := tr.call(t.Context(), add, q); codeIn(err) != vigil.CodeMalformed {
			t.Errorf("%s: request: %v", tr.name, err)
		}
	}
	q, _ := r.request(t, add, &vigilpb.AddDeviceRequest{})
	b, err := protojson.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{add, pathOf(add)} {
		for _, bad := range []string{`{"more":1,` + string(b[1:]), `{"wallet":7}`, `[]`, ``, `{`, string(b) + `{}`} {
			w := do(r.rpc, "POST", path, bad, "Content-Type", "application/json")
			if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), string(vigil.CodeMalformed)+": ") {
				t.Errorf("%s %q: %d %s", path, bad, w.Code, w.Body)
			}
		}
	}
	if n := len(r.port.all()); n != 0 {
		t.Errorf("%d were carried out", n)
	}
}

// Only the body counts: what path, query and headers say changes nothing.
func TestNothingButTheBodyCounts(t *testing.T) {
	const add = vigilpb.WalletService_AddDevice_FullMethodName
	r := newRig(t, &wallets{}, roomy())
	q, hash := r.request(t, add, &vigilpb.AddDeviceRequest{Name: "mine"})
	b, err := protojson.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	other := strings.Repeat("AA", 16)
	noise := []string{
		"Content-Type", "application/json", "Authorization", "Bearer " + other, "X-Wallet", other, "Wallet", other,
		"Grpc-Metadata-Wallet", other, "X-HTTP-Method-Override", "GET", "Cookie", "wallet=" + other,
	}
	for _, path := range []string{pathOf(add), add} {
		w := do(r.rpc, "POST", path+"?wallet="+other+"&payload=AAAA&epoch=9&key="+other, string(b), noise...)
		if w.Code != http.StatusOK {
			t.Fatalf("%s: %d %s", path, w.Code, w.Body)
		}
		a := &vigilpb.SignedAnswer{}
		if err := protojson.Unmarshal(w.Body.Bytes(), a); err != nil || auth.VerifyAnswer(r.server, hash, 0, a) != nil {
			t.Errorf("%s: %v, %v", path, a, err)
		}
	}
	calls := r.port.all()
	if len(calls) != 1 || calls[0].call.Wallet[0] != 7 || calls[0].call.Epoch != 3 || calls[0].request.(*vigilpb.AddDeviceRequest).GetName() != "mine" {
		t.Errorf("arrived: %+v", calls)
	}
	for _, path := range []string{pathOf(add) + "/x", "/v1/wallet/", "/v1/wallet/nothing", "/vigil.v1.WalletService/Nothing"} {
		if w := do(r.rpc, "POST", path, string(b), "Content-Type", "application/json"); w.Code != http.StatusNotFound && w.Code != http.StatusNotImplemented {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	for _, path := range []string{pathOf(add), add} {
		if w := do(r.rpc, "GET", path+"?encoding=json&message=%7B%7D", ""); w.Code == http.StatusOK {
			t.Errorf("GET %s: %d %s", path, w.Code, w.Body)
		}
	}
}

// A caller that leaves does not undo its request: it is carried out, and the
// retry gets its answer.
func TestCallersMayLeave(t *testing.T) {
	const add = vigilpb.WalletService_AddDevice_FullMethodName
	port := &wallets{hold: make(chan struct{}), enter: make(chan struct{}, 8)}
	r := newRig(t, port, roomy())
	for _, tr := range transports(t, r.addr) {
		q, hash := r.request(t, add, &vigilpb.AddDeviceRequest{})
		ctx, leave := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() {
			_, err := tr.call(ctx, add, q)
			left <- err
		}()
		<-port.enter
		leave()
		if err := <-left; err == nil {
			t.Fatalf("%s: it did not leave", tr.name)
		}
		if _, err := tr.call(t.Context(), add, q); codeIn(err) != vigil.CodeRetryNonce {
			t.Errorf("%s: while it is under way: %v", tr.name, err)
		}
		port.hold <- struct{}{}
		// Until the answer is stored a retry is told to wait with a new nonce.
		for {
			a, err := tr.call(t.Context(), add, q)
			if codeIn(err) == vigil.CodeRetryNonce {
				continue
			}
			if err != nil || auth.VerifyAnswer(r.server, hash, 0, a) != nil {
				t.Errorf("%s: %v, %v", tr.name, a, err)
			}
			break
		}
	}
}
