// Package canon owns the encoding of what Vigil stores: one walk over a value's
// fields that either writes or reads them, canonical and bounded. It knows
// nothing of the values.
package canon

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"unicode/utf8"
)

// Errors of the encodings, matched with errors.Is.
var (
	// ErrNewer says that a newer version of Vigil wrote the bytes.
	ErrNewer = errors.New("canon: written by a newer version")
	// ErrMalformed says that the bytes are not what this version writes.
	ErrMalformed = errors.New("canon: malformed")
	// ErrBounds says that a value does not fit into the encoding's bounds.
	ErrBounds = errors.New("canon: value out of bounds")
)

// Coder walks a value's fields once and either writes or reads them, so that
// the two directions cannot differ. Its encoding is canonical: what it reads it
// would write again byte for byte. Integers are minimal LEB128, byte strings
// and lists carry their length first, and every length is checked against its
// bound and against what is left before anything is allocated. Writing changes
// nothing in the value, so that readers may share it.
type Coder struct {
	reading bool
	buf     []byte // written so far, or left to read
	err     error
}

// OK says whether no error has occurred.
func (c *Coder) OK() bool { return c.err == nil }

// Reading says whether the walk reads.
func (c *Coder) Reading() bool { return c.reading }

// Fail keeps the first error. Reading finds bad bytes, writing a bad value.
func (c *Coder) Fail(format string, args ...any) {
	if c.err != nil {
		return
	}
	cause := ErrBounds
	if c.reading {
		cause = ErrMalformed
	}
	c.err = fmt.Errorf("%w: %s", cause, fmt.Sprintf(format, args...))
}

// Uint codes a number of at most limit.
func (c *Coder) Uint(v *uint64, limit uint64, name string) {
	if c.err != nil {
		return
	}
	if c.reading {
		n, size := binary.Uvarint(c.buf)
		if size <= 0 || (size > 1 && c.buf[size-1] == 0) {
			c.Fail("%s: not a minimal number", name)
			return
		}
		*v, c.buf = n, c.buf[size:]
	}
	if *v > limit {
		c.Fail("%s: %d is over %d", name, *v, limit)
		return
	}
	if !c.reading {
		c.buf = binary.AppendUvarint(c.buf, *v)
	}
}

// Num codes a non-negative integer of any integer type, at most limit.
func Num[T ~int64 | ~uint8 | ~uint16 | ~uint32 | ~uint64](c *Coder, v *T, limit T, name string) {
	if *v < 0 && !c.reading {
		c.Fail("%s: negative", name)
		return
	}
	n := uint64(*v)
	c.Uint(&n, uint64(limit), name)
	if c.reading {
		*v = T(n)
	}
}

// Time codes unix seconds.
func (c *Coder) Time(v *int64, name string) { Num(c, v, math.MaxInt64, name) }

// Amount codes satoshis, at most all there can be.
func (c *Coder) Amount(v *int64, name string) { Num(c, v, maxSatoshi, name) }

const maxSatoshi int64 = 21_000_000 * 100_000_000

// Bool codes a truth value.
func (c *Coder) Bool(v *bool, name string) {
	var n uint64
	if *v {
		n = 1
	}
	c.Uint(&n, 1, name)
	if c.reading {
		*v = n == 1
	}
}

// Fixed codes bytes whose number is known.
func (c *Coder) Fixed(v []byte, name string) {
	if c.err != nil {
		return
	}
	if !c.reading {
		if len(v) > cap(c.buf)-len(c.buf) {
			c.buf = slices.Grow(c.buf, max(len(v), cap(c.buf))) // append would grow a long one by a quarter each time
		}
		c.buf = append(c.buf, v...)
		return
	}
	if len(c.buf) < len(v) {
		c.Fail("%s: cut short", name)
		return
	}
	copy(v, c.buf)
	c.buf = c.buf[len(v):]
}

// count codes a list's length. Every element takes at least one byte, so that
// a length over what is left is refused before anything is made.
func (c *Coder) count(have, limit int, name string) int {
	n := uint64(have)
	c.Uint(&n, uint64(limit), name)
	if c.err == nil && c.reading && n > uint64(len(c.buf)) {
		c.Fail("%s: %d elements in %d bytes", name, n, len(c.buf))
	}
	if c.err != nil {
		return 0
	}
	return int(n)
}

// Bytes codes a byte string; an empty one is read as nil.
func (c *Coder) Bytes(v *[]byte, limit int, name string) {
	n := c.count(len(*v), limit, name)
	if c.err != nil {
		return
	}
	if c.reading {
		*v = nil
		if n > 0 {
			*v = make([]byte, n)
		}
	}
	c.Fixed(*v, name)
}

// Text codes a UTF-8 string.
func (c *Coder) Text(v *string, limit int, name string) {
	b := []byte(*v)
	c.Bytes(&b, limit, name)
	if c.err == nil && !utf8.Valid(b) {
		c.Fail("%s: not UTF-8", name)
	}
	if c.reading {
		*v = string(b)
	}
}

// Repeated codes a byte string that often equals the one before it in a list:
// a flag and then, only if it differs, the string.
func (c *Coder) Repeated(v *[]byte, before []byte, limit int, name string) {
	same := !c.reading && bytes.Equal(*v, before)
	c.Bool(&same, name)
	if c.err != nil {
		return
	}
	if same {
		if c.reading {
			*v = before
		}
		return
	}
	c.Bytes(v, limit, name)
	if c.reading && c.err == nil && bytes.Equal(*v, before) {
		c.Fail("%s: repeated at length", name)
	}
}

// List codes a slice by its elements; an empty one is read as nil.
func List[T any](c *Coder, v *[]T, limit int, name string, each func(*Coder, *T)) {
	n := c.count(len(*v), limit, name)
	if c.err != nil {
		return
	}
	if !c.reading {
		for i := range *v {
			each(c, &(*v)[i])
		}
		return
	}
	*v = nil
	for range n {
		var element T
		each(c, &element)
		if c.err != nil {
			return
		}
		*v = append(*v, element)
	}
}

// Encode writes format and then the fields.
func Encode(format byte, limit int, fields func(*Coder)) ([]byte, error) {
	c := &Coder{buf: []byte{format}}
	fields(c)
	if c.err == nil && len(c.buf) > limit {
		c.Fail("%d bytes, at most %d", len(c.buf), limit)
	}
	if c.err != nil {
		return nil, c.err
	}
	return c.buf, nil
}

// Decode reads what Encode wrote in the same format, and nothing else.
func Decode(b []byte, format byte, limit int, fields func(*Coder)) error {
	c := &Coder{reading: true}
	switch {
	case len(b) == 0:
		c.Fail("empty")
	case len(b) > limit:
		c.Fail("%d bytes, at most %d", len(b), limit)
	case b[0] > format:
		return fmt.Errorf("%w: format %d, this version reads up to %d", ErrNewer, b[0], format)
	case b[0] != format:
		c.Fail("format %d", b[0])
	default:
		c.buf = b[1:]
		fields(c)
		if len(c.buf) > 0 {
			c.Fail("%d bytes too many", len(c.buf))
		}
	}
	return c.err
}
