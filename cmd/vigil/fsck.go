package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/vigil-ark/vigil/admin"
)

type fsckCmd struct {
	places
	Repair bool     `help:"Build the indexes anew from what can be read, after a copy. Vigil must not run."`
	Wallet string   `help:"Prove that nothing of this deleted wallet is left." placeholder:"ID" env:"-"`
	Mark   []string `help:"With --wallet: also look for this script, host key or delegate id." placeholder:"HEX" env:"-"`
}

// Run checks the stores, or repairs them; a fault is a failure of the command.
func (c *fsckCmd) Run(env *environment) error {
	if c.Repair {
		return c.repair(env)
	}
	if c.Wallet != "" {
		return c.wallet(env)
	}
	var r admin.Report
	err := env.working("checking "+c.DataDir, func() (err error) {
		r, err = with(env, c.places, func(p admin.Port) (admin.Report, error) { return p.Check(env.ctx) })
		return err
	})
	if err != nil {
		return err
	}
	if err := env.print(r, "%s", reportText(r)); err != nil {
		return err
	}
	if !r.Clean {
		return errors.New("the stores are not as they must be; nothing was changed. What indexes lack, `vigil fsck --repair` mends, with Vigil stopped")
	}
	return nil
}

// wallet proves a deletion.
func (c *fsckCmd) wallet(env *environment) error {
	var r admin.Report
	err := env.working("looking for wallet "+c.Wallet, func() (err error) {
		r, err = with(env, c.places, func(p admin.Port) (admin.Report, error) { return p.CheckWallet(env.ctx, c.Wallet, c.Mark) })
		return err
	})
	if err != nil {
		return err
	}
	if !r.Clean {
		return errors.Join(env.print(r, "%s", findings(r)), errors.New("something of the wallet is there: it was not deleted, or not whole"))
	}
	return env.print(r, "%sNothing of the wallet %s is left.\n", findings(r), c.Wallet)
}

// reportText is a report for people.
func reportText(r admin.Report) string {
	verdict := "clean"
	if !r.Clean {
		verdict = "NOT CLEAN"
	}
	return findings(r) + fmt.Sprintf("%d records (%d live), %d VTXOs, %d branches, %d secrets: %s\n", r.Records, r.Live, r.VTXOs, r.Branches, r.Secrets, verdict)
}

// findings are a report's findings, one a line.
func findings(r admin.Report) string {
	var b strings.Builder
	for _, f := range r.Findings {
		kind := "note"
		if f.Fault {
			kind = "FAULT"
		}
		fmt.Fprintf(&b, "%s %s %s: %s", kind, f.Code, f.Subject, f.Text)
		if f.Fix != "" {
			fmt.Fprintf(&b, " (%s)", f.Fix)
		}
		b.WriteString("\n")
	}
	if r.More > 0 {
		fmt.Fprintf(&b, "and %d more\n", r.More)
	}
	return b.String()
}

type backupCmd struct {
	places
	File string `arg:"" type:"path" help:"The file to write; it must not exist."`
}

// Run copies the key-value store; a running Vigil goes on meanwhile.
func (c *backupCmd) Run(env *environment) error {
	path, err := filepath.Abs(c.File)
	if err != nil {
		return err
	}
	var done admin.Copied
	err = env.working("copying the key-value store", func() (err error) {
		done, err = with(env, c.places, func(p admin.Port) (admin.Copied, error) { return p.Backup(env.ctx, path) })
		return err
	})
	if err != nil {
		return err
	}
	return env.print(done, "%s: %d bytes in %s. It holds no secret; those are exported apart, with `vigil secret export`.\n", done.Path, done.Bytes, done.Took)
}
