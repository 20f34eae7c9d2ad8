package wallet

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/descriptor"
	"github.com/vigil-ark/vigil/auth"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/frost/chilldkg"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/signer"
	"github.com/vigil-ark/vigil/vigilpb"
)

// maxName bounds a device's name in bytes.
const maxName = 64

// BeginKeygen opens the ceremony that makes a wallet. A host key that has one is
// told so, whatever the registration says: it is to recover it.
func (s *Service) BeginKeygen(ctx context.Context, c auth.Call, r *vigilpb.BeginKeygenRequest) (*vigilpb.BeginKeygenAnswer, error) {
	row, err := s.ledger.WalletByHost(ctx, c.Key)
	switch {
	case err == nil:
		return &vigilpb.BeginKeygenAnswer{Wallet: row.ID[:]}, nil
	case !errors.Is(err, ledger.ErrNotFound):
		return nil, stored(err)
	}
	if err := s.admitted(ctx, c, r.GetToken()); err != nil {
		return nil, err
	}
	hosts, what, err := s.founding1(c, r)
	if err != nil {
		return nil, err
	}
	if _, err := s.announced.Current(ctx); err != nil {
		return nil, err // a wallet that is made now could not be described in the end
	}
	id, host, err := s.ceremonies.BeginKeygen(c.Key, hosts, what.threshold)
	if err != nil {
		return nil, signed(err)
	}
	what.session = id
	if err := s.founding.add(c.Key, what, s.cfg.Now()); err != nil {
		s.ceremonies.Forget(id)
		return nil, err
	}
	return &vigilpb.BeginKeygenAnswer{Session: id[:], ServerDkgHost: host[:]}, nil
}

// admitted says whether this source may make a wallet now.
func (s *Service) admitted(ctx context.Context, c auth.Call, token string) error {
	if err := s.cfg.Registration.check(token); err != nil {
		return err
	}
	if err := s.roomy(); err != nil {
		return err
	}
	if err := s.admit.check(c.Source, s.cfg.Now()); err != nil {
		return err
	}
	counts, err := s.ledger.WalletCounts(ctx)
	if err != nil {
		return stored(err)
	}
	var all uint64
	for _, n := range counts {
		all += n
	}
	if all >= uint64(s.cfg.Limits.Wallets) {
		return vigil.Errorf(vigil.CodeTooManyWallets, "this server keeps %d wallets, which is as many as it takes", all)
	}
	return nil
}

// founding1 reads what a new wallet is to be.
func (s *Service) founding1(c auth.Call, r *vigilpb.BeginKeygenRequest) ([]bip340.PubKey, founding, error) {
	what := founding{seats: 2 + len(r.GetColdHosts()), name: r.GetName(), threshold: int(r.GetThreshold()), source: c.Source}
	if string(r.GetDeviceHost()) != string(c.Key[:]) {
		return nil, what, malformed("device_host", "it must be the key that signs the request")
	}
	if what.seats > s.cfg.Limits.Participants {
		return nil, what, malformed("cold_hosts", "%d participants, at most %d are taken", what.seats, s.cfg.Limits.Participants)
	}
	if what.threshold < 2 || what.threshold > what.seats {
		return nil, what, malformed("threshold", "%d of %d participants; no one may sign alone", what.threshold, what.seats)
	}
	hosts := []bip340.PubKey{c.Key, {}}
	for i, b := range r.GetColdHosts() {
		h, err := bip340.ParsePubKey(b)
		if err != nil {
			return nil, what, malformed(fmt.Sprintf("cold_hosts[%d]", i), "%w", err)
		}
		hosts = append(hosts, h)
	}
	var err error
	if what.identity, err = bip340.ParsePubKey(r.GetIdentityKey()); err != nil {
		return nil, what, malformed("identity_key", "%w", err)
	}
	if what.recovery, err = bip340.ParseXOnly(r.GetRecoveryKey()); err != nil {
		return nil, what, malformed("recovery_key", "%w", err)
	}
	if what.delay = ark.Delay(r.GetRecoveryDelay()); what.delay != 0 {
		if _, err := ark.ParseDelay(int64(r.GetRecoveryDelay())); err != nil {
			return nil, what, malformed("recovery_delay", "%w", err)
		}
	}
	return hosts, what, oneJob(hosts, what)
}

