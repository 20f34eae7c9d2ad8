package main

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vigil-ark/vigil/admin"
	"github.com/vigil-ark/vigil/kv/sqlite"
	"github.com/vigil-ark/vigil/ledger"
)

type wipeCmd struct {
	places
	Force   bool   `help:"Also while delegates live and wallets have their half of a key here." env:"-"`
	Confirm string `help:"The sentence that wipe asks for, in place of typing it." placeholder:"TEXT" env:"-"`
}

// wiped is what `vigil wipe --json` prints.
type wiped struct {
	Files     int      `json:"files"`
	Bytes     int64    `json:"bytes"`
	Delegates uint64   `json:"live_delegates"`
	Wallets   uint64   `json:"wallets"`
	Left      []string `json:"left"`         // in Vigil's directories, and not Vigil's
	Beyond    []string `json:"out_of_reach"` // what no program can promise
}

// errLives refuses to wipe what coins depend on.
var errLives = errors.New("refused")

// markWiping is in the data directory from the first file that is destroyed until the
// last: what a wipe that was cut short left is no Vigil any more.
const markWiping = "wiping"

// Run destroys every secret and all state of this Vigil: first the key that seals the
// secrets, then the secrets, then the state, each file overwritten, flushed, cut and
// removed; then it looks that nothing is left. A wipe that was cut short is taken up.
func (c *wipeCmd) Run(env *environment) error {
	if _, err := admin.Dial(env.ctx, c.socket()); err == nil {
		return fmt.Errorf("a Vigil runs over %s; stop it first", c.DataDir)
	} else if !errors.Is(err, admin.ErrNoServer) {
		return err
	}
	w := wiped{Left: []string{}, Beyond: c.beyond()}
	if !c.cutShort() {
		if err := c.permit(env, &w); err != nil {
			return err
		}
		if err := writeNew(filepath.Join(c.DataDir, markWiping), func(io.Writer) error { return nil }); err != nil {
			return err
		}
	}
	err := env.working("destroying what is in "+c.DataDir, func() error { return c.destroy(&w) })
	if err != nil {
		return fmt.Errorf("%w; what was destroyed stays so: run it again once the cause is gone", err)
	}
	return env.print(w, "%s", w.text(c.places))
}

// cutShort says whether a wipe began here and did not end.
func (c *wipeCmd) cutShort() bool {
	_, err := os.Stat(filepath.Join(c.DataDir, markWiping))
	return err == nil
}

// permit finds out what would be lost, and has the sentence typed that says so.
func (c *wipeCmd) permit(env *environment, w *wiped) error {
	var wallets map[ledger.WalletState]uint64
	s, err := c.open(env, nil)
	switch {
	case errors.Is(err, sqlite.ErrLocked):
		return err
	case err != nil && !c.there():
		return fmt.Errorf("there is no Vigil in %s", c.DataDir)
	case err != nil && !c.Force:
		return fmt.Errorf("%w: what coins depend on these stores cannot be told, so nothing is destroyed without --force: %w", errLives, err)
	}
	if err == nil {
		counts, failed := s.ledger.Counts(env.ctx)
		var unknown error
		wallets, unknown = s.ledger.WalletCounts(env.ctx)
		if err := errors.Join(failed, unknown, s.Close()); err != nil && !c.Force {
			return err
		}
		for state, n := range counts {
			if !state.Ended() {
				w.Delegates += n
			}
		}
		for _, n := range wallets {
			w.Wallets += n
		}
	}
	if w.Delegates+w.Wallets > 0 && !c.Force {
		return fmt.Errorf("%w: %d delegates live, and %d wallets have half of their key here: their coins would not be renewed, and could be spent by their exit and recovery leaves alone. "+
			"Have the owners move or delegate elsewhere and delete their wallets, or give --force", errLives, w.Delegates, w.Wallets)
	}
	sentence := fmt.Sprintf("destroy %d delegates and %d wallets", w.Delegates, w.Wallets)
	if err != nil {
		sentence = "destroy what cannot be read"
	}
	return c.confirm(env, sentence)
}

// there says whether there is anything of a Vigil.
func (c *wipeCmd) there() bool {
	for _, path := range []string{c.kvDir(), c.secretDir()} {
		if _, err := os.Stat(path); err == nil {
			return true
		}
	}
	return false
}

