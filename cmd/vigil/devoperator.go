package main

import (
	"fmt"
	"time"

	"github.com/vigil-ark/vigil/arktest"
)

type operatorCmd struct {
	Dev devCmd `cmd:"" help:"Run a development operator with its own chain, Esplora and faucet. Its coins are worth nothing."`
}

type devCmd struct {
	Listen  string        `help:"Where gRPC and REST are served." default:"127.0.0.1:7070"`
	Esplora string        `help:"Where Esplora, the faucet and the miner are served." default:"127.0.0.1:3000"`
	Session time.Duration `help:"Length of a batch session." default:"10s"`
	Expiry  uint32        `help:"Expiry of a batch, in seconds." default:"2048"`
}

func (c *devCmd) Run(env *environment) error {
	op, err := arktest.Start(arktest.Config{Addr: c.Listen, EsploraAddr: c.Esplora, Settings: arktest.Settings{SessionDuration: c.Session, TreeExpiry: c.Expiry}})
	if err != nil {
		return err
	}
	defer op.Close()
	if err := env.print(map[string]string{"operator": op.URL(), "esplora": op.EsploraURL()},
		"Operator: %s\nEsplora:  %s  (POST /faucet {\"address\":…,\"sats\":…}, POST /mine?n=1)\nStop with Ctrl-C.\n", op.URL(), op.EsploraURL()); err != nil {
		return err
	}
	<-env.ctx.Done()
	fmt.Fprintln(env.stderr, "stopping")
	return nil
}
