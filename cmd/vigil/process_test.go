package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vigil-ark/vigil/admin"
	"github.com/vigil-ark/vigil/secret/sealed"
	"github.com/vigil-ark/vigil/signer"
)

// serving is a `vigil serve` whose log is read line by line.
type serving struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines *bufio.Scanner
}

// serveLines starts serve over a child's directory.
func serveLines(t *testing.T, c *child, args ...string) *serving {
	t.Helper()
	s := &serving{t: t, cmd: c.command(t.Context(), append([]string{"serve", "--listen", c.listen}, args...)...)}
	out, err := s.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.lines = bufio.NewScanner(out)
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.cmd.Process.Kill(); _ = s.cmd.Wait() })
	return s
}

// until reads the log up to a line with the text.
func (s *serving) until(text string) string {
	s.t.Helper()
	for s.lines.Scan() {
		if strings.Contains(s.lines.Text(), text) {
			return s.lines.Text()
		}
		s.t.Log(s.lines.Text())
	}
	s.t.Fatalf("the log ended without %q", text)
	return ""
}

// certify writes a certificate with the serial number given.
func certify(t *testing.T, dir string, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "vigil"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, about, about, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(
		os.WriteFile(filepath.Join(dir, "cert.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		os.WriteFile(filepath.Join(dir, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}), 0o600),
	); err != nil {
		t.Fatal(err)
	}
}

// TestHangup changes the log level and the certificate of a Vigil that serves;
// what cannot be read changes nothing.
func TestHangup(t *testing.T) {
	t.Parallel()
	d := newDemonstration(t, "armed")
	must(t, d.begin)
	d.child.kill()
	dir := t.TempDir()
	config := filepath.Join(dir, "vigil.toml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`log = "info"`)
	certify(t, dir, 1)
	s := serveLines(t, d.child, "--config", config, "--tls-cert", filepath.Join(dir, "cert.pem"), "--tls-key", filepath.Join(dir, "key.pem"))
	s.until("msg=armed")
	serial := func() int64 {
		t.Helper()
		conn, err := tls.Dial("tcp", d.child.listen, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}) // which certificate is shown is the question
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if conn.ConnectionState().NegotiatedProtocol != "h2" {
			t.Error("no HTTP/2, so no gRPC")
		}
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	if got := serial(); got != 1 {
		t.Fatalf("certificate %d", got)
	}
	hangup := func() {
		t.Helper()
		if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	write(`log = "debug"`)
	certify(t, dir, 2)
	hangup()
	s.until("log=DEBUG tls=true")
	if got := serial(); got != 2 {
		t.Fatalf("certificate %d after the hang-up", got)
	}
	write(`log = `)
	if err := os.WriteFile(filepath.Join(dir, "cert.pem"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	hangup()
	s.until("the configuration cannot be read again")
	s.until("the certificate cannot be read again")
	s.until("log=DEBUG tls=true")
	if got := serial(); got != 2 {
		t.Fatalf("certificate %d after a hang-up with nothing to read", got)
	}
}

// TestHardened holds that a Vigil which serves leaves no core dump.
func TestHardened(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("reads /proc")
	}
	t.Parallel()
	d := newDemonstration(t, "armed")
	must(t, d.begin)
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", d.child.pid()))
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`(?m)^Max core file size +0 +0 `).Match(limits) {
		t.Errorf("core dumps are on:\n%s", limits)
	}
	// An undumpable process's files belong to root and its memory cannot be read;
	// for root itself only the owner would show, and that is root anyway.
	if os.Getuid() != 0 {
		if f, err := os.Open(fmt.Sprintf("/proc/%d/mem", d.child.pid())); err == nil {
			_ = f.Close()
			t.Error("another process of the same user may read its memory")
		}
	}
}

// TestMissingKey refuses to start when the key that records may name is gone,
// and makes none by itself.
func TestMissingKey(t *testing.T) {
	t.Parallel()
	d := newDemonstration(t, "armed")
	must(t, d.begin, d.board, d.delegate)
	var key admin.Key
	must(t, func() error { return d.child.ask(d.ctx, &key, "keys", "add") })
	d.child.kill()
	p := d.child.places()
	store, err := sealed.Open(d.ctx, p.secretDir(), sealed.KeyFile(p.keyFile()), sealed.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(store.Delete(d.ctx, signer.ServiceName(1)), store.Close()); err != nil {
		t.Fatal(err)
	}
	err = d.child.start(d.ctx)
	if err == nil || !strings.Contains(err.Error(), "lacks the service key "+d.key.String()) {
		t.Fatalf("started without the key of its records: %v", err)
	}
	out, err := d.child.command(d.ctx, "fsck").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "FAULT") {
		t.Fatalf("fsck finds nothing: %v %s", err, out)
	}
}

// TestQuietLog holds the log at info to neither amounts nor ids, and SIGTERM to
// a clean end.
func TestQuietLog(t *testing.T) {
	t.Parallel()
	d := newDemonstration(t, "armed")
	must(t, d.begin)
	d.child.kill()
	if err := os.Remove(d.child.logPath); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(d.child.logPath)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := d.child.command(d.ctx, "serve", "--listen", d.child.listen, "--esplora-url", d.op.EsploraURL())
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	awaitURL(t, d.ctx, d.child.url()+"/readyz")
	d.kill = "" // nothing is held: due after a second
	must(t, d.board, d.delegate, func() error { return d.await("settled") })
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("stopped with %v", err)
	}
	if _, err := log.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(log)
	n := 0
	for lines.Scan() {
		n++
		line := lines.Text()
		if regexp.MustCompile(`[0-9a-f]{32}|100000`).MatchString(line) && strings.Contains(line, "level=INFO") {
			t.Errorf("an id or an amount at info: %s", line)
		}
	}
	if n < 4 {
		t.Errorf("only %d lines were logged", n)
	}
}

// awaitURL waits until an address answers with 200.
func awaitURL(t *testing.T, ctx context.Context, url string) {
	t.Helper()
	tick := time.NewTicker(30 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, code := fetch(url); code == 200 {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s does not answer", url)
		}
	}
}
