package arktest

import (
	"encoding/hex"
	"sync"
	"time"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/arktest/internal/tapscript"
	"github.com/vigil-ark/vigil/arktest/internal/txtree"
)

// Asset is an amount of one asset held by a VTXO.
type Asset struct {
	ID     string
	Amount uint64
}

// VTXO is a virtual coin as the operator stores it.
type VTXO struct {
	Outpoint    wire.OutPoint
	Amount      int64
	Key         [32]byte // taproot output key; the script is 5120 and this
	Commitments []string
	Root        string // commitment that it expires with; "" for a note
	SettledBy   string
	SpentBy     string
	ArkTxid     string
	Spent       bool
	Unrolled    bool
	Swept       bool
	Preconfirm  bool
	ExpiresAt   int64 // unix seconds
	CreatedAt   int64 // unix seconds
	Depth       uint32
	Assets      []Asset
	updated     int64 // unix milliseconds
}

// PkScript is the VTXO's P2TR script.
func (v VTXO) PkScript() []byte { return append([]byte{0x51, 0x20}, v.Key[:]...) }

// Note says that the VTXO has no commitment behind it.
func (v VTXO) Note() bool { return len(v.Commitments) == 0 && v.Root == "" }

// Expired says whether now is past the VTXO's expiry.
func (v VTXO) Expired(now time.Time) bool { return now.After(time.Unix(v.ExpiresAt, 0)) }

// NeedsForfeit says whether a batch asks for a forfeit of the VTXO.
func (v VTXO) NeedsForfeit(now time.Time) bool {
	return !v.Swept && !v.Expired(now) && !v.Note() && !v.Unrolled
}

// commitment is one finalized batch.
type commitment struct {
	txid       chainhash.Hash
	tx         *wire.MsgTx
	tree       *txtree.Node // nil without off-chain outputs
	connectors *txtree.Node // nil without forfeits
	connKey    *btcec.PrivateKey
	forfeits   map[wire.OutPoint]forfeit
	started    int64
	ended      int64
	expiry     tapscript.Delay // announced with the batch
	expires    int64
	sweepLeaf  []byte
	inAmount   int64
	inCount    int
	outAmount  int64
	outCount   int
	swept      bool
	sweptBy    []string
}

// Conviction is one crime held against a script.
type Conviction struct {
	Script  string // hex pkScript
	Crime   string // arkd's name, e.g. Musig2NonceSubmission
	Batch   string
	Reason  string
	At      time.Time
	Expires time.Time
}

// store is what survives a restart of the operator.
type store struct {
	mu          sync.RWMutex
	vtxos       map[wire.OutPoint]*VTXO
	byKey       map[[32]byte][]*VTXO
	commitments map[string]*commitment
	virtual     map[string]string // txid to base64 PSBT
	offchain    map[string]*offchainTx
	pending     map[wire.OutPoint]string // input to accepted ark txid
	convictions map[string][]Conviction
	intents     map[string]rawIntent // by proof txid, of persisted rounds
	assets      map[string]assetRecord
}

// rawIntent is an intent as it was registered.
type rawIntent struct{ proof, message string }

func newStore() *store {
	return &store{
		vtxos: map[wire.OutPoint]*VTXO{}, byKey: map[[32]byte][]*VTXO{},
		commitments: map[string]*commitment{}, virtual: map[string]string{},
		offchain: map[string]*offchainTx{}, pending: map[wire.OutPoint]string{},
		convictions: map[string][]Conviction{}, intents: map[string]rawIntent{},
		assets: map[string]assetRecord{},
	}
}

func (s *store) vtxo(op wire.OutPoint) (VTXO, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	v, ok := s.vtxos[op]
	if !ok {
		return VTXO{}, false
	}
	return *v, true
}

func (s *store) addVTXOs(now time.Time, list ...VTXO) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.add(now, list...)
}

// addLeaves stores what a batch made, with the expiry that it has by now: its block
// may have come already.
func (s *store) addLeaves(now time.Time, c *commitment, made []VTXO) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range made {
		made[i].ExpiresAt = c.expires
		c.outAmount += made[i].Amount
		c.outCount++
	}
	s.add(now, made...)
}

// add is addVTXOs; the caller holds mu.
func (s *store) add(now time.Time, list ...VTXO) {
	for _, v := range list {
		if _, ok := s.vtxos[v.Outpoint]; ok {
			continue
		}
		v.updated = now.UnixMilli()
		p := &v
		s.vtxos[v.Outpoint] = p
		s.byKey[v.Key] = append(s.byKey[v.Key], p)
	}
}

// change applies f to a stored VTXO and says whether there is one.
func (s *store) change(now time.Time, op wire.OutPoint, f func(*VTXO)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.vtxos[op]
	if ok {
		f(v)
		v.updated = now.UnixMilli()
	}
	return ok
}

// pendingSpend says whether an accepted, not finalized off-chain transaction
// spends op.
func (s *store) pendingSpend(op wire.OutPoint) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, ok := s.pending[op]
	return ok
}

// active returns the convictions of a script that still count at now.
func (s *store) active(script []byte, now time.Time) []Conviction {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []Conviction
	for _, c := range s.convictions[hex.EncodeToString(script)] {
		if now.Before(c.Expires) {
			out = append(out, c)
		}
	}
	return out
}

func (s *store) convict(list ...Conviction) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range list {
		s.convictions[c.Script] = append(s.convictions[c.Script], c)
	}
}
