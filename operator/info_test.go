package operator

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/vigil-ark/vigil/ark"
	arkv1 "github.com/vigil-ark/vigil/internal/pb/ark/v1"
)

func TestCapturedInfo(t *testing.T) {
	p, err := decodeInfo(capturedInfo(t))
	if err != nil {
		t.Fatal(err)
	}
	if p.Network != ark.Regtest || p.Version != "v0.9.15-8b34e35-lab" || p.SessionSeconds != 10 || p.Dust != 330 ||
		p.ExitDelay != 512 || p.BoardingDelay != 4096 || p.UtxoMin != 330 || p.UtxoMax != -1 || p.VtxoMin != 1 || p.VtxoMax != -1 ||
		p.MaxTxWeight != 40000 || p.MaxOpReturns != 3 || p.Fees != (ark.FeePrograms{}) || len(p.DeprecatedSigners) != 0 ||
		p.Digest != "b225d7b0fbf72bd65ec03946ce3d5c95e136cb79ea14bf68964405bc404c6621" {
		t.Errorf("got %+v", p)
	}
	for what, got := range map[string]string{
		"034c13602417c989afeacf5c8e19188e073c3f28e485e11010ad47bc7bd2c2459f":               p.SignerKey.String(),
		"03873d3b87d85459dd5b95ef7452956d5bf78e1a8412a3e24c591eebfdeb792574":               p.ForfeitKey.String(),
		"0014945ca7b6164116db3ce978dba5ee83bc23ec5c91":                                     hex.EncodeToString(p.ForfeitScript),
		"03010040b27520873d3b87d85459dd5b95ef7452956d5bf78e1a8412a3e24c591eebfdeb792574ac": hex.EncodeToString(p.CheckpointScript),
		"bcrt1qj3w20dskgytdk08f0rd6tm5rhs37chy3pm9vwr":                                     p.ForfeitAddress,
	} {
		if got != what {
			t.Errorf("got %s, want %s", got, what)
		}
	}
}

func TestInfoVariants(t *testing.T) {
	const key = "02466d7fcae563e5cb09a0d1870bb580344804617879a14949cf22285f1bae3f27"
	for name, change := range map[string]func(*arkv1.GetInfoResponse){
		"no fees":           func(m *arkv1.GetInfoResponse) { m.Fees = nil },
		"no digest":         func(m *arkv1.GetInfoResponse) { m.Digest = "" },
		"boarding disabled": func(m *arkv1.GetInfoResponse) { m.UtxoMaxAmount = 0 },
		"blocks on regtest": func(m *arkv1.GetInfoResponse) { m.UnilateralExitDelay, m.BoardingExitDelay = 20, 30 },
		"a deprecated signer": func(m *arkv1.GetInfoResponse) {
			m.DeprecatedSigners = []*arkv1.DeprecatedSigner{{Pubkey: key, CutoffDate: 7}}
		},
		"without the newer fields": func(m *arkv1.GetInfoResponse) { m.MaxTxWeight, m.MaxOpReturnOutputs = 0, 0 },
		"a checkpoint in blocks":   func(m *arkv1.GetInfoResponse) { m.CheckpointTapscript = "5a" + m.CheckpointTapscript[8:] },
	} {
		m := proto.Clone(capturedInfo(t)).(*arkv1.GetInfoResponse)
		change(m)
		p, err := decodeInfo(m)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if p.MaxTxWeight != 40000 || p.MaxOpReturns != 3 {
			t.Errorf("%s: limits %d, %d", name, p.MaxTxWeight, p.MaxOpReturns)
		}
	}
}

