package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/operator"
	"github.com/vigil-ark/vigil/signer"
)

// upstream says which operator Vigil serves.
type upstream struct {
	OperatorURL string `help:"The Ark operator: host:port, http:// or https://." placeholder:"URL" required:""`
}

func (u upstream) dial(env *environment) (*operator.Client, error) {
	c, err := operator.Dial(operator.Config{URL: u.OperatorURL, Log: env.log})
	if err != nil {
		return nil, fmt.Errorf("operator %s: %w", u.OperatorURL, err)
	}
	return c, nil
}

type initCmd struct {
	places
	upstream
}

// initialised is what `vigil init --json` prints.
type initialised struct {
	DataDir    string `json:"data_dir"`
	SecretDir  string `json:"secret_dir"`
	ServiceKey string `json:"service_key"`
	HostKey    string `json:"host_key"`
	Signer     string `json:"operator_signer"`
	Network    string `json:"network"`
}

// Run asks the operator first: stores that are pinned to nothing are of no use.
func (c *initCmd) Run(env *environment) (err error) {
	client, err := c.dial(env)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	params, err := askOperator(env.ctx, client, c.OperatorURL)
	if err != nil {
		return err
	}
	s, err := c.create(env)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	key, err := firstKey(env.ctx, signer.New(s.secrets))
	if err != nil {
		return err
	}
	host, err := signer.New(s.secrets).AddHostKey(env.ctx)
	if err != nil {
		return err
	}
	if err := s.ledger.NoteServiceKeys(env.ctx, key.Key); err != nil {
		return err
	}
	if err := s.ledger.SetOperator(env.ctx, ledger.Pinned{Signer: params.SignerKey, Network: params.Network, URL: c.OperatorURL}); err != nil {
		return err
	}
	return env.print(initialised{c.DataDir, c.secretDir(), key.Key.String(), host.String(), params.SignerKey.String(), string(params.Network)},
		"Vigil is set up in %s for the operator %s on %s.\nService delegate key: %s\nHost key, for devices to pin: %s\nSecrets: %s, sealed with %s. Keep a copy of both, apart from backups of %s.\nNext: vigil serve\n",
		c.DataDir, params.SignerKey, params.Network, key.Key, host, c.secretDir(), c.keyPlace(), c.kvDir())
}

func askOperator(ctx context.Context, client *operator.Client, url string) (ark.Params, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	params, err := client.Info(ctx)
	if err != nil {
		return ark.Params{}, fmt.Errorf("ask the operator at %s: %w", url, err)
	}
	return params, nil
}
