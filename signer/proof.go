package signer

import (
	"fmt"

	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark/batch"
	"github.com/vigil-ark/vigil/ark/forfeit"
	"github.com/vigil-ark/vigil/ark/intent"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/delegate"
)

// Proof returns a delegate's proof ready to be registered, as base64 PSBT: with
// the delegate key's signature on every input whose leaf carries the key, input 0
// included.
func (s *Session) Proof(id vigil.DelegateID) (string, error) {
	rec, key, err := s.of(id)
	if err != nil {
		return "", err
	}
	packet, err := script.DecodePSBT(rec.Proof, script.StrangerLimits())
	if err != nil {
		return "", fmt.Errorf("stored proof of %s: %w", id, err)
	}
	ours := key.PubKey().XOnly()
	inputs, err := intent.ToSign(packet, ours, txscript.SigHashDefault)
	if err != nil {
		return "", fmt.Errorf("stored proof of %s: %w", id, err)
	}
	for _, in := range inputs {
		sig, err := key.Sign(in.Sighash[:])
		if err != nil {
			return "", fmt.Errorf("sign proof of %s: %w", id, err)
		}
		script.AddSignature(&packet.Inputs[in.Index], in.Leaf, script.Signature{Key: ours, Type: txscript.SigHashDefault, Sig: sig})
	}
	return encode(packet)
}

// of finds an opened delegate and its key.
func (s *Session) of(id vigil.DelegateID) (*delegate.Record, *bip340.Key, error) {
	rec, ok := s.records[id]
	if !ok {
		return nil, nil, fmt.Errorf("signer: delegate %s is not in this session", id)
	}
	key, err := s.ring.key(rec.DelegateKey)
	return rec, key, err
}

// Forfeits completes the delegate's forfeits with the connectors that its batch
// gave it, signs each with SIGHASH_DEFAULT, which pins the connector, verifies
// the result, and returns base64 PSBTs in the order of the record's inputs. One that
// is a bearer instrument is only completed; what is returned for it is a secret
// until it has left, and nothing may store it.
// The caller vouches that the branches of that batch's commitment are valid
// and that it will store them before one of these leaves.
func (s *Session) Forfeits(id vigil.DelegateID, connectors map[wire.OutPoint]batch.Connector) ([]string, error) {
	rec, key, err := s.of(id)
	if err != nil {
		return nil, err
	}
	reader := s.readers.Get().(*script.Reader)
	defer s.readers.Put(reader)
	done := make([]string, 0, len(connectors))
	for i, in := range rec.Inputs {
		connector, ok := connectors[in.Outpoint]
		if !ok {
			continue
		}
		var tx string
		if in.Bearer() {
			tx, err = completeBearer(rec, i, s.bearers[id][in.Outpoint], connector, reader)
		} else {
			tx, err = complete(rec, in, key, connector, reader)
		}
		if err != nil {
			return nil, fmt.Errorf("forfeit of %s: %w", in.Outpoint, err)
		}
		done = append(done, tx)
	}
	if len(done) != len(connectors) {
		return nil, fmt.Errorf("signer: connectors for %d inputs, of which %d are the delegate's", len(connectors), len(done))
	}
	return done, nil
}

// complete checks the stored forfeit once more, against the record's own terms,
// before the key touches it: the disk is not trusted either.
func complete(rec *delegate.Record, in delegate.Input, key *bip340.Key, connector batch.Connector, r *script.Reader) (string, error) {
	partial, err := script.DecodePSBT(in.Forfeit, script.StrangerLimits())
	if err != nil {
		return "", fmt.Errorf("stored forfeit: %w", err)
	}
	tree, err := script.ParseTapTree(in.TapTree)
	if err != nil {
		return "", fmt.Errorf("stored script: %w", err)
	}
	ours := key.PubKey().XOnly()
	if _, err := forfeit.Check(partial, rec.Terms(in, tree), r); err != nil {
		return "", fmt.Errorf("stored forfeit: %w", err)
	}
	packet, sighash, err := forfeit.Complete(partial, connector.Outpoint, connector.Out, r)
	if err != nil {
		return "", err
	}
	sig, err := key.Sign(sighash[:])
	if err != nil {
		return "", fmt.Errorf("sign: %w", err)
	}
	if err := forfeit.Sign(packet, ours, sig, r); err != nil {
		return "", err
	}
	return encode(packet)
}

func encode(packet *psbt.Packet) (string, error) {
	text, err := packet.B64Encode()
	if err != nil {
		return "", fmt.Errorf("encode PSBT: %w", err)
	}
	return text, nil
}
