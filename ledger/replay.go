package ledger

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/internal/canon"
	"github.com/vigil-ark/vigil/kv"
)

// Errors of Begin, matched with errors.Is.
var (
	// ErrBegun says that this very request was begun and that its answer is not
	// kept: it is to be made anew with another nonce.
	ErrBegun = errors.New("ledger: the request was begun before")
	// ErrReplayed says that the nonce was used for another request.
	ErrReplayed = errors.New("ledger: the nonce was used for another request")
	// ErrStale says that the request is older than what is remembered: whether it
	// was carried out is not known any more.
	ErrStale = errors.New("ledger: the request is older than the nonces that are remembered")
)

// Request is what Begin and Finish know of a request.
type Request struct {
	Owner []byte // the wallet's id, or the device's host key where there is none yet
	// Member says that Owner is the host key of a wallet that is there. Its requests
	// are counted apart from those of host keys that anybody can make.
	Member bool
	Nonce  [16]byte
	Hash   [32]byte // of the request
	Stamp  int64    // its timestamp
}

// begun is the row of a request that was let through.
type begun struct {
	Hash   [32]byte
	Until  int64  // the last moment at which the request is fresh
	Forget int64  // its time in the index
	Kept   bool   // the answer is stored
	Size   uint32 // of that answer, in bytes
}

const (
	// MaxRequests bounds the requests that are remembered of one owner: as many as
	// a device can make in the window and the pause before they are forgotten.
	MaxRequests = 512
	// MaxAnswer bounds an answer that is kept, in bytes. A retry of a request with a
	// longer one is ErrBegun.
	MaxAnswer = 60 << 10
	// MaxAnswers bounds the answers of one owner that are kept at a time, in bytes: a
	// minute's of a device that signs as much as it can. Those beyond it are ErrBegun
	// as well, so that no wallet takes the room of the others.
	MaxAnswers = 1 << 20
	// maxAllRequests bounds the requests of all wallets, and of all their host keys,
	// and maxStrangers of all host keys without one, which cost nothing to make:
	// whoever fills those must not keep others from recovering. maxAllAnswers is the bytes
	// of all answers. Beyond them requests are refused, and answers not kept.
	maxAllRequests = 1 << 20
	maxStrangers   = 1 << 16
	maxAllAnswers  = 256 << 20
	// linger is for how long a request is remembered when it is not fresh any more,
	// in seconds: clocks that are set back by less replay nothing.
	linger = 120
	// nonceSize is the length of a nonce, with which the key of a request ends.
	nonceSize = len(Request{}.Nonce)
	// maxStale bounds for how long a clock that was ahead and is set back makes all
	// requests stale, in seconds: those that were made and forgotten meanwhile are
	// then told apart no more, and must not keep the others out for as long.
	maxStale = 60 * 60
)

func (b *begun) fields(c *canon.Coder) {
	c.Fixed(b.Hash[:], "hash")
	c.Time(&b.Until, "until")
	c.Time(&b.Forget, "forget")
	c.Bool(&b.Kept, "kept")
	canon.Num(c, &b.Size, MaxAnswer, "size")
}

// answer is an answer as it left.
type answer struct{ Bytes []byte }

func (a *answer) fields(c *canon.Coder) { c.Bytes(&a.Bytes, MaxAnswer, "answer") }

// The names of numbers in the counts tree, beside those of the states.
const (
	countRequests  = "requests"
	countStrangers = "strangers"
	countMembers   = "members"
	countAnswers   = "answers"
	countFloor     = "forgotten"
	countWallets   = "wallets/" // and the digit of the state
)

func ownerPrefix(owner []byte) []byte {
	return append([]byte{byte(len(owner))}, owner...)
}

func (r *Request) key() ([]byte, error) {
	if len(r.Owner) == 0 || len(r.Owner) > 64 || len(r.Owner) == memberSize || r.Member && len(r.Owner) != memberSize-1 {
		return nil, fmt.Errorf("%w: an owner of %d bytes", errUnencodable, len(r.Owner))
	}
	if r.Member {
		return append(ownerPrefix(memberOwner(r.Owner)), r.Nonce[:]...), nil
	}
	return append(ownerPrefix(r.Owner), r.Nonce[:]...), nil
}

// memberSize is the length of a member's owner: a host key and a byte more, which
// tells it from the host keys of strangers.
const memberSize = len(bip340.PubKey{}) + 1

func memberOwner(host []byte) []byte { return append(bytes.Clone(host), 'm') }

