package operator

import (
	"bytes"
	"encoding/hex"
	"fmt"

	"github.com/btcsuite/btcd/address/v2"
	"github.com/btcsuite/btcd/txscript/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/bip340"
	arkv1 "github.com/vigil-ark/vigil/internal/pb/ark/v1"
)

const (
	maxSats = 21_000_000 * 100_000_000
	// maxDust is far above any relay policy's dust; connectors of that value would
	// make every forfeit absurd.
	maxDust = 100_000
	// maxSession bounds a batch session in seconds: a day.
	maxSession = 86_400
	// maxFeeProgram bounds one CEL program in bytes; the ones in use have tens.
	maxFeeProgram = 4096
	// maxDeprecated bounds the list of earlier signer keys.
	maxDeprecated = 64
	// maxLabel bounds version, digest, ids of batches, streams and intents.
	maxLabel = 128

	defaultMaxTxWeight  = 40_000 // section 2.1; sent as 0 by operators that predate the field
	defaultMaxOpReturns = 3
)

// decodeInfo checks every field of an operator's parameters (section 2.1); the
// error is ErrAnswer and names the field.
func decodeInfo(m *arkv1.GetInfoResponse) (ark.Params, error) {
	p := ark.Params{
		Version:        clean(m.GetVersion(), maxLabel),
		SessionSeconds: m.GetSessionDuration(),
		UtxoMin:        m.GetUtxoMinAmount(),
		UtxoMax:        m.GetUtxoMaxAmount(),
		VtxoMin:        m.GetVtxoMinAmount(),
		VtxoMax:        m.GetVtxoMaxAmount(),
		Dust:           m.GetDust(),
		MaxTxWeight:    m.GetMaxTxWeight(),
		MaxOpReturns:   m.GetMaxOpReturnOutputs(),
		Digest:         m.GetDigest(),
	}
	for _, part := range []struct {
		field string
		check func(*ark.Params, *arkv1.GetInfoResponse) error
	}{
		{"network", infoNetwork},
		{"keys", infoKeys},
		{"delays", infoDelays},
		{"amounts", infoAmounts},
		{"fees", infoFees},
		{"limits", infoLimits},
	} {
		if err := part.check(&p, m); err != nil {
			return ark.Params{}, fmt.Errorf("%w: parameters: %s: %w", ErrAnswer, part.field, err)
		}
	}
	return p, nil
}

func infoNetwork(p *ark.Params, m *arkv1.GetInfoResponse) (err error) {
	p.Network, err = ark.ParseNetwork(m.GetNetwork())
	return err
}

func infoKeys(p *ark.Params, m *arkv1.GetInfoResponse) (err error) {
	if p.SignerKey, err = bip340.ParsePubKeyHex(m.GetSignerPubkey()); err != nil {
		return fmt.Errorf("signer: %w", err)
	}
	if p.ForfeitKey, err = bip340.ParsePubKeyHex(m.GetForfeitPubkey()); err != nil {
		return fmt.Errorf("forfeit: %w", err)
	}
	if len(m.GetDeprecatedSigners()) > maxDeprecated {
		return fmt.Errorf("%d deprecated signers", len(m.GetDeprecatedSigners()))
	}
	for i, d := range m.GetDeprecatedSigners() {
		key, err := bip340.ParsePubKeyHex(d.GetPubkey())
		if err != nil {
			return fmt.Errorf("deprecated signer %d: %w", i, err)
		}
		if d.GetCutoffDate() < 0 {
			return fmt.Errorf("deprecated signer %d: cutoff %d", i, d.GetCutoffDate())
		}
		p.DeprecatedSigners = append(p.DeprecatedSigners, ark.DeprecatedSigner{Key: key, Cutoff: d.GetCutoffDate()})
	}
	if err := infoForfeitAddress(p, m.GetForfeitAddress()); err != nil {
		return err
	}
	return infoCheckpoint(p, m.GetCheckpointTapscript())
}

// infoForfeitAddress holds that the address is the forfeit key's own: a forfeit
// that pays anybody else is worth nothing to the operator and everything to him.
func infoForfeitAddress(p *ark.Params, got string) error {
	want, err := address.NewAddressWitnessPubKeyHash(address.Hash160(p.ForfeitKey[:]), p.Network.ChainParams())
	if err != nil {
		return fmt.Errorf("forfeit address: %w", err)
	}
	if got != want.EncodeAddress() {
		return fmt.Errorf("forfeit address %.100q is not the forfeit key's, %s", got, want.EncodeAddress())
	}
	p.ForfeitAddress = got
	p.ForfeitScript, err = txscript.PayToAddrScript(want)
	return err
}

