package reshare

import (
	"bytes"
	"errors"
	"testing"

	"github.com/vigil-ark/vigil/frost/chilldkg"
	"github.com/vigil-ark/vigil/frost/internal/dkgtest"
)

// caused says whether an error is one that peers' bytes may cause.
func caused(err error) bool {
	var fault *chilldkg.FaultError
	return errors.As(err, &fault) || errors.Is(err, chilldkg.ErrLength)
}

// fuzzMessage feeds messages as they come and, so that more than the signature is
// tried, signed by who lies: no error but blame, and only what was sent is taken.
func fuzzMessage(f *testing.F, c *ceremony) {
	f.Add(c.deals[1])
	f.Add(make([]byte, c.params.LenDeal()))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := c.params.Collect([][]byte{c.deals[0], b}); err != nil && !caused(err) || err == nil && !bytes.Equal(b, c.deals[1]) {
			t.Errorf("%v", err)
		}
		if len(b) < 64 {
			return
		}
		signed := resign(t, c.params, c.old.hosts[1], dealTag, 1, nil, b)
		err := c.received([][]byte{c.deals[0], signed})
		if err != nil && !caused(err) {
			t.Errorf("signed: %v", err)
		}
	})
}

func FuzzDeal(f *testing.F) {
	fuzzMessage(f, beginReshare(f, dkg(f, 2, 2), []int{0, 1}, 2, dkgtest.Hosts(f, 2)))
}

func FuzzSplit(f *testing.F) {
	fuzzMessage(f, beginRepair(f, dkg(f, 2, 2), []int{0, 1}, 2, dkgtest.Hosts(f, 1)[0]))
}

func FuzzPass(f *testing.F) {
	c := beginRepair(f, dkg(f, 2, 2), []int{0, 1}, 2, dkgtest.Hosts(f, 1)[0])
	deals, err := c.params.Collect(c.deals)
	must(f, err)
	passes := c.passes(f, deals)
	f.Add(passes[1])
	f.Add(make([]byte, LenPass))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := c.params.CollectPasses(deals, [][]byte{passes[0], b}); err != nil && !caused(err) {
			t.Errorf("%v", err)
		}
		if len(b) != LenPass {
			return
		}
		all, err := c.params.CollectPasses(deals, [][]byte{passes[0], resign(t, c.params, c.old.hosts[1], passTag, 1, deals, b)})
		if err == nil {
			_, _, err = c.params.Accept(c.hosts[2], c.keeps(2), all)
		}
		if err == nil != bytes.Equal(b[:65], passes[1][:65]) || err != nil && !caused(err) {
			t.Errorf("signed: %v", err)
		}
	})
}

func FuzzRecord(f *testing.F) {
	old := dkg(f, 2, 2)
	for _, c := range []*ceremony{
		beginReshare(f, old, []int{0, 1}, 2, dkgtest.Hosts(f, 2)),
		beginRepair(f, old, []int{0, 1}, 2, dkgtest.Hosts(f, 1)[0]),
	} {
		f.Add(c.params.head())
		transcript := c.transcript(f)
		var sigs [][]byte
		for id, h := range c.hosts {
			_, sig, err := c.params.Accept(h, c.keeps(id), transcript)
			must(f, err)
			sigs = append(sigs, sig)
		}
		record, err := c.params.Certify(transcript, sigs)
		must(f, err)
		f.Add(record)
	}
	f.Add([]byte{1, 1, 0, 0, 0, 0, 2, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, rest, err := parseHead(b); err == nil && !bytes.Equal(append(p.head(), rest...), b) {
			t.Error("two encodings of one head")
		}
		info, p, err := RecoverPublic(Accepted, b)
		if err != nil && !errors.Is(err, ErrRecord) {
			t.Errorf("%v", err)
		}
		if err == nil && info.PubKey() != p.old.PubKey() {
			t.Error("the key changed")
		}
	})
}
