// Package memnet owns a network in memory, which tests put under servers and
// clients inside testing/synctest: waiting for such a connection is waiting for
// the bubble, so its clock moves on the moment everybody waits, and no busy
// machine can make a session be missed. It knows nothing of what is sent.
package memnet

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"syscall"

	"google.golang.org/grpc/test/bufconn"
)

// buffer is what a connection holds in each direction, in bytes: what HTTP/2
// lets a stream send unasked.
const buffer = 64 << 10

// Net is one network. The zero value is an empty one. Its methods are safe for
// concurrent use.
type Net struct {
	mu    sync.Mutex
	ports map[string]*listener
	last  int // port that was given last
}

// listener is one address that somebody listens at.
type listener struct {
	*bufconn.Listener
	net  *Net
	addr *net.TCPAddr
}

// Listen listens at host:port of the network, of which port 0 means a free one.
func (n *Net) Listen(addr string) (net.Listener, error) {
	at, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("memnet: %w", err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if at.Port == 0 {
		at.Port = n.free()
	}
	if n.ports[at.String()] != nil {
		return nil, &net.OpError{Op: "listen", Net: "tcp", Addr: at, Err: syscall.EADDRINUSE}
	}
	if n.ports == nil {
		n.ports = map[string]*listener{}
	}
	l := &listener{Listener: bufconn.Listen(buffer), net: n, addr: at}
	n.ports[at.String()] = l
	return l, nil
}

// free gives a port that nobody has had; the caller holds mu.
func (n *Net) free() int {
	n.last++
	return 1<<15 + n.last
}

// DialContext connects to host:port, as an operator's client wants it.
func (n *Net) DialContext(ctx context.Context, addr string) (net.Conn, error) {
	at, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("memnet: %w", err)
	}
	n.mu.Lock()
	l := n.ports[at.String()]
	from := &net.TCPAddr{IP: at.IP, Port: n.free()}
	n.mu.Unlock()
	refused := &net.OpError{Op: "dial", Net: "tcp", Addr: at, Err: syscall.ECONNREFUSED}
	if l == nil {
		return nil, refused
	}
	c, err := l.DialContext(ctx)
	switch {
	case err == nil:
		return &conn{Conn: c, local: from, remote: at}, nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("memnet: %w", err)
	}
	return nil, refused
}

// Transport is an HTTP transport over the network. Whoever made it closes its
// idle connections.
func (n *Net) Transport() *http.Transport {
	return &http.Transport{DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) { return n.DialContext(ctx, addr) }}
}

// Accept waits for the next who dials.
func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.addr, Err: net.ErrClosed}
	}
	l.net.mu.Lock()
	defer l.net.mu.Unlock()
	return &conn{Conn: c, local: l.addr, remote: &net.TCPAddr{IP: l.addr.IP, Port: l.net.free()}}, nil
}

// Close frees the address. Connections that were accepted stay.
func (l *listener) Close() error {
	l.net.mu.Lock()
	defer l.net.mu.Unlock()
	if l.net.ports[l.addr.String()] == l {
		delete(l.net.ports, l.addr.String())
	}
	return l.Listener.Close()
}

// Addr is host and port.
func (l *listener) Addr() net.Addr { return l.addr }

// conn is one end of a connection.
type conn struct {
	net.Conn
	local, remote *net.TCPAddr
}

func (c *conn) LocalAddr() net.Addr  { return c.local }
func (c *conn) RemoteAddr() net.Addr { return c.remote }