// counted says which number counts the requests under a key.
func counted(key []byte) (name string, limit uint64) {
	switch {
	case len(key) > 0 && int(key[0]) == walletSize:
		return countRequests, maxAllRequests
	case len(key) > 0 && int(key[0]) == memberSize:
		return countMembers, maxAllRequests
	}
	return countStrangers, maxStrangers
}

func freshKey(forget int64, key []byte) []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(max(forget, 0))), key...)
}

// Begin lets a request through once: with nil and no error, durably, the caller is
// to carry it out. The same request again gets the bytes of its answer, or ErrBegun;
// another one with its nonce is ErrReplayed. window is for how long before and after
// its timestamp a request is fresh. Beyond its bounds it is ErrTooMany.
func (l *Ledger) Begin(ctx context.Context, q Request, window time.Duration) ([]byte, error) {
	key, err := q.key()
	if err != nil {
		return nil, err
	}
	var kept []byte
	var refused error
	err = l.update(ctx, func(w writer) error {
		kept, refused = nil, nil
		known, err := loadBegun(w, key)
		switch {
		case errors.Is(err, ErrNotFound):
			return begin(w, &q, key, l.now().Unix(), int64(window/time.Second))
		case errors.Is(err, ErrUnreadable):
			refused = ErrBegun // it was, whatever it was
			return nil
		case err != nil:
			return err
		case known.Hash != q.Hash:
			refused = ErrReplayed
			return nil
		}
		refused = ErrBegun
		if !known.Kept {
			return nil
		}
		var a answer
		if b, err := w.Get(treeAnswers, key); err == nil && decodeRow(b, &a) == nil {
			kept, refused = append([]byte{}, a.Bytes...), nil
		}
		return nil
	})
	if err == nil {
		err = refused
	}
	if err != nil {
		return nil, err
	}
	return kept, nil
}

func loadBegun(r reader, key []byte) (*begun, error) {
	b, err := r.Get(treeReplay, key)
	if errors.Is(err, kv.ErrNotFound) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	known := new(begun)
	if err := decodeRow(b, known); err != nil {
		return nil, r.damaged(treeReplay, key, err)
	}
	return known, nil
}

func begin(w writer, q *Request, key []byte, at, window int64) error {
	if q.Member {
		if _, there, err := aliasOf(w, hostAlias(bip340.PubKey(q.Owner))); err != nil || !there {
			return cmp.Or(err, fmt.Errorf("%w: no wallet of the host key %x", ErrNotFound, q.Owner))
		}
	}
	if len(q.Owner) == walletSize {
		if there, err := exists(w, vigil.WalletID(q.Owner)); err != nil || !there {
			return cmp.Or(err, fmt.Errorf("%w: no wallet %x", ErrNotFound, q.Owner))
		}
	}
	until := q.Stamp + window
	floor, err := readNumber(w, countFloor)
	if err != nil {
		return err
	}
	if last := int64(min(floor, math.MaxInt64)); until <= last && last-at <= maxStale {
		return fmt.Errorf("%w: made at %d", ErrStale, q.Stamp)
	}
	name, limit := counted(key)
	all, err := readNumber(w, name)
	if err != nil {
		return err
	}
	full := all >= limit
	if !full && all >= MaxRequests { // no owner has more than all have
		n, _, err := remembered(w, key)
		if err != nil {
			return err
		}
		full = n >= MaxRequests
	}
	if full {
		return fmt.Errorf("%w: requests to be remembered", ErrTooMany)
	}
	row := &begun{Hash: q.Hash, Until: until, Forget: max(until, at) + linger}
	if err := putRow(w, treeReplay, key, row); err != nil {
		return err
	}
	if err := w.Put(treeFresh, freshKey(row.Forget, key), nil); err != nil {
		return err
	}
	return putNumber(w, name, all+1)
}

// remembered counts the requests of the owner of one that are remembered, and the
// bytes of the answers that are kept of them.
func remembered(r reader, key []byte) (n int, size uint64, err error) {
	owner := key[:len(key)-nonceSize]
	err = r.Scan(treeReplay, owner, after(owner), func(_, value []byte, damage error) error {
		n++
		row := new(begun)
		if damage == nil && decodeRow(value, row) == nil {
			size += uint64(row.Size)
		}
		return nil
	})
	return n, size, err
}

