package reshare

import (
	"crypto/rand"
	"fmt"

	"github.com/btcsuite/btcd/btcec/v2"

	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/frost"
	"github.com/vigil-ark/vigil/frost/chilldkg"
	"github.com/vigil-ark/vigil/frost/internal/pedpop"
	"github.com/vigil-ark/vigil/secret"
)

// A dealer's message is: commitments, its public nonce, one encrypted value for
// each recipient, and its host key's signature. Handing over, the commitments are
// those of a polynomial of degree t-1 whose value at 0 is the dealer's weighted
// share, and the recipients are the new holders. Rebuilding, they are the parts
// that add up to the weighted share, one for each helper, and the recipients are
// the helpers.
type deal struct {
	coms  []bip340.Point
	nonce bip340.PubKey
	point bip340.Point // nonce, decoded
	enc   []btcec.ModNScalar
}

// recipients returns the host keys that values are encrypted to.
func (p *Params) recipients() ([]bip340.PubKey, []bip340.Point) {
	if p.kind == handOver {
		return p.hosts, p.points
	}
	keys, points := make([]bip340.PubKey, len(p.dealers)), make([]bip340.Point, len(p.dealers))
	for k, id := range p.dealers {
		keys[k], points[k] = p.oldHosts[id], p.oldPts[id]
	}
	return keys, points
}

func (p *Params) coms() int {
	if p.kind == handOver {
		return p.t
	}
	return len(p.dealers)
}

// LenDeal is the length of a dealer's message in bytes.
func (p *Params) LenDeal() int {
	to := len(p.hosts)
	if p.kind == rebuild {
		to = len(p.dealers)
	}
	return 33*p.coms() + 33 + 32*to + 64
}

// value sets out to what recipient j gets of the secret values.
func (p *Params) value(secrets pedpop.Polynomial, j int, out *btcec.ModNScalar) {
	if p.kind == handOver {
		secrets.At(j, out)
		return
	}
	out.Set(&secrets[j])
}

// behind returns the point of recipient j's value.
func (p *Params) behind(d *deal, j int) bip340.Point {
	if p.kind == handOver {
		return pedpop.Evaluate(d.coms, j).Point()
	}
	return d.coms[j]
}

// anchor returns the point of what the dealer shares out.
func (p *Params) anchor(d *deal) bip340.Point {
	if p.kind == handOver {
		return d.coms[0]
	}
	var sum bip340.Sum
	for _, c := range d.coms {
		sum.Add(c)
	}
	return sum.Point()
}

