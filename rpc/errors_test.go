package rpc_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/vigil-ark/vigil"
	fulminev1 "github.com/vigil-ark/vigil/internal/pb/fulmine/v1"
	"github.com/vigil-ark/vigil/rpc"
)

// Every code leaves over gRPC and REST as docs/errors.md says it does.
func TestEveryCodeLeavesAsDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[vigil.Code][]string{}
	for line := range strings.Lines(string(page)) {
		if cells := strings.Split(line, " | "); len(cells) == 5 && strings.HasPrefix(line, "| `") {
			rows[vigil.Code(strings.Trim(cells[0], "|` "))] = cells
		}
	}
	f := &fake{}
	var count counter
	s := server(t, rpc.Config{Limits: roomy(), Refused: count.refused}, f)
	stock := fulminev1.NewDelegateServiceClient(dial(t, listen(t, s)))
	for _, e := range vigil.Table {
		row := rows[e.Code]
		if row == nil {
			t.Fatalf("%s is not documented", e.Code)
		}
		f.err = fmt.Errorf("wrapped: %w", vigil.Errorf(e.Code, "what to do: %w", errors.New("cause")))
		_, err := stock.GetDelegateInfo(t.Context(), &fulminev1.GetDelegateInfoRequest{})
		w := do(s, "GET", "/v1/delegate/info", "")
		got := []string{status.Code(err).String(), strconv.Itoa(w.Code), "no"}
		if w.Header().Get("Retry-After") != "" && hasRetry(err) {
			got[2] = "yes"
		}
		if strings.Join(got, " ") != strings.Join(row[1:4], " ") || hasRetry(err) != (w.Header().Get("Retry-After") != "") {
			t.Errorf("%s: leaves as %v, documented %v", e.Code, got, row[1:4])
		}
		wantCode(t, w, w.Code, e.Code)
		sentence := string(e.Code) + ": what to do: cause"
		if e.Kind == vigil.KindInternal {
			sentence = string(e.Code) + ": " + e.Meaning
		}
		if refused(t, w).Message != sentence || status.Convert(err).Message() != sentence || reason(err) != e.Code {
			t.Errorf("%s: %s, %v", e.Code, w.Body, err)
		}
		if count.of(e.Code) != 2 {
			t.Errorf("%s was counted %d times", e.Code, count.of(e.Code))
		}
	}
}

func hasRetry(err error) bool {
	for _, d := range status.Convert(err).Details() {
		if r, ok := d.(*errdetails.RetryInfo); ok && r.GetRetryDelay().AsDuration() > 0 {
			return true
		}
	}
	return false
}

// An error that nobody gave a code is ours; what it says stays inside.
func TestUncodedErrors(t *testing.T) {
	var log recorder
	f := &fake{err: errors.New("path /secret/place is on fire")}
	s := server(t, rpc.Config{Log: log.log(), Limits: roomy()}, f)
	w := do(s, "GET", "/v1/delegate/info", "")
	wantCode(t, w, 500, vigil.CodeInternal)
	if strings.Contains(w.Body.String(), "secret") || !strings.Contains(log.String(), "on fire") {
		t.Errorf("the answer: %s; the log: %s", w.Body, log.String())
	}
	for err, want := range map[error]codes.Code{
		context.Canceled: codes.Canceled, context.DeadlineExceeded: codes.DeadlineExceeded,
		status.Error(codes.Aborted, "x"): codes.Aborted,
	} {
		f.err = err
		if r := refused(t, do(s, "GET", "/v1/delegate/info", "")); codes.Code(r.Code) != want {
			t.Errorf("%v leaves as %+v", err, r)
		}
	}
	f.err = vigil.Errorf(vigil.CodeInvalidProof, "%s\xff", strings.Repeat("long ", 10_000))
	if w := do(s, "GET", "/v1/delegate/info", ""); w.Body.Len() > 2000 {
		t.Errorf("an answer of %d bytes", w.Body.Len())
	}
}
