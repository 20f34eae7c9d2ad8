// Command vigil is the always-on second signer for wallets on Ark: it keeps
// delegates that their owners signed ahead, and renews coins when nobody is
// there. It is the only place that knows every room.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
)

// commands is the command line. Precedence: flag, then environment
// VIGIL_<FLAG>, then the TOML file, then the default.
type commands struct {
	ConfigFile kong.ConfigFlag `name:"config" help:"TOML file with the same names as the flags." placeholder:"FILE"`
	JSON       bool            `name:"json" help:"Answer as one JSON object."`
	Log        string          `help:"Least level that is logged: debug, info, warn or error." enum:"debug,info,warn,error" default:"info"`

	Init      initCmd      `cmd:"" help:"Make the stores and the first service key, and pin the operator."`
	Serve     serveCmd     `cmd:"" help:"Take delegates in and carry them out."`
	Demo      demoCmd      `cmd:"" help:"See it work: delegate, kill, restart, renew, with nothing else installed."`
	Status    statusCmd    `cmd:"" help:"How this Vigil stands."`
	Delegates delegatesCmd `cmd:"" help:"The delegates that are kept."`
	Keys      keysCmd      `cmd:"" help:"The service keys that wallets name, and the host key that devices pin."`
	Wallets   walletsCmd   `cmd:"" help:"The wallets that are kept."`
	Fsck      fsckCmd      `cmd:"" help:"Check that everything stored agrees with itself, or repair the indexes."`
	Backup    backupCmd    `cmd:"" help:"Copy the key-value store to a file, also while Vigil runs. No secret is in it."`
	Secret    secretCmd    `cmd:"" help:"Take the secrets out, encrypted; change the key that seals them."`
	Restore   restoreCmd   `cmd:"" help:"Set up from a backup and an export of secrets. Nothing is acted upon until it is confirmed."`
	Config    configCmd    `cmd:"" help:"Check the configuration, or print what it comes to."`
	Operator  operatorCmd  `cmd:"" help:"A development operator; accepting a changed one."`
	Doctor    doctorCmd    `cmd:"" help:"Look at all that may be wrong, and say what to do. Changes nothing."`
	Wipe      wipeCmd      `cmd:"" help:"Destroy all secrets and state of this Vigil."`
	Wallet    walletCmd    `cmd:"" help:"A device: a wallet whose other half is a Vigil somewhere."`
	Version   versionCmd   `cmd:"" help:"Print the version."`
}

// environment is what every command gets.
type environment struct {
	ctx    context.Context
	stdin  *os.File
	stdout io.Writer
	stderr io.Writer
	json   bool
	log    *slog.Logger
	level  *slog.LevelVar
	args   []string // to read the configuration again
	parser *kong.Kong
	parsed *kong.Context
}

// print writes v as JSON when asked for, else the text.
func (e *environment) print(v any, format string, args ...any) error {
	if !e.json {
		_, err := fmt.Fprintf(e.stdout, format, args...)
		return err
	}
	enc := json.NewEncoder(e.stdout)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// working does long work and says so, at once and then every few seconds, where
// it disturbs no reader of the answer.
func (e *environment) working(what string, f func() error) error {
	began := time.Now()
	fmt.Fprintf(e.stderr, "%s ...\n", what)
	done := make(chan error, 1)
	go func() { done <- f() }()
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-tick.C:
			fmt.Fprintf(e.stderr, "%s ... %s\n", what, time.Since(began).Round(time.Second))
		}
	}
}

func main() {
	// An empty variable counts as none: an empty path would be the working
	// directory.
	for _, pair := range os.Environ() {
		if name, ok := strings.CutSuffix(pair, "="); ok && strings.HasPrefix(name, "VIGIL_") {
			_ = os.Unsetenv(name) // the name is one that the system gave
		}
	}
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// newParser builds the command line over c.
func newParser(c *commands, stdout, stderr io.Writer, exit func(int)) (*kong.Kong, error) {
	files := new(loader)
	parser, err := kong.New(c,
		kong.Name("vigil"),
		kong.Description("A self-hosted cosigner for wallets on Ark. It can keep coins alive; it can never spend them."),
		kong.DefaultEnvars("VIGIL"),
		kong.Vars{"data_dir": defaultDataDir(), "wallet_dir": filepath.Join(defaultDataDir(), "wallet"), "demo_states": strings.Join(demoStates, ",")},
		kong.Configuration(files.load),
		kong.Writers(stdout, stderr),
		kong.Exit(exit),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
	)
	if err != nil {
		return nil, err
	}
	files.app = parser.Model
	return parser, nil
}

// run is main without the process: the exit code is 0 for success, 1 for a
// failure and 2 for a command line or configuration that cannot be used.
func run(args []string, stdin *os.File, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	stdout, stderr = terminal{stdout}, terminal{stderr}
	var c commands
	code := -1
	parser, err := newParser(&c, stdout, stderr, func(n int) { code = n; panic(exited{}) })
	if err != nil {
		fmt.Fprintln(stderr, "vigil:", err)
		return 2
	}
	parsed, err := parse(parser, args)
	if code >= 0 {
		return code
	}
	if err != nil {
		fmt.Fprintf(stderr, "vigil: %s\nSee `vigil --help`, or `vigil COMMAND --help`.\n", reason(err))
		return 2
	}
	level := new(slog.LevelVar)
	_ = level.UnmarshalText([]byte(c.Log)) // kong has checked it
	env := &environment{
		ctx: ctx, stdin: stdin, stdout: stdout, stderr: stderr, json: c.JSON, level: level, args: args, parser: parser, parsed: parsed,
		log: slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level})),
	}
	if err := parsed.Run(env); err != nil {
		fmt.Fprintln(stderr, "vigil: "+reason(err))
		return 1
	}
	return 0
}

// exited unwinds from kong's own exits (help, version).
type exited struct{}

func parse(p *kong.Kong, args []string) (c *kong.Context, err error) {
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(exited); !ok {
				panic(r)
			}
		}
	}()
	return p.Parse(withConfig(args))
}

// defaultDataDir is where public state lives unless the user says otherwise.
func defaultDataDir() string {
	if dir, err := os.UserConfigDir(); err == nil {
		return filepath.Join(dir, "vigil")
	}
	return "vigil-data"
}
