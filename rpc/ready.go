package rpc

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Check is one condition of readiness; Run returns nil when it holds.
type Check struct {
	Name string
	Run  func(ctx context.Context) error
}

const (
	// readyFor is how long an answer serves everybody: /readyz is open to the
	// world and its checks ask the operator.
	readyFor = time.Second
	// readyWithin bounds all checks together.
	readyWithin = 5 * time.Second
)

// readiness remembers the last answer for a moment. Its zero value holds.
type readiness struct {
	checks []Check
	log    *slog.Logger
	now    func() time.Time

	mu   sync.Mutex
	at   time.Time
	ok   bool
	text string
}

// answer runs the checks, or repeats a fresh answer. Reasons go to the log
// only: they may name what strangers need not know.
func (r *readiness) answer(ctx context.Context) (ok bool, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if age := r.now().Sub(r.at); age >= 0 && age < readyFor {
		return r.ok, r.text
	}
	// The answer is for others too: it must not fail because this caller left.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readyWithin)
	defer cancel()
	var lines strings.Builder
	r.ok = true
	for _, c := range r.checks {
		state := "ok"
		if err := c.Run(ctx); err != nil {
			r.ok, state = false, "not ready"
			r.log.Warn("not ready", "check", c.Name, "err", err)
		}
		fmt.Fprintf(&lines, "%s: %s\n", c.Name, state)
	}
	r.at, r.text = r.now(), lines.String()
	return r.ok, r.text
}

// readyz answers 200 when every check holds, else 503 with the names of those
// that do not.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	ok, text := s.ready.answer(r.Context())
	if s.stopping.Load() {
		ok, text = false, text+"stopping\n"
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if !ok {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_, _ = w.Write([]byte(text))
}
