// Package admin owns what a Vigil's own operator may ask of it: one port, over
// the stores themselves (Local) or over a socket that only its owner can open
// (Serve, Client), so that the command line is the same whether Vigil runs or
// not. It never sees a secret and knows nothing of the public edge.
package admin

import (
	"context"
	"errors"
	"time"
)

// Port is what the operator of a Vigil may ask. Local and Client implement it.
type Port interface {
	Status(ctx context.Context) (Status, error)
	// Delegates lists delegates in the order of their ids.
	Delegates(ctx context.Context, q Query) (Page, error)
	Delegate(ctx context.Context, id string) (Delegate, error)
	// Cancel takes a delegate back as its owner may. In flight it is noted, and
	// done if that attempt fails.
	Cancel(ctx context.Context, id string) (Delegate, error)
	// Wallets lists wallets in the order of their ids: after the one given ("":
	// from the first), at most limit (0: DefaultPage).
	Wallets(ctx context.Context, after string, limit int) (WalletPage, error)
	Keys(ctx context.Context) ([]Key, error)
	// AddKey makes a service key, which new delegates are to name from now on.
	AddKey(ctx context.Context) (Key, error)
	// RetireKey offers a key to nobody any more; its delegates are still renewed.
	RetireKey(ctx context.Context, key string) (Key, error)
	// Backup copies the key-value store to a new file.
	Backup(ctx context.Context, path string) (Copied, error)
	// Export writes all secrets, encrypted to age recipients, to a new file.
	Export(ctx context.Context, path string, recipients []string) (Copied, error)
	Check(ctx context.Context) (Report, error)
	// CheckWallet proves that nothing of a deleted wallet is left: neither its id
	// nor, in hex, one of the marks that its owner still knows of it.
	CheckWallet(ctx context.Context, id string, marks []string) (Report, error)
	// Release ends the hold that a restored Vigil starts with.
	Release(ctx context.Context) (Status, error)
	// Accept pins the signer key that the Ark operator announces now. signer is
	// that key, as the caller has verified it; with "" nothing is changed and the
	// answer tells both keys.
	Accept(ctx context.Context, signer string) (Operator, error)
}

var (
	// ErrNotFound says that there is no such delegate or key.
	ErrNotFound = errors.New("not found")
	// ErrRefused says that the request cannot be done as it is.
	ErrRefused = errors.New("refused")
	// ErrNoServer says that no Vigil answers on the socket.
	ErrNoServer = errors.New("no Vigil is running over this data directory")
)

// Status is how a Vigil stands. Times are unix seconds; 0: none.
type Status struct {
	Version         string            `json:"version"`
	Running         *Running          `json:"running,omitempty"` // nil: only the stores were asked
	Hold            string            `json:"hold,omitempty"`    // why nothing is acted upon
	Operator        Operator          `json:"operator"`
	Settles         string            `json:"settles"` // on whose word a renewal is settled
	Delegates       map[string]uint64 `json:"delegates"`
	Live            uint64            `json:"live"`
	Unreadable      int               `json:"unreadable"`
	UnreadableIndex int               `json:"unreadable_index"` // of those, the ones that a repair builds anew
	NextDue         int64             `json:"next_due"`
	NextExpiry      int64             `json:"next_expiry"`
	Keys            int               `json:"keys"` // in use
	Wallets         map[string]uint64 `json:"wallets"`
	HostKey         string            `json:"host_key,omitempty"` // "": wallets are not served
	DiskFree        uint64            `json:"disk_free_bytes"`
	DiskLow         bool              `json:"disk_low"`
}

// Running is what only a running Vigil knows of itself.
type Running struct {
	PID        int      `json:"pid"`
	Since      int64    `json:"since"`
	Address    string   `json:"address"`
	StreamUp   bool     `json:"stream_up"`
	StreamFrom int64    `json:"stream_since"` // when it last changed
	NotReady   []string `json:"not_ready,omitempty"`
	// Wallets in memory, those that are quarantined, and streams that watch some.
	ActiveWallets int `json:"active_wallets"`
	Quarantined   int `json:"quarantined_wallets"`
	Watching      int `json:"watching"`
}

// Operator is the Ark operator that is pinned, and what it announces.
type Operator struct {
	URL       string `json:"url"`
	Network   string `json:"network"`
	Signer    string `json:"signer"`              // pinned
	Announced string `json:"announced,omitempty"` // as asked just now; "": not asked
	Changed   bool   `json:"changed"`
}

