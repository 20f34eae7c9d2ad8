package tree_test

import (
	"errors"
	"testing"

	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/ark/tree"
	"github.com/vigil-ark/vigil/bip340"
)

func wantRule(t *testing.T, err error, rule string) {
	t.Helper()
	var e *tree.Error
	if !errors.As(err, &e) || e.Rule != rule {
		t.Errorf("error %v, want rule %s", err, rule)
	}
}

// edit decodes a node's PSBT, lets f change it, and parses the result.
func edit(t *testing.T, b64 string, children map[uint32]string, f func(*psbt.Packet)) (*tree.Node, error) {
	t.Helper()
	p, err := script.ParsePSBT(b64, script.OperatorLimits())
	if err != nil {
		t.Fatal(err)
	}
	f(p)
	out, err := p.B64Encode()
	if err != nil {
		t.Fatal(err)
	}
	return tree.ParseNode(out, children)
}

// TestNodeMutations changes one field of a valid branch or leaf at a time: each
// is refused by the rule that names the field.
func TestNodeMutations(t *testing.T) {
	v := load(t)
	branch := v.VTXOTrees[2].Nodes[0]
	other := pubKey(t, v.ForfeitKey)
	if _, err := edit(t, branch.PSBT, branch.Children, func(*psbt.Packet) {}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, rule string
		f          func(*psbt.Packet)
	}{
		{"version 2", tree.RuleVersion, func(p *psbt.Packet) { p.UnsignedTx.Version = 2 }},
		{"locktime", tree.RuleLocktime, func(p *psbt.Packet) { p.UnsignedTx.LockTime = 1 }},
		{"sequence", tree.RuleSequence, func(p *psbt.Packet) { p.UnsignedTx.TxIn[0].Sequence-- }},
		{"second input", tree.RuleInput, func(p *psbt.Packet) {
			p.UnsignedTx.AddTxIn(wire.NewTxIn(&wire.OutPoint{Index: 9}, nil, nil))
			p.Inputs = append(p.Inputs, psbt.PInput{})
		}},
		{"no outputs", tree.RuleAnchor, func(p *psbt.Packet) { p.UnsignedTx.TxOut, p.Outputs = nil, nil }},
		{"no anchor", tree.RuleAnchor, func(p *psbt.Packet) {
			p.UnsignedTx.TxOut, p.Outputs = p.UnsignedTx.TxOut[:2], p.Outputs[:2]
		}},
		{"anchor of value", tree.RuleAnchor, func(p *psbt.Packet) { p.UnsignedTx.TxOut[2].Value = 1 }},
		{"anchor first", tree.RuleAnchor, func(p *psbt.Packet) {
			o := p.UnsignedTx.TxOut
			o[0], o[2] = o[2], o[0]
		}},
		{"two anchors", tree.RuleAnchor, func(p *psbt.Packet) { p.UnsignedTx.TxOut[1] = ark.AnchorOut() }},
		{"negative value", tree.RuleOutputs, func(p *psbt.Packet) { p.UnsignedTx.TxOut[0].Value = -1 }},
		{"more than there is", tree.RuleOutputs, func(p *psbt.Packet) { p.UnsignedTx.TxOut[0].Value = 21e14 }},
		{"no cosigners", tree.RuleCosigners, func(p *psbt.Packet) { script.SetCosigners(&p.Inputs[0], nil) }},
		{"cosigner twice", tree.RuleCosigners, func(p *psbt.Packet) {
			script.SetCosigners(&p.Inputs[0], []bip340.PubKey{other, other})
		}},
		{"cosigner in both parities", tree.RuleCosigners, func(p *psbt.Packet) {
			script.SetCosigners(&p.Inputs[0], []bip340.PubKey{other, other.XOnly().PubKey()})
		}},
		{"cosigner off the curve", tree.RuleCosigners, func(p *psbt.Packet) {
			bad := other
			for i := range bad[1:] {
				bad[1+i] = 0xff
			}
			script.SetCosigners(&p.Inputs[0], []bip340.PubKey{bad})
		}},
		{"undecodable expiry", tree.RuleExpiry, func(p *psbt.Packet) {
			for _, u := range p.Inputs[0].Unknowns {
				if string(u.Key[1:]) == "expiry" {
					u.Value = []byte{0x28, 0x00}
				}
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := edit(t, branch.PSBT, branch.Children, c.f)
			wantRule(t, err, c.rule)
		})
	}
}

func TestNodeChildren(t *testing.T) {
	v := load(t)
	n := v.VTXOTrees[2].Nodes[0]
	first := n.Children[0]
	for _, c := range []struct {
		name     string
		children map[uint32]string
	}{
		{"too few", map[uint32]string{0: first}},
		{"too many", map[uint32]string{0: first, 1: n.Children[1], 2: n.Txid}},
		{"of the anchor", map[uint32]string{0: first, 2: n.Children[1]}},
		{"far off", map[uint32]string{0: first, 1<<32 - 1: n.Children[1]}},
		{"twice", map[uint32]string{0: first, 1: first}},
		{"no txid", map[uint32]string{0: first, 1: "00"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := tree.ParseNode(n.PSBT, c.children)
			wantRule(t, err, tree.RuleChildren)
		})
	}
	for _, s := range []string{"", "cHNidP8=", n.PSBT[:len(n.PSBT)-8], n.PSBT + "AAAA"} {
		_, err := tree.ParseNode(s, nil)
		wantRule(t, err, tree.RuleEncoding)
	}
}

// mutation is a change to a valid tree of three leaves, ((1,2),3): root 0,
// branch 1, leaves 2, 3 and 4.
type mutation struct {
	name, rule string
	absent     bool
	f          func(*testing.T, []*tree.Node, *tree.Params) []*tree.Node
}

// child replaces node i by another one, and lets its parent name it.
func child(t *testing.T, vt vtxoTree, nodes []*tree.Node, i int, f func(*psbt.Packet)) {
	t.Helper()
	n, err := edit(t, vt.Nodes[i].PSBT, vt.Nodes[i].Children, f)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range nodes {
		for k, id := range p.Children {
			if id == nodes[i].Txid {
				p.Children[k] = n.Txid
			}
		}
	}
	nodes[i] = n
}

// rootMutations change where the tree hangs and how it is locked.
func rootMutations(vt vtxoTree, own bip340.XOnly) []mutation {
	return []mutation{
		{"nothing", tree.RuleRoot, true, func(*testing.T, []*tree.Node, *tree.Params) []*tree.Node { return nil }},
		{"no root", tree.RuleRoot, true, func(_ *testing.T, n []*tree.Node, _ *tree.Params) []*tree.Node { return n[1:] }},
		{"root of another output", tree.RuleRoot, true, func(_ *testing.T, n []*tree.Node, p *tree.Params) []*tree.Node {
			p.Root.Index = 1
			return n
		}},
		{"root of another transaction", tree.RuleRoot, true, func(_ *testing.T, n []*tree.Node, p *tree.Params) []*tree.Node {
			p.Root.Hash[0] ^= 1
			return n
		}},
		{"two roots", tree.RuleRoot, false, func(t *testing.T, n []*tree.Node, _ *tree.Params) []*tree.Node {
			two, err := edit(t, vt.Nodes[0].PSBT, nil, func(p *psbt.Packet) { p.UnsignedTx.TxOut[0].Value++ })
			if err != nil {
				t.Fatal(err)
			}
			return append(n, two)
		}},
		{"root worth less", tree.RuleAmount, false, func(_ *testing.T, n []*tree.Node, p *tree.Params) []*tree.Node {
			p.RootOut.Value--
			return n
		}},
		{"root locked otherwise", tree.RuleScript, false, func(_ *testing.T, n []*tree.Node, p *tree.Params) []*tree.Node {
			p.RootOut.PkScript[5] ^= 1
			return n
		}},
		{"other sweep key", tree.RuleScript, false, func(_ *testing.T, n []*tree.Node, p *tree.Params) []*tree.Node {
			p.ForfeitKey = own
			return n
		}},
		{"other expiry announced", tree.RuleExpiry, false, func(_ *testing.T, n []*tree.Node, p *tree.Params) []*tree.Node {
			p.Expiry = 41
			return n
		}},
		{"expiry in the field alone", tree.RuleExpiry, false, func(t *testing.T, n []*tree.Node, _ *tree.Params) []*tree.Node {
			child(t, vt, n, 2, func(p *psbt.Packet) { script.SetExpiry(&p.Inputs[0], 41) })
			return n
		}},
	}
}

// nodeMutations change nodes below the root.
func nodeMutations(vt vtxoTree, operator, third bip340.PubKey) []mutation {
	return []mutation{
		{"leaf pays more", tree.RuleAmount, false, func(t *testing.T, n []*tree.Node, _ *tree.Params) []*tree.Node {
			child(t, vt, n, 2, func(p *psbt.Packet) { p.UnsignedTx.TxOut[0].Value++ })
			return n
		}},
		{"leaf pays less", tree.RuleAmount, false, func(t *testing.T, n []*tree.Node, _ *tree.Params) []*tree.Node {
			child(t, vt, n, 2, func(p *psbt.Packet) { p.UnsignedTx.TxOut[0].Value-- })
			return n
		}},
		{"leaf spends its sibling's output", tree.RuleLink, false, func(t *testing.T, n []*tree.Node, _ *tree.Params) []*tree.Node {
			child(t, vt, n, 2, func(p *psbt.Packet) { p.UnsignedTx.TxIn[0].PreviousOutPoint.Index = 1 })
			return n
		}},
		{"leaf spends another transaction", tree.RuleLink, false, func(t *testing.T, n []*tree.Node, _ *tree.Params) []*tree.Node {
			child(t, vt, n, 2, func(p *psbt.Packet) { p.UnsignedTx.TxIn[0].PreviousOutPoint.Hash[3] ^= 1 })
			return n
		}},
		{"children swapped", tree.RuleLink, false, func(_ *testing.T, n []*tree.Node, _ *tree.Params) []*tree.Node {
			n[1].Children[0], n[1].Children[1] = n[1].Children[1], n[1].Children[0]
			return n
		}},
		{"leaf lacks its parent", tree.RuleLink, true, func(_ *testing.T, n []*tree.Node, _ *tree.Params) []*tree.Node {
			return []*tree.Node{n[0], n[2], n[3], n[4]}
		}},
		{"our leaf is missing", tree.RuleMissing, true, func(_ *testing.T, n []*tree.Node, _ *tree.Params) []*tree.Node {
			return []*tree.Node{n[0], n[1]}
		}},
		{"our branch is missing", tree.RuleMissing, true, func(_ *testing.T, n []*tree.Node, _ *tree.Params) []*tree.Node {
			return []*tree.Node{n[0], n[4]}
		}},
		{"leaf with a stranger's key", tree.RuleUnion, false, func(t *testing.T, n []*tree.Node, _ *tree.Params) []*tree.Node {
			child(t, vt, n, 2, func(p *psbt.Packet) { script.SetCosigners(&p.Inputs[0], append(n[2].Cosigners, third)) })
			return n
		}},
		{"leaf without our key", tree.RuleUnion, false, func(t *testing.T, n []*tree.Node, _ *tree.Params) []*tree.Node {
			child(t, vt, n, 2, func(p *psbt.Packet) {
				script.SetCosigners(&p.Inputs[0], []bip340.PubKey{operator})
			})
			return n
		}},
		{"leaf locked by others", tree.RuleScript, false, func(_ *testing.T, n []*tree.Node, _ *tree.Params) []*tree.Node {
			n[2].Cosigners[0][0] ^= 1 // the negated key: the same x coordinate
			return n
		}},
		{"two versions", tree.RuleConflict, false, func(t *testing.T, n []*tree.Node, _ *tree.Params) []*tree.Node {
			two, err := edit(t, vt.Nodes[2].PSBT, nil, func(p *psbt.Packet) { script.SetExpiry(&p.Inputs[0], 41) })
			if err != nil {
				t.Fatal(err)
			}
			return append(n, two)
		}},
	}
}

// TestTreeMutations sees every mutation refused by the rule that names it.
func TestTreeMutations(t *testing.T) {
	v := load(t)
	vt := v.VTXOTrees[2]
	own := pubKey(t, vt.Leaves[0].Cosigners[0]).XOnly()
	third := pubKey(t, vt.Leaves[2].Cosigners[0])
	for _, c := range append(rootMutations(vt, own), nodeMutations(vt, pubKey(t, v.OperatorCosigner), third)...) {
		t.Run(c.name, func(t *testing.T) {
			p := v.params(t, vt, own)
			nodes := c.f(t, parse(t, vt.Nodes), &p)
			_, err := tree.Assemble(nodes, p)
			wantRule(t, err, c.rule)
			var e *tree.Error
			if errors.As(err, &e) && e.Absent != c.absent {
				t.Errorf("absent %v, want %v", e.Absent, c.absent)
			}
		})
	}
}

// TestConnectorMutations changes a valid tree of five connectors: root 0,
// branch 1, leaves 2 to 5, leaf 6 under the root.
func TestConnectorMutations(t *testing.T) {
	v := load(t)
	ct := v.ConnectorTrees[4]
	other := pubKey(t, v.ForfeitKey)
	last := len(ct.Nodes) - 1
	// replace edits the last leaf, whose parent is the root.
	replace := func(t *testing.T, nodes []*tree.Node, f func(*psbt.Packet)) {
		t.Helper()
		n, err := edit(t, ct.Nodes[last].PSBT, nil, f)
		if err != nil {
			t.Fatal(err)
		}
		nodes[0].Children[1], nodes[last] = n.Txid, n
	}
	for _, c := range []struct {
		name, rule string
		f          func(*testing.T, []*tree.Node, *wire.OutPoint, *wire.TxOut)
	}{
		{"of another commitment", tree.RuleRoot, func(_ *testing.T, _ []*tree.Node, on *wire.OutPoint, _ *wire.TxOut) {
			on.Hash[0] ^= 1
		}},
		{"of the batch output", tree.RuleRoot, func(_ *testing.T, _ []*tree.Node, on *wire.OutPoint, _ *wire.TxOut) {
			on.Index = tree.BatchOutput
		}},
		{"root worth more", tree.RuleAmount, func(_ *testing.T, _ []*tree.Node, _ *wire.OutPoint, out *wire.TxOut) {
			out.Value++
		}},
		{"root of no key", tree.RuleConnectors, func(_ *testing.T, _ []*tree.Node, _ *wire.OutPoint, out *wire.TxOut) {
			out.PkScript = []byte{0x51}
		}},
		{"root of another key", tree.RuleConnectors, func(_ *testing.T, _ []*tree.Node, _ *wire.OutPoint, out *wire.TxOut) {
			out.PkScript = ark.PayToTaproot(other.XOnly())
		}},
		{"two cosigners", tree.RuleConnectors, func(t *testing.T, n []*tree.Node, _ *wire.OutPoint, _ *wire.TxOut) {
			replace(t, n, func(p *psbt.Packet) { script.SetCosigners(&p.Inputs[0], append(n[0].Cosigners, other)) })
		}},
		{"another cosigner", tree.RuleConnectors, func(t *testing.T, n []*tree.Node, _ *wire.OutPoint, _ *wire.TxOut) {
			replace(t, n, func(p *psbt.Packet) { script.SetCosigners(&p.Inputs[0], []bip340.PubKey{other}) })
		}},
		{"paid to another key", tree.RuleConnectors, func(t *testing.T, n []*tree.Node, _ *wire.OutPoint, _ *wire.TxOut) {
			replace(t, n, func(p *psbt.Packet) { p.UnsignedTx.TxOut[0].PkScript = ark.PayToTaproot(other.XOnly()) })
		}},
		{"with expiry", tree.RuleExpiry, func(t *testing.T, n []*tree.Node, _ *wire.OutPoint, _ *wire.TxOut) {
			replace(t, n, func(p *psbt.Packet) { script.SetExpiry(&p.Inputs[0], 40) })
		}},
		{"worth less", tree.RuleAmount, func(t *testing.T, n []*tree.Node, _ *wire.OutPoint, _ *wire.TxOut) {
			replace(t, n, func(p *psbt.Packet) { p.UnsignedTx.TxOut[0].Value-- })
		}},
		{"split in two", tree.RuleConnector, func(t *testing.T, n []*tree.Node, _ *wire.OutPoint, _ *wire.TxOut) {
			replace(t, n, func(p *psbt.Packet) {
				o := p.UnsignedTx.TxOut
				o[0].Value -= 30
				p.UnsignedTx.TxOut = []*wire.TxOut{o[0], wire.NewTxOut(30, o[0].PkScript), o[1]}
				p.Outputs = make([]psbt.POutput, 3)
			})
		}},
		{"spends its sibling's output", tree.RuleLink, func(t *testing.T, n []*tree.Node, _ *wire.OutPoint, _ *wire.TxOut) {
			replace(t, n, func(p *psbt.Packet) { p.UnsignedTx.TxIn[0].PreviousOutPoint.Index = 0 })
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			nodes := parse(t, ct.Nodes)
			on := wire.OutPoint{Hash: hash(t, ct.Root), Index: tree.ConnectorOutput}
			out := wire.NewTxOut(ct.Amount, unhex(t, ct.Script))
			c.f(t, nodes, &on, out)
			_, err := tree.AssembleConnectors(nodes, on, out)
			wantRule(t, err, c.rule)
		})
	}
}

// TestConnectorVersions has one connector come in two versions, and one without
// its branch.
func TestConnectorVersions(t *testing.T) {
	v := load(t)
	ct := v.ConnectorTrees[4]
	nodes := parse(t, ct.Nodes)
	two, err := edit(t, ct.Nodes[2].PSBT, nil, func(p *psbt.Packet) { script.SetExpiry(&p.Inputs[0], 40) })
	if err != nil {
		t.Fatal(err)
	}
	on := wire.OutPoint{Hash: hash(t, ct.Root), Index: tree.ConnectorOutput}
	out := wire.NewTxOut(ct.Amount, unhex(t, ct.Script))
	_, err = tree.AssembleConnectors(append(nodes, two), on, out)
	wantRule(t, err, tree.RuleConflict)
	_, err = tree.AssembleConnectors([]*tree.Node{nodes[0], nodes[2]}, on, out)
	wantRule(t, err, tree.RuleLink)
}

// FuzzParseNode looks for a panic, and for a node that does not survive its own
// encoding.
func FuzzParseNode(f *testing.F) {
	v := load(f)
	for _, vt := range v.VTXOTrees[:3] {
		for _, n := range vt.Nodes {
			f.Add(n.PSBT, n.Children[0], n.Children[1])
		}
	}
	f.Add(v.ConnectorTrees[4].Nodes[0].PSBT, "", "")
	f.Fuzz(func(t *testing.T, b64, first, second string) {
		children := make(map[uint32]string)
		if first != "" {
			children[0] = first
		}
		if second != "" {
			children[1] = second
		}
		n, err := tree.ParseNode(b64, children)
		if err != nil {
			var e *tree.Error
			if !errors.As(err, &e) || e.Rule == "" {
				t.Fatalf("error without a rule: %v", err)
			}
			return
		}
		again, err := n.Encode()
		if err != nil {
			t.Fatal(err)
		}
		m, err := tree.ParseNode(again, children)
		if err != nil || !n.Same(m) {
			t.Fatalf("%v does not survive encoding: %v", n.Txid, err)
		}
	})
}
