package script

import (
	"github.com/vigil-ark/vigil/ark/internal/curve"
	"github.com/vigil-ark/vigil/bip340"
)

func parseXOnly(b []byte) (bip340.XOnly, error)   { return curve.ParseXOnly(b) }
func parsePubKey(b []byte) (bip340.PubKey, error) { return curve.ParsePubKey(b) }
func outputKey(k bip340.XOnly, root []byte) (bip340.XOnly, byte, error) {
	return curve.OutputKey(k, root)
}
