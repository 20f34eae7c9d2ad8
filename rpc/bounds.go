package rpc

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/vigil-ark/vigil"
)

// bounded lets a request through when its source is within its limits, and
// bounds its size and time.
func (s *Server) bounded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.stopping.Load() {
			s.refuse(w, r, vigil.CodeStopping, retryAfter)
			return
		}
		from := s.source(r)
		done, wait, code := s.sources.enter(from)
		if code != "" {
			s.refuse(w, r, code, wait)
			return
		}
		defer done()
		if r.ContentLength > s.cfg.Limits.Body {
			s.refuse(w, r, vigil.CodeBodyTooLarge, 0)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, s.cfg.Limits.Body)
		ctx, cancel := s.timed(w, r)
		defer cancel()
		next.ServeHTTP(w, r.WithContext(context.WithValue(ctx, sourceKey{}, from)))
	})
}

// sourceKey finds a request's source in its context.
type sourceKey struct{}

// firstRead is what is allocated for a body before anything of it has come, however
// long it is said to be, in bytes.
const firstRead = 32 << 10

// whole reads the body before anything is decoded: past this point a body is
// complete and within its bound, or the request is refused.
func (s *Server) whole(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body bytes.Buffer
		body.Grow(int(min(max(r.ContentLength, 0), firstRead)) + bytes.MinRead)
		_, err := body.ReadFrom(r.Body)
		var tooLarge *http.MaxBytesError
		switch {
		case errors.As(err, &tooLarge):
			s.refuse(w, r, vigil.CodeBodyTooLarge, 0)
			return
		case err != nil:
			s.refuse(w, r, vigil.CodeMalformed, 0)
			return
		}
		r.Body = io.NopCloser(&body)
		next.ServeHTTP(w, r)
	})
}

// refuse answers before any decoding, in the caller's own protocol.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, code vigil.Code, wait time.Duration) {
	s.cfg.Refused(code)
	if wait > 0 {
		w.Header().Set("Retry-After", seconds(wait))
	}
	st := statusOf(&vigil.Error{Code: code, Message: vigil.Lookup(code).Meaning}, wait)
	if s.refuseConnect(w, r, st) {
		return
	}
	if isGRPC(r) {
		// A response of trailers only, as the gRPC protocol has it for calls that
		// are refused unread. Meanings are plain text that needs no escaping.
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Grpc-Status", strconv.Itoa(int(st.Code())))
		w.Header().Set("Grpc-Message", st.Message())
		w.WriteHeader(http.StatusOK)
		return
	}
	writeStatus(w, httpStatus(code), st)
}

// seconds writes a wait as Retry-After has it: whole seconds, rounded up.
func seconds(d time.Duration) string { return strconv.Itoa(int(math.Ceil(d.Seconds()))) }

// source is the address that limits count by: the peer's, or what a trusted
// proxy says of it. An IPv6 peer counts as its /64, which one user holds whole.
func (s *Server) source(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	addr := peer.Addr().Unmap()
	// The nearest proxy writes last; walk back while the writer is trusted.
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && s.trusted(addr); i-- {
		hop, ok := parseHop(strings.TrimSpace(hops[i]))
		if !ok {
			break
		}
		addr = hop.Unmap()
	}
	if addr.Is6() {
		if p, err := addr.WithZone("").Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return addr
}

// parseHop reads an address as proxies write it, with or without a port.
func parseHop(s string) (netip.Addr, bool) {
	if addr, err := netip.ParseAddr(s); err == nil {
		return addr, true
	}
	ap, err := netip.ParseAddrPort(s)
	return ap.Addr(), err == nil
}

func (s *Server) trusted(addr netip.Addr) bool {
	for _, p := range s.cfg.Limits.Proxies {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// sources counts what each address, or wallet, asks. Its memory is bounded:
// those that have been silent long enough to have a full bucket are forgotten,
// and when too many are active at once, strangers share one bucket.
type sources[K comparable] struct {
	bound bound
	now   func() time.Time

	mu     sync.Mutex
	byKey  map[K]*source
	swept  time.Time
	shared *source
}

// bound is what one source may ask, and what it is told beyond that.
type bound struct {
	rate          float64 // a second
	burst, active int
	tooFast       vigil.Code
	tooMany       vigil.Code
}

type source struct {
	bucket *rate.Limiter
	active int
	last   time.Time
}

// maxSources is the most that are told apart: about 20 MB.
const maxSources = 100_000

func newSources[K comparable](b bound, now func() time.Time) *sources[K] {
	s := &sources[K]{bound: b, now: now, byKey: map[K]*source{}, swept: now()}
	s.shared = s.fresh()
	return s
}

func (s *sources[K]) fresh() *source {
	return &source{bucket: rate.NewLimiter(rate.Limit(s.bound.rate), s.bound.burst)}
}

// enter counts a request of key. It returns what to call when the request
// ends, or the code of the limit that it would exceed and how long to wait.
func (s *sources[K]) enter(key K) (done func(), wait time.Duration, code vigil.Code) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	s.sweep(now)
	src := s.byKey[key]
	if src == nil {
		src = s.shared
		if len(s.byKey) < maxSources {
			src = s.fresh()
			s.byKey[key] = src
		}
	}
	src.last = now
	if src.active >= s.bound.active {
		return nil, time.Second, s.bound.tooMany
	}
	if !src.bucket.AllowN(now, 1) {
		missing := 1 - src.bucket.TokensAt(now)
		return nil, time.Duration(missing / s.bound.rate * float64(time.Second)), s.bound.tooFast
	}
	src.active++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		src.active--
	}, 0, ""
}

// sweep forgets those whose bucket is full again, now and then.
func (s *sources[K]) sweep(now time.Time) {
	full := time.Duration(float64(s.bound.burst) / s.bound.rate * float64(time.Second))
	if now.Sub(s.swept) < max(full, time.Second) {
		return
	}
	s.swept = now
	for key, src := range s.byKey {
		if src.active == 0 && now.Sub(src.last) > full {
			delete(s.byKey, key)
		}
	}
}
