package wallet_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/auth"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/frost/chilldkg"
	"github.com/vigil-ark/vigil/frost/refresh"
	"github.com/vigil-ark/vigil/kv/kvtest"
	"github.com/vigil-ark/vigil/secret/secrettest"
	"github.com/vigil-ark/vigil/vigilpb"
)

// copies are both stores as they were at one time.
type copies struct {
	mem *kvtest.Memory
	sec *secrettest.Memory
}

func (w *world) copies() copies { return copies{w.mem.Copy(), w.sec.Copy()} }

// restore starts a Vigil over copies of the past: of its records, its secrets, or
// both.
func (w *world) restore(c copies, records, secrets bool) {
	w.t.Helper()
	if records {
		w.mem = c.mem.Copy()
	}
	if secrets {
		w.sec = c.sec.Copy()
	}
	w.restart()
}

// adopt hands the record of an epoch in, in the name of the call.
func (d *device) adopt(c auth.Call, epoch uint32, record, sealed []byte) (*vigilpb.AdoptEpochAnswer, error) {
	r := &vigilpb.AdoptEpochRequest{Epoch: epoch, Record: record, Sealed: sealed}
	var err error
	if c.Payload, err = proto.Marshal(r); err != nil {
		return nil, err
	}
	return carry(d.w, c, func(ctx context.Context, c auth.Call) (*vigilpb.AdoptEpochAnswer, error) {
		return d.w.service.AdoptEpoch(ctx, c, r)
	})
}

// catchUp tells Vigil of the epoch that the device has.
func (d *device) catchUp() error {
	h := d.epochs[d.active]
	a, err := d.adopt(d.as(0, "AdoptEpoch"), d.active, h.record, h.sealed)
	if err == nil && a.GetEpoch() != d.active {
		err = fmt.Errorf("epoch %d", a.GetEpoch())
	}
	return err
}

func (d *device) mustRefresh(healing bool) {
	d.t.Helper()
	if err := d.refresh(healing); err != nil {
		d.t.Fatal(err)
	}
}

// A Vigil that was restored from copies older than a refresh signs again as soon as
// the device has told it of its epoch, wherever the share can be made again; and
// where it cannot, it says so.
func TestAdoptAfterARestore(t *testing.T) {
	t.Parallel()
	for i, c := range []struct {
		name             string
		refreshes        []bool // healing
		records, secrets bool   // restored from before them
		unsealed         bool   // the device did not keep Vigil's sealed share
		want             vigil.Code
	}{
		{"records", []bool{false}, true, false, false, ""},
		{"records, healing", []bool{true}, true, false, false, ""},
		{"records, two refreshes", []bool{false, false}, true, false, true, ""},
		{"secrets", []bool{false}, false, true, false, ""},
		{"secrets, two refreshes", []bool{false, false}, false, true, false, ""},
		{"secrets, healing", []bool{true}, false, true, false, vigil.CodeEpochLost},
		{"both", []bool{false}, true, true, false, ""},
		{"both, unsealed", []bool{false}, true, true, true, ""},
		{"both, three refreshes", []bool{false, false, false}, true, true, false, ""},
		{"both, two refreshes, unsealed", []bool{false, false}, true, true, true, vigil.CodeEpochLost},
		{"both, healing", []bool{true}, true, true, false, vigil.CodeEpochLost},
	} {
		if testing.Short() && i%4 != 1 {
			continue // the detector makes a ceremony ten times as slow
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			d := made(w, 2, 2)
			past := w.copies()
			for _, healing := range c.refreshes {
				d.mustRefresh(healing)
			}
			if c.unsealed {
				d.epochs[d.active].sealed = nil
			}
			w.restore(past, c.records, c.secrets)
			_, err := d.sign(both(), d.renewal(d.coin(100_000)))
			refusedWith(t, err, vigil.CodeEpochUnknown)
			if err := d.catchUp(); c.want != "" {
				refusedWith(t, err, c.want)
				w.audited("AdoptEpoch", c.want)
				return
			} else if err != nil {
				t.Fatal(err)
			}
			w.audited("AdoptEpoch", "")
			w.fsck()
			// As in any refresh the epoch before stays until all have acknowledged.
			want := []uint32{d.active}
			if c.records && c.secrets && len(c.refreshes) == 1 {
				want = []uint32{0, 1}
			}
			d.holds(want...)
			d.onward()
		})
	}
}

