package ark

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// ErrOutpoint is returned for text that is not "<txid>:<vout>".
var ErrOutpoint = errors.New("ark: invalid outpoint")

// ParseTxid reads a transaction id in display order: exactly 64 hex digits of
// either case.
func ParseTxid(s string) (chainhash.Hash, error) {
	if len(s) != chainhash.MaxHashStringSize {
		return chainhash.Hash{}, fmt.Errorf("%w: txid of %d characters", ErrOutpoint, len(s))
	}
	h, err := chainhash.NewHashFromStr(s)
	if err != nil {
		return chainhash.Hash{}, fmt.Errorf("%w: %w", ErrOutpoint, err)
	}
	return *h, nil
}

// ParseOutpoint reads "<txid>:<vout>", the form that wire.OutPoint.String
// writes: a decimal index without sign or leading zeros.
func ParseOutpoint(s string) (wire.OutPoint, error) {
	txid, vout, ok := strings.Cut(s, ":")
	if !ok {
		return wire.OutPoint{}, fmt.Errorf("%w: no colon", ErrOutpoint)
	}
	h, err := ParseTxid(txid)
	if err != nil {
		return wire.OutPoint{}, err
	}
	n, err := strconv.ParseUint(vout, 10, 32)
	if err != nil || strconv.FormatUint(n, 10) != vout {
		return wire.OutPoint{}, fmt.Errorf("%w: index %.16q", ErrOutpoint, vout)
	}
	return wire.OutPoint{Hash: h, Index: uint32(n)}, nil
}
