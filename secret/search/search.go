// Package search owns the leak rule's searcher: it looks for secrets, in every
// encoding in which one could have been written by mistake, in whatever a run
// left behind, and proves itself by finding a planted canary. It knows nothing
// of where secrets or files come from.
package search

import (
	"bytes"
	"crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"

	"github.com/btcsuite/btcd/address/v2/bech32"

	"github.com/vigil-ark/vigil/secret"
)

// A Finding says where a secret was found, never the secret.
type Finding struct {
	Secret   string // its name, as given to Add
	Encoding string
	Where    string // the file or text
	Offset   int64
}

func (f Finding) String() string {
	return fmt.Sprintf("%s (%s) in %s at byte %d", f.Secret, f.Encoding, f.Where, f.Offset)
}

// Searcher knows the secrets. The zero Searcher knows none. It is not safe for
// concurrent use.
type Searcher struct {
	needles []needle
	maybe   [1 << 16]bool    // whether a needle begins with these two bytes
	heads   map[uint32][]int // needles by their first four bytes
	longest int
	count   int
	bytes   int64
}

type needle struct {
	name, encoding string
	is             func([]byte) bool // whether the text begins with it
	length         int
	fold           bool // letters match in either case
}

// minSecret is the shortest secret that is searched for: anything shorter is
// found by chance.
const minSecret = 8

// ErrShort refuses a secret too short to be told from chance.
var ErrShort = errors.New("search: secret too short to search for")

// Add makes the searcher look for a secret in all encodings: raw and reversed
// bytes, hex in either case, base64 and base64url at each of the three
// alignments, base32, bech32's alphabet, decimal, and lists of decimal or hex
// bytes as printers and JSON write them. The secret stays the caller's; the
// searcher keeps copies until Burn.
func (s *Searcher) Add(name string, value secret.Bytes) error {
	return value.Use(func(b []byte) error {
		if len(b) < minSecret {
			return fmt.Errorf("%w: %s has %d bytes", ErrShort, name, len(b))
		}
		for _, e := range encodings(b) {
			s.add(name, e)
		}
		s.count++
		return nil
	})
}

func (s *Searcher) add(name string, e encoded) {
	if len(e.text) < minSecret {
		return
	}
	text := secret.New(e.text)
	n := needle{name: name, encoding: e.name, length: len(e.text), fold: e.fold}
	n.is = func(at []byte) bool {
		found := false
		_ = text.Use(func(want []byte) error { // it is never burned
			if len(at) >= len(want) {
				if e.fold {
					found = bytes.EqualFold(at[:len(want)], want)
				} else {
					found = bytes.Equal(at[:len(want)], want)
				}
			}
			return nil
		})
		return found
	}
	index := len(s.needles)
	s.needles = append(s.needles, n)
	if s.heads == nil {
		s.heads = map[uint32][]int{}
	}
	_ = text.Use(func(want []byte) error { // it is never burned
		for _, head := range heads(want, e.fold) {
			s.maybe[binary.LittleEndian.Uint16(head[:])] = true
			h := binary.LittleEndian.Uint32(head[:])
			s.heads[h] = append(s.heads[h], index)
		}
		return nil
	})
	s.longest = max(s.longest, n.length)
}

// heads are the first four bytes of text in every case that a match may have.
func heads(text []byte, fold bool) [][4]byte {
	out := [][4]byte{[4]byte(text)}
	if !fold {
		return out
	}
	for i := range 4 {
		if c := text[i] | 0x20; 'a' <= c && c <= 'z' {
			for _, h := range out {
				h[i] ^= 0x20
				out = append(out, h)
			}
		}
	}
	return out
}

// Secrets is how many secrets Add took.
func (s *Searcher) Secrets() int { return s.count }

// Bytes is how much was searched so far.
func (s *Searcher) Bytes() int64 { return s.bytes }

type encoded struct {
	name string
	text []byte
	fold bool
}

