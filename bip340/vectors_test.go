package bip340

import (
	"bytes"
	"encoding/csv"
	"encoding/hex"
	"os"
	"testing"

	"github.com/vigil-ark/vigil/secret"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustKey(t testing.TB, b []byte) *Key {
	t.Helper()
	k, err := NewKey(secret.New(bytes.Clone(b)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestVectors runs all 19 rows of the BIP-340 file.
func TestVectors(t *testing.T) {
	f, err := os.Open("testdata/bip340.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	rows = rows[1:]
	signed, rejected := 0, 0
	for _, row := range rows {
		t.Run(row[0], func(t *testing.T) {
			pk := unhex(t, row[2])
			msg, sig := unhex(t, row[4]), [64]byte(unhex(t, row[5]))
			if row[1] != "" {
				signed++
				k := mustKey(t, unhex(t, row[1]))
				if x := k.PubKey().XOnly(); !bytes.Equal(x[:], pk) {
					t.Fatalf("public key %s, want %x", x, pk)
				}
				got, err := k.sign(bytes.NewReader(unhex(t, row[3])), msg)
				if err != nil {
					t.Fatal(err)
				}
				if got != sig {
					t.Fatalf("signature %x, want %x", got, sig)
				}
			}
			want := row[6] == "TRUE"
			if !want {
				rejected++
			}
			if got := Verify(XOnly(pk), msg, sig); got != want {
				t.Fatalf("verified: %v, want %v (%s)", got, want, row[7])
			}
			_, err := ParseXOnly(pk)
			if bad := row[0] == "5" || row[0] == "14"; (err != nil) != bad {
				t.Fatalf("public key decodes: %v", err)
			}
		})
	}
	if len(rows) != 19 || signed != 8 || rejected != 10 {
		t.Fatalf("%d rows, %d signed, %d rejected; want 19, 8, 10", len(rows), signed, rejected)
	}
}
