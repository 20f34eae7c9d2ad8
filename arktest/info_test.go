package arktest

import (
	"testing"
	"time"

	"github.com/btcsuite/btcd/btcec/v2"
)

// TestDigest: the worked example of protocol section 2.2, secret keys of one
// byte repeated.
func TestDigest(t *testing.T) {
	key := func(b byte) *btcec.PrivateKey {
		raw := make([]byte, 32)
		for i := range raw {
			raw[i] = b
		}
		k, _ := btcec.PrivKeyFromBytes(raw)
		return k
	}
	op, err := Start(Config{
		NoEsplora: true, Clock: NewManualClock(time.Unix(1_800_000_000, 0)), SignerKey: key(0x22), ForfeitKey: key(0x44),
		Settings: Settings{
			SessionDuration: 30 * time.Second, TreeExpiry: 86016, ExitDelay: 86016, BoardingDelay: 7776256, CheckpointDelay: 86016, VtxoMin: 330,
			Fees: Fees{OffchainInput: "amount < 1000.0 ? 1.0 : 0.0"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer op.Close()
	i := op.info()
	if i.ForfeitAddress != "bcrt1qesds0quw8p774ngw2gewr695naxzneyy6radfp" {
		t.Errorf("forfeit address %s", i.ForfeitAddress)
	}
	// The example's checkpoint leaf is 10 blocks, which no server with delays in
	// seconds has.
	i.CheckpointTapscript = "5ab275202c0b7cf95324a07d05398b240174dc0c2be444d96b159aa6c7f7b1e668680991ac"
	if got, want := digestOf(i), "9d2ffb39e370b51465a5123fa1eee6b8243247be30f4ce06dba73d05017c1d9f"; got != want {
		t.Errorf("digest %s, want %s", got, want)
	}
}

func TestImpossibleSettings(t *testing.T) {
	for name, s := range map[string]Settings{
		"equal delays": {ExitDelay: 4096},
		"both kinds":   {TreeExpiry: 40},
		"participants": {MinParticipants: 200},
		"fee program":  {Fees: Fees{OnchainInput: "amount +"}},
	} {
		if op, err := Start(Config{Settings: s, NoEsplora: true}); err == nil {
			op.Close()
			t.Errorf("%s: started", name)
		}
	}
}
