package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/operator"
)

// TestMain makes the test binary a vigil too: every process that a test starts
// is this build, under the race detector when the test is.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"vigil": main})
}

// executable is the vigil that TestMain put on the path.
func executable(t testing.TB) string {
	t.Helper()
	path, err := exec.LookPath("vigil")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// testEnvironment is what a command gets, with its output in the test's log.
func testEnvironment(t testing.TB, ctx context.Context) *environment {
	return &environment{ctx: ctx, stdin: os.Stdin, stdout: logTo{t}, stderr: logTo{t}, log: slog.New(slog.DiscardHandler), level: new(slog.LevelVar)}
}

type logTo struct{ t testing.TB }

func (l logTo) Write(p []byte) (int, error) {
	l.t.Log(string(p))
	return len(p), nil
}

// newDemonstration is the demo's cast, for tests that tell another story. It is
// closed at the end.
func newDemonstration(t *testing.T, kill string) *demonstration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	d := &demonstration{env: testEnvironment(t, ctx), ctx: ctx, exe: executable(t), dir: t.TempDir(), kill: kill}
	t.Cleanup(func() { d.close(); cancel() })
	return d
}

// must plays acts.
func must(t *testing.T, acts ...func() error) {
	t.Helper()
	for _, act := range acts {
		if err := act(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestScripts runs the command as people do. Each script has an operator of its
// own at $OPERATOR, whose address is $TAKEN, with an Esplora at $ESPLORA, and a free $PORT.
// [root] is the condition that nothing is forbidden to who runs it.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(env *testscript.Env) error {
			op, err := arktest.Start(arktest.Config{Settings: arktest.Settings{SessionDuration: 3 * time.Second}})
			if err != nil {
				return err
			}
			env.Defer(op.Close)
			port, err := freePort()
			if err != nil {
				return err
			}
			env.Setenv("OPERATOR", op.URL())
			env.Setenv("TAKEN", strings.TrimPrefix(op.URL(), "http://"))
			env.Setenv("ESPLORA", op.EsploraURL())
			env.Setenv("PORT", port)
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("XDG_CONFIG_HOME", filepath.Join(env.WorkDir, "config"))
			env.Values["operator"] = op
			return nil
		},
		Condition: func(cond string) (bool, error) {
			if cond != "root" {
				return false, fmt.Errorf("no condition %q", cond)
			}
			return os.Geteuid() == 0, nil
		},
		Cmds: scriptCommands(),
	})
}

// scriptCommands are what scripts can say beyond testscript's own.
func scriptCommands() map[string]func(*testscript.TestScript, bool, []string) {
	cmds := walletScript()
	cmds["ready"], cmds["rotate"], cmds["accept"] = awaitReady, rotate, accept
	return cmds
}

// awaitReady waits until the Vigil at $PORT is ready; negated, until it answers
// that it is not.
func awaitReady(ts *testscript.TestScript, neg bool, _ []string) {
	url := "http://127.0.0.1:" + ts.Getenv("PORT")
	tick := time.NewTicker(30 * time.Millisecond)
	defer tick.Stop()
	for range 2000 {
		if body, code := fetch(url + "/readyz"); code != 0 && (code != http.StatusOK) == neg {
			ts.Logf("%d\n%s", code, body)
			return
		}
		<-tick.C
	}
	ts.Fatalf("the Vigil at %s did not become ready", url)
}

func fetch(url string) (string, int) {
	resp, err := http.Get(url)
	if err != nil {
		return "", 0
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", 0
	}
	return string(body), resp.StatusCode
}

// rotate changes the operator's signer key.
func rotate(ts *testscript.TestScript, _ bool, _ []string) {
	op := ts.Value("operator").(*arktest.Operator)
	if err := op.RotateSigner(time.Time{}); err != nil {
		ts.Fatalf("%v", err)
	}
}

// announced is the signer key that the operator has now.
func announced(ts *testscript.TestScript) string {
	op := ts.Value("operator").(*arktest.Operator)
	client, err := operator.Dial(operator.Config{URL: op.URL()})
	if err != nil {
		ts.Fatalf("%v", err)
	}
	params, err := client.Info(context.Background())
	if err := errors.Join(err, client.Close()); err != nil {
		ts.Fatalf("%v", err)
	}
	return params.SignerKey.String()
}

// accept accepts the signer key that the operator has now, as whoever runs Vigil.
func accept(ts *testscript.TestScript, _ bool, _ []string) {
	ts.Check(ts.Exec("vigil", "operator", "accept", "--data-dir", "d", "--signer", announced(ts)))
}