// Deal makes a dealer's message, of LenDeal bytes, with fresh randomness. host is
// its host key of the old epoch, share its secret share of it. Nothing need be
// kept. Errors are chilldkg.ErrHostKey and frost.ErrShare.
func (p *Params) Deal(host *chilldkg.HostKey, share secret.Bytes) ([]byte, error) {
	k, err := p.dealer(host.PubKey())
	if err != nil {
		return nil, err
	}
	id := p.dealers[k]
	if err := matches(p.old, id, share); err != nil {
		return nil, err
	}
	random, err := pedpop.Random()
	if err != nil {
		return nil, err
	}
	defer clear(random[:])
	var body []byte
	err = host.Use(func(d []byte) error {
		seed := tagSeed.HashSecret(d, random[:], p.ctx[:])
		defer clear(seed[:])
		return share.Use(func(s []byte) (err error) {
			body, err = p.deal(k, s, &seed)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return p.sign(host, dealTag, id, nil, body)
}

// matches checks a share against a record: one of another epoch is refused.
func matches(info *frost.Info, id int, share secret.Bytes) error {
	s, err := frost.NewShare(info, id, share)
	if err != nil {
		return err
	}
	s.Burn()
	return nil
}

// sign appends the signature of participant id of the old epoch to body.
func (p *Params) sign(host *chilldkg.HostKey, tag string, id int, before, body []byte) ([]byte, error) {
	sig, err := host.Sign(rand.Reader, p.signed(tag, id, before, body))
	if err != nil {
		return nil, err
	}
	return append(body, sig[:]...), nil
}

// deal shares the weighted share out. The nonce is of the same seed as the
// values, so that no pad is ever used twice.
func (p *Params) deal(k int, share []byte, seed *[32]byte) ([]byte, error) {
	secrets, err := pedpop.NewPolynomial(tagValues, seed, 1, p.coms()-1)
	if err != nil {
		return nil, fmt.Errorf("reshare: %w", err)
	}
	defer secrets.Wipe()
	var secn, v, pad btcec.ModNScalar
	defer secn.Zero()
	defer v.Zero()
	defer pad.Zero()
	if err := ephemeral(seed, &secn); err != nil {
		return nil, err
	}
	secrets[0].SetByteSlice(share)
	secrets[0].Mul(&p.weights[k])
	if p.kind == rebuild { // the parts add up
		for j := 1; j < len(secrets); j++ {
			secrets[0].Add(v.NegateVal(&secrets[j]))
		}
	}
	if secrets[0].IsZero() {
		return nil, fmt.Errorf("reshare: %w", bip340.ErrScalar)
	}
	bases := make([]*btcec.ModNScalar, 0, len(secrets)+1)
	for j := range secrets {
		bases = append(bases, &secrets[j])
	}
	points := bip340.MulBases(append(bases, &secn)...)
	last := len(secrets)
	nonce := points[last].PubKey()
	keys, to := p.recipients()
	tags := pedpop.Tags{ECDH: tagDealECDH, Context: p.ctx[:]}
	enc := make([]btcec.ModNScalar, len(keys))
	for j := range keys {
		p.value(secrets, j, &v)
		tags.Send(&secn, nonce, keys[j], to[j], j, &pad)
		enc[j].Add2(&v, &pad)
	}
	return pedpop.AppendScalars(append(pedpop.AppendPoints(nil, points[:last]), nonce[:]...), enc), nil
}

// ephemeral derives the secret behind a message's nonce.
func ephemeral(seed *[32]byte, out *btcec.ModNScalar) error {
	sum := tagSecNonce.HashSecret(seed[:])
	bad := out.SetBytes(&sum) | out.IsZeroBit()
	clear(sum[:])
	if bad != 0 {
		return fmt.Errorf("reshare: nonce: %w", bip340.ErrScalar)
	}
	return nil
}

// Collect checks the dealers' messages, in the dealers' order, and returns them
// for everybody in one. Handing over, that is the transcript. Errors are
// chilldkg.ErrLength and *chilldkg.FaultError.
func (p *Params) Collect(deals [][]byte) ([]byte, error) {
	return p.join(deals, p.LenDeal(), func(all []byte) error {
		_, err := p.readDeals(all, false)
		return err
	})
}

func (p *Params) join(msgs [][]byte, size int, check func([]byte) error) ([]byte, error) {
	if len(msgs) != len(p.dealers) {
		return nil, fmt.Errorf("%w: %d messages of %d dealers", chilldkg.ErrLength, len(msgs), len(p.dealers))
	}
	all := make([]byte, 0, size*len(msgs))
	for k, m := range msgs {
		if err := pedpop.CheckLen(m, size, "message"); err != nil {
			return nil, fmt.Errorf("participant %d: %w", p.dealers[k], err)
		}
		all = append(all, m...)
	}
	return all, check(all)
}

// open verifies the signature of dealer k and returns the message before it. When
// it was relayed, the coordinator should have done that.
func (p *Params) open(tag string, k int, before, msg []byte, relayed bool) ([]byte, error) {
	id, end := p.dealers[k], len(msg)-64
	if bip340.Standard().Verify(p.oldPts[id], p.signed(tag, id, before, msg[:end]), [64]byte(msg[end:])) {
		return msg[:end], nil
	}
	if relayed {
		return nil, coordinatorFault(fmt.Sprintf("it passed on a message that participant %d has not signed", id))
	}
	return nil, participantFault(id, "its signature does not verify")
}

// readDeals decodes and checks all that is public in the dealers' messages.
func (p *Params) readDeals(b []byte, relayed bool) ([]*deal, error) {
	size := p.LenDeal()
	if err := pedpop.CheckLen(b, size*len(p.dealers), "dealers' messages"); err != nil {
		return nil, err
	}
	to, _ := p.recipients()
	out := make([]*deal, len(p.dealers))
	for k, id := range p.dealers {
		body, err := p.open(dealTag, k, nil, b[size*k:][:size], relayed)
		if err != nil {
			return nil, err
		}
		r := pedpop.Reader{B: body}
		d := &deal{coms: r.Points(p.coms(), "commitment"), nonce: r.Keys(1)[0], enc: r.Scalars(len(to), "encrypted value")}
		if r.Err != nil {
			return nil, participantFault(id, r.Err.Error())
		}
		if d.point, err = d.nonce.Point(); err != nil {
			return nil, participantFault(id, "invalid public nonce")
		}
		var want bip340.Sum
		pub, _ := p.old.PubShare(id)
		pt, err := pub.Point()
		if err != nil {
			return nil, err
		}
		want.AddMul(&p.weights[k], pt)
		if !p.anchor(d).Equal(want.Point()) {
			return nil, participantFault(id, "it deals out something else than its share")
		}
		out[k] = d
	}
	return out, nil
}

// sumFor decrypts what all dealers have for recipient j, whose host secret is d,
// checks each value, and sets out to their sum.
func (p *Params) sumFor(d []byte, j int, deals []*deal, out *btcec.ModNScalar) error {
	to, _ := p.recipients()
	tags := pedpop.Tags{ECDH: tagDealECDH, Context: p.ctx[:]}
	var key, v btcec.ModNScalar
	defer key.Zero()
	defer v.Zero()
	key.SetByteSlice(d)
	out.Zero()
	for k, m := range deals {
		tags.Receive(&key, m.point, m.nonce, to[j], j, &v)
		v.Negate().Add(&m.enc[j])
		if !pedpop.IsBehind(&v, p.behind(m, j)) {
			return participantFault(p.dealers[k], fmt.Sprintf("what it encrypted to recipient %d is not what it committed to", j))
		}
		out.Add(&v)
	}
	return nil
}
