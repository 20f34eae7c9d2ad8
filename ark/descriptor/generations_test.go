package descriptor

import (
	"errors"
	"slices"
	"testing"

	"github.com/vigil-ark/vigil/ark"
)

func TestNext(t *testing.T) {
	d, p := valid(t), params(t)
	if same, err := d.Next(p); err != nil || same != d {
		t.Fatalf("nothing changed: %+v, %v", same, err)
	}
	p.SignerKey, p.ExitDelay, p.BoardingDelay = key(t, 7), 172_032, 1_024
	next, err := d.Next(p)
	if err != nil || !next.Kin(d) || next.Signer != key(t, 7).XOnly() || next.ExitDelay != 172_032 || next.BoardingDelay != 1_024 ||
		next.RecoveryDelay != d.RecoveryDelay || next.BoardingRecoveryDelay != d.RecoveryDelay+1_024 {
		t.Fatalf("%+v, %v", next, err)
	}
	if again, err := next.Next(p); err != nil || again != next {
		t.Fatalf("what follows from itself: %+v, %v", again, err)
	}
	// The group's own exit stays the first: the recovery key waits for longer.
	p.ExitDelay = 7_776_256
	if next, err = d.Next(p); err != nil || next.RecoveryDelay != 10_368_512 || next.RecoveryDelay.Seconds()-MinMargin < 7_776_256 {
		t.Fatalf("%+v, %v", next, err)
	}
	p.ExitDelay = ark.MaxDelay
	if _, err := d.Next(p); !errors.Is(err, ErrDescriptor) {
		t.Fatalf("no delay is left for the recovery key: %v", err)
	}
	p = params(t)
	p.Network = ark.Signet
	if _, err := d.Next(p); !errors.Is(err, ErrDescriptor) {
		t.Fatalf("another network: %v", err)
	}
}

func TestGenerations(t *testing.T) {
	first := valid(t)
	at := func(n int) Descriptor { d := first; d.ExitDelay += ark.Delay(512 * n); return d }
	g := Generations{first}
	for n := 1; n < MaxGenerations; n++ {
		var err error
		if g, err = g.With(at(n)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := g.With(at(MaxGenerations)); !errors.Is(err, ErrDescriptor) {
		t.Fatalf("one more: %v", err)
	}
	back, err := g.With(at(3))
	if err != nil || len(back) != len(g) || back.Current() != at(3) || slices.Contains(back.Older(), at(3)) {
		t.Fatalf("back to an earlier one: %v", err)
	}
	if decoded, err := DecodeGenerations(g.Encode()); err != nil || !slices.Equal(decoded, g) {
		t.Fatal(err)
	}
	if parsed, err := ParseGenerations(g.Text()); err != nil || !slices.Equal(parsed, g) {
		t.Fatal(err)
	}
	scripts := g.Scripts()
	if len(scripts) != 2*MaxGenerations+1 || string(scripts[0]) != string(g.Current().PkScript()) { // one boarding script for all
		t.Fatalf("%d scripts", len(scripts))
	}
	if n := len(g.VTXOScripts()); n != 2*MaxGenerations {
		t.Fatalf("%d scripts in Ark", n)
	}
	for name, spoil := range map[string]func(*Descriptor){
		"group":    func(d *Descriptor) { d.Group = key(t, 9) },
		"delegate": func(d *Descriptor) { d.Delegate = key(t, 9).XOnly() },
		"recovery": func(d *Descriptor) { d.Recovery = key(t, 9).XOnly() },
		"network":  func(d *Descriptor) { d.Network = ark.Signet },
		"nothing":  func(*Descriptor) {},
	} {
		d := first
		spoil(&d)
		current, older := Generations{d, first}.Encode()
		if _, err := DecodeGenerations(current, older); !errors.Is(err, ErrDescriptor) {
			t.Errorf("another %s: %v", name, err)
		}
	}
	if err := (Generations{}).Check(); !errors.Is(err, ErrDescriptor) || (Generations{}).Current() != (Descriptor{}) || len(Generations{}.Older()) != 0 {
		t.Errorf("none: %v", err)
	}
	if _, err := DecodeGenerations(first.Encode(), make([][]byte, MaxGenerations)); !errors.Is(err, ErrDescriptor) {
		t.Error(err)
	}
}
