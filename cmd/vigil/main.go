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

	"github.com/alecthomas/kong"
)

// commands is the command line. Precedence: flag, then environment
// VIGIL_<FLAG>, then the TOML file, then the default.
type commands struct {
	Config kong.ConfigFlag `help:"TOML file with the same names as the flags." placeholder:"FILE"`
	JSON   bool            `name:"json" help:"Answer as one JSON object."`
	Log    string          `help:"Least level that is logged: debug, info, warn or error." enum:"debug,info,warn,error" default:"info"`

	Init     initCmd     `cmd:"" help:"Make the stores and the first service key, and pin the operator."`
	Serve    serveCmd    `cmd:"" help:"Take delegates in and carry them out."`
	Demo     demoCmd     `cmd:"" help:"See it work: delegate, kill, restart, renew, with nothing else installed."`
	Operator operatorCmd `cmd:"" help:"A development operator; accepting a changed one."`
	Version  versionCmd  `cmd:"" help:"Print the version."`
}

// environment is what every command gets.
type environment struct {
	ctx    context.Context
	stdout io.Writer
	stderr io.Writer
	json   bool
	log    *slog.Logger
}

// print writes v as JSON when asked for, else the text.
func (e *environment) print(v any, format string, args ...any) error {
	if !e.json {
		_, err := fmt.Fprintf(e.stdout, format, args...)
		return err
	}
	enc := json.NewEncoder(e.stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run is main without the process: the exit code is 0 for success, 1 for a
// failure and 2 for a command line or configuration that cannot be used.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var c commands
	code := -1
	parser, err := kong.New(&c,
		kong.Name("vigil"),
		kong.Description("A self-hosted cosigner for wallets on Ark. It can keep coins alive; it can never spend them."),
		kong.DefaultEnvars("VIGIL"),
		kong.Vars{"data_dir": defaultDataDir(), "demo_states": strings.Join(demoStates, ",")},
		kong.Configuration(loadTOML),
		kong.Writers(stdout, stderr),
		kong.Exit(func(n int) { code = n; panic(exited{}) }),
		kong.UsageOnError(),
	)
	if err != nil {
		fmt.Fprintln(stderr, "vigil:", err)
		return 2
	}
	parsed, err := parse(parser, args)
	if code >= 0 {
		return code
	}
	if err != nil {
		fmt.Fprintln(stderr, "vigil:", err)
		return 2
	}
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.Log)) // kong has checked it
	env := &environment{
		ctx: ctx, stdout: stdout, stderr: stderr, json: c.JSON,
		log: slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level})),
	}
	if err := parsed.Run(env); err != nil {
		fmt.Fprintln(stderr, "vigil: "+strings.TrimSpace(err.Error()))
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
	return p.Parse(args)
}

// defaultDataDir is where public state lives unless the user says otherwise.
func defaultDataDir() string {
	if dir, err := os.UserConfigDir(); err == nil {
		return filepath.Join(dir, "vigil")
	}
	return "vigil-data"
}
