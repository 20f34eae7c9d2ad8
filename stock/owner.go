package stock

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark/intent"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/ledger"
)

const (
	// ListKind is the type of the message that asks for one's delegates.
	ListKind = "vigil-list-delegates"
	// window is how far a list message's time may be from ours, either way.
	window = time.Minute
	// deleteWindow is how far ahead a delete message may expire. Stock wallets say
	// two minutes; one that never expires could be replayed for as long as the coin
	// lives.
	deleteWindow = 10 * time.Minute
	// maxMessage and maxProof bound a body in bytes.
	maxMessage = 16 << 10
	maxProof   = 1 << 20
	// perPage is how many records are read at once, maxLooked how many of one
	// script, and maxListed how many are answered: the open ones come first.
	perPage   = 64
	maxLooked = 1024
	maxListed = 512
)

// ListMessage is the text that an owner proves coins over to see the delegates
// on their scripts. It names the server's service key and a time, so that a
// proof made for anything else, or kept from earlier, shows nobody anything.
func ListMessage(server bip340.PubKey, at time.Time) string {
	b, _ := json.Marshal(listMessage{Type: ListKind, Server: server.String(), At: at.Unix()}) // strings and a number
	return string(b)
}

type listMessage struct {
	Type   string `json:"type"`
	Server string `json:"server"`
	At     int64  `json:"at"`
}

// checkListMessage holds a text to its canonical form, to this server and to
// the time.
func (s *Service) checkListMessage(text string) error {
	var m listMessage
	if len(text) > maxMessage || json.Unmarshal([]byte(text), &m) != nil || m.Type != ListKind {
		return vigil.Errorf(vigil.CodeInvalidMessage,
			`the message must be {"type":%q,"server":"<service key>","at":<unix seconds>}`, ListKind)
	}
	key, err := bip340.ParsePubKeyHex(m.Server)
	if err != nil || !s.serves(key) {
		return vigil.Errorf(vigil.CodeInvalidMessage, "the message must name this server's key, %s", s.cfg.Keys[0])
	}
	if text != ListMessage(key, time.Unix(m.At, 0)) {
		return vigil.Errorf(vigil.CodeInvalidMessage, "the message is not in its canonical form: compact, and its fields in the order type, server, at")
	}
	now := s.cfg.Now()
	if off := time.Unix(m.At, 0).Sub(now); off > window || off < -window {
		return vigil.Errorf(vigil.CodeClockSkew, "the message's time is %d and this server's %d; set the clock and sign anew, within %s", m.At, now.Unix(), window)
	}
	return nil
}

// List answers the delegates over the scripts that the proof proves, the open
// ones first.
func (s *Service) List(ctx context.Context, in vigil.Intent) ([]vigil.Summary, error) {
	if err := s.checkListMessage(in.Message); err != nil {
		return nil, err
	}
	own, err := s.verify(ctx, in)
	if err != nil {
		return nil, err
	}
	list := []vigil.Summary{}
	err = s.each(ctx, own, func(rec *delegate.Record) bool {
		list = append(list, summary(rec))
		return len(list) < maxListed
	})
	if err != nil {
		return nil, stored(err)
	}
	slices.SortStableFunc(list, func(a, b vigil.Summary) int { return endedLast(a) - endedLast(b) })
	return list, nil
}

func endedLast(s vigil.Summary) int {
	if state, err := delegate.ParseState(s.State); err == nil && state.Ended() {
		return 1
	}
	return 0
}

// each calls f for every delegate over the proven scripts whose owners' proof
// it is, once each, and the open ones of a script first, until f returns false.
// It looks at no more than maxLooked records of a script.
func (s *Service) each(ctx context.Context, own ownership, f func(*delegate.Record) bool) error {
	seen := map[vigil.DelegateID]bool{}
	for _, pkScript := range own.scripts() {
		var from ledger.Cursor
		for range maxLooked / perPage {
			records, rest, err := s.ledger.List(ctx, ledger.Filter{Script: pkScript}, perPage, from)
			if err != nil {
				return err
			}
			for _, rec := range records {
				if seen[rec.ID] || !own.owns(rec) {
					continue
				}
				seen[rec.ID] = true
				if !f(rec) {
					return nil
				}
			}
			if from = rest; from == nil {
				break
			}
		}
	}
	return nil
}

