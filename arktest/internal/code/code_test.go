package code

import (
	"errors"
	"fmt"
	"maps"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	arkv1 "github.com/vigil-ark/vigil/internal/pb/ark/v1"
)

func TestWireForm(t *testing.T) {
	err := IntentTimeRange.New(Meta{"valid_at": 1_900_000_000, "now": 12, "list": []string{"a", "b"}, "none": nil}, "not %s", "yet")
	if err.Error() != "INVALID_INTENT_TIMERANGE (20): not yet" {
		t.Errorf("message %q", err.Error())
	}
	st := err.GRPCStatus()
	if st.Code() != codes.InvalidArgument || len(st.Details()) != 1 {
		t.Fatalf("status %v", st)
	}
	d, ok := st.Details()[0].(*arkv1.ErrorDetails)
	if !ok || d.GetCode() != 20 || d.GetName() != "INVALID_INTENT_TIMERANGE" || d.GetMessage() != err.Error() {
		t.Fatalf("details %v", d)
	}
	want := map[string]string{"valid_at": "1.9e+09", "now": "12", "list": "[a b]", "none": ""}
	if !maps.Equal(d.GetMetadata(), want) {
		t.Errorf("metadata %v, want %v", d.GetMetadata(), want)
	}
	if status.Code(fmt.Errorf("outer: %w", err)) != codes.InvalidArgument {
		t.Error("a wrapped error loses its code")
	}
	cause := errors.New("cause")
	if !errors.Is(Internal.New(nil, "x: %w", cause), cause) {
		t.Error("the cause is lost")
	}
}
