package ark

import (
	"bytes"

	"github.com/btcsuite/btcd/wire/v2"
)

// Anchor is the pay-to-anchor script (P2A): OP_1 and the two bytes 4e73.
const Anchor = "\x51\x02\x4e\x73"

// AnchorOut is a new P2A output of value 0, the last output of every tree,
// forfeit, checkpoint and ark transaction.
func AnchorOut() *wire.TxOut { return wire.NewTxOut(0, []byte(Anchor)) }

// IsAnchor says whether out is a P2A output of value 0.
func IsAnchor(out *wire.TxOut) bool {
	return out != nil && out.Value == 0 && bytes.Equal(out.PkScript, []byte(Anchor))
}
