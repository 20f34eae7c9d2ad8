package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/vigil-ark/vigil/admin"
	"github.com/vigil-ark/vigil/signer"
)

type keysCmd struct {
	List    keysListCmd    `cmd:"" help:"List the service keys."`
	Add     keysAddCmd     `cmd:"" help:"Make a service key. Wallets are told to name it from now on; export the secrets again afterwards."`
	AddHost keysAddHostCmd `cmd:"" help:"Make the host key that devices pin, in a Vigil that was set up before there were wallets."`
	Retire  keysRetireCmd  `cmd:"" help:"Offer a key to nobody any more. Delegates that name it are still renewed."`
}

type keysListCmd struct{ places }

// Run lists public halves only.
func (c *keysListCmd) Run(env *environment) error {
	var host string
	keys, err := with(env, c.places, func(p admin.Port) ([]admin.Key, error) {
		s, err := p.Status(env.ctx)
		if err != nil {
			return nil, err
		}
		host = s.HostKey
		return p.Keys(env.ctx)
	})
	if err != nil {
		return err
	}
	var b strings.Builder
	if host != "" {
		fmt.Fprintf(&b, "host  %s  devices pin it\n", host)
	}
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
		Host string      `json:"host_key,omitempty"`
	}{keys, host}, "%s", b.String())
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

type keysAddHostCmd struct{ places }

// Run makes the host key in stores that nobody else has open. One that is there
// stays.
func (c *keysAddHostCmd) Run(env *environment) (err error) {
	s, err := c.open(env, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	host, err := signer.New(s.secrets).AddHostKey(env.ctx)
	if err != nil {
		return err
	}
	return env.print(struct {
		HostKey string `json:"host_key"`
	}{host.String()}, "Host key, for devices to pin: %s\nIt is in no export made before now: run `vigil secret export` again.\n", host)
}
