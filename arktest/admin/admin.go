// Package admin owns the HTTP control of a development operator: the part of
// arkd's admin REST that test suites need, so that one suite runs against both,
// and two calls of our own that make coins expire or be swept at once. It must
// know nothing but arktest.
package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/arktest"
)

// maxBody bounds a request; settings and a few hundred outpoints fit.
const maxBody = 64 << 10

// ErrField refuses a setting that has no counterpart here, or a value that is
// none.
var ErrField = errors.New("arktest: admin: unusable field")

// New returns the control of op:
//
//	POST /v1/admin/settings           {"settings":{"sessionDuration":"10",…}}, in seconds, as arkd
//	POST /v1/admin/intentFees         {"fees":{"offchainInputFee":"1.0",…}}, CEL, as arkd
//	POST /v1/admin/intentFees/clear   as arkd
//	GET  /v1/admin/intents            the intents that wait
//	POST /v1/dev/expire, /v1/dev/sweep  {"outpoints":["txid:vout"]}; not arkd's
func New(op *arktest.Operator) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/admin/settings", post(func(body struct {
		Settings map[string]any `json:"settings"`
	}) (any, error) {
		return struct{}{}, update(op, body.Settings)
	}))
	mux.HandleFunc("POST /v1/admin/intentFees", post(func(body struct {
		Fees struct{ OffchainInputFee, OnchainInputFee, OffchainOutputFee, OnchainOutputFee string }
	}) (any, error) {
		return struct{}{}, op.Update(func(s *arktest.Settings) {
			s.Fees = arktest.Fees{
				OffchainInput: body.Fees.OffchainInputFee, OnchainInput: body.Fees.OnchainInputFee,
				OffchainOutput: body.Fees.OffchainOutputFee, OnchainOutput: body.Fees.OnchainOutputFee,
			}
		})
	}))
	mux.HandleFunc("POST /v1/admin/intentFees/clear", post(func(struct{}) (any, error) {
		return struct{}{}, op.Update(func(s *arktest.Settings) { s.Fees = arktest.Fees{} })
	}))
	mux.HandleFunc("GET /v1/admin/intents", func(w http.ResponseWriter, _ *http.Request) {
		intents := []map[string]string{}
		for _, queued := range op.Stats().Queue {
			intents = append(intents, map[string]string{"id": queued.ID})
		}
		answer(w, http.StatusOK, map[string]any{"intents": intents})
	})
	mux.HandleFunc("POST /v1/dev/expire", post(coins(op.Expire)))
	mux.HandleFunc("POST /v1/dev/sweep", post(coins(op.MarkSwept)))
	return mux
}

// update applies arkd's names for settings, whose values are decimal strings
// or numbers.
func update(op *arktest.Operator, fields map[string]any) error {
	values := map[string]int64{}
	for name, v := range fields {
		n, err := strconv.ParseInt(fmt.Sprint(v), 10, 64)
		if err != nil {
			return fmt.Errorf("%w: %s: %v is no whole number", ErrField, name, v)
		}
		values[name] = n
	}
	var unknown error
	err := op.Update(func(s *arktest.Settings) {
		for name, n := range values {
			switch name {
			case "sessionDuration":
				s.SessionDuration = time.Duration(n) * time.Second
			case "banThreshold":
				s.BanThreshold = int(n)
				if n == 0 {
					s.BanThreshold = -1 // arkd's word for never
				}
			case "banDuration":
				s.BanDuration = time.Duration(n) * time.Second
			case "vtxoTreeExpiry":
				s.TreeExpiry = uint32(n)
			case "roundMinParticipantsCount":
				s.MinParticipants = int(n)
			case "roundMaxParticipantsCount":
				s.MaxParticipants = int(n)
			default:
				unknown = fmt.Errorf("%w: %s", ErrField, name)
			}
		}
	})
	return errors.Join(unknown, err)
}

// coins adapts a change of VTXOs to a request that names them.
func coins(change func(...wire.OutPoint)) func(struct{ Outpoints []string }) (any, error) {
	return func(body struct{ Outpoints []string }) (any, error) {
		var at []wire.OutPoint
		for _, s := range body.Outpoints {
			o, err := wire.NewOutPointFromString(s)
			if err != nil {
				return nil, fmt.Errorf("%w: %s is no outpoint", ErrField, s)
			}
			at = append(at, *o)
		}
		change(at...)
		return struct{}{}, nil
	}
}

// post decodes a bounded JSON body, does f and answers with JSON.
func post[T any](f func(T) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var body T
		dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
		dec.UseNumber()
		err := dec.Decode(&body)
		if errors.Is(err, io.EOF) {
			err = nil // no body at all: nothing is asked to change
		}
		var out any
		if err == nil {
			out, err = f(body)
		}
		if err != nil {
			answer(w, http.StatusBadRequest, map[string]any{"code": 3, "message": strings.TrimSpace(err.Error())})
			return
		}
		answer(w, http.StatusOK, out)
	}
}

func answer(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v) // the caller is gone when this fails
}
