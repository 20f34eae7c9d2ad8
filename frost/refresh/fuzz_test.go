package refresh

import (
	"bytes"
	"errors"
	"testing"

	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/frost"
	"github.com/vigil-ark/vigil/frost/chilldkg"
)

// caused says whether an error is one that peers' bytes may cause.
func caused(err error) bool {
	var fault *chilldkg.FaultError
	return errors.As(err, &fault) || errors.Is(err, ErrShare) || errors.Is(err, chilldkg.ErrLength) ||
		errors.Is(err, frost.ErrInfo) || errors.Is(err, bip340.ErrPoint)
}

func FuzzPmsg1(f *testing.F) {
	c := begin(f, dkg(f, 2, 2), false)
	f.Add(c.msgs[1])
	f.Add(make([]byte, LenPmsg1(2, 2)))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		_, cmsg1, err := Coordinate(c.params, [][]byte{c.msgs[0], b})
		if err != nil && !caused(err) {
			t.Errorf("%v", err)
		}
		if err != nil {
			return
		}
		if _, _, err := c.p1[0].Step2(c.hosts[0], c.hosts[0], c.old.shares[0], cmsg1); err == nil && !bytes.Equal(b, c.msgs[1]) || err != nil && !caused(err) {
			t.Errorf("step 2: %v", err)
		}
	})
}

func FuzzCmsg1(f *testing.F) {
	c := begin(f, dkg(f, 3, 3), true)
	_, cmsg1, err := Coordinate(c.params, c.msgs)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(cmsg1)
	f.Add(make([]byte, LenCmsg1(3, 3)))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		p2, _, err := c.p1[0].Step2(c.hosts[0], c.old.hosts[0], c.old.shares[0], b)
		if err != nil && !caused(err) {
			t.Errorf("%v", err)
		}
		if err == nil && p2.Pending().Info.PubKey() != c.old.info.PubKey() {
			t.Error("the key changed")
		}
		if s, err := parseSums(b, 3, 3); err == nil && !bytes.Equal(s.encode(), b) {
			t.Error("two encodings of one message")
		}
	})
}

func FuzzRecord(f *testing.F) {
	old := dkg(f, 2, 2)
	hygiene, _ := begin(f, old, false).finish(f)
	healing, _ := begin(f, old, true).finish(f)
	f.Add(hygiene.recovery)
	f.Add(healing.recovery)
	f.Add([]byte{1, 0, 0, 0, 0, 2, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := VerifyVoid(b, 0, make([]byte, 64)); !errors.Is(err, ErrRecord) && !errors.Is(err, ErrSignature) {
			t.Errorf("void: %v", err)
		}
		info, _, err := RecoverPublic(b)
		if err != nil && !errors.Is(err, ErrRecord) {
			t.Errorf("%v", err)
		}
		if err == nil && !bytes.HasPrefix(b[7:], keyOf(info)) {
			t.Error("the key changed")
		}
	})
}

func keyOf(info *frost.Info) []byte {
	k := info.PubKey()
	return k[:]
}
