package signer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark/batch"
	"github.com/vigil-ark/vigil/ark/forfeit"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/secret"
)

// bearers are the owner's signatures, 64 bytes each, of a delegate's forfeits that
// are bearer instruments: what the record has of such a forfeit is all but this.
type bearers map[wire.OutPoint]secret.Bytes

func (bs bearers) burn() {
	for _, b := range bs {
		b.Burn()
	}
}

// The value of a forfeit-secret: a version byte, then for each forfeit, ascending,
// the index of the record's input as u16 and the owner's signature.
const (
	sealedVersion = 1
	sigLen        = 64
	sealedLen     = 2 + sigLen
)

// errSealed says nothing of the bytes that it is about.
var errSealed = errors.New("signer: malformed sealed forfeits")

// SealForfeits stores the signatures of a delegate's bearer forfeits, before its
// record is. forfeits are all of the delegate's, as base64 PSBTs, which intake has
// checked; what is stored is checked once more against what the record says of it.
// The caller has made ForfeitName garbage from some later time on. An error is the
// store's, or tells of a caller that did not check.
func (s *Signer) SealForfeits(ctx context.Context, rec *delegate.Record, forfeits []string) error {
	given := map[wire.OutPoint]*psbt.Packet{}
	for _, b64 := range forfeits {
		packet, err := script.ParsePSBT(b64, script.StrangerLimits())
		if err != nil {
			return fmt.Errorf("forfeit to be sealed: %w", err)
		}
		given[packet.UnsignedTx.TxIn[0].PreviousOutPoint] = packet
	}
	reader := script.NewReader()
	// As large as it gets: what append grows out of, nobody wipes.
	b := append(make([]byte, 0, 1+len(rec.Inputs)*sealedLen), sealedVersion)
	for i, in := range rec.Inputs {
		if !in.Bearer() {
			continue
		}
		sig, err := bearerSignature(rec, in, given[in.Outpoint], reader)
		if err != nil {
			clear(b)
			return fmt.Errorf("forfeit of %s to be sealed: %w", in.Outpoint, err)
		}
		b = append(binary.BigEndian.AppendUint16(b, uint16(i)), sig[:]...)
	}
	value := secret.New(b)
	defer value.Burn()
	if err := s.store.Put(ctx, ForfeitName(rec.ID), value); err != nil {
		return fmt.Errorf("store %s: %w", ForfeitName(rec.ID), err)
	}
	return nil
}

// bearerSignature takes the owner's signature out of a forfeit that is the record's.
func bearerSignature(rec *delegate.Record, in delegate.Input, packet *psbt.Packet, r *script.Reader) (sig [sigLen]byte, err error) {
	if packet == nil {
		return sig, errors.New("it is not given")
	}
	tree, err := script.ParseTapTree(in.TapTree)
	if err != nil {
		return sig, err
	}
	if _, err := forfeit.Check(packet, rec.Terms(in, tree), r); err != nil {
		return sig, err
	}
	if packet.UnsignedTx.TxHash() != in.Sealed {
		return sig, errors.New("it is another one's")
	}
	spend, err := r.Spend(&packet.Inputs[0])
	if err != nil {
		return sig, err
	}
	return spend.Signatures[0].Sig, nil // Check found exactly one
}

// decodeSealed reads what SealForfeits wrote for a record.
func decodeSealed(rec *delegate.Record, value secret.Bytes) (bearers, error) {
	var bs bearers
	err := value.Use(func(b []byte) error {
		if len(b) < 1+sealedLen || b[0] != sealedVersion || (len(b)-1)%sealedLen != 0 {
			return errSealed
		}
		bs = bearers{}
		last := -1
		for b = b[1:]; len(b) > 0; b = b[sealedLen:] {
			i := int(binary.BigEndian.Uint16(b))
			if i <= last || i >= len(rec.Inputs) || !rec.Inputs[i].Bearer() {
				return errSealed
			}
			last = i
			bs[rec.Inputs[i].Outpoint] = secret.New(slices.Clone(b[2:sealedLen]))
		}
		return nil
	})
	if err != nil {
		bs.burn()
		return nil, err
	}
	return bs, nil
}

