package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/client"
	"github.com/vigil-ark/vigil/secret"
	"github.com/vigil-ark/vigil/secret/sealed"
)

// walletCmd is a device: a wallet whose other half is a Vigil somewhere.
type walletCmd struct {
	Create     walletCreateCmd     `cmd:"" help:"Make a wallet together with a Vigil. Its seed words are shown once, or written to a file."`
	Recover    walletRecoverCmd    `cmd:"" help:"Make a new device of the seed words; the old one is shut out."`
	Refresh    walletRefreshCmd    `cmd:"" help:"Change the shares of the key. Addresses and coins stay."`
	Address    walletAddressCmd    `cmd:"" help:"Where the wallet receives."`
	Board      walletBoardCmd      `cmd:"" help:"Take the coins at the boarding address into Ark."`
	Balance    walletBalanceCmd    `cmd:"" help:"What the wallet has."`
	Vtxos      walletVtxosCmd      `cmd:"" help:"The wallet's coins, and what covers them."`
	Send       walletSendCmd       `cmd:"" help:"Pay an Ark address."`
	Receive    walletReceiveCmd    `cmd:"" help:"Tell of every coin that comes, and have it covered."`
	Renew      walletRenewCmd      `cmd:"" help:"Renew coins in a batch now."`
	Delegate   walletDelegateCmd   `cmd:"" help:"Sign renewals ahead, for Vigil to carry out with nobody home."`
	Coverage   walletCoverageCmd   `cmd:"" help:"Until when the wallet is safe with nobody home."`
	History    walletHistoryCmd    `cmd:"" help:"What happened."`
	Exit       walletExitCmd       `cmd:"" help:"Leave Ark for an on-chain address; --unilateral without Vigil's help."`
	Watch      walletWatchCmd      `cmd:"" help:"Tell what happens to the wallet, as Vigil sees it."`
	Delegates  walletDelegatesCmd  `cmd:"" help:"The renewals that were signed ahead."`
	Policy     walletPolicyCmd     `cmd:"" help:"What Vigil signs for the wallet: limits, payees, and how long a loosening waits."`
	Devices    walletDevicesCmd    `cmd:"" help:"The devices that may act for the wallet."`
	Cold       walletColdCmd       `cmd:"" help:"What a cold share's file is of."`
	Accept     walletAcceptCmd     `cmd:"" name:"accept-operator" help:"See what the Ark operator changed, its signer key or its delays, and accept it; the coins are moved then."`
	Descriptor walletDescriptorCmd `cmd:"" help:"The wallet's scripts in one line; --backup writes what the way out needs beside the seed."`
	Delete     walletDeleteCmd     `cmd:"" help:"End the wallet at Vigil."`
}

// walletPlace says where a device keeps its keys and state.
type walletPlace struct {
	WalletDir            string `help:"Directory of the device's own keys and state." default:"${wallet_dir}" placeholder:"DIR" type:"path"`
	WalletPassphraseFile string `help:"File with a passphrase that seals them, instead of the key in <wallet-dir>/kek." placeholder:"FILE" type:"path"`
}

// peers are whom a device speaks to. They are kept beside its store; the pin is in
// the store, too, and counts.
type peers struct {
	Server   string `json:"server"`
	Pin      string `json:"host_key"`
	Operator string `json:"operator_url"`
	Esplora  string `json:"esplora_url,omitempty"`
	// MaxFee is client.Config's, for an owner whose operator is dear: by hand.
	MaxFee int64 `json:"max_fee,omitempty"`
}

// walletPeers are the flags of a first meeting.
type walletPeers struct {
	Server      string `help:"Vigil's URL." placeholder:"URL" required:"" env:"-"`
	Pin         string `help:"Vigil's host key, as whoever runs it told you: 66 hex digits. Nothing else is believed." placeholder:"HEX" required:"" env:"-"`
	OperatorURL string `help:"The Ark operator: host:port, http:// or https://." placeholder:"URL" required:""`
	EsploraURL  string `help:"Esplora API of the chain, for boarding and exits." placeholder:"URL"`
}

