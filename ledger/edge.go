package ledger

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/vigil-ark/vigil/kv"
)

// Every row crosses this edge on its way to the store and back: its value is
// stored with the CRC-32C of tree, key and value behind it, so that a bit that
// flipped on the disk, or a row that was put in another's place, is found when it
// is read. It finds accidents: whoever can write to the store can make sums too.

// sumSize is the length of the sum behind a stored value, in bytes.
const sumSize = crc32.Size

// Damage is the error of one row that cannot be read. It matches ErrUnreadable.
type Damage struct {
	Tree  string
	Key   []byte
	Cause error
}

// Error names the row.
func (d *Damage) Error() string {
	return fmt.Sprintf("%v: the row %s of %s: %v", ErrUnreadable, keyText(d.Key), d.Tree, d.Cause)
}

// Unwrap makes it match ErrUnreadable, and its cause.
func (d *Damage) Unwrap() []error { return []error{ErrUnreadable, d.Cause} }

// keyText is a key for people: names as they are, all else in hex.
func keyText(key []byte) string {
	for _, c := range key {
		if c < ' ' || c > '~' {
			return fmt.Sprintf("%x", key)
		}
	}
	return fmt.Sprintf("%q", key)
}

var errSum = errors.New("its checksum is wrong")

// sum is over all of a row. The lengths keep apart what tree and key begin with.
func sum(tree string, key, value []byte) uint32 {
	head := make([]byte, 0, 128)
	head = append(head, byte(len(tree)))
	head = append(head, tree...)
	head = binary.BigEndian.AppendUint16(head, uint16(len(key)))
	head = append(head, key...)
	table := crc32.MakeTable(crc32.Castagnoli) // made once, by the library
	return crc32.Update(crc32.Checksum(head, table), table, value)
}

// bare says which row has no sum: the schema number, which is read before it is
// known how rows are stored, and by older versions. It has a witness instead.
func bare(tree string, key []byte) bool { return tree == treeMeta && string(key) == metaSchema }

// seal is a value as it is stored.
func seal(tree string, key, value []byte) []byte {
	if bare(tree, key) {
		return value
	}
	stored := make([]byte, 0, len(value)+sumSize)
	return binary.BigEndian.AppendUint32(append(stored, value...), sum(tree, key, value))
}

// unseal is the value of a stored one, or a *Damage.
func unseal(tree string, key, stored []byte) ([]byte, error) {
	if bare(tree, key) {
		return stored, nil
	}
	cut := len(stored) - sumSize
	if cut < 0 || binary.BigEndian.Uint32(stored[cut:]) != sum(tree, key, stored[:cut]) {
		return nil, &Damage{Tree: tree, Key: append([]byte(nil), key...), Cause: errSum}
	}
	return stored[:cut:cut], nil
}

// reader is kv.Reader behind the edge.
type reader interface {
	// Get returns a value, kv.ErrNotFound or a *Damage.
	Get(tree string, key []byte) ([]byte, error)
	// Scan is that of kv.Reader; a row that is damaged comes with its *Damage and
	// no value, and must not be believed to be where it was put.
	Scan(tree string, from, to []byte, f func(key, value []byte, damage error) error) error
	// damaged is the error of a row whose value or key means nothing. It is marked
	// as those are whose sum is wrong.
	damaged(tree string, key []byte, cause error) error
}

// writer is kv.Writer behind the edge.
type writer interface {
	reader
	Put(tree string, key, value []byte) error
	Delete(tree string, key []byte) error
}

// edge is one running transaction of the store. w is nil in one that only reads.
type edge struct {
	r     kv.Reader
	w     kv.Writer
	found []*Damage // met and not marked yet
}

func (e *edge) Get(tree string, key []byte) ([]byte, error) {
	stored, err := e.r.Get(tree, key)
	if err != nil {
		return nil, err
	}
	value, err := unseal(tree, key, stored)
	if err != nil {
		e.note(err)
	}
	return value, err
}

func (e *edge) Scan(tree string, from, to []byte, f func(key, value []byte, damage error) error) error {
	return e.r.Scan(tree, from, to, func(key, stored []byte) error {
		value, err := unseal(tree, key, stored)
		if err != nil {
			e.note(err)
			if vouched(e, tree, key) {
				err = nil
			}
		}
		return f(key, value, err)
	})
}

func (e *edge) Put(tree string, key, value []byte) error {
	return e.w.Put(tree, key, seal(tree, key, value))
}

func (e *edge) Delete(tree string, key []byte) error { return e.w.Delete(tree, key) }

func (e *edge) damaged(tree string, key []byte, cause error) error {
	if newer := new(Damage); errors.As(cause, &newer) {
		return cause // noted where it was found
	}
	d := &Damage{Tree: tree, Key: append([]byte(nil), key...), Cause: cause}
	e.note(d)
	return d
}

// note keeps a damage to be marked when the transaction is over.
func (e *edge) note(err error) {
	var d *Damage
	if errors.As(err, &d) && len(e.found) < maxMarks {
		e.found = append(e.found, d)
	}
}

// view runs f on a snapshot, and then marks the damage that it met.
func (l *Ledger) view(ctx context.Context, f func(reader) error) error {
	var found []*Damage
	err := l.store.View(ctx, func(r kv.Reader) error {
		e := &edge{r: r}
		err := f(e)
		found = unmarked(e, e.found)
		return err
	})
	l.mark(ctx, found)
	return err
}

// update runs f in a durable write, and then marks the damage that it met.
func (l *Ledger) update(ctx context.Context, f func(writer) error) error {
	var found []*Damage
	err := l.store.Update(ctx, func(w kv.Writer) error {
		e := &edge{r: w, w: w}
		err := f(e)
		found = unmarked(e, e.found)
		return err
	})
	l.mark(ctx, found)
	return err
}
