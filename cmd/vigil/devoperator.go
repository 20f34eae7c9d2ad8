package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/vigil-ark/vigil/admin"
	"github.com/vigil-ark/vigil/arktest"
	devadmin "github.com/vigil-ark/vigil/arktest/admin"
)

type operatorCmd struct {
	Dev    devCmd    `cmd:"" help:"Run a development operator with its own chain, Esplora and faucet. Its coins are worth nothing."`
	Accept acceptCmd `cmd:"" help:"Accept that the Ark operator changed its signer key. Without --signer it only shows both."`
}

// The flags of the development operator come from the command line alone: some
// are called as ones of serve.
type devCmd struct {
	Listen  string        `help:"Where gRPC and REST are served." default:"127.0.0.1:7070" env:"-"`
	Esplora string        `help:"Where Esplora, the faucet and the miner are served." default:"127.0.0.1:3000" env:"-"`
	Admin   string        `help:"Where the operator's settings can be changed, as on arkd's admin port; default nowhere." placeholder:"HOST:PORT" env:"-"`
	Session time.Duration `help:"Length of a batch session." default:"10s" env:"-"`
	Expiry  uint32        `help:"Expiry of a batch, in seconds." default:"2048" env:"-"`
}

// Run serves until it is told to stop.
func (c *devCmd) Run(env *environment) (err error) {
	op, err := arktest.Start(arktest.Config{Addr: c.Listen, EsploraAddr: c.Esplora, Settings: arktest.Settings{SessionDuration: c.Session, TreeExpiry: c.Expiry}})
	if err != nil {
		return err
	}
	defer op.Close()
	if c.Admin != "" {
		listener, err := net.Listen("tcp", c.Admin)
		if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		server := &http.Server{Handler: devadmin.New(op), ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second}
		defer func() { err = errors.Join(err, server.Close()) }()
		go func() { _ = server.Serve(listener) }() // ends with Close
	}
	if err := env.print(map[string]string{"operator": op.URL(), "esplora": op.EsploraURL()},
		"Operator: %s\nEsplora:  %s  (POST /faucet {\"address\":…,\"sats\":…}, POST /mine?n=1)\nStop with Ctrl-C.\n", op.URL(), op.EsploraURL()); err != nil {
		return err
	}
	<-env.ctx.Done()
	fmt.Fprintln(env.stderr, "stopping")
	return nil
}

type acceptCmd struct {
	places
	Signer string `help:"The new signer key, as you have verified it elsewhere." placeholder:"HEX"`
}

// Run shows or accepts a changed signer.
func (c *acceptCmd) Run(env *environment) error {
	op, err := with(env, c.places, func(p admin.Port) (admin.Operator, error) { return p.Accept(env.ctx, c.Signer) })
	if err != nil {
		return err
	}
	switch {
	case op.Changed:
		text := fmt.Sprintf("The operator at %s announces the signer %s; this Vigil is set up for %s. If its people confirm that, by another way than this connection: vigil operator accept --signer %s",
			op.URL, op.Announced, op.Signer, op.Announced)
		if env.json {
			return errors.Join(env.print(op, ""), errors.New(text))
		}
		return errors.New(text)
	case c.Signer == "":
		return env.print(op, "The operator's signer is the pinned one: %s\n", op.Signer)
	}
	return env.print(op, "The signer %s is accepted; intake goes on. Coins of the old signer are renewed as long as the operator accepts it: see `vigil delegates list` for those that their owners must sign again.\n", op.Signer)
}