// oneJob: no key of a wallet does two jobs.
func oneJob(hosts []bip340.PubKey, what founding) error {
	if len(what.name) > maxName {
		return malformed("name", "%d bytes, at most %d are taken", len(what.name), maxName)
	}
	for _, h := range hosts {
		if h.XOnly() == what.identity.XOnly() || h.XOnly() == what.recovery {
			return malformed("identity_key", "host, identity and recovery key must be three keys")
		}
	}
	if what.identity.XOnly() == what.recovery {
		return malformed("recovery_key", "host, identity and recovery key must be three keys")
	}
	return nil
}

// Keygen is the ceremony's first round.
func (s *Service) Keygen(_ context.Context, c auth.Call, r *vigilpb.KeygenRequest) (*vigilpb.KeygenAnswer, error) {
	id, err := session(r.GetSession())
	if err != nil {
		return nil, err
	}
	what, err := s.founding.of(c.Key, id, s.cfg.Now())
	if err != nil {
		return nil, err
	}
	pmsgs, err := seats(r.GetPmsgs1(), what.seats, "pmsgs1")
	if err != nil {
		return nil, err
	}
	cmsg, err := s.ceremonies.Keygen(id, c.Key, pmsgs)
	if err != nil {
		return nil, signed(err)
	}
	return &vigilpb.KeygenAnswer{Cmsg1: cmsg}, nil
}

// CertifyKeygen is its second round. Secrets and row are durable before the
// certificate leaves: first the plan that makes orphans of neither, then the
// secrets, then the row that takes the plan up. Whatever of it was cut short may
// be repeated as long as the ceremony lives.
func (s *Service) CertifyKeygen(ctx context.Context, c auth.Call, r *vigilpb.CertifyKeygenRequest) (*vigilpb.CertifyKeygenAnswer, error) {
	id, err := session(r.GetSession())
	if err != nil {
		return nil, err
	}
	what, err := s.founding.of(c.Key, id, s.cfg.Now())
	if err != nil {
		return nil, err
	}
	if err := s.roomy(); err != nil {
		return nil, err
	}
	pmsgs, err := seats(r.GetPmsgs2(), what.seats, "pmsgs2")
	if err != nil {
		return nil, err
	}
	params, err := s.announced.Current(ctx)
	if err != nil {
		return nil, err
	}
	made, err := s.ceremonies.Ready(id, c.Key, pmsgs)
	if err != nil {
		return nil, signed(err)
	}
	row, err := s.describe(params, what, made)
	if err != nil {
		return nil, err
	}
	now := s.cfg.Now()
	if err := s.founding.count(c.Key, id, func() error { return s.admit.take(what.source, now) }); err != nil {
		return nil, err
	}
	plan := ledger.Plan{Wallet: made.Wallet, Secrets: made.Names, ExpiresAt: now.Add(2 * foundingFor).Unix(), NotBefore: now.Add(planFor).Unix()}
	if err := s.ledger.Plan(ctx, plan); err != nil && !errors.Is(err, ledger.ErrTaken) {
		return nil, stored(err) // taken: by this ceremony's attempt before
	}
	if err := s.ceremonies.Keep(ctx, id, c.Key); err != nil {
		return nil, signed(err)
	}
	kept, err := s.ledger.CreateWallet(ctx, row, ledger.Extras{Audit: []ledger.Link{s.allowed(row, c)}})
	switch {
	case errors.Is(err, ledger.ErrTaken) && kept != nil && kept.ID == row.ID:
		row = kept // by this ceremony's attempt before
	case errors.Is(err, ledger.ErrTaken) || errors.Is(err, ledger.ErrLapsed):
		s.forget(c.Key, id)
		return nil, &vigil.Error{Code: vigil.CodeCeremonyFailed, Err: err, Message: "one of the host keys has a wallet here by now, or the ceremony took too long; begin again, and recover the wallet if there is one"}
	case err != nil:
		return nil, stored(err)
	default:
		row = kept
	}
	ack, err := s.keys.Acknowledge(ctx, signer.Key{Info: made.Info, Hosts: made.Hosts, Record: made.Recovery})
	if err != nil {
		return nil, signed(err)
	}
	s.forget(c.Key, id)
	return &vigilpb.CertifyKeygenAnswer{Cmsg2: made.Cmsg2, Wallet: row.ID[:], Descriptor_: row.Descriptor, State: stateName(row), Ack: ack}, nil
}

