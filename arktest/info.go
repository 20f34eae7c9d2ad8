package arktest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/btcsuite/btcd/address/v2"
	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/chaincfg/v2"

	"github.com/vigil-ark/vigil/arktest/internal/tapscript"
	"github.com/vigil-ark/vigil/arktest/lie"
	arkv1 "github.com/vigil-ark/vigil/internal/pb/ark/v1"
)

// network is the only one the operator runs on.
const network = "regtest"

// forfeitScript is the P2WPKH script of the forfeit key.
func (op *Operator) forfeitScript() []byte {
	return append([]byte{0x00, 0x14}, address.Hash160(op.forfeitKey().pub.SerializeCompressed())...)
}

func (op *Operator) forfeitAddress() string { return p2wpkhAddress(op.forfeitKey().pub) }

func p2wpkhAddress(key *btcec.PublicKey) string {
	a, err := address.NewAddressWitnessPubKeyHash(address.Hash160(key.SerializeCompressed()), &chaincfg.RegressionNetParams)
	if err != nil { // 20 bytes always make an address
		return ""
	}
	return a.EncodeAddress()
}

// checkpointScript is the operator's leaf in every checkpoint output.
func (op *Operator) checkpointScript() []byte {
	s, err := tapscript.Closure{
		Kind: tapscript.CSVMultisig, Keys: [][32]byte{op.forfeitKey().x}, Delay: tapscript.NewDelay(op.Settings().CheckpointDelay),
	}.Script()
	if err != nil {
		return nil
	}
	return s
}

// digest hashes the parameters that a client depends on; field order and
// escaping are Go's JSON (protocol section 2.2).
func (op *Operator) digest() string {
	if op.standing(lie.InfoDigest) {
		return randomHash().String()
	}
	return digestOf(op.info())
}

func digestOf(i *arkv1.GetInfoResponse) string {
	type intentFees struct {
		OnchainInputFee, OffchainInputFee, OnchainOutputFee, OffchainOutputFee string
	}
	type deprecated struct {
		PubKey     string
		CutoffDate int64
	}
	old := make([]deprecated, 0, len(i.DeprecatedSigners))
	for _, d := range i.DeprecatedSigners {
		cutoff := d.CutoffDate
		if cutoff == 0 {
			cutoff = time.Time{}.Unix()
		}
		old = append(old, deprecated{d.Pubkey, cutoff})
	}
	slices.SortFunc(old, func(a, b deprecated) int { return strings.Compare(a.PubKey, b.PubKey) })
	raw, err := json.Marshal(struct {
		SignerPubKey        string
		DeprecatedSigners   []deprecated
		ForfeitPubKey       string
		UnilateralExitDelay int64
		BoardingExitDelay   int64
		SessionDuration     int64
		Network             string
		Dust                int64
		ForfeitAddress      string
		UtxoMinAmount       int64
		UtxoMaxAmount       int64
		VtxoMinAmount       int64
		VtxoMaxAmount       int64
		CheckpointTapscript string
		Fees                struct {
			IntentFees intentFees
			TxFeeRate  int
		}
		MaxTxWeight        int64
		MaxOpReturnOutputs int64
	}{
		i.SignerPubkey, old, i.ForfeitPubkey, i.UnilateralExitDelay, i.BoardingExitDelay, i.SessionDuration, i.Network,
		i.Dust, i.ForfeitAddress, i.UtxoMinAmount, i.UtxoMaxAmount, i.VtxoMinAmount, i.VtxoMaxAmount, i.CheckpointTapscript,
		struct {
			IntentFees intentFees
			TxFeeRate  int
		}{IntentFees: intentFees{
			i.Fees.IntentFee.OnchainInput, i.Fees.IntentFee.OffchainInput, i.Fees.IntentFee.OnchainOutput, i.Fees.IntentFee.OffchainOutput,
		}},
		i.MaxTxWeight, i.MaxOpReturnOutputs,
	})
	if err != nil {
		return ""
	}
	h := sha256.Sum256(raw)
	return hex.EncodeToString(h[:])
}

// info is GetInfo without its digest.
func (op *Operator) info() *arkv1.GetInfoResponse {
	set := op.Settings()
	most := set.UtxoMax
	if set.NoBoarding {
		most = 0
	}
	feeInfo := &arkv1.FeeInfo{TxFeeRate: "0", IntentFee: &arkv1.IntentFeeInfo{
		OffchainInput: set.Fees.OffchainInput, OffchainOutput: set.Fees.OffchainOutput,
		OnchainInput: set.Fees.OnchainInput, OnchainOutput: set.Fees.OnchainOutput,
	}}
	i := &arkv1.GetInfoResponse{
		Version:             set.Version,
		SignerPubkey:        hex.EncodeToString(op.signerPub().SerializeCompressed()),
		ForfeitPubkey:       op.forfeitKey().hex,
		ForfeitAddress:      op.forfeitAddress(),
		CheckpointTapscript: hex.EncodeToString(op.checkpointScript()),
		Network:             network,
		SessionDuration:     int64(set.SessionDuration / time.Second),
		UnilateralExitDelay: int64(tapscript.NewDelay(set.PublicExitDelay).Value),
		BoardingExitDelay:   int64(set.boardingDelay().Value),
		UtxoMinAmount:       set.UtxoMin, UtxoMaxAmount: most,
		VtxoMinAmount: set.VtxoMin, VtxoMaxAmount: set.VtxoMax,
		Dust: set.Dust, Fees: feeInfo, MaxTxWeight: set.MaxTxWeight, MaxOpReturnOutputs: set.MaxOpReturns,
	}
	if s := set.Scheduled; s != nil {
		start, end := s.next(op.clock.Now())
		i.ScheduledSession = &arkv1.ScheduledSession{
			NextStartTime: start.Unix(), NextEndTime: end.Unix(),
			Period: int64(s.Period / time.Minute), Duration: int64(s.Duration / time.Second),
			Fees: &arkv1.FeeInfo{IntentFee: &arkv1.IntentFeeInfo{}, TxFeeRate: "0"},
		}
	}
	for _, d := range set.Deprecated {
		var cutoff int64
		if !d.Cutoff.IsZero() {
			cutoff = d.Cutoff.Unix()
		}
		i.DeprecatedSigners = append(i.DeprecatedSigners, &arkv1.DeprecatedSigner{
			Pubkey: hex.EncodeToString(d.Key.SerializeCompressed()), CutoffDate: cutoff,
		})
	}
	op.liedInfo(i)
	return i
}

// next is the window that is running or comes next.
func (s *ScheduledSession) next(now time.Time) (start, end time.Time) {
	var n time.Duration
	if elapsed := now.Sub(s.End); elapsed >= 0 && s.Period > 0 {
		n = elapsed/s.Period + 1
	}
	return s.Start.Add(n * s.Period), s.End.Add(n * s.Period)
}