// confirm has the sentence typed. It is another one whenever more is lost.
func (c *wipeCmd) confirm(env *environment, sentence string) error {
	typed := c.Confirm
	if typed == "" {
		fmt.Fprintf(env.stderr, "This destroys every secret and all state of the Vigil in %s and %s, and cannot be taken back.\nType \"%s\" to go on: ",
			c.DataDir, c.secretDir(), sentence)
		line, err := bufio.NewReader(io.LimitReader(env.stdin, 1<<10)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		typed = line
	}
	if strings.TrimSpace(typed) != sentence {
		return fmt.Errorf("%w: not confirmed; nothing was touched. The sentence is \"%s\"", errLives, sentence)
	}
	return nil
}

// beyond is what overwriting cannot promise, and what is elsewhere.
func (c *wipeCmd) beyond() []string {
	list := []string{
		"an SSD writes elsewhere than where it wrote before, and keeps the old cells until it likes; so do file systems that copy on write, their snapshots, and journals with data",
		"backups, exports of secrets and copies of the disk are where you put them: destroy those too",
	}
	if c.ownKey() {
		return append(list, "what a disk may keep of the secrets is sealed under a key that was in "+c.keyFile()+": a copy of that file opens it")
	}
	return append(list, "what a disk may keep of the secrets is sealed under "+c.keyPlace()+", which is not Vigil's to destroy: destroy it, and nothing opens them")
}

// mine are the files of Vigil's own in the data directory.
func mine(name string) bool {
	return slices.Contains([]string{"ballast", "admin.sock", markBackup, markExport}, name) || strings.HasPrefix(name, "kv-before-") && strings.HasSuffix(name, ".db")
}

// destroy destroys everything in order, then looks that it is gone.
func (c *wipeCmd) destroy(w *wiped) error {
	if c.ownKey() {
		if err := w.shred(c.keyFile()); err != nil {
			return err
		}
	}
	if err := errors.Join(w.shredStore(c.secretDir(), "secrets.db"), w.shredStore(c.kvDir(), "kv.db")); err != nil {
		return err
	}
	entries, err := os.ReadDir(c.DataDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		switch path := filepath.Join(c.DataDir, e.Name()); {
		case e.Name() == markWiping, path == c.secretDir(), path == c.kvDir(): // the latter if they hold what is not Vigil's
		case mine(e.Name()):
			if err := w.shred(path); err != nil {
				return err
			}
		default:
			w.Left = append(w.Left, path)
		}
	}
	for _, path := range []string{c.keyFile(), filepath.Join(c.secretDir(), "secrets.db"), filepath.Join(c.kvDir(), "kv.db"), c.socket()} {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) && (path != c.keyFile() || c.ownKey()) {
			return fmt.Errorf("%s is still there", path)
		}
	}
	if err := os.Remove(filepath.Join(c.DataDir, markWiping)); err != nil {
		return err
	}
	if entries, err = os.ReadDir(c.DataDir); err != nil {
		return err
	}
	if len(entries) == 0 {
		return os.Remove(c.DataDir)
	}
	return syncDir(c.DataDir)
}

// shredStore destroys the files of a store and, if nothing else is in it, its
// directory: whoever named a directory of other things too keeps those.
func (w *wiped) shredStore(dir, file string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	others := false
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if e.IsDir() || e.Name() != "lock" && !strings.HasPrefix(e.Name(), file) {
			w.Left, others = append(w.Left, path), true
		} else if err := w.shred(path); err != nil {
			return err
		}
	}
	if others {
		return syncDir(dir)
	}
	if err := os.Remove(dir); err != nil {
		return err
	}
	return syncDir(filepath.Dir(dir))
}

// shred overwrites a file with noise, flushes that to the disk, cuts the file to
// nothing and removes its name, durably. What is no file loses its name alone.
func (w *wiped) shred(path string) (err error) {
	about, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if about.Mode().IsRegular() {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		if err = errors.Join(overwrite(f, about.Size()), f.Truncate(0), f.Sync(), f.Close()); err != nil {
			return fmt.Errorf("overwrite %s: %w", path, err)
		}
		w.Files, w.Bytes = w.Files+1, w.Bytes+about.Size()
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// overwrite puts noise over a file's first bytes, and flushes that to the disk.
func overwrite(f *os.File, size int64) error {
	_, err := io.CopyN(f, rand.Reader, size)
	return errors.Join(err, f.Sync())
}

// text is the outcome for people.
func (w wiped) text(p places) string {
	var b strings.Builder
	fmt.Fprintf(&b, "The Vigil in %s is destroyed: %d files with %d bytes were overwritten and removed, and none is left.\n", p.DataDir, w.Files, w.Bytes)
	for _, path := range w.Left {
		fmt.Fprintf(&b, "Not Vigil's, and left: %s\n", path)
	}
	for _, what := range w.Beyond {
		fmt.Fprintf(&b, "Not in its power: %s.\n", what)
	}
	return b.String()
}