// unseal reads a record's sealed forfeits and holds each signature to the sighash
// that the record stands for. Errors are delegate.ErrSecretWrong, for what is not
// there or not the record's, delegate.ErrDamaged for a record that contradicts
// itself, and secret.ErrBurned.
func unseal(rec *delegate.Record, value secret.Bytes) (bearers, error) {
	if !rec.HasSealed() {
		return nil, nil
	}
	bs, err := decodeSealed(rec, value)
	if errors.Is(err, secret.ErrBurned) {
		return nil, fmt.Errorf("open delegate %s: %w", rec.ID, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: delegate %s: %w", delegate.ErrSecretWrong, rec.ID, err)
	}
	for i, in := range rec.Inputs {
		if !in.Bearer() {
			continue
		}
		if _, err := present(rec, i, bs[in.Outpoint]); err != nil {
			bs.burn()
			return nil, err
		}
	}
	return bs, nil
}

// present rebuilds the forfeit of input i as its owner signed it.
func present(rec *delegate.Record, i int, value secret.Bytes) (*psbt.Packet, error) {
	in := rec.Inputs[i]
	tree, err := script.ParseTapTree(in.TapTree)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: script of %s: %w", delegate.ErrDamaged, rec.ID, in.Outpoint, err)
	}
	packet, sighash, leaf, err := rec.Unsealed(i, tree)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: forfeit of %s: %w", delegate.ErrDamaged, rec.ID, in.Outpoint, err)
	}
	err = value.Use(func(sig []byte) error {
		if len(rec.Owners) != 1 || len(sig) != sigLen || !bip340.Verify(rec.Owners[0], sighash[:], [sigLen]byte(sig)) {
			return fmt.Errorf("%w: delegate %s: the sealed forfeit of %s does not verify", delegate.ErrSecretWrong, rec.ID, in.Outpoint)
		}
		script.AddSignature(&packet.Inputs[0], leaf, script.Signature{Key: rec.Owners[0], Type: forfeit.OwnerSighash, Sig: [sigLen]byte(sig)})
		return nil
	})
	if errors.Is(err, secret.ErrBurned) {
		return nil, fmt.Errorf("%w: delegate %s: no sealed forfeit of %s", delegate.ErrSecretWrong, rec.ID, in.Outpoint)
	}
	if err != nil {
		return nil, err
	}
	return packet, nil
}

// completeBearer is complete for a bearer forfeit: our key has no part in it, and
// the connector is only what the operator asks for. The caller vouches for the
// branch all the more: with what this returns the operator has the coin.
func completeBearer(rec *delegate.Record, i int, value secret.Bytes, connector batch.Connector, r *script.Reader) (string, error) {
	partial, err := present(rec, i, value)
	if err != nil {
		return "", err
	}
	packet, _, err := forfeit.Complete(partial, connector.Outpoint, connector.Out, r)
	if err != nil {
		return "", err
	}
	if err := forfeit.VerifyBearer(packet, rec.Owners[0], r); err != nil {
		return "", err
	}
	return encode(packet)
}

// Parts calls f with every secret that a stored value consists of, for those who
// look for secrets where none may be: the value itself is found only where it was
// copied whole.
func Parts(name string, value secret.Bytes, f func(part string, b secret.Bytes) error) error {
	return value.Use(func(b []byte) error {
		give := func(part string, b []byte) error { return f(part, secret.New(slices.Clone(b))) }
		switch {
		case strings.HasPrefix(name, dkgPrefix) && len(b) >= 2 && (len(b)-2)%heldLen == 0:
			for b = b[2:]; len(b) > 0; b = b[heldLen:] {
				if err := errors.Join(give(name+" host", b[4:36]), give(name+" share", b[36:heldLen])); err != nil {
					return err
				}
			}
			return nil
		case strings.HasPrefix(name, forfeitPrefix) && len(b) >= 1 && (len(b)-1)%sealedLen == 0:
			for b = b[1:]; len(b) > 0; b = b[sealedLen:] {
				// Its second half is as good as all of it: the first is the sum of nonces
				// that are public.
				if err := errors.Join(give(name+" signature", b[2:sealedLen]), give(name+" scalar", b[2+32:sealedLen])); err != nil {
					return err
				}
			}
			return nil
		}
		return give(name, b)
	})
}
