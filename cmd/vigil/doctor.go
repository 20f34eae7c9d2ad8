package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/vigil-ark/vigil/admin"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/esplora"
)

type doctorCmd struct {
	settings
	Quick bool `help:"Leave out the check of everything stored, which reads all of it." env:"-"`
}

// The verdicts of a check.
const (
	fine = "ok"
	warn = "warn"
	fail = "fail"
)

// checked is one thing that doctor looked at.
type checked struct {
	Name  string `json:"name"`
	State string `json:"state"` // ok, warn or fail
	Text  string `json:"text"`
	Do    string `json:"do,omitempty"` // what to do about it
}

// examination is what doctor prints.
type examination struct {
	Healthy bool      `json:"healthy"` // nothing failed
	Failed  int       `json:"failed"`
	Warned  int       `json:"warned"`
	Checks  []checked `json:"checks"`
}

func (x *examination) note(name, state, do, format string, args ...any) {
	switch state {
	case fine:
		do = ""
	case warn:
		x.Warned++
	case fail:
		x.Failed++
	}
	x.Checks = append(x.Checks, checked{name, state, fmt.Sprintf(format, args...), do})
}

// Run looks at all that the operator of a Vigil would ask first. It changes nothing,
// works beside a Vigil that runs, and goes on after what it cannot look at.
func (c *doctorCmd) Run(env *environment) error {
	x := &examination{}
	now := time.Now()
	x.configuration(env, c.settings)
	x.directories(c.places)
	x.disk(c.settings)
	x.certificate(c.settings, now)
	if err := x.vigil(env, c, now); err != nil {
		return err
	}
	x.Healthy = x.Failed == 0
	if err := env.print(x, "%s", x.text()); err != nil {
		return err
	}
	if !x.Healthy {
		return fmt.Errorf("%d of %d checks failed", x.Failed, len(x.Checks))
	}
	return nil
}

// vigil looks at what only the stores, or whoever has them open, can tell.
func (x *examination) vigil(env *environment, c *doctorCmd, now time.Time) (err error) {
	var status *admin.Status
	port, closePort, failed := c.port(env)
	if failed == nil {
		defer func() { err = errors.Join(err, closePort()) }()
		var st admin.Status
		if st, failed = port.Status(env.ctx); failed == nil {
			status = &st
		}
	}
	if failed != nil {
		x.note("stores", fail, "see docs/operations.md, When something happens", "%v", failed)
	} else {
		x.stores(*status, now)
	}
	x.upstream(env, c.settings, status)
	x.chain(env.ctx, c.settings, status)
	if status != nil && !c.Quick {
		x.stored(env, port)
	}
	x.copies(c.places, status, now)
	return nil
}

// text is the examination for people.
func (x *examination) text() string {
	var b strings.Builder
	for _, c := range x.Checks {
		state := c.State
		if state == fail {
			state = "FAIL"
		}
		fmt.Fprintf(&b, "%-4s  %-14s %s\n", state, c.Name, c.Text)
		if c.Do != "" {
			fmt.Fprintf(&b, "%20s -> %s\n", "", c.Do)
		}
	}
	return b.String()
}

func (x *examination) configuration(env *environment, s settings) {
	if err := errors.Join(append(s.problems(), env.strangers()...)...); err != nil {
		x.note("configuration", fail, "mend it; `vigil config check` says the same", "%s", strings.ReplaceAll(err.Error(), "\n", "; "))
		return
	}
	x.note("configuration", fine, "", "it can be used")
}

// directories: nobody else may write to what Vigil keeps, nor read what is secret.
func (x *examination) directories(p places) {
	if _, err := os.Stat(p.DataDir); errors.Is(err, os.ErrNotExist) {
		x.note("directories", fail, "name it with --data-dir, or run `vigil init`", "%s does not exist", p.DataDir)
		return
	}
	bad := 0
	look := func(path string, open os.FileMode, what string) {
		about, err := os.Stat(path)
		switch {
		case errors.Is(err, os.ErrNotExist):
			return // the stores tell
		case err != nil:
			x.note("directories", fail, "run as the user that Vigil runs as", "%s: %v", path, err)
		case about.Mode().Perm()&open != 0:
			x.note("directories", fail, fmt.Sprintf("chmod %#o %s", about.Mode().Perm()&^open, path), "others may open %s, %s (%#o)", path, what, about.Mode().Perm())
		case !own(about):
			x.note("directories", warn, "run doctor as the user that Vigil runs as, or chown it", "%s is another user's", path)
		default:
			return
		}
		bad++
	}
	look(p.DataDir, 0o022, "the directory of public state, to write")
	look(p.kvDir(), 0o077, "the key-value store, which tells who has which coins")
	look(p.secretDir(), 0o077, "the sealed secrets")
	if p.ownKey() {
		look(p.keyFile(), 0o077, "the key that seals the secrets")
	}
	if bad == 0 {
		x.note("directories", fine, "", "%s and %s are closed to others", p.DataDir, p.secretDir())
	}
	if p.ownKey() && within(p.DataDir, p.keyFile()) && within(p.DataDir, p.secretDir()) {
		x.note("key place", warn, "give --secret-dir and --key-file, or --credential, another place", "the secrets, their key and the public state are all in %s: who has that directory has everything", p.DataDir)
	}
}

