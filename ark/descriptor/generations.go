package descriptor

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/vigil-ark/vigil/ark"
)

// MaxGenerations bounds the descriptors of one wallet: every one costs three scripts
// that are looked for on every sync, and begins only when its owner accepted what an
// operator changed.
const MaxGenerations = 32

// Next describes the same wallet under an operator's other parameters: signer and
// exit delays are those of p, all else is d's. Only a recovery delay that would not
// be MinMargin after the new exit delay grows to that. The error is ErrDescriptor.
func (d Descriptor) Next(p ark.Params) (Descriptor, error) {
	if p.Network != d.Network {
		return Descriptor{}, fmt.Errorf("%w: of %s, the operator is on %s", ErrDescriptor, d.Network, p.Network)
	}
	recovery := d.RecoveryDelay
	if least := p.ExitDelay.Seconds() + MinMargin; recovery.Seconds() < least {
		recovery = above(0, ark.Delay(min(least, int64(ark.MaxDelay))))
	}
	return New(p, d.Group, d.Delegate, d.Recovery, recovery)
}

// Kin says whether two descriptors are of one wallet: they differ in nothing but
// the operator's signer and the delays.
func (d Descriptor) Kin(other Descriptor) bool {
	return d.Network == other.Network && d.Group == other.Group && d.Delegate == other.Delegate && d.Recovery == other.Recovery
}

// Generations are the descriptors that a wallet has had, the current one last. Coins
// lie at the scripts of any; what is paid goes to the current one. An operator that
// goes back to what it had makes an earlier one current again: none is there twice.
type Generations []Descriptor

// Current is where the wallet receives; the zero value for none.
func (g Generations) Current() Descriptor {
	if len(g) == 0 {
		return Descriptor{}
	}
	return g[len(g)-1]
}

// Older are those before the current one, the oldest first.
func (g Generations) Older() []Descriptor { return g[:max(len(g)-1, 0)] }

// Check holds every one to Check, and all to being of one wallet, each once. The
// error is ErrDescriptor.
func (g Generations) Check() error {
	if len(g) == 0 || len(g) > MaxGenerations {
		return fmt.Errorf("%w: %d generations, want 1 to %d", ErrDescriptor, len(g), MaxGenerations)
	}
	for i, d := range g {
		if err := d.Check(); err != nil {
			return err
		}
		if !d.Kin(g[0]) {
			return fmt.Errorf("%w: generation %d is of another wallet", ErrDescriptor, i)
		}
		if slices.Contains(g[:i], d) {
			return fmt.Errorf("%w: generation %d is there twice", ErrDescriptor, i)
		}
	}
	return nil
}

// With are the generations once next is the current one. The error is
// ErrDescriptor, also when there are too many.
func (g Generations) With(next Descriptor) (Generations, error) {
	out := slices.DeleteFunc(slices.Clone(g), func(d Descriptor) bool { return d == next })
	out = append(out, next)
	return out, out.Check()
}

// Scripts are all at which the wallet's coins may lie, those of the current
// generation first: of each VTXOs', two-leaf and boarding script.
func (g Generations) Scripts() [][]byte {
	var list [][]byte
	for _, d := range slices.Backward(g) {
		list = append(list, d.PkScript(), d.TwoLeaf().PkScript(), d.BoardingPkScript())
	}
	return unique(list)
}

// VTXOScripts are those of Scripts at which coins lie in Ark.
func (g Generations) VTXOScripts() [][]byte {
	var list [][]byte
	for _, d := range slices.Backward(g) {
		list = append(list, d.PkScript(), d.TwoLeaf().PkScript())
	}
	return unique(list)
}

// unique drops what comes again: generations that differ in the boarding delay alone
// share a two-leaf script.
func unique(list [][]byte) [][]byte {
	var out [][]byte
	for _, s := range list {
		if !slices.ContainsFunc(out, func(b []byte) bool { return bytes.Equal(b, s) }) {
			out = append(out, s)
		}
	}
	return out
}

// Encode is the binary form of the current one, and those of the older ones, the
// oldest first.
func (g Generations) Encode() (current []byte, older [][]byte) {
	for _, d := range g.Older() {
		older = append(older, d.Encode())
	}
	return g.Current().Encode(), older
}

// DecodeGenerations reads what Encode wrote. The error is ErrDescriptor.
func DecodeGenerations(current []byte, older [][]byte) (Generations, error) {
	return generations(Decode, current, older)
}

// Text is the form for backups: that of the current one, and of the older ones.
func (g Generations) Text() (current string, older []string) {
	for _, d := range g.Older() {
		older = append(older, d.String())
	}
	return g.Current().String(), older
}

// ParseGenerations reads what Text wrote. The error is ErrDescriptor.
func ParseGenerations(current string, older []string) (Generations, error) {
	return generations(Parse, current, older)
}

func generations[T any](read func(T) (Descriptor, error), current T, older []T) (Generations, error) {
	if len(older) >= MaxGenerations {
		return nil, fmt.Errorf("%w: %d generations", ErrDescriptor, len(older)+1)
	}
	var g Generations
	for _, one := range append(slices.Clone(older), current) {
		d, err := read(one)
		if err != nil {
			return nil, err
		}
		g = append(g, d)
	}
	return g, g.Check()
}
