package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// child is a Vigil in a process of its own, started from this executable.
type child struct {
	exe, dir, operator, esplora, listen, logPath string
	flags                                        []string // of serve, beyond the usual
	cmd                                          *exec.Cmd
	ended                                        chan struct{}
}

func newChild(exe, dir, operator, esplora string) (*child, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	return &child{exe: exe, dir: filepath.Join(dir, "vigil"), operator: operator, esplora: esplora, listen: net.JoinHostPort("127.0.0.1", port), logPath: filepath.Join(dir, "vigil.log")}, nil
}

// freePort is a port that is free now, and below those that systems hand out by
// themselves: one of those may be taken by any connection while a child that was
// killed is started again.
func freePort() (string, error) {
	const first, end, tries = 10_000, 32_000, 100
	for range tries {
		port := strconv.Itoa(first + rand.IntN(end-first))
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", port))
		if err == nil {
			return port, l.Close()
		}
	}
	return "", fmt.Errorf("%d ports were taken", tries)
}

func (c *child) places() places { return places{DataDir: c.dir} }
func (c *child) url() string    { return "http://" + c.listen }
func (c *child) pid() int       { return c.cmd.Process.Pid }

// command is a command of this executable over the child's directory. Settings
// of the user's environment are not meant for it.
func (c *child) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.exe, append(args, "--data-dir", c.dir)...)
	for _, pair := range os.Environ() {
		if !strings.HasPrefix(pair, "VIGIL_") {
			cmd.Env = append(cmd.Env, pair)
		}
	}
	return cmd
}

// ask runs a command with --json and reads its answer.
func (c *child) ask(ctx context.Context, into any, args ...string) error {
	var stderr strings.Builder
	cmd := c.command(ctx, append([]string{"--json"}, args...)...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("vigil %s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	return decode(out, into)
}

// init runs `vigil init`.
func (c *child) init(ctx context.Context) error {
	out, err := c.command(ctx, "init", "--operator-url", c.operator).CombinedOutput()
	if err != nil {
		return fmt.Errorf("vigil init: %w: %s", err, out)
	}
	return nil
}

// start runs `vigil serve` and waits until it answers.
func (c *child) start(ctx context.Context) error {
	log, err := os.OpenFile(c.logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	args := append([]string{"--log", "debug", "serve", "--listen", c.listen, "--esplora-url", c.esplora}, c.flags...)
	c.cmd = c.command(context.WithoutCancel(ctx), args...)
	c.cmd.Stdout, c.cmd.Stderr = log, log
	if err := errors.Join(c.cmd.Start(), log.Close()); err != nil {
		return err
	}
	c.ended = make(chan struct{})
	go func() {
		_ = c.cmd.Wait() // a killed process is no error here
		close(c.ended)
	}()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if resp, err := http.Get(c.url() + "/healthz"); err == nil {
			_ = resp.Body.Close()
			return nil
		}
		select {
		case <-tick.C:
		case <-c.ended:
			text, _ := os.ReadFile(c.logPath)
			return fmt.Errorf("vigil serve ended at once: %s", text)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// kill ends the process with SIGKILL and waits until it is gone.
func (c *child) kill() {
	if c.cmd == nil {
		return
	}
	_ = c.cmd.Process.Kill() // it may have ended already
	<-c.ended
}

// stop ends the process gracefully.
func (c *child) stop(ctx context.Context) error {
	if err := c.cmd.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	select {
	case <-c.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("vigil did not stop: %w", ctx.Err())
	}
}
