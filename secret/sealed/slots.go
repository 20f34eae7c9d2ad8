package sealed

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"github.com/vigil-ark/vigil/internal/sqlitedb"
	"github.com/vigil-ark/vigil/secret"
)

// A sealed value lies in slots: rows of one size that are appended, then only
// ever overwritten in place, and never deleted or moved. That is what makes
// deleting real. SQLite's secure_delete zeroes a deleted row where it lies, but
// not the stray copies that its B-tree left behind when the row was moved to
// another page while neighbours came and went (found in half of the runs of a
// test that searches the files). Rows of an append-only table with integer
// keys are moved by nothing.
//
// The table secrets maps a name to its place: the length of the sealed value
// (4 bytes, big endian) and the numbers of its slots (8 bytes each); the table
// free lists the slots to be used again. Neither is secret.
const (
	// slotSize is the data in one slot, in bytes: a sealed 32-byte key (77) or
	// 64-byte pair of keys (109) needs one.
	slotSize = 128

	placeHead = 4
	placeID   = 8
)

// store puts a sealed value into slots; name has none.
func store(tx *sqlitedb.Tx, name string, sealed []byte) error {
	place := binary.BigEndian.AppendUint32(nil, uint32(len(sealed)))
	for len(sealed) > 0 {
		data := make([]byte, slotSize)
		sealed = sealed[copy(data, sealed):]
		id, err := fill(tx, data)
		if err != nil {
			return err
		}
		place = binary.BigEndian.AppendUint64(place, uint64(id))
	}
	_, err := tx.Exec("INSERT INTO secrets VALUES (?1, ?2)", []byte(name), place)
	return err
}

// fill writes data into a free slot or a new one.
func fill(tx *sqlitedb.Tx, data []byte) (id int64, err error) {
	free, err := tx.Get("SELECT id FROM free LIMIT 1")
	if errors.Is(err, sqlitedb.ErrNoRow) {
		_, err := tx.Exec("INSERT INTO slots (data) VALUES (?1)", data)
		return tx.LastID(), err
	}
	if err != nil {
		return 0, err
	}
	if id, err = strconv.ParseInt(string(free), 10, 64); err != nil {
		return 0, fmt.Errorf("%w: free slot: %w", secret.ErrTampered, err)
	}
	if _, err := tx.Exec("DELETE FROM free WHERE id=?1", id); err != nil {
		return 0, err
	}
	return id, overwrite(tx, id, data)
}

// overwrite replaces a slot's data; the same size keeps it where it is.
func overwrite(tx *sqlitedb.Tx, id int64, data []byte) error {
	n, err := tx.Exec("UPDATE slots SET data=?2 WHERE id=?1", id, data)
	if err == nil && n != 1 {
		err = fmt.Errorf("%w: slot %d is gone", secret.ErrTampered, id)
	}
	return err
}

// remove overwrites a value with zeros, frees its slots and asks for the log
// to be emptied. A name that is not there is no error.
func remove(tx *sqlitedb.Tx, name string) error {
	place, err := tx.Get("SELECT place FROM secrets WHERE name=?1", []byte(name))
	if errors.Is(err, sqlitedb.ErrNoRow) {
		return nil
	}
	if err != nil {
		return err
	}
	_, ids, err := parsePlace(name, place)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := overwrite(tx, id, make([]byte, slotSize)); err != nil {
			return err
		}
		if _, err := tx.Exec("INSERT INTO free VALUES (?1)", id); err != nil {
			return err
		}
	}
	tx.Erased()
	_, err = tx.Exec("DELETE FROM secrets WHERE name=?1", []byte(name))
	return err
}

// load returns the sealed value of name, or sqlitedb.ErrNoRow.
func load(tx *sqlitedb.Tx, name string) ([]byte, error) {
	place, err := tx.Get("SELECT place FROM secrets WHERE name=?1", []byte(name))
	if err != nil {
		return nil, err
	}
	return gather(tx, name, place)
}

// gather reads the sealed value that lies at place.
func gather(tx *sqlitedb.Tx, name string, place []byte) ([]byte, error) {
	size, ids, err := parsePlace(name, place)
	if err != nil {
		return nil, err
	}
	sealed := make([]byte, 0, len(ids)*slotSize)
	for _, id := range ids {
		data, err := tx.Get("SELECT data FROM slots WHERE id=?1", id)
		if err != nil && !errors.Is(err, sqlitedb.ErrNoRow) {
			return nil, err
		}
		if len(data) != slotSize {
			return nil, fmt.Errorf("%w: %s: slot %d is damaged", secret.ErrTampered, name, id)
		}
		sealed = append(sealed, data...)
	}
	return sealed[:size], nil
}

// parsePlace decodes a place and checks it against the limits of a value.
func parsePlace(name string, place []byte) (size int, ids []int64, err error) {
	bad := fmt.Errorf("%w: %s: its place is damaged", secret.ErrTampered, name)
	if len(place) < placeHead || (len(place)-placeHead)%placeID != 0 {
		return 0, nil, bad
	}
	size = int(binary.BigEndian.Uint32(place))
	n := (len(place) - placeHead) / placeID
	if size > maxSealed || n != (size+slotSize-1)/slotSize {
		return 0, nil, bad
	}
	for p := place[placeHead:]; len(p) > 0; p = p[placeID:] {
		ids = append(ids, int64(binary.BigEndian.Uint64(p)))
	}
	return size, ids, nil
}

// countSlots checks that every slot is either free or some value's.
func countSlots(tx *sqlitedb.Tx) error {
	sum, err := tx.Get(fmt.Sprintf(`SELECT (SELECT count(*) FROM slots) - (SELECT count(*) FROM free)
		- (SELECT ifnull(sum((length(place)-%d)/%d), 0) FROM secrets)`, placeHead, placeID))
	if err == nil && string(sum) != "0" {
		err = fmt.Errorf("%w: %s slots are neither free nor used", secret.ErrTampered, sum)
	}
	return err
}