func encodings(b []byte) []encoded {
	reversed := make([]byte, len(b))
	for i, c := range b {
		reversed[len(b)-1-i] = c
	}
	out := []encoded{
		{"raw", bytes.Clone(b), false},
		{"raw, reversed", bytes.Clone(reversed), false},
		{"hex", []byte(hex.EncodeToString(b)), true},
		{"hex, reversed", []byte(hex.EncodeToString(reversed)), true},
		{"hex bytes", list(b, "%02x", " "), true},
		{"hex byte list", list(b, "0x%02x", ", "), true},
		{"hex byte list, short", list(b, "0x%x", ", "), true},
		{"JSON byte list", list(b, "%d", ","), false},
		{"byte list", list(b, "%d", " "), false},
		{"spaced byte list", list(b, "%d", ", "), false},
		{"decimal", []byte(new(big.Int).SetBytes(b).String()), false},
		{"base32", []byte(strings.TrimRight(base32.StdEncoding.EncodeToString(b), "=")), true},
	}
	for shift := range 3 {
		for _, alphabet := range []struct {
			name string
			enc  *base64.Encoding
		}{{"base64", base64.RawStdEncoding}, {"base64url", base64.RawURLEncoding}} {
			text := alphabet.enc.EncodeToString(append(make([]byte, shift), b...))
			// Characters that mix in bits of the neighbours are cut off.
			from := (shift*8 + 5) / 6
			to := (shift + len(b)) * 8 / 6
			out = append(out, encoded{fmt.Sprintf("%s, alignment %d", alphabet.name, shift), []byte(text[from:to]), false})
		}
	}
	if groups, err := bech32.ConvertBits(b, 8, 5, true); err == nil {
		const charset = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
		text := make([]byte, len(groups)-1) // the last group is padded
		for i := range text {
			text[i] = charset[groups[i]]
		}
		out = append(out, encoded{"bech32", text, true})
	}
	return out
}

func list(b []byte, format, separator string) []byte {
	parts := make([]string, len(b))
	for i, c := range b {
		parts[i] = fmt.Sprintf(format, c)
	}
	return []byte(strings.Join(parts, separator))
}

// Text searches one piece of text.
func (s *Searcher) Text(where string, text []byte) []Finding {
	s.bytes += int64(len(text))
	return s.scan(where, text, 0, len(text))
}

// scan looks at every start below limit.
func (s *Searcher) scan(where string, text []byte, base int64, limit int) (found []Finding) {
	limit = min(limit, len(text)-3) // no needle is shorter than four bytes
	for i := 0; i < limit; i++ {
		if !s.maybe[binary.LittleEndian.Uint16(text[i:])] {
			continue
		}
		for _, n := range s.heads[binary.LittleEndian.Uint32(text[i:])] {
			if s.needles[n].is(text[i:]) {
				found = append(found, Finding{s.needles[n].name, s.needles[n].encoding, where, base + int64(i)})
			}
		}
	}
	return found
}

// Read searches a stream to its end.
func (s *Searcher) Read(where string, r io.Reader) ([]Finding, error) {
	var found []Finding
	buf := make([]byte, 0, 1<<20+s.longest)
	base := int64(0)
	for {
		n, err := io.ReadFull(r, buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		s.bytes += int64(n)
		end := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !end {
			return found, fmt.Errorf("search %s: %w", where, err)
		}
		limit := len(buf)
		if !end {
			limit = max(0, len(buf)-s.longest)
		}
		found = append(found, s.scan(where, buf, base, limit)...)
		if end {
			return found, nil
		}
		base += int64(limit)
		buf = append(buf[:0], buf[limit:]...)
	}
}

// FS searches every file's content and every name below root.
func (s *Searcher) FS(root fs.FS) ([]Finding, error) {
	var found []Finding
	err := fs.WalkDir(root, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		found = append(found, s.Text("the name of "+path, []byte(path))...)
		if !d.Type().IsRegular() {
			return nil
		}
		f, err := root.Open(path)
		if err != nil {
			return err
		}
		defer f.Close() // read only: nothing is lost
		more, err := s.Read(path, f)
		found = append(found, more...)
		return err
	})
	if err != nil {
		return found, fmt.Errorf("search: %w", err)
	}
	return found, nil
}

// Prove shows that the searcher would find what it looks for below dir: it
// copies dir's files to scratch, hides a fresh canary in the middle of the
// largest copy, as hex, and looks for it there. scratch must not exist; it is
// removed again.
func Prove(dir, scratch string) (found bool, err error) {
	if err := os.Mkdir(scratch, 0o700); err != nil {
		return false, fmt.Errorf("search: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	if err := os.CopyFS(scratch, os.DirFS(dir)); err != nil {
		return false, fmt.Errorf("search: copy: %w", err)
	}
	var largest string
	var size int64 = -1
	err = filepath.WalkDir(scratch, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Size() > size {
			largest, size = path, info.Size()
		}
		return err
	})
	if err != nil || largest == "" {
		return false, errors.Join(errors.New("search: nothing to plant a canary in"), err)
	}
	var raw [32]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return false, fmt.Errorf("search: %w", err)
	}
	text := hex.EncodeToString(raw[:])
	f, err := os.OpenFile(largest, os.O_WRONLY, 0o600)
	if err != nil {
		return false, fmt.Errorf("search: %w", err)
	}
	_, err = f.WriteAt([]byte(text), size/2)
	if err := errors.Join(err, f.Close()); err != nil {
		return false, fmt.Errorf("search: plant: %w", err)
	}
	s := new(Searcher)
	if err := s.Add("canary", secret.New(raw[:])); err != nil {
		return false, err
	}
	findings, err := s.FS(os.DirFS(scratch))
	return len(findings) == 1, err
}