// infoCheckpoint holds that checkpoint outputs go to the forfeit key alone after
// a delay.
func infoCheckpoint(p *ark.Params, tapscript string) error {
	if len(tapscript) > 2*script.MaxLeafScript {
		return fmt.Errorf("checkpoint tapscript of %d characters", len(tapscript))
	}
	leaf, err := hex.DecodeString(tapscript)
	if err != nil {
		return fmt.Errorf("checkpoint tapscript: %w", err)
	}
	closure, err := script.Decode(leaf)
	if err != nil {
		return fmt.Errorf("checkpoint tapscript: %w", err)
	}
	csv, ok := closure.(script.CSVMultisig)
	if !ok || len(csv.PubKeys) != 1 || csv.PubKeys[0] != p.ForfeitKey.XOnly() {
		return fmt.Errorf("checkpoint tapscript is not the forfeit key after a delay")
	}
	if csv.IsBlocks() && !p.Network.AllowsBlocks() {
		return fmt.Errorf("checkpoint delay in blocks on %s", p.Network)
	}
	p.CheckpointScript = bytes.Clone(leaf)
	return nil
}

func infoDelays(p *ark.Params, m *arkv1.GetInfoResponse) (err error) {
	if p.ExitDelay, err = ark.ParseDelay(m.GetUnilateralExitDelay()); err != nil {
		return fmt.Errorf("unilateral exit: %w", err)
	}
	if p.BoardingDelay, err = ark.ParseDelay(m.GetBoardingExitDelay()); err != nil {
		return fmt.Errorf("boarding exit: %w", err)
	}
	switch {
	case p.ExitDelay.IsBlocks() != p.BoardingDelay.IsBlocks():
		return fmt.Errorf("exit delays of two kinds, %s and %s", p.ExitDelay, p.BoardingDelay)
	case p.ExitDelay.IsBlocks() && !p.Network.AllowsBlocks():
		return fmt.Errorf("exit delay in blocks on %s", p.Network)
	case p.ExitDelay == p.BoardingDelay:
		return fmt.Errorf("exit and boarding delay are both %s", p.ExitDelay)
	case p.SessionSeconds <= 0 || p.SessionSeconds > maxSession:
		return fmt.Errorf("session of %d s", p.SessionSeconds)
	}
	return nil
}

func infoAmounts(p *ark.Params, _ *arkv1.GetInfoResponse) error {
	if p.Dust <= 0 || p.Dust > maxDust {
		return fmt.Errorf("dust %d", p.Dust)
	}
	for _, r := range []struct {
		name     string
		min, max int64
	}{{"utxo", p.UtxoMin, p.UtxoMax}, {"vtxo", p.VtxoMin, p.VtxoMax}} {
		if r.min < 0 || r.min > maxSats || r.max < -1 || r.max > maxSats || r.max > 0 && r.max < r.min {
			return fmt.Errorf("%s between %d and %d", r.name, r.min, r.max)
		}
	}
	return nil
}

func infoFees(p *ark.Params, m *arkv1.GetInfoResponse) error {
	f := m.GetFees().GetIntentFee()
	p.Fees = ark.FeePrograms{
		OffchainInput:  f.GetOffchainInput(),
		OffchainOutput: f.GetOffchainOutput(),
		OnchainInput:   f.GetOnchainInput(),
		OnchainOutput:  f.GetOnchainOutput(),
	}
	for _, program := range []string{p.Fees.OffchainInput, p.Fees.OffchainOutput, p.Fees.OnchainInput, p.Fees.OnchainOutput} {
		if len(program) > maxFeeProgram {
			return fmt.Errorf("program of %d bytes", len(program))
		}
	}
	return nil
}

func infoLimits(p *ark.Params, _ *arkv1.GetInfoResponse) error {
	if p.MaxTxWeight == 0 {
		p.MaxTxWeight = defaultMaxTxWeight
	}
	if p.MaxOpReturns == 0 {
		p.MaxOpReturns = defaultMaxOpReturns
	}
	switch {
	case p.MaxTxWeight < 0 || p.MaxTxWeight > 4_000_000: // a block
		return fmt.Errorf("transaction weight %d", p.MaxTxWeight)
	case p.MaxOpReturns < 0 || p.MaxOpReturns > 1000:
		return fmt.Errorf("%d OP_RETURN outputs", p.MaxOpReturns)
	case p.Digest != "" && !isLabel(p.Digest):
		return fmt.Errorf("digest of %d characters", len(p.Digest))
	}
	return nil
}

// isLabel says whether s can be an id of the operator's: short, printable ASCII,
// fit for a header.
func isLabel(s string) bool {
	if s == "" || len(s) > maxLabel {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
