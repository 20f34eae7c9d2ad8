// Package export owns the copy of all secrets that leaves a Vigil: one stream,
// encrypted to age recipients, from which another store is filled. It knows
// nothing of what a secret is for, nor of where the copy is kept.
package export

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"

	"github.com/vigil-ark/vigil/secret"
)

// The plaintext within the age file: magic, generation, then for each secret
// the length of its name (2 bytes), the name, the length of its value (4 bytes),
// the value; then a name length of 0 and the number of secrets (8 bytes).
// Numbers are big-endian. age authenticates every byte and the end.
const magic = "vigil-secrets/1\n"

var (
	// ErrFormat says that the file is no export, or one of a newer version.
	ErrFormat = errors.New("export: not an export of secrets")
	// ErrRecipient says that no usable recipient was given.
	ErrRecipient = errors.New("export: no usable age recipient")
	// ErrIdentity says that no identity given can open the export.
	ErrIdentity = errors.New("export: none of the identities opens it")
)

// Recipients reads age recipients (age1…), one or more.
func Recipients(texts ...string) ([]age.Recipient, error) {
	if len(texts) == 0 {
		return nil, ErrRecipient
	}
	list, err := age.ParseRecipients(strings.NewReader(strings.Join(texts, "\n")))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRecipient, err)
	}
	return list, nil
}

// Write encrypts every secret of store to the recipients, any one of which can
// read it, and returns how many there were. generation is the store's mark.
func Write(ctx context.Context, w io.Writer, store secret.Store, generation [16]byte, recipients ...age.Recipient) (n int, err error) {
	if len(recipients) == 0 {
		return 0, ErrRecipient
	}
	names, err := store.List(ctx, "")
	if err != nil {
		return 0, err
	}
	enc, err := age.Encrypt(w, recipients...)
	if err != nil {
		return 0, fmt.Errorf("export: %w", err)
	}
	if _, err := enc.Write(append([]byte(magic), generation[:]...)); err != nil {
		return 0, fmt.Errorf("export: %w", err)
	}
	for _, name := range names {
		value, err := store.Get(ctx, name)
		if errors.Is(err, secret.ErrNotFound) {
			continue // deleted meanwhile: nothing needs it any more
		}
		if err != nil {
			return n, fmt.Errorf("export %s: %w", name, err)
		}
		err = writeOne(enc, name, value)
		value.Burn()
		if err != nil {
			return n, fmt.Errorf("export %s: %w", name, err)
		}
		n++
	}
	end := binary.BigEndian.AppendUint64([]byte{0, 0}, uint64(n))
	if _, err := enc.Write(end); err != nil {
		return n, fmt.Errorf("export: %w", err)
	}
	if err := enc.Close(); err != nil {
		return n, fmt.Errorf("export: %w", err)
	}
	return n, nil
}

func writeOne(w io.Writer, name string, value secret.Bytes) error {
	return value.Use(func(b []byte) error {
		head := binary.BigEndian.AppendUint16(nil, uint16(len(name)))
		head = append(head, name...)
		head = binary.BigEndian.AppendUint32(head, uint32(len(b)))
		if _, err := w.Write(head); err != nil {
			return err
		}
		_, err := w.Write(b)
		return err
	})
}

// Open decrypts an export's head with one of the identities in keys, a file as
// age-keygen writes it, and returns the generation and a Reader of its secrets.
func Open(r io.Reader, keys io.Reader) (*Reader, error) {
	identities, err := age.ParseIdentities(keys)
	if err != nil {
		return nil, fmt.Errorf("%w: the identity file: %w", ErrIdentity, err)
	}
	plain, err := age.Decrypt(r, identities...)
	if err != nil {
		var none *age.NoIdentityMatchError
		if errors.As(err, &none) {
			return nil, fmt.Errorf("%w: %w", ErrIdentity, err)
		}
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	in := &Reader{r: bufio.NewReader(plain)}
	head := make([]byte, len(magic)+len(in.generation))
	if _, err := io.ReadFull(in.r, head); err != nil || string(head[:len(magic)]) != magic {
		return nil, fmt.Errorf("%w: it does not begin with %q", ErrFormat, magic)
	}
	copy(in.generation[:], head[len(magic):])
	return in, nil
}

// Reader reads the secrets of an export, once.
type Reader struct {
	r          *bufio.Reader
	generation [16]byte
}

// Generation is the mark of the store that was exported.
func (r *Reader) Generation() [16]byte { return r.generation }

// Into puts every secret into store and returns how many there were. After an
// error the store holds some of them and must not be used.
func (r *Reader) Into(ctx context.Context, store secret.Store) (n int, err error) {
	for {
		name, value, err := r.next(uint64(n))
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		err = store.Put(ctx, name, value)
		value.Burn()
		if err != nil {
			return n, fmt.Errorf("export: put %s: %w", name, err)
		}
		n++
	}
}

// next reads one secret, or io.EOF after the last of n.
func (r *Reader) next(n uint64) (string, secret.Bytes, error) {
	var length [2]byte
	if _, err := io.ReadFull(r.r, length[:]); err != nil {
		return "", secret.Bytes{}, cut(err)
	}
	if length == [2]byte{} {
		return "", secret.Bytes{}, r.end(n)
	}
	size := binary.BigEndian.Uint16(length[:])
	if size > secret.MaxName {
		return "", secret.Bytes{}, fmt.Errorf("%w: a name of %d bytes", ErrFormat, size)
	}
	head := make([]byte, int(size)+4)
	if _, err := io.ReadFull(r.r, head); err != nil {
		return "", secret.Bytes{}, cut(err)
	}
	name := string(head[:size])
	if err := secret.CheckName(name); err != nil {
		return "", secret.Bytes{}, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	length4 := binary.BigEndian.Uint32(head[size:])
	if length4 > secret.MaxValue {
		return "", secret.Bytes{}, fmt.Errorf("%w: a value of %d bytes", ErrFormat, length4)
	}
	value := make([]byte, length4)
	if _, err := io.ReadFull(r.r, value); err != nil {
		clear(value)
		return "", secret.Bytes{}, cut(err)
	}
	return name, secret.New(value), nil
}

// end holds the closing count to what was read and returns io.EOF.
func (r *Reader) end(n uint64) error {
	var count [8]byte
	if _, err := io.ReadFull(r.r, count[:]); err != nil {
		return cut(err)
	}
	if got := binary.BigEndian.Uint64(count[:]); got != n {
		return fmt.Errorf("%w: it counts %d secrets and holds %d", ErrFormat, got, n)
	}
	if _, err := r.r.ReadByte(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: something follows its end", ErrFormat)
	}
	return io.EOF
}

// cut is the error of a stream that ends early or does not authenticate.
func cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%w: %w", ErrFormat, err)
}