func TestInfoRefused(t *testing.T) {
	const (
		other   = "02466d7fcae563e5cb09a0d1870bb580344804617879a14949cf22285f1bae3f27"
		offside = "02eefdea4cdb677750a420fee807eacf21eb9898ae79b9768766e4faa04a2d4a34" // x beyond the curve
	)
	for name, change := range map[string]func(*arkv1.GetInfoResponse){
		"no network":               func(m *arkv1.GetInfoResponse) { m.Network = "" },
		"unknown network":          func(m *arkv1.GetInfoResponse) { m.Network = "Regtest" },
		"no signer":                func(m *arkv1.GetInfoResponse) { m.SignerPubkey = "" },
		"signer off the curve":     func(m *arkv1.GetInfoResponse) { m.SignerPubkey = offside },
		"x-only signer":            func(m *arkv1.GetInfoResponse) { m.SignerPubkey = m.SignerPubkey[2:] },
		"uncompressed prefix":      func(m *arkv1.GetInfoResponse) { m.SignerPubkey = "04" + m.SignerPubkey[2:] },
		"another forfeit key":      func(m *arkv1.GetInfoResponse) { m.ForfeitPubkey = other },
		"no forfeit key":           func(m *arkv1.GetInfoResponse) { m.ForfeitPubkey = "" },
		"another forfeit address":  func(m *arkv1.GetInfoResponse) { m.ForfeitAddress = "bcrt1qesds0quw8p774ngw2gewr695naxzneyy6radfp" },
		"address of another net":   func(m *arkv1.GetInfoResponse) { m.Network = "signet" },
		"no address":               func(m *arkv1.GetInfoResponse) { m.ForfeitAddress = "" },
		"no checkpoint":            func(m *arkv1.GetInfoResponse) { m.CheckpointTapscript = "" },
		"checkpoint not hex":       func(m *arkv1.GetInfoResponse) { m.CheckpointTapscript = "zz" },
		"checkpoint of another":    func(m *arkv1.GetInfoResponse) { m.CheckpointTapscript = "03010040b27520" + other[2:] + "ac" },
		"checkpoint without delay": func(m *arkv1.GetInfoResponse) { m.CheckpointTapscript = m.CheckpointTapscript[12:] },
		"checkpoint of two keys": func(m *arkv1.GetInfoResponse) {
			m.CheckpointTapscript = m.CheckpointTapscript[:len(m.CheckpointTapscript)-2] + "ad20" + other[2:] + "ac"
		},
		"long checkpoint":     func(m *arkv1.GetInfoResponse) { m.CheckpointTapscript = strings.Repeat("00", 5000) },
		"no session":          func(m *arkv1.GetInfoResponse) { m.SessionDuration = 0 },
		"negative session":    func(m *arkv1.GetInfoResponse) { m.SessionDuration = -1 },
		"endless session":     func(m *arkv1.GetInfoResponse) { m.SessionDuration = 86401 },
		"no exit delay":       func(m *arkv1.GetInfoResponse) { m.UnilateralExitDelay = 0 },
		"odd exit delay":      func(m *arkv1.GetInfoResponse) { m.UnilateralExitDelay = 513 },
		"endless exit delay":  func(m *arkv1.GetInfoResponse) { m.UnilateralExitDelay = 65536 * 512 },
		"no boarding delay":   func(m *arkv1.GetInfoResponse) { m.BoardingExitDelay = 0 },
		"equal delays":        func(m *arkv1.GetInfoResponse) { m.BoardingExitDelay = m.UnilateralExitDelay },
		"delays of two kinds": func(m *arkv1.GetInfoResponse) { m.UnilateralExitDelay = 20 },
		"no dust":             func(m *arkv1.GetInfoResponse) { m.Dust = 0 },
		"negative dust":       func(m *arkv1.GetInfoResponse) { m.Dust = -330 },
		"absurd dust":         func(m *arkv1.GetInfoResponse) { m.Dust = 100_001 },
		"negative minimum":    func(m *arkv1.GetInfoResponse) { m.VtxoMinAmount = -1 },
		"negative maximum":    func(m *arkv1.GetInfoResponse) { m.VtxoMaxAmount = -2 },
		"maximum below min":   func(m *arkv1.GetInfoResponse) { m.UtxoMaxAmount = 329 },
		"more than all coins": func(m *arkv1.GetInfoResponse) { m.UtxoMaxAmount = 21e14 + 1 },
		"long fee program": func(m *arkv1.GetInfoResponse) {
			m.Fees = &arkv1.FeeInfo{IntentFee: &arkv1.IntentFeeInfo{OnchainOutput: strings.Repeat("1", 4097)}}
		},
		"negative weight":     func(m *arkv1.GetInfoResponse) { m.MaxTxWeight = -1 },
		"absurd weight":       func(m *arkv1.GetInfoResponse) { m.MaxTxWeight = 4_000_001 },
		"negative OP_RETURNs": func(m *arkv1.GetInfoResponse) { m.MaxOpReturnOutputs = -1 },
		"digest with newline": func(m *arkv1.GetInfoResponse) { m.Digest = "a\nb" },
		"long digest":         func(m *arkv1.GetInfoResponse) { m.Digest = strings.Repeat("a", 129) },
		"bad deprecated":      func(m *arkv1.GetInfoResponse) { m.DeprecatedSigners = []*arkv1.DeprecatedSigner{{Pubkey: offside}} },
		"nil deprecated":      func(m *arkv1.GetInfoResponse) { m.DeprecatedSigners = []*arkv1.DeprecatedSigner{nil} },
		"negative cutoff": func(m *arkv1.GetInfoResponse) {
			m.DeprecatedSigners = []*arkv1.DeprecatedSigner{{Pubkey: other, CutoffDate: -1}}
		},
		"many deprecated":      func(m *arkv1.GetInfoResponse) { m.DeprecatedSigners = make([]*arkv1.DeprecatedSigner, 65) },
		"checkpoint in blocks": func(m *arkv1.GetInfoResponse) { bitcoin(m); m.CheckpointTapscript = "5a" + m.CheckpointTapscript[8:] },
		"blocks on bitcoin":    func(m *arkv1.GetInfoResponse) { bitcoin(m); m.UnilateralExitDelay, m.BoardingExitDelay = 20, 30 },
	} {
		m := proto.Clone(capturedInfo(t)).(*arkv1.GetInfoResponse)
		change(m)
		p, err := decodeInfo(m)
		if !errors.Is(err, ErrAnswer) {
			t.Errorf("%s: got %v", name, err)
		}
		if p.Dust != 0 || p.Network != "" {
			t.Errorf("%s: refused, yet something came back", name)
		}
	}
	m := proto.Clone(capturedInfo(t)).(*arkv1.GetInfoResponse)
	bitcoin(m)
	if _, err := decodeInfo(m); err != nil {
		t.Errorf("the mainnet variant itself is refused: %v", err)
	}
}

// bitcoin makes the captured parameters those of mainnet.
func bitcoin(m *arkv1.GetInfoResponse) {
	m.Network, m.ForfeitAddress = "bitcoin", "bc1qj3w20dskgytdk08f0rd6tm5rhs37chy3f58jze"
}

func FuzzInfo(f *testing.F) {
	b, err := proto.Marshal(capturedInfo(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		m := new(arkv1.GetInfoResponse)
		if proto.Unmarshal(b, m) != nil {
			return
		}
		p, err := decodeInfo(m)
		switch {
		case err != nil && !errors.Is(err, ErrAnswer):
			t.Errorf("untyped: %v", err)
		case err == nil && (p.Dust <= 0 || p.ExitDelay == p.BoardingDelay || len(p.ForfeitScript) != 22 || len(p.CheckpointScript) == 0):
			t.Errorf("accepted %+v", p)
		}
	})
}
