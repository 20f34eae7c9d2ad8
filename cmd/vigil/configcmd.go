package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/vigil-ark/vigil/ark"
)

type configCmd struct {
	Check configCheckCmd `cmd:"" help:"Check file, environment and flags, and tell everything that is wrong."`
	Print configPrintCmd `cmd:"" help:"Print what serve would run with, as a TOML file."`
}

type configCheckCmd struct{ settings }

// Run tells every problem at once. What kong itself refuses never comes here.
func (c *configCheckCmd) Run(env *environment) error {
	problems := append(c.problems(), env.strangers()...)
	slices.SortFunc(problems, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("configuration:\n  %s", strings.ReplaceAll(err.Error(), "\n", "\n  "))
	}
	return env.print(map[string]bool{"ok": true}, "The configuration can be used.\n")
}

// strangers are variables of the environment that look like flags and are none.
func (e *environment) strangers() (list []error) {
	known := map[string]bool{}
	for _, flag := range flagsOf(e.parser.Model) {
		for _, name := range flag.Envs {
			known[name] = true
		}
	}
	for _, pair := range os.Environ() {
		name, _, _ := strings.Cut(pair, "=")
		if strings.HasPrefix(name, "VIGIL_") && !known[name] {
			list = append(list, fmt.Errorf("the environment has %s, which is no flag's", name))
		}
	}
	return list
}

// problems are the contradictions among the settings, as far as they show
// without asking anybody.
func (s *settings) problems() []error {
	var list []error
	add := func(bad bool, format string, args ...any) {
		if bad {
			list = append(list, fmt.Errorf(format, args...))
		}
	}
	keys := 0
	for _, is := range []bool{s.KeyFile != "", s.PassphraseFile != "", s.AskPassphrase, s.Credential != ""} {
		if is {
			keys++
		}
	}
	add(keys > 1, "more than one of key-file, passphrase-file, ask-passphrase and credential is given")
	add(s.FeeSats < 0 || s.FeeSlackSats < 0, "fee-sats and fee-slack-sats cannot be negative")
	add(s.FeeSats > 0 && s.FeeAddress == "", "fee-sats needs a fee-address")
	if s.FeeAddress != "" {
		_, err := ark.ParseAddress(s.FeeAddress)
		add(err != nil, "fee-address: %w", err)
	}
	add((s.TLSCert == "") != (s.TLSKey == ""), "tls-cert and tls-key belong together")
	add(s.TLSCert != "" && s.Plain, "tls-cert and plain contradict each other")
	_, _, err := net.SplitHostPort(s.listen())
	add(err != nil, "listen: %w", err)
	add(err == nil && s.TLSCert == "" && !s.Plain && !ofThisMachine(s.listen()), "other machines would reach %s without TLS: give tls-cert and tls-key, or plain, if a proxy before it speaks TLS", s.listen())
	add(s.Confirmations < 0, "confirmations cannot be negative")
	add(s.Confirmations > 0 && s.EsploraURL == "", "confirmations count nothing without esplora-url")
	add(s.MaxInputs < 1 || s.MaxOutputs < 1 || s.MaxPerScript < 1, "max-inputs, max-outputs and max-per-script must be at least 1")
	add(s.MaxBody < 1 || s.RatePerSource <= 0 || s.BurstPerSource < 1 || s.MaxStreams < 1, "max-body, rate-per-source, burst-per-source and max-streams must be more than 0")
	add(s.Window < 1, "window must be at least 1")
	add(s.Ballast < 0, "ballast-bytes cannot be negative")
	return list
}

type configPrintCmd struct{ settings }

// Run prints the settings after flags, environment, file and defaults.
func (c *configPrintCmd) Run(env *environment) error {
	values := map[string]string{}
	var b strings.Builder
	node := env.parsed.Selected()
	for _, flag := range slices.Concat(env.parser.Model.Flags, node.Flags) {
		if flag.Name == "help" || flag.Name == "config" || flag.Name == "json" {
			continue
		}
		text := literal(flag)
		if text == `""` {
			continue // as if it were not given
		}
		values[flag.Name] = strings.Trim(text, `"`)
		fmt.Fprintf(&b, "%s = %s\n", flag.Name, text)
	}
	return env.print(values, "%s", b.String())
}

// literal is a flag's value as TOML.
func literal(flag *kong.Flag) string {
	switch v := flag.Target.Interface().(type) {
	case bool, int, int64, uint32, uint64, float64:
		return fmt.Sprint(v)
	case string:
		return fmt.Sprintf("%q", v)
	case fmt.Stringer:
		return fmt.Sprintf("%q", v.String())
	}
	if flag.IsSlice() {
		items := make([]string, flag.Target.Len())
		for i := range items {
			items[i] = fmt.Sprintf("%q", fmt.Sprint(flag.Target.Index(i).Interface()))
		}
		return "[" + strings.Join(items, ", ") + "]"
	}
	return fmt.Sprintf("%q", fmt.Sprint(flag.Target.Interface()))
}