// holds says which epochs Vigil must have shares of.
func (d *device) holds(want ...uint32) {
	d.t.Helper()
	if got, err := d.w.signer.Epochs(d.t.Context(), d.id); err != nil || !slices.Equal(got, want) {
		d.t.Fatalf("Vigil holds shares of the epochs %v, want %v, %v", got, want, err)
	}
}

// onward holds that both sides sign with the device's epoch alone, also after a
// restart, and that the next refresh goes through.
func (d *device) onward() {
	d.t.Helper()
	signs := func() {
		d.t.Helper()
		if _, err := d.sign(both(), d.renewal(d.coin(100_000))); err != nil {
			d.t.Fatalf("epoch %d does not sign: %v", d.active, err)
		}
	}
	signs()
	if testing.Short() {
		return
	}
	if err := d.catchUp(); err != nil {
		d.t.Fatalf("again: %v", err)
	}
	if err := d.acknowledgeRefresh(); err != nil {
		d.t.Fatal(err)
	}
	d.w.restart()
	signs()
	d.holds(d.active)
	d.mustRefresh(false)
	signs()
	d.w.fsck()
}

// Records of before a refresh beside secrets of amid it: the share that the record
// does not know of is not swept up, and the device's record brings it into force.
func TestAdoptAmidACutover(t *testing.T) {
	for _, healing := range []bool{false, true} {
		w := newWorld(t)
		d := made(w, 2, 2)
		past := w.copies()
		d.halt = "AcknowledgeRefresh"
		if err := d.refresh(healing); err == nil || d.active != 1 {
			t.Fatalf("epoch %d, %v", d.active, err)
		}
		d.halt = ""
		w.restore(past, true, false)
		if err := w.signer.Erase(t.Context(), d.id, 0); err != nil {
			t.Fatal(err)
		}
		if err := d.catchUp(); err != nil {
			t.Fatal(err)
		}
		row, err := w.ledger.Wallet(t.Context(), d.id)
		if err != nil || row.Active != 1 || !row.Retiring || len(row.Epochs) != 2 {
			t.Fatalf("active %d of %d, retiring %v, %v", row.Active, len(row.Epochs), row.Retiring, err)
		}
		w.fsck()
		d.onward()
	}
}

// Copies of different ages, both too old: what neither names is swept up.
func TestAdoptOverCopiesOfTwoAges(t *testing.T) {
	if testing.Short() {
		t.Skip("more of the same arithmetic")
	}
	w := newWorld(t)
	d := made(w, 2, 2)
	past := w.copies()
	d.mustRefresh(false)
	past.sec = w.copies().sec
	d.mustRefresh(false)
	w.restore(past, true, true)
	if err := d.catchUp(); err != nil {
		t.Fatal(err)
	}
	d.holds(2)
	d.onward()
}

// More than one refresh behind, and other host keys since: the device's identity
// key, which the copy knows, hands the record in.
func TestAdoptByTheIdentityKey(t *testing.T) {
	if testing.Short() {
		t.Skip("more of the same arithmetic")
	}
	w := newWorld(t)
	d := made(w, 2, 2)
	past := w.copies()
	d.mustRefresh(true)
	d.mustRefresh(true)
	w.restore(past, true, false)
	refusedWith(t, d.catchUp(), vigil.CodeNotPermitted)
	h := d.epochs[d.active]
	if _, err := d.adopt(d.as(-1, "AdoptEpoch"), d.active, h.record, h.sealed); err != nil {
		t.Fatal(err)
	}
	d.onward()
}

