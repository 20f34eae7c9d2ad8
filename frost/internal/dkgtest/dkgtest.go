// Package dkgtest owns the making of a key with all its participants in one place,
// for the tests of what is done with such a key. It must not judge anything.
package dkgtest

import (
	"testing"

	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/frost"
	"github.com/vigil-ark/vigil/frost/chilldkg"
	"github.com/vigil-ark/vigil/secret"
)

// Key is one epoch of a key.
type Key struct {
	Info   *frost.Info
	Shares []secret.Bytes
	Hosts  []*chilldkg.HostKey
	Record []byte // recovery data, or what later ceremonies made of it
}

// Host draws a host key.
func Host(tb testing.TB) *chilldkg.HostKey {
	tb.Helper()
	_, s, err := bip340.GenerateKey()
	must(tb, err)
	h, err := chilldkg.NewHostKey(s)
	must(tb, err)
	return h
}

// Hosts draws n of them.
func Hosts(tb testing.TB, n int) (out []*chilldkg.HostKey) {
	tb.Helper()
	for range n {
		out = append(out, Host(tb))
	}
	return out
}

// Pubs are their public halves.
func Pubs(hosts []*chilldkg.HostKey) (out []bip340.PubKey) {
	for _, h := range hosts {
		out = append(out, h.PubKey())
	}
	return out
}

// Make carries a key generation of n participants with threshold t out.
func Make(tb testing.TB, t, n int) *Key {
	tb.Helper()
	k := &Key{Hosts: Hosts(tb, n)}
	params, err := chilldkg.NewParams(t, Pubs(k.Hosts))
	must(tb, err)
	var msgs [][]byte
	var p1 []*chilldkg.Participant1
	for _, h := range k.Hosts {
		p, m, err := chilldkg.Step1(h, params)
		must(tb, err)
		p1, msgs = append(p1, p), append(msgs, m)
	}
	session, cmsg1, err := chilldkg.Coordinate(params, msgs)
	must(tb, err)
	msgs = nil
	for i, p := range p1 {
		p2, m, err := p.Step2(k.Hosts[i], cmsg1)
		must(tb, err)
		k.Shares, msgs = append(k.Shares, p2.Unconfirmed().Share), append(msgs, m)
	}
	_, out, record, err := session.Finalize(msgs)
	must(tb, err)
	k.Record = record
	k.Info, err = out.Info()
	must(tb, err)
	return k
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