func (p walletPlace) kek() (sealed.Key, error) {
	if p.WalletPassphraseFile != "" {
		return sealed.PassphraseFile(p.WalletPassphraseFile), nil
	}
	return sealed.KeyFile(filepath.Join(p.WalletDir, "kek")), nil
}

func (p walletPlace) storeDir() string  { return filepath.Join(p.WalletDir, "keys") }
func (p walletPlace) peersFile() string { return filepath.Join(p.WalletDir, "peers.json") }

// begin makes the device's store, or opens the one that an attempt before made.
func (p walletPlace) begin(env *environment, with peers) (client.Config, *sealed.Store, error) {
	if err := os.MkdirAll(p.WalletDir, 0o700); err != nil {
		return client.Config{}, nil, err
	}
	if p.WalletPassphraseFile == "" {
		if err := sealed.GenerateKeyFile(filepath.Join(p.WalletDir, "kek")); err != nil && !errors.Is(err, os.ErrExist) {
			return client.Config{}, nil, fmt.Errorf("make the key file: %w", err)
		}
	}
	kek, err := p.kek()
	if err != nil {
		return client.Config{}, nil, err
	}
	store, err := sealed.Open(env.ctx, p.storeDir(), kek, sealed.Options{})
	if errors.Is(err, sealed.ErrMissing) {
		store, err = sealed.Create(env.ctx, p.storeDir(), kek, sealed.Options{})
	}
	if err != nil {
		return client.Config{}, nil, fmt.Errorf("the device's store in %s: %w", p.storeDir(), err)
	}
	cfg, err := with.config(env, store)
	if err == nil {
		// Before the wallet is made: one that nobody can open would be lost.
		if _, missing := os.Stat(p.peersFile()); missing != nil {
			err = p.remember(with)
		}
	}
	if err != nil {
		return cfg, nil, errors.Join(err, store.Close())
	}
	return cfg, store, nil
}

// remember keeps whom the device speaks to.
func (p walletPlace) remember(with peers) error {
	raw, err := json.MarshalIndent(with, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(p.peersFile(), append(raw, '\n'), 0o600)
}

func (p peers) config(env *environment, store secret.Store) (client.Config, error) {
	key, err := bip340.ParsePubKeyHex(p.Pin)
	if err != nil {
		return client.Config{}, fmt.Errorf("the host key %q: %w", p.Pin, err)
	}
	return client.Config{Server: p.Server, HostKey: key, Operator: p.Operator, Esplora: p.Esplora, Store: store, MaxFee: p.MaxFee, Log: env.log}, nil
}

// open opens the device.
func (p walletPlace) open(env *environment) (*client.Wallet, io.Closer, error) {
	raw, err := os.ReadFile(p.peersFile())
	if err != nil {
		return nil, nil, fmt.Errorf("there is no wallet in %s; make one with `vigil wallet create`: %w", p.WalletDir, err)
	}
	var with peers
	if err := json.Unmarshal(raw, &with); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", p.peersFile(), err)
	}
	kek, err := p.kek()
	if err != nil {
		return nil, nil, err
	}
	store, err := sealed.Open(env.ctx, p.storeDir(), kek, sealed.Options{})
	if err != nil {
		return nil, nil, fmt.Errorf("the device's store in %s: %w", p.storeDir(), err)
	}
	cfg, err := with.config(env, store)
	if err != nil {
		return nil, nil, errors.Join(err, store.Close())
	}
	w, err := client.Open(env.ctx, cfg)
	if err != nil {
		return nil, nil, errors.Join(err, store.Close())
	}
	return w, closers{w, store}, nil
}

// closers ends a device and its store.
type closers struct {
	wallet *client.Wallet
	store  io.Closer
}

// Close implements io.Closer.
func (c closers) Close() error {
	c.wallet.Close()
	return c.store.Close()
}

// device opens the wallet for one act.
func (p walletPlace) device(env *environment, act func(*client.Wallet) error) (err error) {
	w, c, err := p.open(env)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	return act(w)
}