// Only the true record of a later epoch of this wallet's key is taken up, and from
// nobody but its own.
func TestAdoptIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d, other := made(w, 2, 2), made(w, 2, 2)
	past := w.copies()
	d.mustRefresh(true)
	first := *d.epochs[1]
	other.mustRefresh(false)
	theirs := other.epochs[1]
	spoilt := slices.Clone(first.record)
	spoilt[len(spoilt)-1] ^= 1
	w.restore(past, true, false)

	stranger := fresh(t).PubKey()
	for _, c := range []struct {
		name   string
		call   auth.Call
		epoch  uint32
		record []byte
		want   vigil.Code
	}{
		{"a stranger", w.caller("AdoptEpoch", stranger, d.id, 1), 1, first.record, vigil.CodeNotPermitted},
		{"a stranger, no payload", w.caller("AdoptEpoch", stranger, d.id, 1), 1, nil, vigil.CodeNotPermitted},
		{"another wallet's device", w.caller("AdoptEpoch", other.host(0).PubKey(), d.id, 1), 1, theirs.record, vigil.CodeNotPermitted},
		{"Vigil's own host key", w.caller("AdoptEpoch", d.keys[own], d.id, 1), 1, first.record, vigil.CodeNotPermitted},
		{"a spoilt certificate, new host key", d.as(0, "AdoptEpoch"), 1, spoilt, vigil.CodeNotPermitted},
		{"a spoilt certificate", d.as(-1, "AdoptEpoch"), 1, spoilt, vigil.CodeMalformed},
		{"no record", d.as(-1, "AdoptEpoch"), 1, nil, vigil.CodeMalformed},
		{"another wallet's record", d.as(-1, "AdoptEpoch"), 1, theirs.record, vigil.CodeMalformed},
		{"another number", d.as(-1, "AdoptEpoch"), 2, first.record, vigil.CodeMalformed},
	} {
		if _, err := d.adopt(c.call, c.epoch, c.record, nil); vigil.CodeOf(err) != c.want {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
	if row, err := w.ledger.Wallet(t.Context(), d.id); err != nil || row.Active != 0 {
		t.Fatalf("epoch %d, %v", row.Active, err)
	}
	if err := errors.Join(d.catchUp(), d.acknowledgeRefresh()); err != nil {
		t.Fatal(err)
	}
	d.mustRefresh(false)
	_, err := d.adopt(d.as(0, "AdoptEpoch"), 1, first.record, first.sealed)
	refusedWith(t, err, vigil.CodeEpochUnknown)

	// The row does not know, and the secrets do, that the epoch is over.
	w.restore(past, true, false)
	_, err = d.adopt(d.as(0, "AdoptEpoch"), 1, first.record, first.sealed)
	refusedWith(t, err, vigil.CodeEpochUnknown)
	if _, err := d.adopt(d.as(-1, "AdoptEpoch"), 2, d.epochs[2].record, d.epochs[2].sealed); err != nil {
		t.Fatal(err)
	}
	d.onward()
}

// forged is a record of a healing refresh of the device's epoch, whole in every way
// but that all host keys, old and new, are a stranger's.
func (d *device) forged(old, next []*chilldkg.HostKey) []byte {
	d.t.Helper()
	e := d.epochs[d.active]
	pubs := func(hosts []*chilldkg.HostKey) (keys []bip340.PubKey) {
		for _, h := range hosts {
			keys = append(keys, h.PubKey())
		}
		return keys
	}
	p, err := refresh.NewParams(e.info, e.record, pubs(old), pubs(next))
	if err != nil {
		d.t.Fatal(err)
	}
	body := make([]byte, 0, 33*3+32*2)
	for range 3 { // a commitment and two nonces
		k := fresh(d.t).PubKey()
		body = append(body, k[:]...)
	}
	body = append(body, make([]byte, 64)...)
	ctx, made := p.Hash(), sha256.Sum256(e.record)
	record := append(e.info.Encode(), made[:]...)
	for _, k := range slices.Concat(pubs(old), pubs(next)) {
		record = append(record, k[:]...)
	}
	record = append(record, body...)
	for id := range next {
		for i, h := range []*chilldkg.HostKey{next[id], old[id]} {
			msg := append(make([]byte, 33), 0, 0, 0, byte(id))
			copy(msg, []string{"vigil/refresh certeq", "vigil/refresh rotate"}[i])
			sig, err := h.Sign(rand.Reader, slices.Concat(msg, ctx[:], body))
			if err != nil {
				d.t.Fatal(err)
			}
			record = append(record, sig[:]...)
		}
	}
	if _, _, err := refresh.RecoverPublic(record); err != nil {
		d.t.Fatalf("the forgery is none: %v", err)
	}
	return record
}

// A stranger who knows all that is public of a wallet makes a record of its key that
// is certified by whom he likes: neither he nor the device gets anything by it.
func TestAdoptRefusesAForgery(t *testing.T) {
	w := newWorld(t)
	d := made(w, 2, 2)
	hosts := func() (list []*chilldkg.HostKey) {
		for range 2 {
			list = append(list, hostOf(t, drawn(t, 2)[0]))
		}
		return list
	}
	next := hosts()
	record := d.forged(hosts(), next)
	_, err := d.adopt(w.caller("AdoptEpoch", next[0].PubKey(), d.id, 1), 1, record, nil)
	refusedWith(t, err, vigil.CodeNotPermitted)
	_, err = d.adopt(d.as(0, "AdoptEpoch"), 1, record, nil)
	refusedWith(t, err, vigil.CodeEpochLost)
	d.holds(0)
	usable(t, d)
}

// A record of another refresh than the one of which Vigil has the share, under the
// same number: after a restore there may be two.
func TestAdoptRefusesTheOtherBranch(t *testing.T) {
	if testing.Short() {
		t.Skip("more of the same arithmetic")
	}
	w := newWorld(t)
	d := made(w, 2, 2)
	past, zero := w.copies(), *d.epochs[0]
	d.mustRefresh(false)
	lost := *d.epochs[1]
	w.restore(past, true, true)
	d.active, d.epochs = 0, map[uint32]*held{0: &zero} // the owner begins with epoch 0 again, too
	d.mustRefresh(false)
	_, err := d.adopt(d.as(0, "AdoptEpoch"), 1, lost.record, lost.sealed)
	refusedWith(t, err, vigil.CodeEpochUnknown)
	for _, records := range []bool{false, true} { // only the row, then only the share, is of the newer branch
		w.restore(past, records, !records)
		_, err = d.adopt(d.as(0, "AdoptEpoch"), 1, lost.record, lost.sealed)
		refusedWith(t, err, vigil.CodeEpochUnknown)
		if err := d.catchUp(); err != nil {
			t.Fatal(err)
		}
	}
	d.onward()
}

// Secrets of before a refresh beside records of after it: the record has the share,
// sealed to the key that hygiene keeps, so that a new device finds its wallet whole.
func TestRecoverMendsTheShare(t *testing.T) {
	w := newWorld(t)
	d := made(w, 2, 2)
	past := w.copies()
	d.mustRefresh(false)
	d.mustRefresh(false)
	w.restore(past, false, true)
	if err := d.resume(); err != nil {
		t.Fatal(err)
	}
	d.onward()
}

// A crash at any write of the catching up: it is done again, and both sides sign.
func TestCrashAtEveryWriteOfAdopt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		secrets   bool // of before the refreshes, too
		refreshes int
	}{{false, 1}, {true, 1}, {true, 2}} {
		if testing.Short() && (!c.secrets || c.refreshes > 1) {
			continue
		}
		t.Run(fmt.Sprintf("secrets too %v, %d refreshes", c.secrets, c.refreshes), func(t *testing.T) {
			crashes(t, func(w *world) *device {
				d := made(w, 2, 2)
				past := w.copies()
				for range c.refreshes {
					d.mustRefresh(false)
				}
				w.restore(past, true, c.secrets)
				return d
			}, func(d *device) error { return d.catchUp() },
				func(t *testing.T, d *device, err error) {
					if err != nil {
						if err := d.catchUp(); err != nil {
							t.Fatal(err)
						}
					}
					usable(t, d)
					if err := d.acknowledgeRefresh(); err != nil {
						t.Fatal(err)
					}
					usable(t, d)
				})
		})
	}
}
