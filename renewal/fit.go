package renewal

import (
	"bytes"
	"fmt"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/delegate"
)

// unfit says why the record's signatures do not fit the operator's parameters
// or the inputs' condition now. Nothing ends by it: parameters may be set back,
// and an input that expires needs no forfeit any more.
func unfit(rec *delegate.Record, params ark.Params, found coins, now time.Time) *delegate.Failure {
	fail := func(code, format string, args ...any) *delegate.Failure {
		return &delegate.Failure{Code: code, Text: fmt.Sprintf(format, args...), At: now.Unix()}
	}
	if !delegate.SignerAccepted(rec, params, now.Unix()) {
		return fail("OPERATOR_KEY_CHANGED", "the operator's signer key is %s; the scripts name %s", params.SignerKey, rec.SignerKey)
	}
	for _, in := range rec.Inputs {
		v, ok := found[in.Outpoint]
		if !ok {
			return fail("INPUT_UNKNOWN", "the operator does not know input %s", in.Outpoint)
		}
		if v.Amount != in.Amount || !bytes.Equal(v.Script, in.Script) {
			return fail("INPUT_CHANGED", "the operator reports another amount or script for input %s", in.Outpoint)
		}
		if !v.NeedsForfeit(now.Unix()) {
			continue
		}
		switch {
		case !in.HasForfeit():
			return fail("FORFEIT_MISSING", "input %s needs a forfeit, and none was signed", in.Outpoint)
		case params.Dust != rec.Dust:
			return fail("OPERATOR_DUST_CHANGED", "the operator's dust is %d; the forfeits were signed for %d", params.Dust, rec.Dust)
		case !bytes.Equal(params.ForfeitScript, rec.ForfeitScript):
			return fail("OPERATOR_FORFEIT_CHANGED", "the operator's forfeit address changed after the forfeits were signed")
		}
	}
	return nil
}

// commitmentTx reads the transaction out of a stored commitment PSBT.
func commitmentTx(raw []byte) (*wire.MsgTx, error) {
	packet, err := script.DecodePSBT(raw, script.OperatorLimits())
	if err != nil {
		return nil, fmt.Errorf("stored commitment: %w", err)
	}
	return packet.UnsignedTx, nil
}