// covered does what a device does whenever it is online, after an act that may
// have left coins uncovered. It disturbs no act that worked.
func covered(env *environment, w *client.Wallet) client.Kept {
	k, err := w.Keep(env.ctx)
	if err != nil {
		fmt.Fprintf(env.stderr, "the coins are not all covered: %s\nTry `vigil wallet delegate` later.\n", reason(err))
	}
	if k.Changed != nil {
		fmt.Fprintln(env.stderr, "The Ark operator changed its key or delays: see `vigil wallet accept-operator`.")
	}
	return k
}

// words of a seed come from a file or the terminal.
type wordsFile struct {
	WordsFile string `help:"File with the seed words." placeholder:"FILE" type:"path" env:"-"`
}

func (f wordsFile) read(env *environment) (client.Seed, error) {
	if f.WordsFile == "" {
		typed, err := env.ask("Seed words: ")
		if err != nil {
			return client.Seed{}, fmt.Errorf("%w (or give --words-file)", err)
		}
		defer typed.Burn()
		return client.ParseSeed(typed)
	}
	raw, err := os.ReadFile(f.WordsFile)
	if err != nil {
		return client.Seed{}, err
	}
	words := secret.New(raw)
	defer words.Burn()
	return client.ParseSeed(words)
}

// write puts the words into a new file that only its owner reads.
func (f wordsFile) write(seed client.Seed) error {
	file, err := os.OpenFile(f.WordsFile, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	err = seed.Words(func(b []byte) error {
		if _, err := file.Write(b); err != nil {
			return err
		}
		_, err := file.Write([]byte{'\n'})
		return err
	})
	return errors.Join(err, file.Sync(), file.Close())
}

// seed is the one of a creation: an earlier attempt's when its words were written,
// else a new one, whose words are in the file before anything is made of them.
func (f wordsFile) seed(env *environment) (client.Seed, error) {
	if f.WordsFile == "" && env.json {
		return client.Seed{}, errors.New("with --json give --words-file: seed words are no part of an answer")
	}
	if f.WordsFile != "" {
		if _, err := os.Stat(f.WordsFile); err == nil {
			return f.read(env)
		}
	}
	seed, err := client.NewSeed()
	if err != nil || f.WordsFile == "" {
		return seed, err
	}
	return seed, f.write(seed)
}

// made is what create and recover print.
type made struct {
	Wallet     string   `json:"wallet"`
	Address    string   `json:"address"`
	Boarding   string   `json:"boarding_address"`
	Descriptor string   `json:"descriptor"`
	WalletDir  string   `json:"wallet_dir"`
	Cold       []string `json:"cold_files,omitempty"`
}

func describe(w *client.Wallet, dir string) (made, error) {
	to, err := w.Address()
	if err != nil {
		return made{}, err
	}
	boarding, err := w.BoardingAddress()
	return made{Wallet: w.ID().String(), Address: to.String(), Boarding: boarding, Descriptor: w.Descriptor().String(), WalletDir: dir}, err
}

type walletCreateCmd struct {
	walletPlace
	walletPeers
	wordsFile
	coldFiles
	Name      string `help:"The device's name." default:"device" env:"-"`
	TokenFile string `help:"File with the token that a Vigil asks for which registers by token." placeholder:"FILE" type:"path" env:"-"`
}

// words are new ones, to be shown, or those of an attempt before, whose keys the
// device has: others would be of no use.
func (c *walletCreateCmd) words(env *environment) (seed client.Seed, fresh bool, err error) {
	if _, err := os.Stat(c.storeDir()); err == nil && c.WordsFile == "" {
		fmt.Fprintf(env.stderr, "An attempt before made the keys in %s. Give the words that it showed, or begin in another --wallet-dir.\n", c.storeDir())
		seed, err = c.read(env)
		return seed, false, err
	}
	seed, err = c.seed(env)
	return seed, c.WordsFile == "", err
}

// Run makes the wallet. It may be called again until it succeeds.
func (c *walletCreateCmd) Run(env *environment) (err error) {
	var token string
	if c.TokenFile != "" {
		raw, err := os.ReadFile(c.TokenFile)
		if err != nil {
			return err
		}
		token = strings.TrimSpace(string(raw))
	}
	seed, fresh, err := c.words(env)
	if err != nil {
		return err
	}
	defer seed.Burn()
	if fresh { // before anything is made of them
		err := seed.Words(func(b []byte) error {
			_, err := fmt.Fprintf(env.stdout, "Seed words, shown this once. Write them down; with them and a backup the coins can always be had:\n\n  %s\n\n", b)
			return err
		})
		if err != nil {
			return err
		}
	}
	with := peers{Server: c.Server, Pin: c.Pin, Operator: c.OperatorURL, Esplora: c.EsploraURL}
	cfg, store, err := c.begin(env, with)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	opt := client.CreateOptions{Token: token, Name: c.Name}
	if len(c.ColdFile) > 0 {
		network, err := with.network(env)
		if err != nil {
			return err
		}
		if opt.Cold, err = c.makeAll(env, c.walletPlace, network); err != nil {
			return err
		}
		defer burnAll(opt.Cold)
	}
	w, err := client.Create(env.ctx, cfg, seed, opt)
	if err != nil {
		return err
	}
	defer w.Close()
	if err := c.remember(with); err != nil {
		return err
	}
	m, err := describe(w, c.WalletDir)
	if err != nil {
		return err
	}
	cold := ""
	for _, path := range c.ColdFile {
		m.Cold = append(m.Cold, path)
		cold += fmt.Sprintf("A cold share is in %s, encrypted: keep it, its passphrase and a backup (`vigil wallet descriptor --backup`) apart from this device.\n", path)
	}
	return env.print(m, "Wallet %s\nPay in Ark:   %s\nPay on chain: %s, then `vigil wallet board`\nThe device's keys are in %s, sealed. The recovery key is not among them.\n%s",
		m.Wallet, m.Address, m.Boarding, c.storeDir(), cold)
}

type walletRecoverCmd struct {
	walletPlace
	walletPeers
	wordsFile
	coldPassphrase
	Name     string `help:"The device's name." default:"device" env:"-"`
	ColdFile string `help:"Make the device of the cold share in this file, when the phone is gone, in place of seed words. --backup is needed." placeholder:"FILE" type:"path" env:"-"`
	Backup   string `help:"A backup of the wallet, to hold Vigil's word against; needed with the words of a cold share." placeholder:"FILE" type:"path" env:"-"`
}

// made makes the device, of the seed words or of a cold share.
func (c *walletRecoverCmd) made(env *environment, cfg client.Config, opt client.RecoverOptions) (*client.Wallet, error) {
	if c.ColdFile == "" {
		seed, err := c.read(env)
		if err != nil {
			return nil, err
		}
		defer seed.Burn()
		return client.Recover(env.ctx, cfg, seed, opt)
	}
	if opt.Backup == nil {
		return nil, errors.New("a cold share does not know the wallet's recovery key: give the wallet's --backup, too")
	}
	cold, err := openCold(env, c.coldPassphrase, c.ColdFile)
	if err != nil {
		return nil, err
	}
	defer cold.Burn()
	w, err := client.RecoverCold(env.ctx, cfg, cold, opt)
	if err == nil {
		fmt.Fprintf(env.stderr, "The cold share is this device's now, and no longer apart. Keep %s as its backup, or make a new wallet with a cold share of its own and send everything there.\n", c.ColdFile)
	}
	return w, err
}

// Run makes a new device.
func (c *walletRecoverCmd) Run(env *environment) (err error) {
	with := peers{Server: c.Server, Pin: c.Pin, Operator: c.OperatorURL, Esplora: c.EsploraURL}
	cfg, store, err := c.begin(env, with)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	opt := client.RecoverOptions{Name: c.Name}
	if c.Backup != "" {
		raw, err := os.ReadFile(c.Backup)
		if err != nil {
			return err
		}
		b, _, err := client.ParseBackup(raw)
		if err != nil {
			return err
		}
		opt.Backup = &b
	}
	w, err := c.made(env, cfg, opt)
	if err != nil {
		return err
	}
	defer w.Close()
	if err := c.remember(with); err != nil {
		return err
	}
	covered(env, w)
	m, err := describe(w, c.WalletDir)
	if err != nil {
		return err
	}
	return env.print(m, "Wallet %s is on this device now; all others are frozen.\nPay in Ark:   %s\nPay on chain: %s\n", m.Wallet, m.Address, m.Boarding)
}

type walletRefreshCmd struct {
	walletPlace
	wordsFile
	coldFiles
	Heal bool `help:"Change the host keys too, after a theft; the seed words are needed." env:"-"`
}

// Run changes the shares.
func (c *walletRefreshCmd) Run(env *environment) error {
	return c.device(env, func(w *client.Wallet) error {
		var seed *client.Seed
		kind := "hygiene"
		if c.Heal {
			s, err := c.read(env)
			if err != nil {
				return err
			}
			defer s.Burn()
			seed, kind = &s, "healing"
		}
		cold, err := c.openAll(env, c.walletPlace)
		if err != nil {
			return err
		}
		defer burnAll(cold)
		err = w.Refresh(env.ctx, seed, cold...)
		if errors.Is(err, client.ErrCold) {
			return fmt.Errorf("%w; give each with --cold-file", err)
		}
		if err != nil {
			return err
		}
		return env.print(struct {
			Refreshed bool   `json:"refreshed"`
			Kind      string `json:"kind"`
		}{true, kind}, "The shares are new (%s); the old ones are destroyed on all sides.%s\n", kind, copies(c.ColdFile))
	})
}

// copies tells what became of other copies of cold files.
func copies(files []string) string {
	if len(files) == 0 {
		return ""
	}
	return " Copy the cold files anew where copies are kept, and destroy the old ones."
}

type walletAddressCmd struct{ walletPlace }

// Run shows where to pay.
func (c *walletAddressCmd) Run(env *environment) error {
	return c.device(env, func(w *client.Wallet) error {
		m, err := describe(w, c.WalletDir)
		if err != nil {
			return err
		}
		return env.print(m, "Ark:      %s\nOn chain: %s\n", m.Address, m.Boarding)
	})
}

type walletDescriptorCmd struct {
	walletPlace
	Backup string `help:"Write a backup to this new file: descriptor, record and the branches of all coins. No secret is in it." placeholder:"FILE" type:"path" env:"-"`
}

// Run prints the descriptor.
func (c *walletDescriptorCmd) Run(env *environment) error {
	return c.device(env, func(w *client.Wallet) error {
		out := struct {
			Descriptor string   `json:"descriptor"`
			Older      []string `json:"older,omitempty"`
			Backup     string   `json:"backup,omitempty"`
			Coins      int      `json:"coins,omitempty"`
		}{}
		out.Descriptor, out.Older = w.Generations().Text()
		if c.Backup == "" {
			text := out.Descriptor + "\n"
			for _, d := range out.Older {
				text += "earlier: " + d + "\n"
			}
			return env.print(out, "%s", text)
		}
		if _, err := w.Keep(env.ctx); err != nil {
			fmt.Fprintf(env.stderr, "not all that a way out needs could be fetched: %s\n", reason(err))
		}
		b, err := w.Export(env.ctx)
		if err != nil {
			return err
		}
		raw, err := json.Marshal(b)
		if err != nil {
			return err
		}
		file, err := os.OpenFile(c.Backup, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		if _, err := file.Write(raw); err != nil {
			return errors.Join(err, file.Close())
		}
		if err := errors.Join(file.Sync(), file.Close()); err != nil {
			return err
		}
		out.Backup, out.Coins = c.Backup, len(b.Coins)
		return env.print(out, "%s\nThe backup in %s brings %d coins on chain. Make another when coins have come or were renewed.\n", out.Descriptor, out.Backup, out.Coins)
	})
}
