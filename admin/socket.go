package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"
)

const (
	// maxSocketPath is what fits into a socket's address on every system.
	maxSocketPath = 103
	// maxRequest bounds a request: the longest holds some recipients.
	maxRequest = 64 << 10
)

// Listen opens the socket at path, for its owner alone. One that a killed
// process left is replaced: the caller holds the lock on the stores, so that
// nobody else can be serving.
func Listen(path string) (net.Listener, error) {
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("admin socket: the path has %d characters and may have %d; name a shorter one with --admin-socket: %s", len(path), maxSocketPath, path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	// Between bind and chmod the mode is the process's default, so the name is
	// given only when the mode is right: nobody can open what has no known name
	// yet, and the directory is its owner's in any case.
	hidden := path + ".new"
	if err := os.Remove(hidden); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: hidden, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	l.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(hidden, 0o600), os.Rename(hidden, path)); err != nil {
		return nil, errors.Join(fmt.Errorf("admin socket: %w", err), l.Close())
	}
	return &socket{Listener: l, path: path}, nil
}

// socket removes its name when it is closed.
type socket struct {
	net.Listener
	path string
}

func (s *socket) Close() error {
	err := os.Remove(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, s.Listener.Close())
}

// Server serves a port on a listener of Listen. There is no deadline on an
// answer: a check of a large store takes its time.
func Server(p Port) *http.Server {
	mux := http.NewServeMux()
	answer(mux, "GET /status", func(ctx context.Context, _ *http.Request, _ request) (Status, error) { return p.Status(ctx) })
	answer(mux, "GET /delegates", func(ctx context.Context, r *http.Request, _ request) (Page, error) {
		q := r.URL.Query()
		limit, err := strconv.Atoi(q.Get("limit"))
		if err != nil {
			return Page{}, fmt.Errorf("%w: the limit is no number", ErrRefused)
		}
		return p.Delegates(ctx, Query{State: q.Get("state"), Script: q.Get("script"), Limit: limit, After: q.Get("after")})
	})
	answer(mux, "GET /delegates/{id}", func(ctx context.Context, r *http.Request, _ request) (Delegate, error) {
		return p.Delegate(ctx, r.PathValue("id"))
	})
	answer(mux, "POST /delegates/{id}/cancel", func(ctx context.Context, r *http.Request, _ request) (Delegate, error) {
		return p.Cancel(ctx, r.PathValue("id"))
	})
	answer(mux, "GET /wallets", func(ctx context.Context, r *http.Request, _ request) (WalletPage, error) {
		limit, err := strconv.Atoi(r.URL.Query().Get("limit"))
		if err != nil {
			return WalletPage{}, fmt.Errorf("%w: the limit is no number", ErrRefused)
		}
		return p.Wallets(ctx, r.URL.Query().Get("after"), limit)
	})
	answer(mux, "GET /keys", func(ctx context.Context, _ *http.Request, _ request) ([]Key, error) { return p.Keys(ctx) })
	answer(mux, "POST /keys", func(ctx context.Context, _ *http.Request, _ request) (Key, error) { return p.AddKey(ctx) })
	answer(mux, "POST /keys/{key}/retire", func(ctx context.Context, r *http.Request, _ request) (Key, error) {
		return p.RetireKey(ctx, r.PathValue("key"))
	})
	answer(mux, "POST /backup", func(ctx context.Context, _ *http.Request, in request) (Copied, error) { return p.Backup(ctx, in.Path) })
	answer(mux, "POST /export", func(ctx context.Context, _ *http.Request, in request) (Copied, error) {
		return p.Export(ctx, in.Path, in.Recipients)
	})
	answer(mux, "POST /check", func(ctx context.Context, _ *http.Request, _ request) (Report, error) { return p.Check(ctx) })
	answer(mux, "POST /wallets/{id}/check", func(ctx context.Context, r *http.Request, in request) (Report, error) {
		return p.CheckWallet(ctx, r.PathValue("id"), in.Marks)
	})
	answer(mux, "POST /release", func(ctx context.Context, _ *http.Request, _ request) (Status, error) { return p.Release(ctx) })
	answer(mux, "POST /accept", func(ctx context.Context, _ *http.Request, in request) (Operator, error) {
		return p.Accept(ctx, in.Signer)
	})
	return &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10}
}

// request is the body of every call that has one.
type request struct {
	Path       string   `json:"path,omitempty"`
	Recipients []string `json:"recipients,omitempty"`
	Signer     string   `json:"signer,omitempty"`
	Marks      []string `json:"marks,omitempty"`
}

// reply is the body of every answer.
type reply[T any] struct {
	Answer T      `json:"answer,omitempty"`
	Kind   string `json:"kind,omitempty"` // of the error: "not found", "refused" or ""
	Error  string `json:"error,omitempty"`
}

// answer registers a call.
func answer[T any](mux *http.ServeMux, pattern string, call func(context.Context, *http.Request, request) (T, error)) {
	mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		var in request
		var out reply[T]
		var err error
		if r.Method == http.MethodPost {
			err = json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest)).Decode(&in)
		}
		if err == nil {
			out.Answer, err = call(r.Context(), r, in)
		}
		w.Header().Set("Content-Type", "application/json")
		if err != nil {
			out.Error = err.Error()
			for _, kind := range []error{ErrNotFound, ErrRefused} {
				if errors.Is(err, kind) {
					out.Kind = kind.Error()
				}
			}
			w.WriteHeader(http.StatusBadRequest)
		}
		_ = json.NewEncoder(w).Encode(out) // the caller is gone then
	})
}
