package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/vigil-ark/vigil/admin"
	"github.com/vigil-ark/vigil/secret/search"
)

// gather takes from the running Vigil what is searched later.
func (d *whole) gather() error {
	// The transcript keeps all that it gets, the metrics too.
	if _, err := d.heard.get(d.child.url() + "/metrics"); err != nil {
		return err
	}
	var copied admin.Copied
	path := d.backupPath()
	return errors.Join(remove(path), d.child.ask(d.ctx, &copied, "backup", path))
}

func (d *whole) backupPath() string { return filepath.Join(d.dir, "backup.kv") }

// look searches all that was left for every secret that there was: Vigil's, both
// phones' and the seed words; and shows that the search finds what is there.
func (d *whole) look() error {
	places := d.child.places()
	if err := addSecrets(d.env, &d.searcher, places); err != nil {
		return err
	}
	for _, name := range []string{"phone", "second"} {
		if err := d.sealedSecrets(name); err != nil {
			return err
		}
	}
	d.full.KvDir = places.kvDir()
	var found []search.Finding
	for _, dir := range []fs.FS{
		os.DirFS(d.full.KvDir), os.DirFS(filepath.Join(d.dir, "phone", "keys")), os.DirFS(filepath.Join(d.dir, "second", "keys")),
	} {
		more, err := d.searcher.FS(dir)
		if err != nil {
			return err
		}
		found = append(found, more...)
	}
	for where, path := range map[string]string{"the log": d.child.logPath, "the backup": d.backupPath()} {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		found = append(found, d.searcher.Text(where, text)...)
	}
	own, err := d.encodedBackup()
	if err != nil {
		return err
	}
	found = append(found, d.searcher.Text("the wallet's backup", own)...)
	found = append(found, d.searcher.Text("the answers and the metrics", d.heard.bytes())...)
	found = append(found, d.searcher.Text("the arguments", []byte(strings.Join(d.child.cmd.Args, " ")))...)
	d.full.Secrets, d.full.Bytes, d.full.Found = d.searcher.Secrets(), d.searcher.Bytes(), len(found)
	if d.full.Canary, err = search.Prove(d.full.KvDir, filepath.Join(d.dir, "canary")); err != nil {
		return err
	}
	d.say("11. %d secrets were looked for, in every encoding, in %d bytes of stores, backups, log, metrics and answers: %d found. A planted one was found: %t.",
		d.full.Secrets, d.full.Bytes, d.full.Found, d.full.Canary)
	for _, f := range found {
		d.say("    LEAK: %s", f)
	}
	return nil
}