// planFor is how long secrets without a row are left alone: far longer than the
// ceremony that made them.
const planFor = 2 * time.Hour

func (s *Service) forget(owner bip340.PubKey, id [32]byte) {
	s.founding.end(owner)
	s.ceremonies.Forget(id)
}

// describe makes the row of a new wallet.
func (s *Service) describe(p ark.Params, what founding, made signer.Made) (*ledger.Wallet, error) {
	d, err := descriptor.New(p, made.Info.PubKey(), made.DelegateKey.XOnly(), what.recovery, what.delay)
	if err != nil {
		return nil, malformed("recovery_delay", "%w", err)
	}
	encoded := d.Encode()
	row := &ledger.Wallet{
		ID: made.Wallet, State: ledger.WalletPending, Threshold: uint8(what.threshold), Participants: uint8(what.seats),
		Epochs: []ledger.Epoch{{
			Hosts: made.Hosts, Info: made.Info.Encode(), Record: made.Recovery, Confirmed: true, Acked: make([]bool, what.seats),
		}},
		Descriptor: encoded, Scripts: descriptor.Generations{d}.Scripts(),
		DelegateKey: made.DelegateKey, Secrets: slices.Clone(made.Names),
		Identities: []ledger.Identity{{Key: what.identity, Name: what.name, AddedAt: s.now()}},
	}
	row.Epochs[0].Acked[own] = true
	if _, err := rand.Read(row.AuditSalt[:]); err != nil {
		return nil, fmt.Errorf("draw a salt: %w", err)
	}
	return row, nil
}

// AcknowledgeKeygen takes the other participants' word that they have the
// recovery data, at any later time. With the last of them the wallet is active.
func (s *Service) AcknowledgeKeygen(ctx context.Context, c auth.Call, r *vigilpb.AcknowledgeKeygenRequest) (a *vigilpb.AcknowledgeKeygenAnswer, err error) {
	err = s.do(ctx, c, func(ctx context.Context, st *state) error {
		e := &st.row.Epochs[0]
		if e.Number != 0 {
			return vigil.Errorf(vigil.CodeEpochUnknown, "the key of this wallet was refreshed since; its making was acknowledged long ago")
		}
		_, params, err := chilldkg.RecoverPublic(e.Record)
		if err != nil {
			return unreadable("recovery data", err)
		}
		acked, err := acknowledged(e, r.GetAcks(), func(id int, ack []byte) error {
			return chilldkg.VerifyAcknowledgment(params, e.Record, id, ack)
		})
		if err != nil {
			return err
		}
		if !slices.Equal(acked, e.Acked) {
			err = s.change(ctx, st, c, func(w *ledger.Wallet) {
				w.Epochs[0].Acked = acked
				if !slices.Contains(acked, false) {
					w.State = ledger.WalletActive
				}
			}, ledger.Extras{})
			if err != nil {
				return err
			}
		}
		ack, err := s.keys.Acknowledge(ctx, signer.Key{Info: st.infos[0], Hosts: st.row.Epochs[0].Hosts, Record: st.row.Epochs[0].Record})
		a = &vigilpb.AcknowledgeKeygenAnswer{Descriptor_: st.row.Descriptor, State: stateName(st.row), Ack: ack}
		return signed(err)
	})
	return a, err
}

// acknowledged adds acknowledgments that verify to those that are in. An empty
// one is of a participant who has not spoken yet.
func acknowledged(e *ledger.Epoch, acks [][]byte, verify func(id int, ack []byte) error) ([]bool, error) {
	list, err := seats(acks, len(e.Hosts), "acks")
	if err != nil {
		return nil, err
	}
	acked := slices.Clone(e.Acked)
	for id, ack := range list {
		if id == own || len(ack) == 0 {
			continue
		}
		if err := verify(id, ack); err != nil {
			return nil, &vigil.Error{Code: vigil.CodeCeremonyFailed, Err: err, Message: fmt.Sprintf("the acknowledgment of participant %d does not verify", id)}
		}
		acked[id] = true
	}
	return acked, nil
}
