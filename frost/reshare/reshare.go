// Package reshare owns what changes who holds a threshold key while the key
// stays: the repair of a lost share by t helpers, the enrolment of one more
// participant, and the handing over to another set of holders with another
// threshold. It is experimental and off by default: nothing in Vigil calls it, and
// its constructors demand that the caller says so. It knows the curve core, the
// secret type and the key ceremonies' building blocks, and nothing of storage,
// transport or policy.
//
// Exactly t holders of the old epoch deal. Each signs its messages with its host
// key, so that a coordinator can relay or withhold them, not change them. All
// checks are on public points, and everybody makes all of them. The ceremony ends
// with a certificate of every host key over the whole transcript: until then the
// old epoch goes on.
//
// A repair leaves the epoch as it is. An enrolment makes the next epoch, whose
// shares are the old ones and one more: records of the two are told apart, shares
// are not. Only a handing over makes new shares. It takes nothing from old holders
// who keep theirs: t of them still sign, and an old host key with the old recovery
// data restores an old share. To exclude somebody for good, move the coins.
//
// No published vectors exist for it.
package reshare

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/btcsuite/btcd/btcec/v2"

	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/frost"
	"github.com/vigil-ark/vigil/frost/chilldkg"
	"github.com/vigil-ark/vigil/frost/internal/pedpop"
)

var (
	tagCtx      = bip340.NewTag("vigil/reshare ctx")
	tagSeed     = bip340.NewTag("vigil/reshare seed")
	tagSecNonce = bip340.NewTag("vigil/reshare secnonce")
	tagValues   = bip340.NewTag("vigil/reshare values")
	tagDealECDH = bip340.NewTag("vigil/reshare deal ecdh")
	tagPassECDH = bip340.NewTag("vigil/reshare pass ecdh")
)

const (
	dealTag = "vigil/reshare deal"
	passTag = "vigil/reshare pass"
	certTag = "vigil/reshare certeq"
)

// Errors of this package, matched with errors.Is. A fault that can be laid at a
// party's door is a *chilldkg.FaultError; its ID is the number in the old epoch
// for messages of dealers, and in the new one for certificates.
var (
	// ErrExperimental says that the caller did not accept what is experimental.
	ErrExperimental = errors.New("reshare: experimental, and not asked for as such")
	// ErrParams says that a key's shares cannot be changed in this way.
	ErrParams = errors.New("reshare: not a change of this key's shares")
	// ErrRecord says that a record does not decode or is not certified.
	ErrRecord = errors.New("reshare: invalid record")
	// ErrStep says that the ceremony has no such step, or not for this participant.
	ErrStep = errors.New("reshare: no such step for this participant")
)

// Experimental is the caller's word on a ceremony without vectors, without a
// published proof of this form, and with no user yet.
type Experimental bool

// Accepted is the only word that the constructors take.
const Accepted Experimental = true

// kind is what a ceremony does.
type kind byte

const (
	handOver kind = 1 + iota // to other holders
	rebuild                  // repair, or enrolment
)

// Params are what a ceremony is about. All participants must have the same. They
// are valid and immutable.
type Params struct {
	kind     kind
	old      *frost.Info
	hash     [32]byte // of the recovery data or record that made the old epoch
	oldHosts []bip340.PubKey
	oldPts   []bip340.Point
	dealers  []int // in the old epoch, ascending
	weights  []btcec.ModNScalar
	t        int
	hosts    []bip340.PubKey
	points   []bip340.Point
	target   int // whose share is rebuilt; -1
	ctx      [32]byte
}

// NewReshare describes the handing over of old to the holders of hosts, t of whom
// will sign. previous are the recovery data or the record that made the old
// epoch, oldHosts its host public keys by participant; dealers are the old
// participants, exactly the old threshold of them, who deal. Both thresholds are
// at least 2, and all public shares must be there. Errors are ErrExperimental and
// ErrParams.
func NewReshare(x Experimental, old *frost.Info, previous []byte, oldHosts []bip340.PubKey, dealers []int, t int, hosts []bip340.PubKey) (*Params, error) {
	if x != Accepted {
		return nil, ErrExperimental
	}
	return newParams(&Params{
		kind: handOver, old: old, hash: sha256.Sum256(previous), oldHosts: slices.Clone(oldHosts), dealers: slices.Clone(dealers),
		t: t, hosts: slices.Clone(hosts), target: -1,
	})
}

// NewRepair describes how helpers, exactly the threshold of them, rebuild the
// share of participant id for host, its host public key: the one that it had or,
// when that is lost too, a new one, of whose owner the caller must be sure. With
// the id that follows the last one it is the enrolment of one more participant.
// Errors are ErrExperimental and ErrParams.
func NewRepair(x Experimental, old *frost.Info, previous []byte, oldHosts []bip340.PubKey, helpers []int, id int, host bip340.PubKey) (*Params, error) {
	if x != Accepted {
		return nil, ErrExperimental
	}
	return newRepair(old, sha256.Sum256(previous), oldHosts, helpers, id, host)
}

