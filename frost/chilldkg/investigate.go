package chilldkg

import (
	"errors"

	"github.com/btcsuite/btcd/btcec/v2"

	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/frost/internal/pedpop"
	"github.com/vigil-ark/vigil/secret"
)

// UnknownFaultError says that the share that a participant got is wrong, and
// that it takes the coordinator's investigation message to say whose fault that
// is. It holds secrets: Burn it when no investigation follows.
type UnknownFaultError struct {
	id       int
	enc      btcec.ModNScalar
	pubshare bip340.Point
	held     secret.Bytes // the share, then all pads
}

func (e *UnknownFaultError) Error() string {
	return "chilldkg: the share that was received is wrong; an investigation can say whose fault it is"
}

// Burn wipes what the investigation would need.
func (e *UnknownFaultError) Burn() { e.held.Burn() }

func unknownFault(id int, sec *btcec.ModNScalar, pads pedpop.Polynomial, enc *btcec.ModNScalar, g *group) error {
	first := pedpop.Polynomial{*sec}
	b := pedpop.AppendScalars(pedpop.AppendScalars(make([]byte, 0, 32+32*len(pads)), first), pads)
	first.Wipe()
	var p bip340.Sum
	p.Add(g.shares[id])
	p.Add(g.tauG.Negate())
	return &UnknownFaultError{id: id, enc: *enc, pubshare: p.Point(), held: secret.New(b)}
}

// errConsistent cannot come of an investigation of one session.
var errConsistent = errors.New("chilldkg: the investigation finds nothing wrong: its inputs are of different sessions")

// Investigate takes the coordinator's investigation message and always returns
// an error: a *FaultError that blames one party, provided that messages came
// unchanged, or ErrLength. It can be called once; then the secrets are gone.
func (e *UnknownFaultError) Investigate(cinv []byte) error {
	defer e.Burn()
	return e.held.Use(func(b []byte) (err error) {
		secret.Do(func() { err = e.investigate(b, cinv) })
		return err
	})
}

func (e *UnknownFaultError) investigate(held, cinv []byte) error {
	n := len(held)/32 - 1
	v, err := parseInvestigation(cinv, n)
	if errors.Is(err, ErrMalformed) {
		return coordinatorFault(err.Error())
	}
	if err != nil {
		return err
	}
	var points bip340.Sum
	var sum btcec.ModNScalar
	for i := range n {
		points.Add(v.partial[i])
		sum.Add(&v.enc[i])
	}
	if !points.Point().Equal(e.pubshare) {
		return coordinatorFault("the partial public shares do not add up to the public share")
	}
	if !sum.Equals(&e.enc) {
		return coordinatorFault("the encrypted partial shares do not add up to the encrypted share")
	}
	var share btcec.ModNScalar
	defer share.Zero()
	for i := range n {
		share.SetByteSlice(held[32*(i+1):][:32]) // the pad
		share.Negate().Add(&v.enc[i])
		switch {
		case pedpop.IsBehind(&share, v.partial[i]):
		case i == e.id:
			return coordinatorFault("it changed this participant's share to itself")
		default:
			return &FaultError{By: ParticipantOrCoordinator, ID: i, Reason: "invalid partial share"}
		}
	}
	return errConsistent
}
