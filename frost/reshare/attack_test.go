package reshare

import (
	"bytes"
	"errors"
	"testing"

	"github.com/vigil-ark/vigil/frost"
	"github.com/vigil-ark/vigil/frost/chilldkg"
	"github.com/vigil-ark/vigil/frost/internal/dkgtest"
	"github.com/vigil-ark/vigil/secret"
)

// blames says whether err blames one party.
func blames(err error, by chilldkg.Party, id int) bool {
	var fault *chilldkg.FaultError
	return errors.As(err, &fault) && fault.By == by && fault.ID == id
}

// resign signs a message that its own sender changed.
func resign(t testing.TB, p *Params, host *chilldkg.HostKey, tag string, id int, before, msg []byte) []byte {
	t.Helper()
	out, err := p.sign(host, tag, id, before, bytes.Clone(msg[:len(msg)-64]))
	must(t, err)
	return out
}

// TestTamperedDeals changes every byte of a dealer's message. On the way, it is
// the signature that tells. When the dealer itself lies, somebody blames it: at
// the check of what is public, or whom the value was for.
func TestTamperedDeals(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]*ceremony{
		"reshare": beginReshare(t, dkg(t, 2, 3), []int{1, 2}, 2, dkgtest.Hosts(t, 2)),
		"repair":  beginRepair(t, dkg(t, 2, 3), []int{1, 2}, 0, dkgtest.Hosts(t, 1)[0]),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for at := 0; at < len(c.deals[0]); at += every {
				bad := bytes.Clone(c.deals[0])
				bad[at] ^= 1
				if _, err := c.params.Collect([][]byte{bad, c.deals[1]}); !blames(err, chilldkg.Participant, 1) {
					t.Fatalf("byte %d, collected: %v", at, err)
				}
				if at >= len(bad)-64 {
					continue
				}
				bad = resign(t, c.params, c.old.hosts[1], dealTag, 1, nil, bad)
				if err := c.received([][]byte{bad, c.deals[1]}); !blames(err, chilldkg.Participant, 1) {
					t.Fatalf("byte %d, signed: %v", at, err)
				}
			}
		})
	}
}

// received is the first error at the coordinator or at a recipient.
func (c *ceremony) received(deals [][]byte) error {
	all, err := c.params.Collect(deals)
	if err != nil {
		return err
	}
	to, _ := c.params.recipients()
	for j := range to {
		if c.params.kind == handOver {
			_, _, err = c.params.Accept(c.hosts[j], secret.Bytes{}, all)
		} else {
			_, err = c.params.Pass(c.old.hosts[c.params.dealers[j]], all)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// TestTamperedPasses is the same for the helpers' second messages.
func TestTamperedPasses(t *testing.T) {
	t.Parallel()
	c := beginRepair(t, dkg(t, 2, 2), []int{0, 1}, 2, dkgtest.Hosts(t, 1)[0])
	deals, err := c.params.Collect(c.deals)
	must(t, err)
	passes := c.passes(t, deals)
	for at := 0; at < len(passes[1]); at += every {
		bad := bytes.Clone(passes[1])
		bad[at] ^= 1
		if _, err := c.params.CollectPasses(deals, [][]byte{passes[0], bad}); !blames(err, chilldkg.Participant, 1) {
			t.Fatalf("byte %d, collected: %v", at, err)
		}
		if at >= len(bad)-64 {
			continue
		}
		bad = resign(t, c.params, c.old.hosts[1], passTag, 1, deals, bad)
		transcript, err := c.params.CollectPasses(deals, [][]byte{passes[0], bad})
		if err == nil {
			_, _, err = c.params.Accept(c.hosts[2], secret.Bytes{}, transcript)
		}
		if !blames(err, chilldkg.Participant, 1) {
			t.Fatalf("byte %d, signed: %v", at, err)
		}
	}
}

// TestTamperedTranscript: what a coordinator changes is the coordinator's fault.
func TestTamperedTranscript(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]*ceremony{
		"reshare": beginReshare(t, dkg(t, 2, 2), []int{0, 1}, 2, dkgtest.Hosts(t, 2)),
		"repair":  beginRepair(t, dkg(t, 2, 2), []int{0, 1}, 2, dkgtest.Hosts(t, 1)[0]),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			transcript := c.transcript(t)
			last := len(c.hosts) - 1
			for at := 0; at < len(transcript); at += every {
				bad := bytes.Clone(transcript)
				bad[at] ^= 0x80
				if _, _, err := c.params.Accept(c.hosts[last], secret.Bytes{}, bad); !blames(err, chilldkg.Coordinator, -1) {
					t.Fatalf("byte %d: %v", at, err)
				}
			}
			for _, bad := range [][]byte{nil, transcript[1:], append(bytes.Clone(transcript), 0)} {
				if _, _, err := c.params.Accept(c.hosts[last], secret.Bytes{}, bad); !errors.Is(err, chilldkg.ErrLength) {
					t.Errorf("%d bytes: %v", len(bad), err)
				}
			}
		})
	}
}

