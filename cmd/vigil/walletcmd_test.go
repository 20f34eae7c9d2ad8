package main

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/client"
)

// walletScript are the commands of scripts that tell of wallets.
func walletScript() map[string]func(*testscript.TestScript, bool, []string) {
	return map[string]func(*testscript.TestScript, bool, []string){
		"hostkey": hostKey, "faucet": faucet, "payself": paySelf, "mine": mineOne,
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

// paySelf pays 30,000 sats to the address of an answer.
func paySelf(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(ts.Exec("vigil", "wallet", "send", "--wallet-dir", "w", "--json", answered(ts, args[0], "address"), "30000"))
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
