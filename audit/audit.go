// Package audit owns the record of what was decided: one entry for every
// decision, each hashed into a chain with all before it, wallets named by a
// salted HMAC. It is pure; where entries are kept is the store's affair.
package audit

import (
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/internal/canon"
)

const (
	format = 1
	// MaxRow bounds an encoded row in bytes, whatever was asked for: rows are kept by
	// number.
	MaxRow = 4 << 10

	maxKinds = 16
	maxKind  = 64
	maxText  = 512

	chainTag   = "vigil/audit/v1"
	sighashTag = "vigil/audit/sighash/v1"
)

// ErrBroken says that rows are not the chain that they should be: changed, left
// out, or in another order.
var ErrBroken = errors.New("audit: the chain is broken")

// Entry is one decision. It names no wallet, key, coin, address or payee in the
// clear.
type Entry struct {
	Seq    uint64   // counts the entries of the chain from 1
	At     int64    // unix seconds
	Wallet [32]byte // Name of it
	Method string   // what was asked
	Allow  bool
	Code   vigil.Code // of a refusal, "" else
	Reason string     // of a refusal; the sentence that the device got
	Kinds  []string   // of the documents, each once
	Amount int64      // satoshis that leave
	Epoch  uint32     // of the shares that sign
	// Signatures counts what is signed, and Signed is its Digest; zero for none.
	Signatures uint32
	Signed     [32]byte
}

// Name is the name of a wallet in entries: HMAC-SHA256 of its id under a salt
// that is the wallet's own. When wallet and salt are deleted, nobody can tell any
// more whose entries they were.
func Name(salt [32]byte, wallet vigil.WalletID) [32]byte {
	mac := hmac.New(sha256.New, salt[:])
	mac.Write(wallet[:])
	return [32]byte(mac.Sum(nil))
}

// Digest stands for sighashes in an entry, all of them in the order of signing: a
// sighash itself would tie the entry to a transaction on chain for whoever reads
// the audit. It is keyed with the wallet's salt.
func Digest(salt [32]byte, sighashes [][32]byte) [32]byte {
	parts := [][]byte{salt[:]}
	for i := range sighashes {
		parts = append(parts, sighashes[i][:])
	}
	return bip340.TaggedHash(sighashTag, parts...)
}

func (e *Entry) fields(c *canon.Coder) {
	canon.Num(c, &e.Seq, 1<<63, "seq")
	c.Time(&e.At, "at")
	c.Fixed(e.Wallet[:], "wallet")
	c.Text(&e.Method, maxText, "method")
	c.Bool(&e.Allow, "allow")
	code := string(e.Code)
	c.Text(&code, maxText, "code")
	if c.Reading() {
		e.Code = vigil.Code(code)
	}
	c.Text(&e.Reason, maxText, "reason")
	canon.List(c, &e.Kinds, maxKinds, "kinds", func(c *canon.Coder, s *string) { c.Text(s, maxKind, "kind") })
	c.Amount(&e.Amount, "amount")
	canon.Num(c, &e.Epoch, 1<<32-1, "epoch")
	canon.Num(c, &e.Signatures, 1<<32-1, "signatures")
	c.Fixed(e.Signed[:], "signed")
}

// Append encodes an entry as the row that follows prev, the chain's head (zero
// for an empty chain), and returns the new head. A row carries its predecessor's
// head; an over-long reason is cut. The error is canon.ErrBounds.
func Append(prev [32]byte, e Entry) (head [32]byte, row []byte, err error) {
	e.Reason = cut(e.Reason)
	row, err = canon.Encode(format, MaxRow, func(c *canon.Coder) {
		c.Fixed(prev[:], "prev")
		e.fields(c)
	})
	if err != nil {
		return prev, nil, fmt.Errorf("audit: %w", err)
	}
	return Head(row), row, nil
}

// cut shortens text to what a row takes, between runes.
func cut(s string) string {
	if len(s) <= maxText {
		return s
	}
	end := 0
	for i := range s {
		if i > maxText {
			break
		}
		end = i
	}
	return s[:end]
}

// Head is the head of the chain that ends with row.
func Head(row []byte) [32]byte { return bip340.TaggedHash(chainTag, row) }

// Decode reads a row and the head that it follows. Errors are canon.ErrMalformed
// and canon.ErrNewer.
func Decode(row []byte) (prev [32]byte, e Entry, err error) {
	err = canon.Decode(row, format, MaxRow, func(c *canon.Coder) {
		c.Fixed(prev[:], "prev")
		e.fields(c)
	})
	return prev, e, err
}

// Verify walks rows in order and proves that they are one unbroken chain from
// prev, the head before the first of them, with numbers that follow each other.
// It returns the head of the last and how many there were. Errors are ErrBroken
// and those of rows.
func Verify(prev [32]byte, rows iter.Seq2[[]byte, error]) (head [32]byte, n uint64, err error) {
	var last uint64
	for row, err := range rows {
		if err != nil {
			return prev, n, err
		}
		before, e, err := Decode(row)
		switch {
		case err != nil:
			return prev, n, fmt.Errorf("%w: row %d: %w", ErrBroken, n, err)
		case before != prev:
			return prev, n, fmt.Errorf("%w: entry %d does not follow the one before", ErrBroken, e.Seq)
		case n > 0 && e.Seq != last+1, e.Seq == 0, prev == [32]byte{} && e.Seq != 1:
			return prev, n, fmt.Errorf("%w: entry %d after %d", ErrBroken, e.Seq, last)
		}
		prev, last = Head(row), e.Seq
		n++
	}
	return prev, n, nil
}
