package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/vigil-ark/vigil/admin"
	"github.com/vigil-ark/vigil/secret"
	"github.com/vigil-ark/vigil/secret/search"
	"github.com/vigil-ark/vigil/signer"
)

// prove searches everything that Vigil stored, logged and answered for every
// secret that it has, and then shows that the search finds what is there.
func (d *demonstration) prove() error {
	metrics, err := d.heard.get(d.child.url() + "/metrics")
	if err != nil {
		return err
	}
	backup := filepath.Join(d.dir, "backup.kv")
	var copied admin.Copied
	if err := errors.Join(remove(backup), d.child.ask(d.ctx, &copied, "backup", backup)); err != nil {
		return err
	}
	if err := d.child.stop(d.ctx); err != nil {
		return err
	}
	var report admin.Report
	if err := d.child.ask(d.ctx, &report, "fsck"); err != nil {
		return err
	}
	places := d.child.places()
	if err := addSecrets(d.env, &d.searcher, places); err != nil {
		return err
	}
	d.out.KvDir = places.kvDir()
	found, err := d.searcher.FS(os.DirFS(d.out.KvDir))
	if err != nil {
		return err
	}
	d.out.Found = len(found)
	for where, path := range map[string]string{"the log": d.child.logPath, "the backup": backup} {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		d.leaks = append(d.leaks, d.searcher.Text(where, text)...)
	}
	d.leaks = append(d.leaks, d.searcher.Text("the metrics", metrics)...)
	d.leaks = append(d.leaks, d.searcher.Text("the answers", d.heard.bytes())...)
	d.leaks = append(d.leaks, d.searcher.Text("the arguments", []byte(strings.Join(d.child.cmd.Args, " ")))...)
	d.out.Secrets, d.out.Bytes = d.searcher.Secrets(), d.searcher.Bytes()
	if d.out.Canary, err = search.Prove(d.out.KvDir, filepath.Join(d.dir, "canary")); err != nil {
		return err
	}
	d.say("8. %d secrets were looked for, in every encoding, in %d bytes of store, backup, log, metrics and answers: %d found.\n   A planted one was found: %t. The stores are sound: %d faults.",
		d.out.Secrets, d.out.Bytes, d.out.Found+len(d.leaks), d.out.Canary, faults(report))
	for _, f := range append(found, d.leaks...) {
		d.say("   LEAK: %s", f)
	}
	return nil
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// addSecrets teaches the searcher every secret of a Vigil, its key-encryption
// key included; of a value that consists of several, each by itself.
func addSecrets(env *environment, searcher *search.Searcher, p places) (err error) {
	s, err := p.open(env, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	names, err := s.secrets.List(env.ctx, "")
	if err != nil {
		return err
	}
	for _, name := range names {
		value, err := s.secrets.Get(env.ctx, name)
		if err != nil {
			return err
		}
		if err := signer.Parts(name, value, searcher.Add); err != nil {
			return err
		}
		value.Burn()
	}
	raw, err := os.ReadFile(p.keyFile())
	if err != nil {
		return err
	}
	return searcher.Add("key-encryption key", secret.New(raw))
}

// transcript keeps every answer that its client gets.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (t *transcript) client() *http.Client {
	return &http.Client{Transport: t, Timeout: 30 * time.Second}
}

// RoundTrip implements http.RoundTripper.
func (t *transcript) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintf(&t.text, "%s %v\n", resp.Status, resp.Header)
	t.text.Write(append(body, '\n'))
	return resp, nil
}

func (t *transcript) bytes() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return bytes.Clone(t.text.Bytes())
}

// get reads one page.
func (t *transcript) get(url string) (body []byte, err error) {
	resp, err := t.client().Get(url)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, resp.Status)
	}
	return io.ReadAll(resp.Body)
}
