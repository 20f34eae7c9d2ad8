package txfilter

import "testing"

// TestFilters holds the published filter cases (arkd's txfilter fixtures).
func TestFilters(t *testing.T) {
	with := func(typ int64, data string) Tx { return Tx{Extension: map[int64]string{typ: data}} }
	for _, c := range []struct {
		source string
		tx     Tx
		want   bool
	}{
		{"has(tx.extension)", with(1, "deadbeef"), true},
		{"has(tx.extension)", Tx{}, false},
		{"hasPacket(tx.extension, 1)", with(1, "deadbeef"), true},
		{"hasPacket(tx.extension, 0x42)", with(66, "cafebabe"), true},
		{"hasPacket(tx.extension, 99)", with(1, "deadbeef"), false},
		{"has(tx.extension) && hasPacket(tx.extension, 1)", Tx{}, false},
		{"has(tx.extension) && hasPacket(tx.extension, 0x42)", with(7, "ff"), false},
		{`tx.extension[1] == "deadbeef"`, with(1, "deadbeef"), true},
		{`tx.extension[2] == "deadbeef"`, with(1, "deadbeef"), false}, // fails to evaluate
	} {
		f, err := Compile(c.source)
		if err != nil {
			t.Errorf("%s: %v", c.source, err)
			continue
		}
		if got := f.Eval(c.tx); got != c.want {
			t.Errorf("%s over %v is %v", c.source, c.tx, got)
		}
	}
	for _, bad := range []string{"", "tx.unknown == 1", "1 + 1", "has(tx.extension) &&", "nosuch(tx)"} {
		if _, err := Compile(bad); err == nil {
			t.Errorf("%q compiles", bad)
		}
	}
}
