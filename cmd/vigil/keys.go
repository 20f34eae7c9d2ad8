package main

import (
	"fmt"
	"strings"

	"github.com/vigil-ark/vigil/admin"
)

type keysCmd struct {
	List   keysListCmd   `cmd:"" help:"List the service keys."`
	Add    keysAddCmd    `cmd:"" help:"Make a service key. Wallets are told to name it from now on; export the secrets again afterwards."`
	Retire keysRetireCmd `cmd:"" help:"Offer a key to nobody any more. Delegates that name it are still renewed."`
}

type keysListCmd struct{ places }

// Run lists public halves only.
func (c *keysListCmd) Run(env *environment) error {
	keys, err := with(env, c.places, func(p admin.Port) ([]admin.Key, error) { return p.Keys(env.ctx) })
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, k := range keys {
		about := "older; still taken"
		switch {
		case k.Shown:
			about = "wallets are told to name it"
		case k.Retired:
			about = "retired"
		}
		fmt.Fprintf(&b, "%d  %s  %s\n", k.Number, k.Key, about)
	}
	return env.print(struct {
		Keys []admin.Key `json:"keys"`
	}{keys}, "%s", b.String())
}

type keysAddCmd struct{ places }

// Run makes a key.
func (c *keysAddCmd) Run(env *environment) error {
	k, err := with(env, c.places, func(p admin.Port) (admin.Key, error) { return p.AddKey(env.ctx) })
	if err != nil {
		return err
	}
	return env.print(k, "Service key %d: %s\nIt is in no export made before now: run `vigil secret export` again.\n", k.Number, k.Key)
}

type keysRetireCmd struct {
	places
	Key string `arg:"" help:"The key or its number."`
}

// Run retires a key.
func (c *keysRetireCmd) Run(env *environment) error {
	k, err := with(env, c.places, func(p admin.Port) (admin.Key, error) { return p.RetireKey(env.ctx, c.Key) })
	if err != nil {
		return err
	}
	return env.print(k, "Service key %d is retired: %s\nWhat was signed for it is renewed as before, so its secret stays.\n", k.Number, k.Key)
}
