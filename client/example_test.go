package client_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/client"
	"github.com/vigil-ark/vigil/secret/sealed"
)

// open is a device's store in a directory of its own, and whom it speaks to.
func open(ctx context.Context, dir string, pin bip340.PubKey) client.Config {
	store, err := sealed.Open(ctx, dir, sealed.PassphraseFile("passphrase"), sealed.Options{})
	check(err)
	return client.Config{
		Server: "https://vigil.example.com", HostKey: pin, // from a pairing code
		Operator: "https://ark.example.com", Esplora: "https://esplora.example.com/api",
		Store: store,
	}
}

// A wallet is made once. Its seed words are shown to its owner and then forgotten.
func ExampleCreate() {
	ctx := context.Background()
	cfg := open(ctx, "device", bip340.PubKey{})
	seed, err := client.NewSeed()
	check(err)
	check(seed.Words(func(words []byte) error {
		_, err := os.Stdout.Write(words)
		return err
	}))
	w, err := client.Create(ctx, cfg, seed, client.CreateOptions{Name: "phone"})
	check(err) // call it again with the same seed until it succeeds
	seed.Burn()
	defer w.Close()
	to, err := w.Address() // an error until both sides have the key safe
	check(err)
	fmt.Println(to)
}

// While it is online a device keeps its coins covered by itself.
func ExampleWallet_Run() {
	ctx := context.Background()
	w, err := client.Open(ctx, open(ctx, "device", bip340.PubKey{}))
	check(err)
	defer w.Close()
	err = w.Run(ctx, func(k client.Kept, err error) {
		fmt.Println(len(k.Delegated), "renewals signed ahead;", k.Uncovered, "coins uncovered;", err)
	})
	fmt.Println(err)
}

// Money comes in on chain or in Ark, and is paid at once.
func ExampleWallet_Send() {
	ctx := context.Background()
	w, err := client.Open(ctx, open(ctx, "device", bip340.PubKey{}))
	check(err)
	defer w.Close()
	_, err = w.Board(ctx)
	check(err)
	to, err := ark.ParseAddress("tark1…")
	check(err)
	coin, err := w.Send(ctx, to, 25_000)
	check(err)
	fmt.Println("the payee's coin is", coin)
	_, err = w.Keep(ctx) // the change is a new coin
	check(err)
}

// A lost device is replaced by the seed; Vigil freezes the lost one at once.
func ExampleRecover() {
	ctx := context.Background()
	seed := words()
	defer seed.Burn()
	w, err := client.Recover(ctx, open(ctx, "second", bip340.PubKey{}), seed, client.RecoverOptions{Name: "new phone"})
	check(err)
	defer w.Close()
	check(w.Refresh(ctx, &seed)) // and what a thief has of the key is of no use
}

// When Vigil is gone for good, the seed and a backup bring the coins out.
func ExampleLeave() {
	ctx := context.Background()
	raw, err := os.ReadFile("backup.json") // what Wallet.Export gave, as JSON
	check(err)
	backup, _, err := client.ParseBackup(raw)
	check(err)
	seed := words()
	defer seed.Burn()
	l, err := client.NewLeave(client.LeaveConfig{Backup: backup, Esplora: "https://esplora.example.com/api"}, seed)
	check(err)
	defer l.Burn()
	coins, err := l.Unroll(ctx) // again after every block, until all are on chain
	check(err)
	for _, c := range coins {
		fmt.Println(c.Outpoint, c.Confirmed, "of", c.Steps, c.Waiting)
	}
	swept, err := l.Sweep(ctx, "bc1…") // once the recovery delay has passed
	check(err)
	fmt.Println(swept.Txid)
}

func words() client.Seed {
	seed, err := client.NewSeed()
	check(err)
	return seed
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
