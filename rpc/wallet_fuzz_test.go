package rpc_test

import (
	"net/http"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/vigil-ark/vigil/vigilpb"
)

// Whatever a body holds, in whatever encoding, it is refused as its sender's
// fault, or it is a request that somebody signed.
func FuzzWalletBodies(f *testing.F) {
	kinds := []string{"application/json", "application/proto", "application/grpc-web+proto", "application/connect+proto", "application/connect+json", ""}
	r := newRig(f, &wallets{permit: refusing}, roomy())
	q, _ := r.request(f, addDevice, &vigilpb.AddDeviceRequest{Name: "n"})
	binary, err := proto.Marshal(q)
	if err != nil {
		f.Fatal(err)
	}
	text, err := protojson.Marshal(q)
	if err != nil {
		f.Fatal(err)
	}
	for i := range kinds {
		for _, watch := range []bool{false, true} {
			f.Add(uint(i), watch, binary)
			f.Add(uint(i), watch, text)
			f.Add(uint(i), watch, append([]byte{0, 0, 0, 0, byte(len(binary))}, binary...))
		}
	}
	f.Fuzz(func(t *testing.T, kind uint, watch bool, body []byte) {
		method := addDevice
		if watch {
			method = watchMethod
		}
		k := kinds[kind%uint(len(kinds))]
		path := method
		if k == "" {
			path = pathOf(method)
		}
		w := do(r.rpc, "POST", path, string(body), "Content-Type", k)
		switch w.Code {
		case http.StatusOK: // streams and gRPC-Web tell refusals within
		case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusUnsupportedMediaType, http.StatusNotImplemented:
		default:
			t.Errorf("%s %s: %d %s", path, k, w.Code, w.Body)
		}
		if len(r.port.all()) != 0 {
			t.Error("it was carried out")
		}
	})
}
