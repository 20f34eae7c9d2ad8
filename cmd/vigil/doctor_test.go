package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vigil-ark/vigil/admin"
)

// said is what an examination says under a name.
func (x *examination) said(t *testing.T, name string) checked {
	t.Helper()
	for _, c := range x.Checks {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("nothing is said of %s: %+v", name, x.Checks)
	return checked{}
}

func TestDoctorOnCertificates(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	write := func(from, to time.Time) settings {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		about := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: from, NotAfter: to}
		cert, err := x509.CreateCertificate(rand.Reader, about, about, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		s := settings{TLSCert: filepath.Join(dir, "cert"), TLSKey: filepath.Join(dir, "key"), Listen: ":7002"}
		for path, block := range map[string]*pem.Block{s.TLSCert: {Type: "CERTIFICATE", Bytes: cert}, s.TLSKey: {Type: "PRIVATE KEY", Bytes: der}} {
			if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return s
	}
	day := 24 * time.Hour
	for _, c := range []struct {
		name  string
		s     func() settings
		state string
	}{
		{"good", func() settings { return write(now.Add(-day), now.Add(60*day)) }, fine},
		{"near its end", func() settings { return write(now.Add(-day), now.Add(13*day)) }, warn},
		{"ended", func() settings { return write(now.Add(-2*day), now.Add(-day)) }, fail},
		{"of tomorrow", func() settings { return write(now.Add(day), now.Add(60*day)) }, fail},
		{"missing", func() settings {
			return settings{TLSCert: filepath.Join(dir, "none"), TLSKey: filepath.Join(dir, "none")}
		}, fail},
		{"none, to all", func() settings { return settings{Listen: ":7002"} }, warn},
		{"none, to this machine", func() settings { return settings{Listen: "[::1]:7002"} }, fine},
		{"none, and nothing said", func() settings { return settings{} }, fine},
		{"none, behind a proxy", func() settings { return settings{Plain: true} }, warn},
	} {
		var x examination
		x.certificate(c.s(), now)
		if got := x.said(t, "certificate"); got.State != c.state || (got.Do == "") != (c.state == fine) {
			t.Errorf("%s: %+v, want %s", c.name, got, c.state)
		}
	}
}

func TestDoctorOnClocks(t *testing.T) {
	for off, state := range map[time.Duration]string{0: fine, 15 * time.Second: warn, -15 * time.Second: warn, 2 * time.Minute: fail, -time.Hour: fail} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Date", time.Now().Add(off).UTC().Format(http.TimeFormat))
			w.WriteHeader(http.StatusNotFound) // whatever it answers, it tells the time
		}))
		var x examination
		x.clock(t.Context(), "clock", "the operator", srv.URL)
		srv.Close()
		if got := x.said(t, "clock"); got.State != state {
			t.Errorf("off by %s: %+v, want %s", off, got, state)
		}
	}
	var x examination
	x.clock(context.Background(), "clock", "the operator", "http://user:password@127.0.0.1:1/v1/info")
	if got := x.said(t, "clock"); got.State != warn || strings.Contains(got.Text, "password") {
		t.Errorf("nobody there: %+v", got)
	}
}

func TestDoctorOnWhatIsStored(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	sound := func() admin.Status {
		return admin.Status{
			Version: version, Running: &admin.Running{StreamUp: true}, Live: 3, Keys: 1, HostKey: "02", Delegates: map[string]uint64{"armed": 3},
			NextDue: now.Unix() + 600, NextExpiry: now.Unix() + 86_400,
		}
	}
	for name, c := range map[string]struct {
		bend  func(*admin.Status)
		about string
		state string
	}{
		"sound":                 {func(*admin.Status) {}, "expiry", fine},
		"expires soon":          {func(s *admin.Status) { s.NextExpiry = now.Unix() + 60 }, "expiry", fail},
		"overdue":               {func(s *admin.Status) { s.NextDue = now.Unix() - 7200 }, "expiry", warn},
		"nothing lives":         {func(s *admin.Status) { s.Live, s.NextExpiry = 0, 0 }, "expiry", fine},
		"stopped":               {func(s *admin.Status) { s.Running = nil }, "service", fail},
		"stopped, idle":         {func(s *admin.Status) { s.Running, s.Live = nil, 0 }, "service", fine},
		"stopped, with wallets": {func(s *admin.Status) { s.Running, s.Live, s.Wallets = nil, 0, map[string]uint64{"active": 1} }, "service", fail},
		"not ready":             {func(s *admin.Status) { s.Running.NotReady = []string{"disk"} }, "service", fail},
		"deaf":                  {func(s *admin.Status) { s.Running.StreamUp = false }, "stream", fail},
		"another version":       {func(s *admin.Status) { s.Version = "0.0.1" }, "version", warn},
		"barred wallets":        {func(s *admin.Status) { s.Running.Quarantined = 1 }, "wallets", warn},
		"on hold":               {func(s *admin.Status) { s.Hold = "restored" }, "hold", fail},
		"no key":                {func(s *admin.Status) { s.Keys = 0 }, "keys", fail},
		"no host key":           {func(s *admin.Status) { s.HostKey = "" }, "keys", warn},
		"quarantined":           {func(s *admin.Status) { s.Delegates["quarantined"] = 1 }, "damage", fail},
		"damaged rows":          {func(s *admin.Status) { s.Unreadable = 2 }, "damage", fail},
	} {
		var x examination
		s := sound()
		c.bend(&s)
		x.stores(s, now)
		if got := x.said(t, c.about); got.State != c.state || c.state == fail && got.Do == "" {
			t.Errorf("%s: %+v, want %s", name, got, c.state)
		}
		if c.state == fine && x.Failed+x.Warned > 0 {
			t.Errorf("%s: %s", name, x.text())
		}
	}
}

func TestDoctorOnDirectories(t *testing.T) {
	p := places{DataDir: filepath.Join(t.TempDir(), "d")}
	for _, dir := range []string{p.DataDir, p.kvDir(), p.secretDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(p.keyFile(), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var none examination
	none.directories(places{DataDir: filepath.Join(t.TempDir(), "none")})
	none.disk(settings{places: places{DataDir: filepath.Join(t.TempDir(), "none")}})
	if none.Failed != 1 || len(none.Checks) != 1 {
		t.Errorf("no directory: %s", none.text())
	}
	var x examination
	x.directories(p)
	if got := x.said(t, "directories"); got.State != fine {
		t.Errorf("closed: %+v", got)
	}
	for path, mode := range map[string]os.FileMode{p.DataDir: 0o777, p.kvDir(): 0o750, p.secretDir(): 0o705, p.keyFile(): 0o640} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		var x examination
		x.directories(p)
		if got := x.said(t, "directories"); got.State != fail || !strings.Contains(got.Text, path) || !strings.HasPrefix(got.Do, "chmod 0") {
			t.Errorf("%s open: %+v", path, got)
		}
		fix := mode &^ 0o077
		if path == p.DataDir {
			fix = mode &^ 0o022
		}
		if want := fmt.Sprintf("chmod %#o %s", fix, path); x.Checks[0].Do != want {
			t.Errorf("%q, want %q", x.Checks[0].Do, want)
		}
		if err := os.Chmod(path, fix); err != nil {
			t.Fatal(err)
		}
	}
}
