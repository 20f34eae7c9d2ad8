package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/wire/v2"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/client"
)

// walletScript are the commands of scripts that tell of wallets.
func walletScript() map[string]func(*testscript.TestScript, bool, []string) {
	return map[string]func(*testscript.TestScript, bool, []string){
		"hostkey": hostKey, "faucet": faucet, "payself": paySelf, "mine": mineOne, "firstdelegate": firstDelegate, "watched": watched, "confirm": confirm,
	}
}

// answered reads a field of the JSON that the last command printed.
func answered(ts *testscript.TestScript, file, field string) string {
	var answer map[string]any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(file)), &answer))
	text, ok := answer[field].(string)
	if !ok {
		ts.Fatalf("no %s in %v", field, answer)
	}
	return text
}

// hostKey takes the host key out of what init answered, as $HOSTKEY.
func hostKey(ts *testscript.TestScript, _ bool, args []string) {
	ts.Setenv("HOSTKEY", answered(ts, args[0], "host_key"))
}

// faucet pays the boarding address of an answer, in a block.
func faucet(ts *testscript.TestScript, _ bool, args []string) {
	sats, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	op := ts.Value("operator").(*arktest.Operator)
	_, err = op.Faucet(answered(ts, args[0], "boarding_address"), sats)
	ts.Check(err)
	ts.Check(op.Mine(1))
}

// paySelf pays 30,000 sats to the address of an answer, with the flags that follow.
func paySelf(ts *testscript.TestScript, neg bool, args []string) {
	line := append([]string{"wallet", "send", "--wallet-dir", "w", "--json", answered(ts, args[0], "address"), "30000"}, args[1:]...)
	if err := ts.Exec("vigil", line...); (err != nil) != neg {
		ts.Fatalf("paid: %v", err)
	}
}

// firstDelegate takes the id of the first delegate out of a list, as $DELEGATE.
func firstDelegate(ts *testscript.TestScript, _ bool, args []string) {
	var list struct{ Delegates []struct{ ID string } }
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &list))
	if len(list.Delegates) == 0 {
		ts.Fatalf("no delegate")
	}
	ts.Setenv("DELEGATE", list.Delegates[0].ID)
}

// watched has a stranger pay the address of an answer while the wallet is watched, and
// holds that this is told.
func watched(ts *testscript.TestScript, _ bool, args []string) {
	cmd := exec.Command("vigil", "wallet", "watch", "--wallet-dir", ts.MkAbs("w"), "--count", "1", "--json")
	var told bytes.Buffer
	cmd.Stdout = &told
	said, err := cmd.StderrPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	defer func() { _ = cmd.Process.Kill() }() // it has ended, unless the test failed
	lines := bufio.NewScanner(said)
	for lines.Scan() && lines.Text() != "Watching." {
	}
	ts.Check(lines.Err())
	to, err := ark.ParseAddress(answered(ts, args[0], "address"))
	ts.Check(err)
	op := ts.Value("operator").(*arktest.Operator)
	_, err = op.Mint(wire.NewTxOut(7_000, to.PkScript()))
	ts.Check(errors.Join(err, op.Mine(1)))
	_, err = io.Copy(io.Discard, said)
	ts.Check(errors.Join(err, cmd.Wait()))
	var event struct{ Kind string }
	if err := json.Unmarshal(told.Bytes(), &event); err != nil || event.Kind != "received" {
		ts.Fatalf("%q was told, %v", told.String(), err)
	}
}

// confirm accepts it as the wallet's owner.
func confirm(ts *testscript.TestScript, _ bool, _ []string) {
	ts.Check(ts.Exec("vigil", "wallet", "accept-operator", "--wallet-dir", "w", "--signer", announced(ts)))
}

// mineOne mines a block.
func mineOne(ts *testscript.TestScript, _ bool, _ []string) {
	ts.Check(ts.Value("operator").(*arktest.Operator).Mine(1))
}

// TestStayed does not call covered what is not.
func TestStayed(t *testing.T) {
	for want, coins := range map[string][]client.Coin{
		"Every coin":     {{Covered: true}},
		"1 coins stay u": {{Covered: true}, {}},
	} {
		if got := stayed(coins); !strings.HasPrefix(got, want) {
			t.Errorf("%q for %+v", got, coins)
		}
	}
}