// own says whether a file is this user's.
func own(about os.FileInfo) bool {
	s, is := about.Sys().(*syscall.Stat_t)
	return !is || int(s.Uid) == os.Geteuid()
}

// within says whether path lies in dir.
func within(dir, path string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

func (x *examination) disk(s settings) {
	if _, err := os.Stat(s.DataDir); errors.Is(err, os.ErrNotExist) {
		return // it is told
	}
	d := s.disk()
	d.min = s.MinFree
	free, low := d.state()
	if low {
		x.note("disk", fail, "make room, or delete the ballast file: nothing new is taken", "%d MiB are free", free>>20)
		return
	}
	x.note("disk", fine, "", "%d MiB are free", free>>20)
}

// certLead is how long before its end a certificate is to be renewed: who does that
// by a machine does it a month before.
const certLead = 14 * 24 * time.Hour

func (x *examination) certificate(s settings, now time.Time) {
	const name = "certificate"
	if s.TLSCert == "" && s.TLSKey == "" {
		if ofThisMachine(s.listen()) {
			x.note(name, fine, "", "none, and %s is reached from this machine only", s.listen())
			return
		}
		x.note(name, warn, "see that nobody reaches it but a proxy that speaks TLS", "none: %s is served in the clear", s.listen())
		return
	}
	pair, err := tls.LoadX509KeyPair(s.TLSCert, s.TLSKey)
	if err != nil {
		x.note(name, fail, "bring certificate and key together; Vigil serves the one before until SIGHUP finds a good one", "%v", err)
		return
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		x.note(name, fail, "bring another one", "%v", err)
		return
	}
	left := leaf.NotAfter.Sub(now).Round(time.Hour)
	switch {
	case now.Before(leaf.NotBefore):
		x.note(name, fail, "look at the clock, or bring another one", "it is good from %s only", stamp(leaf.NotBefore.Unix()))
	case left <= 0:
		x.note(name, fail, "renew it and send SIGHUP", "it ended at %s", stamp(leaf.NotAfter.Unix()))
	case left < certLead:
		x.note(name, warn, "renew it and send SIGHUP", "it ends at %s, in %s", stamp(leaf.NotAfter.Unix()), left)
	default:
		x.note(name, fine, "", "it ends at %s", stamp(leaf.NotAfter.Unix()))
	}
}

// stores looks at how the Vigil and what it stores stand.
func (x *examination) stores(st admin.Status, now time.Time) {
	x.note("stores", fine, "", "both open, of one generation")
	x.running(st)
	if st.Hold != "" {
		x.note("hold", fail, "once you are sure that no other copy of this Vigil acts, `vigil restore --confirm`", "%s", st.Hold)
	}
	switch {
	case st.Keys == 0:
		x.note("keys", fail, "bring the secrets back with `vigil restore`, or make one with `vigil keys add`", "no service key is in use: wallets have nothing to name")
	case st.HostKey == "":
		x.note("keys", warn, "make one with `vigil keys add-host`, if devices are to have wallets here", "%d service keys; no host key, so no wallets are served", st.Keys)
	default:
		x.note("keys", fine, "", "%d service keys and the host key", st.Keys)
	}
	switch {
	case st.Unreadable > 0:
		x.note("damage", fail, "`vigil fsck` names them; indexes are mended by `vigil fsck --repair`, with Vigil stopped", "%d stored rows are damaged, %d of them of an index", st.Unreadable, st.UnreadableIndex)
	case st.Delegates[delegate.Quarantined.String()] > 0:
		x.note("damage", fail, "restore the secrets; `vigil delegates list --state quarantined` says which", "%d delegates are quarantined: their keys are missing or wrong", st.Delegates[delegate.Quarantined.String()])
	default:
		x.note("damage", fine, "", "no row is known to be damaged, no delegate is quarantined")
	}
	x.times(st, now)
}

// running looks at what only a Vigil that serves knows.
func (x *examination) running(st admin.Status) {
	r := st.Running
	switch {
	case r == nil:
		state, do := fine, ""
		if st.Live+st.Wallets["active"] > 0 {
			state, do = fail, "start `vigil serve`: nothing is renewed or signed until then"
		}
		x.note("service", state, do, "Vigil does not run; %d delegates are live, and it has %d wallets", st.Live, st.Wallets["active"])
		return
	case len(r.NotReady) > 0:
		x.note("service", fail, "the log says more", "not ready: %s", strings.Join(r.NotReady, "; "))
	default:
		x.note("service", fine, "", "process %d, version %s, since %s", r.PID, st.Version, stamp(r.Since))
	}
	if st.Version != version {
		x.note("version", warn, "stop it and start the new one", "version %s runs, and this is %s", st.Version, version)
	}
	if r.StreamUp {
		x.note("stream", fine, "", "the operator's events arrive since %s", stamp(r.StreamFrom))
	} else {
		x.note("stream", fail, "look at the operator and the way to it; nothing can be renewed without", "no events of the operator since %s", stamp(r.StreamFrom))
	}
	if r.Quarantined > 0 {
		x.note("wallets", warn, "report what the log says of it; the next start lets them in again", "%d wallets are barred, since work on them panicked", r.Quarantined)
	}
}

// Bounds of what is told of times.
const (
	nearExpiry = 15 * time.Minute // as docs/alerts.yml has it
	lateBy     = time.Hour        // that something is due and not done
)

func (x *examination) times(st admin.Status, now time.Time) {
	due, expiry := time.Unix(st.NextDue, 0), time.Unix(st.NextExpiry, 0)
	switch {
	case st.Live == 0:
		x.note("expiry", fine, "", "no delegate is live")
	case st.NextExpiry > 0 && expiry.Sub(now) < nearExpiry:
		x.note("expiry", fail, "`vigil delegates list` says which, and what went wrong last", "the first coin under a delegate expires %s", until(st.NextExpiry, now))
	case st.NextDue > 0 && now.Sub(due) > lateBy:
		x.note("expiry", warn, "`vigil delegates list` says which, and what went wrong last", "a delegate is due since %s, and the first coin expires %s", stamp(st.NextDue), until(st.NextExpiry, now))
	default:
		x.note("expiry", fine, "", "next due %s, first expiry %s", until(st.NextDue, now), until(st.NextExpiry, now))
	}
}

// upstream asks the Ark operator itself, whatever the running Vigil thinks of it.
func (x *examination) upstream(env *environment, s settings, st *admin.Status) {
	const name = "operator"
	at := s.OperatorURL
	if at == "" && st != nil {
		at = st.Operator.URL
	}
	if at == "" {
		x.note(name, fail, "name it with --operator-url", "not known")
		return
	}
	client, err := upstream{OperatorURL: at}.dial(env)
	if err != nil {
		x.note(name, fail, "mend --operator-url", "%v", err)
		return
	}
	params, err := askOperator(env.ctx, client, at)
	if err = errors.Join(err, client.Close()); err != nil {
		x.note(name, fail, "look at the operator and the way to it", "%v", err)
		return
	}
	switch {
	case st == nil:
		x.note(name, warn, "", "%s answers; nobody knows which key was pinned", at)
	case params.SignerKey.String() != st.Operator.Signer:
		x.note(name, fail, "verify the new key with its operator, then `vigil operator accept`; nothing new is taken until then", "%s signs with %s, and %s is pinned", at, params.SignerKey, st.Operator.Signer)
	case string(params.Network) != st.Operator.Network:
		x.note(name, fail, "name the right one with --operator-url", "%s is on %s, and this Vigil on %s", at, params.Network, st.Operator.Network)
	default:
		x.note(name, fine, "", "%s answers, on %s, with the key that is pinned", at, params.Network)
	}
	if !strings.Contains(at, "://") {
		at = "http://" + at
	}
	x.clock(env.ctx, "clock", "the operator", at+"/v1/info")
}

// chain asks the Esplora.
func (x *examination) chain(ctx context.Context, s settings, st *admin.Status) {
	const name = "chain"
	if s.EsploraURL == "" {
		if st != nil && st.Operator.Network == "bitcoin" {
			x.note(name, warn, "give --esplora-url", "no Esplora: that a renewal is settled is the operator's word, and no failed one is ever known to be dead")
		} else {
			x.note(name, fine, "", "no Esplora is asked: that a renewal is settled is the operator's word")
		}
		return
	}
	client, err := esplora.New(s.EsploraURL, nil)
	if err != nil {
		x.note(name, fail, "mend --esplora-url", "%v", err)
		return
	}
	tip, err := client.Tip(ctx)
	if err != nil {
		x.note(name, fail, "look at the Esplora and the way to it; renewals are not settled until it answers", "%v", err)
		return
	}
	x.note(name, fine, "", "%s is at block %d", s.EsploraURL, tip)
	x.clock(ctx, "clock, chain", "the Esplora", strings.TrimSuffix(s.EsploraURL, "/")+"/blocks/tip/height")
}

// Differences between two clocks: devices' requests are refused beyond a minute, and
// valid_at and expiry are held to ours.
const (
	clockOff  = 30 * time.Second
	clockEven = 3 * time.Second // and a second that the header has no room for
	askWithin = 10 * time.Second
)

// clock compares this machine's with a server's, by the date of an answer.
func (x *examination) clock(ctx context.Context, name, whose, at string) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	began := time.Now()
	date, err := dateOf(ctx, at)
	if err != nil {
		x.note(name, warn, "", "%s tells no time: %v", whose, err)
		return
	}
	took := time.Since(began)
	off := date.Sub(began.Add(took / 2)).Round(time.Second)
	switch far := off.Abs(); {
	case far > clockOff:
		x.note(name, fail, "set the clock (NTP)", "it differs from that of %s by %s", whose, off)
	case far > clockEven+took/2:
		x.note(name, warn, "see whether NTP runs", "it differs from that of %s by %s", whose, off)
	default:
		x.note(name, fine, "", "it agrees with that of %s", whose)
	}
}