// ownership is what a verified proof shows: which keys signed for which coins.
type ownership struct {
	coins []intent.ProofInput
}

// verify checks a proof over the message. Every key of every leaf must have
// signed but the operator's, which cannot be asked: a leaf of ours and the
// operator's alone then has no owner's signature and proves nothing.
func (s *Service) verify(ctx context.Context, in vigil.Intent) (ownership, error) {
	if len(in.Message) > maxMessage || len(in.Proof) > maxProof {
		return ownership{}, vigil.Errorf(vigil.CodeInvalidProof, "the message or the proof is longer than any real one")
	}
	packet, err := script.ParsePSBT(in.Proof, script.StrangerLimits())
	if err != nil {
		return ownership{}, vigil.Errorf(vigil.CodeInvalidProof, "the proof is not a PSBT: %w", err)
	}
	if n := len(packet.Inputs) - 1; n > s.cfg.Inputs {
		return ownership{}, vigil.Errorf(vigil.CodeTooManyInputs, "the proof has %d inputs; this server takes %d", n, s.cfg.Inputs)
	}
	p, err := s.announced.Current(ctx)
	if err != nil {
		return ownership{}, err
	}
	if err := wholeSignatures(packet); err != nil {
		return ownership{}, err
	}
	proof, err := intent.Verify(packet, in.Message, intent.Options{Skip: signers(p)})
	switch {
	case errors.Is(err, intent.ErrSignature):
		return ownership{}, vigil.Errorf(vigil.CodeSignatureInvalid, "the proof does not verify: %w", err)
	case errors.Is(err, intent.ErrUnsigned):
		return ownership{}, vigil.Errorf(vigil.CodeSignatureInvalid, "a signature is missing; sign on the leaf of owner and operator, or on the exit leaf: %w", err)
	case err != nil:
		return ownership{}, vigil.Errorf(vigil.CodeInvalidProof, "the proof does not verify: %w", err)
	}
	return ownership{coins: proof.Inputs}, nil
}

// wholeSignatures refuses signatures that leave part of the proof unsigned: one
// made for something else could be carried over.
func wholeSignatures(p *psbt.Packet) error {
	for i := range p.Inputs {
		for _, sig := range p.Inputs[i].TaprootScriptSpendSig {
			if sig.SigHash != txscript.SigHashDefault && sig.SigHash != txscript.SigHashAll {
				return vigil.Errorf(vigil.CodeSighashUnsupported, "input %d is signed with sighash type %#x; only DEFAULT and ALL are taken", i, uint32(sig.SigHash))
			}
		}
	}
	return nil
}

// scripts are the proven ones, each once.
func (o ownership) scripts() [][]byte {
	var list [][]byte
	for _, c := range o.coins {
		if !slices.ContainsFunc(list, func(b []byte) bool { return bytes.Equal(b, c.Out.PkScript) }) {
			list = append(list, c.Out.PkScript)
		}
	}
	return list
}

// owns says whether every owner key of the record signed for a coin on one of
// the record's scripts. Keys that signed elsewhere do not count: anybody can
// make a script that names them.
func (o ownership) owns(rec *delegate.Record) bool {
	if len(rec.Owners) == 0 {
		return false
	}
	for _, owner := range rec.Owners {
		if !slices.ContainsFunc(o.coins, func(c intent.ProofInput) bool { return c.Signed(owner) && spends(rec, c) }) {
			return false
		}
	}
	return true
}

func spends(rec *delegate.Record, c intent.ProofInput) bool {
	return slices.ContainsFunc(rec.Inputs, func(in delegate.Input) bool { return bytes.Equal(in.Script, c.Out.PkScript) })
}
