package memnet

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestNet: addresses are given, taken, refused and freed as TCP's are, and each
// end knows the other's.
func TestNet(t *testing.T) {
	n := &Net{}
	l, err := n.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Listen(l.Addr().String()); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("listening twice: %v", err)
	}
	if _, err := n.DialContext(t.Context(), "127.0.0.1:1"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dialing where nobody listens: %v", err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := n.DialContext(over, l.Addr().String()); !errors.Is(err, context.Canceled) {
		t.Errorf("dialing with a context that has ended: %v", err)
	}
	accepted := make(chan net.Conn)
	go func() {
		c, err := l.Accept()
		if err != nil {
			t.Error(err)
		}
		accepted <- c
	}()
	c, err := n.DialContext(t.Context(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s := <-accepted
	if c.RemoteAddr().String() != l.Addr().String() || s.LocalAddr().String() != l.Addr().String() || s.RemoteAddr().String() == l.Addr().String() {
		t.Errorf("%v to %v, from %v to %v", c.LocalAddr(), c.RemoteAddr(), s.RemoteAddr(), s.LocalAddr())
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accepting after the end: %v", err)
	}
	if _, err := s.Write([]byte("still there")); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if got, err := io.ReadAll(c); string(got) != "still there" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
	if again, err := n.Listen(l.Addr().String()); err != nil {
		t.Error(err)
	} else if err := again.Close(); err != nil {
		t.Error(err)
	}
}

// TestTimeMovesOn: an hour of a server's silence takes no time in a bubble.
func TestTimeMovesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &Net{}
		l, err := n.Listen("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			<-time.After(time.Hour)
			_, _ = io.WriteString(w, r.RemoteAddr)
		})}
		go func() { _ = s.Serve(l) }()
		tr := n.Transport()
		defer func() { tr.CloseIdleConnections(); _ = s.Close() }()
		began := time.Now()
		resp, err := (&http.Client{Transport: tr}).Get("http://" + l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		from, err := io.ReadAll(resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != time.Hour {
			t.Errorf("took %v of the bubble's time", took)
		}
		if host, _, err := net.SplitHostPort(string(from)); host != "127.0.0.1" || err != nil {
			t.Errorf("the server was asked by %q", from)
		}
	})
}
