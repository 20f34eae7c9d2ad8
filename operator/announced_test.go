package operator_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/fee"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/operator"
)

// announcer answers with the same parameters until they are changed.
type announcer struct {
	params ark.Params
	err    error
	asked  int
}

func (a *announcer) Params(context.Context) (ark.Params, error) { return a.params, nil }

func (a *announcer) Info(context.Context) (ark.Params, error) {
	a.asked++
	return a.params, a.err
}

func announced(t *testing.T) (from *announcer, at *time.Time, a *operator.Announced) {
	t.Helper()
	from = &announcer{params: ark.Params{SignerKey: bip340.PubKey{2, 1}, Digest: "one", Fees: ark.FeePrograms{OffchainInput: "1.0"}}}
	now := time.Unix(1_700_000_000, 0)
	return from, &now, operator.NewAnnounced(from, from.params.SignerKey, time.Minute, func() time.Time { return now })
}

func codeOf(err error) vigil.Code {
	if err == nil {
		return ""
	}
	return vigil.CodeOf(err)
}

// Parameters serve for their age, also when a clock is set back, and a failure is
// not taken for an answer.
func TestAnnouncedAge(t *testing.T) {
	from, at, a := announced(t)
	ask := func(want int, code vigil.Code) {
		t.Helper()
		if _, err := a.Current(t.Context()); codeOf(err) != code || from.asked != want {
			t.Fatalf("asked %d times, want %d: %v", from.asked, want, err)
		}
	}
	ask(1, "")
	*at = at.Add(time.Minute - 1)
	ask(1, "")
	*at = at.Add(1)
	from.err = operator.ErrAnswer
	ask(2, vigil.CodeOperatorDown)
	from.err = nil
	ask(3, "")
	*at = at.Add(-time.Hour)
	ask(4, "")
	from.err = context.Canceled
	*at = at.Add(time.Hour)
	if _, err := a.Current(t.Context()); !errors.Is(err, context.Canceled) || vigil.CodeOf(err) == vigil.CodeOperatorDown {
		t.Fatalf("a caller who left is told that the operator is down: %v", err)
	}
}

// Another signer is refused, by those who ask and by those who go on with what
// there is, until it is pinned.
func TestAnnouncedPin(t *testing.T) {
	from, _, a := announced(t)
	if _, err := a.Current(t.Context()); err != nil {
		t.Fatal(err)
	}
	from.params.SignerKey[1]++
	for range 2 {
		if _, err := a.Current(t.Context()); vigil.CodeOf(err) != vigil.CodeOperatorKey {
			t.Fatal(err)
		}
	}
	a.Pin(from.params.SignerKey)
	if _, err := a.Current(t.Context()); err != nil || from.asked != 2 {
		t.Fatalf("asked %d times: %v", from.asked, err)
	}
}

// A refusal is looked at again once the parameters are others, and only then.
func TestAnnouncedHold(t *testing.T) {
	stale := vigil.Errorf(vigil.CodeFeeTooLow, "too low")
	final := vigil.Errorf(vigil.CodeInputMismatch, "another amount")
	for name, c := range map[string]struct {
		digest string
		first  error
		checks int
		asked  int
		want   vigil.Code
	}{
		"taken":                         {"two", nil, 1, 0, ""},
		"refused for itself":            {"two", final, 1, 0, vigil.CodeInputMismatch},
		"refused under the same":        {"one", stale, 1, 1, vigil.CodeFeeTooLow},
		"taken under those of now":      {"two", stale, 2, 1, ""},
		"refused under those of now":    {"three", stale, 2, 1, vigil.CodeFeeTooLow},
		"a fee that cannot be reckoned": {"four", stale, 1, 1, vigil.CodeOperatorDown},
	} {
		from, _, a := announced(t)
		p := from.params
		from.params.Digest, from.params.Fees.OffchainInput = c.digest, "2.0"
		if c.digest == "four" {
			from.params.Fees.OffchainInput = "("
		}
		checks := 0
		err := a.Hold(t.Context(), p, func(p ark.Params, fees *fee.Estimator) error {
			checks++
			want := int64(checks)
			if got, err := fees.Fee([]fee.InputArg{{Amount: 1, Type: fee.VTXO}}, nil, 0); err != nil || got != want {
				t.Errorf("%s: a fee of %d under %s: %v", name, got, p.Digest, err)
			}
			if checks == 1 || p.Digest == "three" {
				return c.first
			}
			return nil
		})
		if codeOf(err) != c.want || checks != c.checks || from.asked != c.asked {
			t.Errorf("%s: %d checks, asked %d times: %v", name, checks, from.asked, err)
		}
	}
	_, _, a := announced(t)
	one, err := a.Estimator(ark.FeePrograms{})
	if two, again := a.Estimator(ark.FeePrograms{}); err != nil || again != nil || one != two {
		t.Error("the same programs were compiled twice")
	}
}
