package client

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/descriptor"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/frost/chilldkg"
	"github.com/vigil-ark/vigil/frost/refresh"
	"github.com/vigil-ark/vigil/secret"
	"github.com/vigil-ark/vigil/vigilpb"
)

// CreateOptions are the owner's choices; the zero value is a 2-of-2 wallet with
// the default recovery delay.
type CreateOptions struct {
	// Cold are shares beside the device's and Vigil's, which the owner keeps: one
	// makes a 2-of-3 wallet.
	Cold []*ColdShare
	// Threshold is how many shares sign: 2, which 0 is too. A device signs with one
	// other share.
	Threshold int
	// Token is what a server asks for that registers by token.
	Token string
	// RecoveryDelay is how long leaf 4 waits; 0 is descriptor.DefaultRecovery.
	RecoveryDelay ark.Delay
	// Name of the device, for its owner.
	Name string
}

// Create makes a wallet's key together with Vigil and confirms it. It can be
// called again with the same store and seed until it has succeeded: whatever
// broke off, there is one wallet in the end. Errors are ErrExists for a store
// that has a whole wallet, *vigil.Error, ErrVigil.
func Create(ctx context.Context, cfg Config, seed Seed, opt CreateOptions) (*Wallet, error) {
	w, err := open(ctx, cfg)
	switch {
	case errors.Is(err, ErrNoWallet):
		if w, err = begin(ctx, cfg, seed, 0, true); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	case w.st.Acknowledged:
		w.Close()
		return nil, ErrExists
	default:
		if err := w.of(seed); err != nil {
			w.Close()
			return nil, err
		}
	}
	if err := w.create(ctx, opt); err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

// of holds the seed against what is in the store: the words that the owner keeps
// must be those of the keys.
func (w *Wallet) of(seed Seed) error {
	recovery, err := seed.recovery(w.st.Network)
	if err != nil {
		return err
	}
	defer recovery.Burn()
	if x := recovery.PubKey().XOnly(); string(x[:]) != string(w.st.RecoveryKey) {
		return fmt.Errorf("%w: the store was begun with other words; give those, or begin in an empty store", ErrSeed)
	}
	return nil
}

// begin writes the first state of a device: its keys, made of the seed, and with
// whom it speaks. Nobody else knows of it yet.
func begin(ctx context.Context, cfg Config, seed Seed, epoch uint32, anew bool) (w *Wallet, err error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	w = &Wallet{cfg: cfg, store: store{cfg.Store}}
	if err := w.meet(ctx, anew); err != nil {
		w.Close()
		return nil, err
	}
	defer func() {
		if err != nil {
			w.Close()
		}
	}()
	var draw [4]byte
	if _, err := rand.Read(draw[:]); err != nil {
		return nil, err
	}
	w.st.IdentityIndex = binary.BigEndian.Uint32(draw[:]) >> 1
	recovery, err := seed.recovery(w.st.Network)
	if err != nil {
		return nil, err
	}
	defer recovery.Burn()
	x := recovery.PubKey().XOnly()
	w.st.RecoveryKey = x[:]
	w.st.Cutover = refresh.Cutover{Active: epoch}
	for name, make := range map[string]func() (secret.Bytes, error){
		nameIdentity:           func() (secret.Bytes, error) { return seed.identity(w.st.Network, w.st.IdentityIndex) },
		named(nameHost, epoch): func() (secret.Bytes, error) { return seed.host(w.st.Network, epoch) },
	} {
		scalar, err := make()
		if err != nil {
			return nil, err
		}
		defer scalar.Burn()
		if err := w.store.Put(ctx, name, scalar); err != nil {
			return nil, err
		}
	}
	if err := w.store.save(ctx, w.st); err != nil {
		return nil, err
	}
	return w, w.reload(ctx)
}

// meet asks operator and Vigil who they are: they must be of one network, and
// Vigil of this operator. A wallet that is there already may be met at a Vigil whose
// people have not accepted the operator's other key yet.
func (w *Wallet) meet(ctx context.Context, anew bool) error {
	w.st = &state{Version: stateVersion, Server: slices.Clone(w.cfg.HostKey[:])}
	if err := w.connect(); err != nil {
		return err
	}
	p, err := w.op.Params(ctx)
	if err != nil {
		return err
	}
	w.st.Network, w.st.Signer = p.Network, slices.Clone(p.SignerKey[:])
	w.vigil = dialVigil(w.cfg, p.Network)
	var info vigilpb.ServerInfo
	if err := w.vigil.ask(ctx, "GetServer", caller{}, &vigilpb.GetServerRequest{}, &info); err != nil {
		return err
	}
	known := string(info.OperatorSigner) == string(w.st.Signer) ||
		!anew && slices.ContainsFunc(p.DeprecatedSigners, func(d ark.DeprecatedSigner) bool { return string(d.Key[:]) == string(info.OperatorSigner) })
	if string(info.HostKey) != string(w.st.Server) || info.Network != string(p.Network) || !known {
		return fmt.Errorf("%w: Vigil serves operator %x on %s, the operator is %s on %s", ErrPinned, info.OperatorSigner, info.Network, p.SignerKey, p.Network)
	}
	return nil
}

// create runs the ceremony, or takes up what came of an earlier one.
func (w *Wallet) create(ctx context.Context, opt CreateOptions) error {
	if opt.Threshold == 0 {
		opt.Threshold = 2
	}
	if opt.Threshold != 2 {
		return fmt.Errorf("%w: a device signs with one other share, so the threshold is 2, not %d", ErrConfig, opt.Threshold)
	}
	if opt.RecoveryDelay == 0 { // not what a server says: it is the way out from it
		opt.RecoveryDelay = descriptor.DefaultRecovery
	}
	key, err := w.hostKey(ctx, 0)
	if err != nil {
		return err
	}
	defer key.Burn()
	own := key.PubKey()
	identity := w.identity.PubKey()
	as := caller{own[:], key, 0}
	req := &vigilpb.BeginKeygenRequest{
		DeviceHost: own[:], Threshold: uint32(opt.Threshold), Token: opt.Token, Name: opt.Name,
		IdentityKey: identity[:], RecoveryKey: w.st.RecoveryKey, RecoveryDelay: uint32(opt.RecoveryDelay),
	}
	for _, c := range opt.Cold {
		h := c.HostKey()
		req.ColdHosts = append(req.ColdHosts, h[:])
	}
	var begun vigilpb.BeginKeygenAnswer
	if err := w.vigil.ask(ctx, "BeginKeygen", as, req, &begun); err != nil {
		return err
	}
	if len(begun.Wallet) > 0 {
		return w.restore(ctx, key, opt, restoring{}) // of one generation: nobody accepted another before the acknowledgment
	}
	return w.ceremony(ctx, as, &begun, opt)
}

// ceremony runs ChillDKG with Vigil as coordinator.
func (w *Wallet) ceremony(ctx context.Context, as caller, begun *vigilpb.BeginKeygenAnswer, opt CreateOptions) error {
	vigilHost, err := bip340.ParsePubKey(begun.ServerDkgHost)
	if err != nil {
		return fmt.Errorf("%w: its key for the ceremony: %w", ErrVigil, err)
	}
	hosts := []bip340.PubKey{as.key.PubKey(), vigilHost}
	for _, c := range opt.Cold {
		hosts = append(hosts, c.HostKey())
	}
	params, err := chilldkg.NewParams(opt.Threshold, hosts)
	if err != nil {
		return err
	}
	host, err := w.ceremonyKey(ctx, 0)
	if err != nil {
		return err
	}
	defer host.Burn()
	one, pmsg1, err := chilldkg.Step1(host, params)
	if err != nil {
		return err
	}
	first := &vigilpb.KeygenRequest{Session: begun.Session, Pmsgs1: [][]byte{pmsg1}}
	for _, c := range opt.Cold {
		if pmsg1, err = c.step1(params); err != nil {
			return err
		}
		first.Pmsgs1 = append(first.Pmsgs1, pmsg1)
	}
	var sums vigilpb.KeygenAnswer
	if err := w.vigil.ask(ctx, "Keygen", as, first, &sums); err != nil {
		return err
	}
	two, pmsg2, err := one.Step2(host, sums.Cmsg1)
	if err != nil {
		return err
	}
	// From here on the others may hold a key with this device's word for it.
	unconfirmed := two.Unconfirmed()
	if err := w.store.Put(ctx, named(nameShare, 0), unconfirmed.Share); err != nil {
		return err
	}
	if err := w.update(ctx, func(st *state) error {
		st.Threshold = opt.Threshold
		st.Epochs = []epoch{{Hosts: hostBytes(hosts), Record: two.Transcript()}}
		return nil
	}); err != nil {
		return err
	}
	second := &vigilpb.CertifyKeygenRequest{Session: begun.Session, Pmsgs2: [][]byte{pmsg2}}
	for _, c := range opt.Cold {
		if pmsg2, err = c.step2(sums.Cmsg1); err != nil {
			return err
		}
		second.Pmsgs2 = append(second.Pmsgs2, pmsg2)
	}
	var cert vigilpb.CertifyKeygenAnswer
	if err := w.vigil.ask(ctx, "CertifyKeygen", as, second, &cert); err != nil {
		return err
	}
	out, record, err := two.Finalize(cert.Cmsg2)
	if err != nil {
		return err
	}
	for _, c := range opt.Cold {
		if err := c.finalize(cert.Cmsg2); err != nil {
			return err
		}
	}
	if err := chilldkg.VerifyAcknowledgment(params, record, vigilID, cert.Ack); err != nil {
		return fmt.Errorf("%w: its acknowledgment: %w", ErrVigil, err)
	}
	if err := w.made(ctx, out, record, hosts, cert.Wallet, cert.GetDescriptor_(), opt.RecoveryDelay); err != nil {
		return err
	}
	return w.acknowledge(ctx, opt.Cold)
}

// made keeps a wallet whose key has its certificate.
func (w *Wallet) made(ctx context.Context, out *chilldkg.Output, record []byte, hosts []bip340.PubKey, id, described []byte, delay ark.Delay) error {
	info, err := out.Info()
	if err != nil {
		return err
	}
	d, err := w.checkDescriptor(ctx, out.Key, described, delay)
	if err != nil {
		return err
	}
	group := out.Key.XOnly()
	if string(id) != string(group[:]) {
		return fmt.Errorf("%w: wallet %x, made was %s", ErrVigil, id, group)
	}
	if err := w.store.Put(ctx, named(nameShare, 0), out.Share); err != nil {
		return err
	}
	err = w.update(ctx, func(st *state) error {
		st.Wallet, st.Descriptor, st.ID, st.Threshold = group[:], d.Encode(), out.ID, out.Threshold
		st.Epochs = []epoch{{Hosts: hostBytes(hosts), Info: info.Encode(), Record: record}}
		return nil
	})
	if err != nil {
		return err
	}
	w.describe(descriptor.Generations{d})
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.loadShare(ctx)
}

// checkDescriptor accepts the scripts that Vigil proposes only if they are those
// that the device would have made itself, with a delegate key of Vigil's.
func (w *Wallet) checkDescriptor(ctx context.Context, group bip340.PubKey, described []byte, delay ark.Delay) (descriptor.Descriptor, error) {
	d, err := descriptor.Decode(described)
	if err != nil {
		return d, fmt.Errorf("%w: %w", ErrVigil, err)
	}
	p, err := w.params(ctx)
	if err != nil {
		return d, err
	}
	if delay == 0 {
		delay = d.RecoveryDelay
	}
	recovery, err := bip340.ParseXOnly(w.st.RecoveryKey)
	if err != nil {
		return d, fmt.Errorf("%w: recovery key: %w", ErrState, err)
	}
	own, err := descriptor.New(p, group, d.Delegate, recovery, delay)
	if err != nil {
		return d, fmt.Errorf("%w: %w", ErrVigil, err)
	}
	if own != d {
		return d, fmt.Errorf("%w: scripts of another wallet", ErrVigil)
	}
	return d, nil
}

// acknowledge tells Vigil that device and cold shares have the recovery data;
// when it answers, the wallet may be used.
func (w *Wallet) acknowledge(ctx context.Context, cold []*ColdShare) error {
	e := w.st.Epochs[0]
	hosts, err := e.hostKeys()
	if err != nil {
		return err
	}
	params, err := chilldkg.NewParams(w.st.Threshold, hosts)
	if err != nil {
		return err
	}
	host, err := w.ceremonyKey(ctx, 0)
	if err != nil {
		return err
	}
	defer host.Burn()
	ack, err := chilldkg.Acknowledge(host, params, e.Record)
	if err != nil {
		return err
	}
	req := &vigilpb.AcknowledgeKeygenRequest{Acks: [][]byte{ack}}
	for _, c := range cold {
		if ack, err = c.acknowledge(params, e.Record); err != nil {
			return err
		}
		req.Acks = append(req.Acks, ack)
	}
	var answer vigilpb.AcknowledgeKeygenAnswer
	if err := w.askHost(ctx, "AcknowledgeKeygen", req, &answer); err != nil {
		return err
	}
	if string(answer.GetDescriptor_()) != string(w.st.Descriptor) {
		return fmt.Errorf("%w: other scripts than before", ErrVigil)
	}
	if err := chilldkg.VerifyAcknowledgment(params, e.Record, vigilID, answer.Ack); err != nil {
		return fmt.Errorf("%w: its acknowledgment: %w", ErrVigil, err)
	}
	if answer.State == statePending {
		return fmt.Errorf("%w: cold shares have not acknowledged", ErrPending)
	}
	return w.update(ctx, func(st *state) error { st.Acknowledged = true; return nil })
}

// ceremonyKey is the host key of an epoch in the form that ceremonies take.
func (w *Wallet) ceremonyKey(ctx context.Context, epoch uint32) (*chilldkg.HostKey, error) {
	scalar, err := w.store.Get(ctx, named(nameHost, epoch))
	if err != nil {
		return nil, fmt.Errorf("client: host key of epoch %d: %w", epoch, err)
	}
	return chilldkg.NewHostKey(scalar)
}
