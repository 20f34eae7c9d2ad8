package wallet

import (
	"context"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/ledger"
)

// Ledger is where wallets are kept; *ledger.Ledger implements it. It is the sum
// of what wallets, requests, coins and delegates each need.
type Ledger interface {
	rows
	requests
	holdings
	delegates
}

// rows are the wallets themselves.
type rows interface {
	CreateWallet(ctx context.Context, made *ledger.Wallet, x ledger.Extras) (*ledger.Wallet, error)
	Wallet(ctx context.Context, id vigil.WalletID) (*ledger.Wallet, error)
	WalletByHost(ctx context.Context, host bip340.PubKey) (*ledger.Wallet, error)
	WalletSnapshot(ctx context.Context, id vigil.WalletID, lines int) (*ledger.WalletSnapshot, error)
	UpdateWallet(ctx context.Context, prev *ledger.Wallet, mutate func(*ledger.Wallet), x ledger.Extras) (*ledger.Wallet, error)
	DeleteWallet(ctx context.Context, prev *ledger.Wallet, x ledger.Extras) error
	Unsynced(ctx context.Context, since time.Time, limit int, from ledger.Cursor) ([]vigil.WalletID, ledger.Cursor, error)
	WalletCounts(ctx context.Context) (map[ledger.WalletState]uint64, error)
	SetToken(ctx context.Context, id vigil.WalletID, t ledger.Token, links ...ledger.Link) error
	DropToken(ctx context.Context, id vigil.WalletID, text string, links ...ledger.Link) error
}

// requests are what was asked and decided.
type requests interface {
	Begin(ctx context.Context, q ledger.Request, window time.Duration) ([]byte, error)
	Finish(ctx context.Context, q ledger.Request, answer []byte) error
	Decide(ctx context.Context, id vigil.WalletID, since int64, judge func(ledger.Spending) (ledger.Verdict, error)) error
	Audit(ctx context.Context, links ...ledger.Link) error
}

// holdings are the wallets' coins.
type holdings interface {
	PutVTXOs(ctx context.Context, id vigil.WalletID, seen []ark.VTXO) (*ledger.Synced, error)
	VTXOsOf(ctx context.Context, id vigil.WalletID) ([]ledger.Holding, error)
	MarkExitData(ctx context.Context, id vigil.WalletID, outpoints []wire.OutPoint, links ...ledger.Link) error
	HistoryOf(ctx context.Context, id vigil.WalletID, limit int, from ledger.Cursor) ([]ledger.Entry, ledger.Cursor, error)
	Branch(ctx context.Context, id vigil.DelegateID, commitment chainhash.Hash) (*delegate.Branch, error)
}

// delegates are what was signed ahead.
type delegates interface {
	Plan(ctx context.Context, plans ...ledger.Plan) error
	PlanMore(ctx context.Context, id vigil.WalletID, of vigil.DelegateID, secrets ...string) error
	Drawn(ctx context.Context, id vigil.WalletID, keys map[vigil.DelegateID]bip340.PubKey, links ...ledger.Link) error
	Prepared(ctx context.Context, id vigil.WalletID, of vigil.DelegateID) (*ledger.Plan, error)
	Submit(ctx context.Context, s ledger.Submission) (ledger.Receipt, error)
	Delegate(ctx context.Context, id vigil.DelegateID) (*delegate.Record, error)
	List(ctx context.Context, f ledger.Filter, limit int, from ledger.Cursor) ([]*delegate.Record, ledger.Cursor, error)
	CancelFor(ctx context.Context, prev *delegate.Record, links ...ledger.Link) (*delegate.Record, error)
}