// TestTamperedRecord: no part of a record can change.
func TestTamperedRecord(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]*ceremony{
		"reshare": beginReshare(t, dkg(t, 2, 2), []int{0, 1}, 2, dkgtest.Hosts(t, 2)),
		"repair":  beginRepair(t, dkg(t, 2, 2), []int{0, 1}, 2, dkgtest.Hosts(t, 1)[0]),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			record := c.finish(t).made
			for at := 0; at < len(record); at += 3 * every {
				bad := bytes.Clone(record)
				bad[at] ^= 1
				if _, _, err := RecoverPublic(Accepted, bad); !errors.Is(err, ErrRecord) {
					t.Fatalf("byte %d of %d: %v", at, len(record), err)
				}
			}
			for _, n := range []int{0, 7, 8, 100, 300, len(record) - 1} {
				if _, _, err := RecoverPublic(Accepted, record[:n]); !errors.Is(err, ErrRecord) {
					t.Errorf("%d bytes: %v", n, err)
				}
			}
		})
	}
}

// TestCertificateTakesAll: one signature short, of another, or of another
// transcript, and there is no new epoch.
func TestCertificateTakesAll(t *testing.T) {
	t.Parallel()
	old := dkg(t, 2, 2)
	c := beginReshare(t, old, []int{0, 1}, 2, dkgtest.Hosts(t, 2))
	other := &ceremony{old: old, params: c.params, hosts: c.hosts}
	other.deal(t)
	sigs := map[*ceremony][][]byte{}
	var mine *Pending
	for _, x := range []*ceremony{other, c} {
		for _, h := range x.hosts {
			p, sig, err := x.params.Accept(h, secret.Bytes{}, x.transcript(t))
			must(t, err)
			mine, sigs[x] = p, append(sigs[x], sig)
		}
	}
	transcript := c.transcript(t)
	for at := 0; at < len(sigs[c][1]); at += every {
		bad := bytes.Clone(sigs[c][1])
		bad[at] ^= 1
		if _, err := c.params.Certify(transcript, [][]byte{sigs[c][0], bad}); !blames(err, chilldkg.Participant, 1) {
			t.Fatalf("byte %d: %v", at, err)
		}
	}
	if _, err := c.params.Certify(transcript, [][]byte{sigs[other][0], sigs[c][1]}); !blames(err, chilldkg.Participant, 0) {
		t.Errorf("of another transcript: %v", err)
	}
	if _, err := c.params.Certify(transcript, sigs[c][:1]); !errors.Is(err, chilldkg.ErrLength) {
		t.Errorf("one short: %v", err)
	}
	record, err := other.params.Certify(other.transcript(t), sigs[other])
	must(t, err)
	if _, err := mine.Finalize(record); !errors.Is(err, ErrRecord) {
		t.Errorf("the record of another transcript: %v", err)
	}
	mine.Burn()
	if err := mine.Pending().Share.Use(func([]byte) error { return nil }); !errors.Is(err, secret.ErrBurned) {
		t.Errorf("burned: %v", err)
	}
}

// TestWrongHands: each step takes its own host key and its own share.
func TestWrongHands(t *testing.T) {
	t.Parallel()
	old, stranger := dkg(t, 2, 3), dkgtest.Hosts(t, 1)[0]
	c := beginRepair(t, old, []int{0, 2}, 1, old.hosts[1])
	h := beginReshare(t, old, []int{0, 2}, 2, dkgtest.Hosts(t, 2))
	next := h.finish(t)
	deals, err := c.params.Collect(c.deals)
	must(t, err)
	transcript := c.transcript(t)
	check := func(what string, err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err = c.params.Deal(stranger, old.shares[0])
	check("a stranger deals", err, chilldkg.ErrHostKey)
	_, err = c.params.Deal(old.hosts[1], old.shares[1])
	check("its owner deals", err, chilldkg.ErrHostKey)
	_, err = c.params.Deal(old.hosts[0], next.shares[0])
	check("a share of another epoch is dealt", err, frost.ErrShare)
	_, err = c.params.Pass(old.hosts[1], deals)
	check("its owner passes", err, chilldkg.ErrHostKey)
	_, err = h.params.Pass(old.hosts[0], deals)
	check("passing where nothing is rebuilt", err, ErrStep)
	_, err = h.params.CollectPasses(deals, nil)
	check("collecting where nothing is rebuilt", err, ErrStep)
	_, _, err = c.params.Accept(stranger, old.shares[0], transcript)
	check("a stranger accepts", err, chilldkg.ErrHostKey)
	_, _, err = c.params.Accept(old.hosts[0], next.shares[0], transcript)
	check("a share of another epoch is kept", err, frost.ErrShare)
	_, _, err = c.params.Accept(old.hosts[0], secret.Bytes{}, transcript)
	check("no share is kept", err, secret.ErrBurned)
	_, err = c.params.Collect(c.deals[:1])
	check("one dealer short", err, chilldkg.ErrLength)
	_, err = c.params.Collect([][]byte{c.deals[0], c.deals[1][1:]})
	check("a short message", err, chilldkg.ErrLength)
	if _, err := c.params.Collect([][]byte{c.deals[1], c.deals[0]}); !blames(err, chilldkg.Participant, 0) {
		t.Errorf("one's message in another's place: %v", err)
	}
	if _, err := h.params.Collect(beginReshare(t, old, []int{0, 2}, 2, dkgtest.Hosts(t, 2)).deals); !blames(err, chilldkg.Participant, 0) {
		t.Errorf("messages of another ceremony: %v", err)
	}
}