func dateOf(ctx context.Context, at string) (time.Time, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return time.Time{}, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		var of *url.Error
		if errors.As(err, &of) {
			err = of.Err // the address may hold what lets one in
		}
		return time.Time{}, err
	}
	defer func() { _ = resp.Body.Close() }() // only its headers count
	return http.ParseTime(resp.Header.Get("Date"))
}

// stored reads everything: what belongs to nothing is told here.
func (x *examination) stored(env *environment, p admin.Port) {
	var r admin.Report
	err := env.working("checking everything stored", func() (err error) {
		r, err = p.Check(env.ctx)
		return err
	})
	if err != nil {
		x.note("contents", fail, "see docs/operations.md, When something happens", "%v", err)
		return
	}
	faults := 0
	for _, f := range r.Findings {
		if f.Fault {
			faults++
		}
	}
	switch {
	case !r.Clean:
		x.note("contents", fail, "`vigil fsck` tells each, and what to do", "%d faults in what is stored", max(faults, 1))
	case len(r.Findings) > 0:
		x.note("contents", warn, "`vigil fsck` tells each; what is left over is worked off by a Vigil that runs", "no fault; %d notes, of what belongs to nothing or waits to be deleted", len(r.Findings)+r.More)
	default:
		x.note("contents", fine, "", "%d records, %d VTXOs, %d secrets: both stores agree, and nothing is left over", r.Records, r.VTXOs, r.Secrets)
	}
}

// oldCopy is the age at which a copy is called old: with it all that came since is
// lost with the disk.
const oldCopy = 7 * 24 * time.Hour

// copies says how old the last backup and export are that this Vigil made itself.
func (x *examination) copies(p places, st *admin.Status, now time.Time) {
	for _, c := range []struct{ name, mark, do string }{
		{"backup", markBackup, "vigil backup FILE"}, {"export", markExport, "vigil secret export --recipient age1… FILE"},
	} {
		at, err := p.marked(c.mark)
		switch {
		case errors.Is(err, os.ErrNotExist):
			state := warn
			if st != nil && st.Live == 0 && st.Wallets["active"] == 0 && c.mark == markBackup {
				state = fine
			}
			x.note(c.name, state, c.do, "none is known to have been made by this Vigil")
		case err != nil:
			x.note(c.name, warn, "", "%v", err)
		case now.Sub(at) > oldCopy:
			x.note(c.name, warn, c.do, "the last one is of %s", stamp(at.Unix()))
		default:
			x.note(c.name, fine, "", "the last one is of %s", stamp(at.Unix()))
		}
	}
}
