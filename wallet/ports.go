package wallet

import (
	"context"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/esplora"
	"github.com/vigil-ark/vigil/frost"
	"github.com/vigil-ark/vigil/notify"
	"github.com/vigil-ark/vigil/operator"
	"github.com/vigil-ark/vigil/signer"
)

// own is Vigil's number among the participants of a wallet's key.
const own = signer.Own

// Operator is what wallets ask of the Ark operator; *operator.Client implements
// it. Every call has a deadline of its own.
type Operator interface {
	operator.Announcer
	VTXOs(ctx context.Context, outpoints []wire.OutPoint) ([]ark.VTXO, error)
	VTXOsByScript(ctx context.Context, scripts [][]byte, filter operator.Filter) ([]ark.VTXO, error)
}

// Keys is where Vigil's half of every wallet is used; *signer.Signer implements
// it.
type Keys interface {
	Sign(ctx context.Context, r signer.SignRequest) ([]signer.Part, error)
	Acknowledge(ctx context.Context, k signer.Key) ([]byte, error)
	Seal(ctx context.Context, k signer.Key) ([]byte, error)
	Adopt(ctx context.Context, k signer.Key, sealed []byte) (before bool, err error)
	Erase(ctx context.Context, w vigil.WalletID, epoch uint32) error
	NewTreeKey(ctx context.Context, id vigil.DelegateID) (bip340.PubKey, error)
	SealForfeits(ctx context.Context, rec *delegate.Record, forfeits []string) error
}

// Ceremonies are the key ceremonies under way; *signer.Ceremonies implements it.
type Ceremonies interface {
	BeginKeygen(owner bip340.PubKey, hosts []bip340.PubKey, t int) (frost.SessionID, bip340.PubKey, error)
	Keygen(session frost.SessionID, owner bip340.PubKey, pmsgs1 [][]byte) ([]byte, error)
	Ready(session frost.SessionID, owner bip340.PubKey, pmsgs2 [][]byte) (signer.Made, error)
	Keep(ctx context.Context, session frost.SessionID, owner bip340.PubKey) error
	BeginRefresh(ctx context.Context, owner bip340.PubKey, old signer.Key, hosts []bip340.PubKey) (frost.SessionID, bip340.PubKey, error)
	Refresh(ctx context.Context, session frost.SessionID, owner bip340.PubKey, pmsgs1 [][]byte) ([]byte, error)
	ReadyRefresh(ctx context.Context, session frost.SessionID, owner bip340.PubKey, pmsgs2 [][]byte) (signer.Refreshed, error)
	KeepRefresh(ctx context.Context, session frost.SessionID, owner bip340.PubKey) error
	Void(ctx context.Context, k signer.Key, transcript []byte) ([]byte, error)
	Forget(session frost.SessionID)
	Sweep()
	Close()
}

// Host is the key that devices pin; *signer.Host implements it.
type Host interface {
	PubKey() bip340.PubKey
	Sign(hash [32]byte) ([64]byte, error)
}

// Chain tells of a wallet's coins on chain; *esplora.Client implements it.
type Chain interface {
	// Spender is the confirmed transaction that spends op, if there is one.
	Spender(ctx context.Context, op wire.OutPoint) (chainhash.Hash, bool, error)
	UTXOs(ctx context.Context, address string) ([]esplora.UTXO, error)
}

// Hub tells those who watch; *notify.Hub implements it.
type Hub interface {
	Publish(w vigil.WalletID, e notify.Event)
	Watch(ctx context.Context, w vigil.WalletID, key bip340.PubKey) (*notify.Watch, error)
	Revoke(w vigil.WalletID, key bip340.PubKey)
	Forget(w vigil.WalletID)
}
