package reshare

import (
	"fmt"

	"github.com/btcsuite/btcd/btcec/v2"

	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/frost/chilldkg"
	"github.com/vigil-ark/vigil/frost/internal/pedpop"
)

// LenPass is the length of a helper's second message in bytes: its public nonce,
// the encrypted sum of the parts that it got, and its host key's signature, over
// the dealers' messages too.
const LenPass = 33 + 32 + 64

// pass is a helper's second message.
type pass struct {
	nonce bip340.PubKey
	point bip340.Point
	enc   btcec.ModNScalar
}

// Pass takes all dealers' messages, as Collect joined them, and makes a helper's
// second message, for the one whose share is rebuilt. Errors are ErrStep when
// nothing is rebuilt, chilldkg.ErrHostKey, chilldkg.ErrLength and
// *chilldkg.FaultError.
func (p *Params) Pass(host *chilldkg.HostKey, deals []byte) ([]byte, error) {
	if p.kind != rebuild {
		return nil, ErrStep
	}
	j, err := p.dealer(host.PubKey())
	if err != nil {
		return nil, err
	}
	ds, err := p.readDeals(deals, true)
	if err != nil {
		return nil, err
	}
	random, err := pedpop.Random()
	if err != nil {
		return nil, err
	}
	defer clear(random[:])
	var body []byte
	err = host.Use(func(d []byte) error {
		var secn, sum, pad btcec.ModNScalar
		defer secn.Zero()
		defer sum.Zero()
		defer pad.Zero()
		if err := p.sumFor(d, j, ds, &sum); err != nil {
			return err
		}
		seed := tagSeed.HashSecret(d, random[:], p.ctx[:], deals)
		defer clear(seed[:])
		if err := ephemeral(&seed, &secn); err != nil {
			return err
		}
		nonce := bip340.MulBase(&secn).PubKey()
		tags := pedpop.Tags{ECDH: tagPassECDH, Context: p.ctx[:]}
		tags.Send(&secn, nonce, p.hosts[p.target], p.points[p.target], p.target, &pad)
		body = pedpop.AppendScalars(nonce[:], []btcec.ModNScalar{*sum.Add(&pad)})
		return nil
	})
	if err != nil {
		return nil, err
	}
	return p.sign(host, passTag, p.dealers[j], deals, body)
}

// CollectPasses checks the helpers' second messages, in the helpers' order, and
// returns the transcript: all first messages, then all second ones. Errors are
// ErrStep, chilldkg.ErrLength and *chilldkg.FaultError.
func (p *Params) CollectPasses(deals []byte, passes [][]byte) ([]byte, error) {
	if p.kind != rebuild {
		return nil, ErrStep
	}
	all, err := p.join(passes, LenPass, func(all []byte) error {
		_, err := p.readPasses(deals, all, false)
		return err
	})
	if err != nil {
		return nil, err
	}
	return append(append(make([]byte, 0, len(deals)+len(all)), deals...), all...), nil
}

// readPasses decodes and checks all that is public in the second messages.
func (p *Params) readPasses(deals, b []byte, relayed bool) ([]*pass, error) {
	if err := pedpop.CheckLen(b, LenPass*len(p.dealers), "helpers' messages"); err != nil {
		return nil, err
	}
	out := make([]*pass, len(p.dealers))
	for k, id := range p.dealers {
		body, err := p.open(passTag, k, deals, b[LenPass*k:][:LenPass], relayed)
		if err != nil {
			return nil, err
		}
		r := pedpop.Reader{B: body}
		m := &pass{nonce: r.Keys(1)[0], enc: r.Scalars(1, "encrypted sum")[0]}
		if r.Err != nil {
			return nil, participantFault(id, r.Err.Error())
		}
		if m.point, err = m.nonce.Point(); err != nil {
			return nil, participantFault(id, "invalid public nonce")
		}
		out[k] = m
	}
	return out, nil
}

// rebuilt decrypts the sums that the helpers passed on, with the host secret d of
// their owner-to-be, checks each, and sets out to the share.
func (p *Params) rebuilt(d []byte, deals []*deal, passes []*pass, out *btcec.ModNScalar) error {
	tags := pedpop.Tags{ECDH: tagPassECDH, Context: p.ctx[:]}
	var key, v btcec.ModNScalar
	defer key.Zero()
	defer v.Zero()
	key.SetByteSlice(d)
	out.Zero()
	for k, m := range passes {
		tags.Receive(&key, m.point, m.nonce, p.hosts[p.target], p.target, &v)
		v.Negate().Add(&m.enc)
		var want bip340.Sum
		for _, first := range deals {
			want.Add(p.behind(first, k))
		}
		if !pedpop.IsBehind(&v, want.Point()) {
			return participantFault(p.dealers[k], fmt.Sprintf("what it passed on to participant %d is not the sum of its parts", p.target))
		}
		out.Add(&v)
	}
	return nil
}
