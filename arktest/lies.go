package arktest

import (
	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/arktest/internal/tapscript"
	"github.com/vigil-ark/vigil/arktest/internal/txtree"
	"github.com/vigil-ark/vigil/arktest/lie"
	arkv1 "github.com/vigil-ark/vigil/internal/pb/ark/v1"
)

type lieQueue struct{}

type lieSet struct{}

func (op *Operator) takeLies(kept []*intent) lieSet { return lieSet{} }

func (l lieSet) names() []lie.Name { return nil }

func (r *round) announcedExpiry() int64 { return int64(r.set.treeExpiry().Value) }

func (l lieSet) leaves(p *process, leaves *[]txtree.Leaf, joined []*intent) {}
func (l lieSet) plan(*txtree.Plan)                                          {}
func (l lieSet) commitmentOutputs(p *process, outs []*wire.TxOut)           {}
func (l lieSet) sweep(k *btcec.PublicKey, d tapscript.Delay) (*btcec.PublicKey, tapscript.Delay) {
	return k, d
}
func (l lieSet) connectorValue(dust int64) int64                 { return dust }
func (l lieSet) tree(p *process, n *txtree.Node, r *round)       {}
func (l lieSet) connectorParent(h chainhash.Hash) chainhash.Hash { return h }
func (l lieSet) connectorIndex() uint32                          { return 1 }
func (l lieSet) swallowsBroadcast() bool                         { return false }
func (l lieSet) afterBroadcast(p *process, r *round) bool        { return false }
func (l lieSet) finalizedTxid(h chainhash.Hash) string           { return h.String() }

func (op *Operator) liedInfo(i *arkv1.GetInfoResponse) {}
func (op *Operator) liedVTXO(v VTXO) VTXO              { return v }
