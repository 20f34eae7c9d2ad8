package canon

import (
	"bytes"
	"errors"
	"math"
	"testing"
)

// sample has one field of every kind.
type sample struct {
	Time   int64
	Amount int64
	Small  uint8
	Flag   bool
	Fixed  [4]byte
	Bytes  []byte
	Text   string
	List   []uint16
	Same   [][]byte
}

func (s *sample) fields(c *Coder) {
	c.Time(&s.Time, "time")
	c.Amount(&s.Amount, "amount")
	Num(c, &s.Small, 7, "small")
	c.Bool(&s.Flag, "flag")
	c.Fixed(s.Fixed[:], "fixed")
	c.Bytes(&s.Bytes, 8, "bytes")
	c.Text(&s.Text, 8, "text")
	List(c, &s.List, 3, "list", func(c *Coder, v *uint16) { Num(c, v, math.MaxUint16, "element") })
	var before []byte
	List(c, &s.Same, 3, "same", func(c *Coder, v *[]byte) {
		c.Repeated(v, before, 8, "repeated")
		before = *v
	})
}

const format, limit = 3, 64

func (s *sample) encode() ([]byte, error) { return Encode(format, limit, s.fields) }

func decodeSample(b []byte) (*sample, error) {
	s := new(sample)
	return s, Decode(b, format, limit, s.fields)
}

func whole() *sample {
	return &sample{
		Time: 300, Amount: maxSatoshi, Small: 7, Flag: true, Fixed: [4]byte{1, 2, 3, 4}, Bytes: []byte("12345678"), Text: "é",
		List: []uint16{1, 128, 65535}, Same: [][]byte{[]byte("a"), []byte("a"), []byte("b")},
	}
}

func TestRoundTrip(t *testing.T) {
	for _, want := range []*sample{whole(), {}} {
		b, err := want.encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeSample(b)
		if err != nil {
			t.Fatal(err)
		}
		again, err := got.encode()
		if err != nil || !bytes.Equal(b, again) {
			t.Fatalf("%x and %x, %v", b, again, err)
		}
	}
	got, err := decodeSample(mustEncode(t, whole()))
	if err != nil || got.Time != 300 || got.Text != "é" || len(got.Same) != 3 || string(got.Same[1]) != "a" || string(got.Same[2]) != "b" {
		t.Fatalf("%+v %v", got, err)
	}
}

func mustEncode(t testing.TB, s *sample) []byte {
	t.Helper()
	b, err := s.encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestWritingRefuses(t *testing.T) {
	for name, s := range map[string]*sample{
		"negative time":   {Time: -1},
		"negative amount": {Amount: -1},
		"amount":          {Amount: maxSatoshi + 1},
		"number":          {Small: 8},
		"bytes":           {Bytes: make([]byte, 9)},
		"text":            {Text: "123456789"},
		"not text":        {Text: "\xff"},
		"list":            {List: make([]uint16, 4)},
		"whole":           {Bytes: make([]byte, 8), Text: "12345678", Same: [][]byte{[]byte("12345678"), []byte("12345679"), []byte("12345670")}, List: []uint16{65535, 65535, 65535}, Time: math.MaxInt64},
	} {
		if _, err := s.encode(); !errors.Is(err, ErrBounds) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReadingRefuses(t *testing.T) {
	good := mustEncode(t, whole())
	for n := range good {
		if _, err := decodeSample(good[:n]); !errors.Is(err, ErrMalformed) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	for name, b := range map[string][]byte{
		"a byte too many":        append(bytes.Clone(good), 0),
		"too long":               make([]byte, limit+1),
		"format 0":               append([]byte{0}, good[1:]...),
		"an older format":        append([]byte{format - 1}, good[1:]...),
		"a number with zeros":    {format, 0x80, 0x00},
		"a number over 64 bits":  {format, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
		"time over 63 bits":      {format, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01},
		"a flag of 2":            {format, 0, 0, 0, 2},
		"a long list of nothing": {format, 0, 0, 0, 0, 1, 2, 3, 4, 0, 0, 3, 1},
		"repeated at length":     {format, 0, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 2, 0, 1, 'a', 0, 1, 'a'},
	} {
		if _, err := decodeSample(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := decodeSample(append([]byte{format + 1}, good[1:]...)); !errors.Is(err, ErrNewer) {
		t.Errorf("a newer format: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(mustEncode(f, whole()))
	f.Add(mustEncode(f, &sample{}))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decodeSample(b)
		if err != nil {
			return
		}
		again, err := s.encode()
		if err != nil || !bytes.Equal(b, again) {
			t.Fatalf("%x reads and writes as %x, %v", b, again, err)
		}
	})
}