func newRepair(old *frost.Info, hash [32]byte, oldHosts []bip340.PubKey, helpers []int, id int, host bip340.PubKey) (*Params, error) {
	p := &Params{
		kind: rebuild, old: old, hash: hash, oldHosts: slices.Clone(oldHosts), dealers: slices.Clone(helpers),
		t: old.Threshold(), target: id,
	}
	n := len(oldHosts)
	if id < 0 || id > n || slices.Contains(helpers, id) {
		return nil, fmt.Errorf("%w: participant %d of %d is rebuilt", ErrParams, id, n)
	}
	p.hosts = append(slices.Clone(oldHosts[:id]), host)
	if id < n {
		p.hosts = append(p.hosts, oldHosts[id+1:]...)
	}
	return newParams(p)
}

// newParams validates p and fills in what follows from it.
func newParams(p *Params) (*Params, error) {
	t, n := p.old.Threshold(), p.old.Participants()
	if t < 2 || p.t < 2 || p.old.Epoch() == math.MaxUint32 {
		return nil, fmt.Errorf("%w: thresholds %d and %d, epoch %d", ErrParams, t, p.t, p.old.Epoch())
	}
	if slices.Contains(p.old.PubShares(), bip340.PubKey{}) || len(p.oldHosts) != n {
		return nil, fmt.Errorf("%w: it takes the public shares and host keys of all", ErrParams)
	}
	if len(p.dealers) != t {
		return nil, fmt.Errorf("%w: %d dealers, it takes %d", ErrParams, len(p.dealers), t)
	}
	for k, id := range p.dealers {
		if id < 0 || id >= n || k > 0 && id <= p.dealers[k-1] {
			return nil, fmt.Errorf("%w: dealers %d", ErrParams, p.dealers)
		}
	}
	before, err := chilldkg.NewParams(t, p.oldHosts)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrParams, err)
	}
	after, err := chilldkg.NewParams(p.t, p.hosts)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrParams, err)
	}
	p.oldPts, p.points = before.HostPoints(), after.HostPoints()
	p.weights = pedpop.Lagrange(p.dealers, p.target+1)
	p.ctx = tagCtx.Hash(pedpop.Be4(int(frost.V1)), p.head())
	return p, nil
}

// head encodes the parameters: u8 kind, the old epoch's frost.Info, the 32-byte
// hash of what made it, u8 t, u8 n, u8 target+1, the dealers with one byte each,
// the old and the new host public keys.
func (p *Params) head() []byte {
	b := append([]byte{byte(p.kind)}, p.old.Encode()...)
	b = append(append(b, p.hash[:]...), byte(p.t), byte(len(p.hosts)), byte(p.target+1))
	for _, id := range p.dealers {
		b = append(b, byte(id))
	}
	return pedpop.AppendKeys(pedpop.AppendKeys(b, p.oldHosts), p.hosts)
}

// Hash identifies the parameters; comparing it over a second channel shows that
// all sides mean the same.
func (p *Params) Hash() [32]byte { return p.ctx }

// Epoch returns the number of the epoch that the ceremony ends in: the same after
// a repair, else the next.
func (p *Params) Epoch() uint32 {
	if p.kind == rebuild && p.target < len(p.oldHosts) {
		return p.old.Epoch()
	}
	return p.old.Epoch() + 1
}

// Hosts returns the host public keys after the ceremony, by participant.
func (p *Params) Hosts() []bip340.PubKey { return slices.Clone(p.hosts) }

// Follows says whether the ceremony is of this epoch: with its encoded
// frost.Info, the recovery data or record that made it, and its host keys.
func (p *Params) Follows(old, previous []byte, oldHosts []bip340.PubKey) bool {
	return bytes.Equal(p.old.Encode(), old) && p.hash == sha256.Sum256(previous) && slices.Equal(p.oldHosts, oldHosts)
}

// dealer returns the position of the dealer with this host key.
func (p *Params) dealer(host bip340.PubKey) (int, error) {
	id := slices.Index(p.oldHosts, host)
	if k := slices.Index(p.dealers, id); k >= 0 {
		return k, nil
	}
	return 0, fmt.Errorf("%w: not of a dealer", chilldkg.ErrHostKey)
}

// signed is what participant id signs.
func (p *Params) signed(tag string, id int, parts ...[]byte) []byte {
	b := append(append(pedpop.Padded33(tag), pedpop.Be4(id)...), p.ctx[:]...)
	return append(b, bytes.Join(parts, nil)...)
}

func participantFault(id int, reason string) error {
	return &chilldkg.FaultError{By: chilldkg.Participant, ID: id, Reason: reason}
}

func coordinatorFault(reason string) error {
	return &chilldkg.FaultError{By: chilldkg.Coordinator, ID: -1, Reason: reason}
}
