// Package refresh owns the change of a threshold key's shares while the key, its
// addresses and its coins stay: a random sharing of zero is added, in one
// ceremony of the same shape as the making of the key. It knows the curve core,
// the secret type and the key ceremonies' building blocks, and nothing of
// storage, transport or policy.
//
// A refresh heals a leaked share only if fewer than t shares of one epoch were
// ever in one thief's hands, and only if the old shares and whatever restores
// them are destroyed. The old host keys with the old recovery data restore them:
// so a refresh after a leak also changes the host keys (Params.Healing), and a
// periodic one that keeps them is hygiene, and called that.
//
// No published vectors exist for it.
package refresh

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/frost"
	"github.com/vigil-ark/vigil/frost/chilldkg"
	"github.com/vigil-ark/vigil/frost/internal/pedpop"
)

var (
	tagCtx      = bip340.NewTag("vigil/refresh ctx")
	tagSeed     = bip340.NewTag("vigil/refresh seed")
	tagSecNonce = bip340.NewTag("vigil/refresh secnonce")
	tagAux      = bip340.NewTag("vigil/refresh aux")
	tagCoeffs   = bip340.NewTag("vigil/refresh coeffs")
	tagECDH     = bip340.NewTag("vigil/refresh ecdh")
	tagSelfPad  = bip340.NewTag("vigil/refresh self_pad")
	tagSealed   = bip340.NewTag("vigil/refresh sealed")
	schemePop   = bip340.NewScheme("vigil/refresh pop")
)

const (
	certTag   = "vigil/refresh certeq"
	rotateTag = "vigil/refresh rotate"
	ackTag    = "vigil/refresh acknowledgment"
	voidTag   = "vigil/refresh void"
)

// Errors of this package, matched with errors.Is. A fault that can be laid at a
// party's door is a *chilldkg.FaultError.
var (
	// ErrParams says that a key cannot be refreshed in this way.
	ErrParams = errors.New("refresh: not a refresh of this key")
	// ErrShare says that the share received does not fit the commitments, by
	// somebody's fault: the ceremony must begin anew, the old epoch goes on.
	ErrShare = errors.New("refresh: the share that was received is wrong")
	// ErrRecord says that a record of a refresh does not decode or is not certified.
	ErrRecord = errors.New("refresh: invalid record")
	// ErrSignature says that a signature of a host key does not verify.
	ErrSignature = errors.New("refresh: signature does not verify")
)

// Params are what a refresh is about. All participants must have the same. They
// are valid and immutable.
type Params struct {
	old      *frost.Info
	hash     [32]byte // of the recovery data or record that made the old epoch
	oldHosts []bip340.PubKey
	hosts    []bip340.PubKey
	oldPts   []bip340.Point
	points   []bip340.Point
	ctx      [32]byte
	tags     pedpop.Tags
}

// NewParams describes the refresh of old, whose recovery data (of the key
// ceremony, or the record of the refresh before) are previous. All public shares
// must be there, and t at least 2. oldHosts are the host public keys of the old
// epoch, hosts those of the new one, by participant: the same for hygiene, all of
// them others to heal. The error is ErrParams.
func NewParams(old *frost.Info, previous []byte, oldHosts, hosts []bip340.PubKey) (*Params, error) {
	return newParams(old, sha256.Sum256(previous), oldHosts, hosts)
}

func newParams(old *frost.Info, hash [32]byte, oldHosts, hosts []bip340.PubKey) (*Params, error) {
	n, t := old.Participants(), old.Threshold()
	if t < 2 || old.Epoch() == math.MaxUint32 {
		return nil, fmt.Errorf("%w: threshold %d, epoch %d", ErrParams, t, old.Epoch())
	}
	if slices.Contains(old.PubShares(), bip340.PubKey{}) || len(oldHosts) != n || len(hosts) != n {
		return nil, fmt.Errorf("%w: it takes every participant", ErrParams)
	}
	same := slices.Equal(oldHosts, hosts)
	p := &Params{old: old, hash: hash, oldHosts: slices.Clone(oldHosts), hosts: slices.Clone(hosts)}
	for i := range hosts {
		if !same && slices.Contains(oldHosts, hosts[i]) {
			return nil, fmt.Errorf("%w: to heal, every host key must be a new one", ErrParams)
		}
	}
	old1, err := chilldkg.NewParams(t, oldHosts)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrParams, err)
	}
	new1, err := chilldkg.NewParams(t, hosts)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrParams, err)
	}
	p.oldPts, p.points = old1.HostPoints(), new1.HostPoints()
	key := old.PubKey()
	b := slices.Concat(pedpop.Be4(int(frost.V1)), pedpop.Be4(int(old.Epoch()+1)), pedpop.Be4(t), pedpop.Be4(n))
	b = append(pedpop.AppendKeys(b, hosts), key[:]...)
	b = append(pedpop.AppendKeys(b, old.PubShares()), hash[:]...)
	p.ctx = tagCtx.Hash(b)
	p.tags = pedpop.Tags{ECDH: tagECDH, Self: tagSelfPad, Context: p.ctx[:]}
	return p, nil
}

// Hash identifies the parameters; comparing it over a second channel shows that
// both sides refresh the same key to the same host keys.
func (p *Params) Hash() [32]byte { return p.ctx }

// Epoch returns the number of the epoch that the refresh makes.
func (p *Params) Epoch() uint32 { return p.old.Epoch() + 1 }

// Hosts returns the host public keys of the epoch that the refresh makes, by
// participant.
func (p *Params) Hosts() []bip340.PubKey { return slices.Clone(p.hosts) }

// Follows says whether the refresh is of this epoch: with its encoded
// frost.Info, the recovery data or record that made it, and its host keys.
func (p *Params) Follows(old, previous []byte, oldHosts []bip340.PubKey) bool {
	return bytes.Equal(p.old.Encode(), old) && p.hash == sha256.Sum256(previous) && slices.Equal(p.oldHosts, oldHosts)
}

// Healing says whether the host keys change, without which an old host key
// still restores an old share.
func (p *Params) Healing() bool { return !slices.Equal(p.oldHosts, p.hosts) }

// ID returns the number of the participant with this new host public key, or
// chilldkg.ErrHostKey.
func (p *Params) ID(host bip340.PubKey) (int, error) {
	if id := slices.Index(p.hosts, host); id >= 0 {
		return id, nil
	}
	return 0, fmt.Errorf("%w: not in this refresh", chilldkg.ErrHostKey)
}

func (p *Params) n() int { return len(p.hosts) }
func (p *Params) t() int { return p.old.Threshold() }

// LenPmsg1 is the length of a participant's first message in bytes.
func LenPmsg1(t, n int) int { return 33*(t-1) + 64 + 33 + 32*n }

// LenCmsg1 is the length of the coordinator's first message.
func LenCmsg1(t, n int) int { return 162*n + 33*(t-2) }

// LenPmsg2 is the length of a participant's second message: one signature, and
// another by the old host key when the refresh heals.
func LenPmsg2(healing bool) int {
	if healing {
		return 128
	}
	return 64
}