// Finish keeps the answer to a request that Begin let through, before it leaves.
// One that is too long, or for which there is no room, is not kept, and a retry
// gets ErrBegun.
func (l *Ledger) Finish(ctx context.Context, q Request, reply []byte) error {
	key, err := q.key()
	if err != nil {
		return err
	}
	return l.update(ctx, func(w writer) error {
		row, err := loadBegun(w, key)
		if errors.Is(err, ErrNotFound) || errors.Is(err, ErrUnreadable) {
			return nil // forgotten: the request was slow
		}
		if err != nil {
			return err
		}
		if row.Hash != q.Hash {
			return fmt.Errorf("%w: finishing it", ErrReplayed)
		}
		if row.Kept || len(reply) > MaxAnswer {
			return nil
		}
		all, err := readNumber(w, countAnswers)
		if err != nil {
			return err
		}
		size := uint64(len(reply))
		own := all // at the most
		if own+size > MaxAnswers {
			if _, own, err = remembered(w, key); err != nil {
				return err
			}
		}
		if all+size > maxAllAnswers || own+size > MaxAnswers {
			return nil
		}
		row.Kept, row.Size = true, uint32(len(reply))
		if err := putRow(w, treeReplay, key, row); err != nil {
			return err
		}
		if err := putRow(w, treeAnswers, key, &answer{reply}); err != nil {
			return err
		}
		return putNumber(w, countAnswers, all+size)
	})
}

// PruneReplay forgets at most limit requests whose time has passed and returns how
// many. How far it has forgotten is kept, so that a clock that is set back replays
// nothing.
func (l *Ledger) PruneReplay(ctx context.Context, limit int) (int, error) {
	n := 0
	err := l.update(ctx, func(w writer) error {
		n = 0
		var keys [][]byte
		err := w.Scan(treeFresh, nil, freshKey(l.now().Unix(), nil), func(key, _ []byte, damage error) error {
			if damage != nil || len(key) <= 8 {
				_ = w.damaged(treeFresh, key, errKey)
				return nil
			}
			if len(keys) == limit {
				return kv.ErrStop
			}
			keys = append(keys, append([]byte(nil), key...))
			return nil
		})
		if err != nil {
			return err
		}
		n = len(keys)
		until, err := forgetRequests(w, keys)
		if err != nil {
			return err
		}
		floor, err := readNumber(w, countFloor)
		if err != nil || until <= floor {
			return err
		}
		return putNumber(w, countFloor, until)
	})
	return n, err
}

// forgetRequests deletes requests by their rows in the index of times, and returns
// the last moment at which one of them was fresh.
func forgetRequests(w writer, times [][]byte) (until uint64, err error) {
	fewer := make(map[string]uint64)
	for _, at := range times {
		key := at[8:]
		row, err := loadBegun(w, key)
		switch {
		case errors.Is(err, ErrNotFound):
		case errors.Is(err, ErrUnreadable):
			until = max(until, max(binary.BigEndian.Uint64(at), linger)-linger)
		case err != nil:
			return 0, err
		default:
			until = max(until, uint64(row.Until))
		}
		if !errors.Is(err, ErrNotFound) {
			name, _ := counted(key)
			fewer[name]++
		}
		size, err := dropAnswer(w, key)
		if err != nil {
			return 0, err
		}
		fewer[countAnswers] += size
		if err := w.Delete(treeReplay, key); err != nil {
			return 0, err
		}
		if err := w.Delete(treeFresh, at); err != nil {
			return 0, err
		}
	}
	for name, n := range fewer {
		all, err := readNumber(w, name)
		if err != nil {
			return 0, err
		}
		if err := putNumber(w, name, all-min(all, n)); err != nil {
			return 0, err
		}
	}
	return until, nil
}

// dropAnswer deletes an answer and returns how many bytes it had.
func dropAnswer(w writer, key []byte) (uint64, error) {
	b, err := w.Get(treeAnswers, key)
	if errors.Is(err, kv.ErrNotFound) {
		return 0, nil
	}
	if err != nil && !errors.Is(err, ErrUnreadable) {
		return 0, err
	}
	var a answer
	if err == nil {
		_ = decodeRow(b, &a)
	}
	return uint64(len(a.Bytes)), w.Delete(treeAnswers, key)
}

// readNumber reads one of the numbers beside those of the states. One that cannot
// be read is nothing: it must hold up nobody, and fsck counts again.
func readNumber(r reader, name string) (uint64, error) {
	b, err := r.Get(treeCounts, []byte(name))
	if errors.Is(err, kv.ErrNotFound) || errors.Is(err, ErrUnreadable) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	n, err := decodeCount(b)
	if err != nil {
		_ = r.damaged(treeCounts, []byte(name), err)
		return 0, nil
	}
	return n, nil
}

func putNumber(w writer, name string, n uint64) error {
	return w.Put(treeCounts, []byte(name), encodeCount(n))
}