// Query chooses delegates.
type Query struct {
	State  string // "": all
	Script string // hex pkScript of an input; "": any
	Limit  int    // 1 to MaxPage; 0: DefaultPage
	After  string // Page.Next of the page before
}

// Page sizes of Delegates.
const (
	DefaultPage = 100
	MaxPage     = 1000
)

// Page is a part of a list.
type Page struct {
	Delegates []Delegate `json:"delegates"`
	Next      string     `json:"next,omitempty"` // "": that was all
}

// Delegate is a delegate as the operator of a Vigil may see it. Amounts are
// satoshis, times unix seconds; 0: none.
type Delegate struct {
	ID          string   `json:"id"`
	State       string   `json:"state"`
	Inputs      []Input  `json:"inputs"`
	Amount      int64    `json:"amount"`
	Fee         int64    `json:"fee"`
	ServiceFee  int64    `json:"service_fee"`
	Key         string   `json:"delegate_key"`
	CreatedAt   int64    `json:"created_at"`
	ValidAt     int64    `json:"valid_at"`
	ExpireAt    int64    `json:"expire_at"`
	ExpiresAt   int64    `json:"expires_at"`
	StateSince  int64    `json:"state_since"`
	NextAttempt int64    `json:"next_attempt"`
	Attempts    uint32   `json:"attempts"`
	Convictions uint32   `json:"convictions"`
	Cancelling  bool     `json:"cancelling"`
	ErrorCode   string   `json:"error_code,omitempty"`
	ErrorText   string   `json:"error_text,omitempty"`
	ErrorAt     int64    `json:"error_at,omitempty"`
	IntentID    string   `json:"intent_id,omitempty"`
	BatchID     string   `json:"batch_id,omitempty"`
	Commitment  string   `json:"commitment,omitempty"`
	Leaves      []string `json:"leaves,omitempty"`
	Watched     []string `json:"watched_commitments,omitempty"`
	ReplacedBy  string   `json:"replaced_by,omitempty"`
}

// WalletPage is a part of the list of wallets.
type WalletPage struct {
	Wallets []Wallet `json:"wallets"`
	Next    string   `json:"next,omitempty"` // "": that was all
}

// Wallet is a wallet as the operator of a Vigil may see it: how it stands, and
// nothing of what it has. Times are unix seconds; 0: none.
type Wallet struct {
	ID           string `json:"id"`
	State        string `json:"state"`
	CreatedAt    int64  `json:"created_at"`
	Threshold    int    `json:"threshold"`
	Participants int    `json:"participants"`
	Epoch        uint32 `json:"epoch"`
	Retiring     bool   `json:"retiring"` // the epoch before waits for acknowledgments
	Devices      int    `json:"devices"`
	Frozen       int    `json:"frozen"` // of the devices
	SyncedAt     int64  `json:"synced_at"`
	DeleteAfter  int64  `json:"delete_after"` // an announced deletion
	Unreadable   bool   `json:"unreadable"`
}

// Input is one coin of a delegate.
type Input struct {
	Outpoint  string `json:"outpoint"`
	Amount    int64  `json:"amount"`
	Script    string `json:"script"`
	ExpiresAt int64  `json:"expires_at"`
}

// Key is one service key.
type Key struct {
	Number  int    `json:"number"`
	Key     string `json:"key"`
	Retired bool   `json:"retired"`
	Shown   bool   `json:"shown"` // the one that wallets are told to name
}

// Copied is a file that was written.
type Copied struct {
	Path    string `json:"path"`
	Bytes   int64  `json:"bytes"`
	Secrets int    `json:"secrets,omitempty"`
	Took    string `json:"took"`
}

// Report is what a check of the stores found.
type Report struct {
	Clean    bool      `json:"clean"`
	Findings []Finding `json:"findings"`
	More     int       `json:"more"` // findings beyond those
	Records  int       `json:"records"`
	Live     int       `json:"live"`
	VTXOs    int       `json:"vtxos"`
	Branches int       `json:"branches"`
	Secrets  int       `json:"secrets"`
}

// Finding is one thing that is not as it must be.
type Finding struct {
	Fault   bool   `json:"fault"` // false: worth knowing, and mends itself
	Code    string `json:"code"`
	Subject string `json:"subject"`
	Text    string `json:"text"`
	Fix     string `json:"fix"`
}

// unix is a time as the answers have it.
func unix(t time.Time, some bool) int64 {
	if !some {
		return 0
	}
	return t.Unix()
}
