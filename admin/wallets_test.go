package admin_test

import (
	"encoding/hex"
	"errors"
	"testing"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/admin"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/ledger"
)

// Wallets are shown as they stand, from the stores and over the socket alike, and a
// deletion is proven by what is left.
func TestWallets(t *testing.T) {
	w := newWorld(t)
	for n := byte(1); n <= 3; n++ {
		row := &ledger.Wallet{
			ID: vigil.WalletID{n, 0xaa, 0xbb, 0xcc}, State: ledger.WalletActive, Threshold: 2, Participants: 2, Descriptor: []byte{1}, Scripts: [][]byte{{n, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}},
			Epochs:     []ledger.Epoch{{Hosts: []bip340.PubKey{key(n), key(n + 100)}, Info: []byte{1}, Record: []byte{1}}},
			Identities: []ledger.Identity{{Key: key(n + 50)}, {Key: key(n + 60), FrozenAt: 5}},
		}
		if _, err := w.ledger.CreateWallet(t.Context(), row, ledger.Extras{}); err != nil {
			t.Fatal(err)
		}
	}
	for name, p := range map[string]admin.Port{"stores": admin.New(w.local), "socket": overSocket(t, w)} {
		first, err := p.Wallets(t.Context(), "", 2)
		if err != nil || len(first.Wallets) != 2 || first.Next == "" {
			t.Fatalf("%s: %+v, %v", name, first, err)
		}
		rest, err := p.Wallets(t.Context(), first.Next, 0)
		if err != nil || len(rest.Wallets) != 1 || rest.Next != "" {
			t.Fatalf("%s: %+v, %v", name, rest, err)
		}
		if v := rest.Wallets[0]; v.State != "active" || v.Threshold != 2 || v.Devices != 2 || v.Frozen != 1 {
			t.Errorf("%s: %+v", name, v)
		}
		s, err := p.Status(t.Context())
		if err != nil || s.Wallets["active"] != 3 || s.HostKey != "02host" {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
		if _, err := p.Wallets(t.Context(), "zz", 0); !errors.Is(err, admin.ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := p.Wallets(t.Context(), "", admin.MaxPage+1); !errors.Is(err, admin.ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
		id := vigil.WalletID{1, 0xaa, 0xbb, 0xcc}
		if r, err := p.CheckWallet(t.Context(), id.String(), nil); err != nil || r.Clean {
			t.Errorf("%s: a wallet that is there: %+v, %v", name, r, err)
		}
		none := vigil.WalletID{9, 9, 9}
		if r, err := p.CheckWallet(t.Context(), none.String(), nil); err != nil || !r.Clean {
			t.Errorf("%s: one that is not: %+v, %v", name, r, err)
		}
		host := key(2)
		if r, err := p.CheckWallet(t.Context(), none.String(), []string{hex.EncodeToString(host[:])}); err != nil || r.Clean {
			t.Errorf("%s: a mark that is there: %+v, %v", name, r, err)
		}
		for _, bad := range [][2]string{{"00", ""}, {none.String(), "0011"}, {none.String(), "zz"}} {
			if _, err := p.CheckWallet(t.Context(), bad[0], []string{bad[1]}); !errors.Is(err, admin.ErrRefused) {
				t.Errorf("%s: %v: %v", name, bad, err)
			}
		}
	}
}
