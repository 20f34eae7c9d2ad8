package batch

import (
	"encoding/binary"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark/tree"
	"github.com/vigil-ark/vigil/bip340"
)

// matchLeaves finds for every task with off-chain outputs a leaf of its own:
// cosigners exactly the task's key and the operator's, outputs exactly the
// task's, in order, before the anchor. A leaf with more cosigners is a
// stranger's, who may list our key beside his and ask for the same outputs: it
// is passed over, since to refuse it would get all our tasks convicted. Tasks with the same key and outputs are
// as good as each other and take as many distinct leaves as they are, in tree
// order; leaves of different tasks differ, so this is an injective matching
// whenever there is one. Along with the leaves, by task, it returns the number
// of leaves with a key of ours that belong to no task.
func (b *Batch) matchLeaves(t *tree.Tree) ([]*tree.Placed, int, *Violation) {
	free := make(map[string][]*tree.Placed) // by what a task looks for
	perKey := make(map[bip340.XOnly]int)
	total := 0
	for _, n := range t.Nodes() {
		if !n.Leaf() {
			continue
		}
		total++
		for _, k := range n.Cosigners {
			perKey[k.XOnly()]++
			if b.isOwn(k.XOnly()) && len(n.Cosigners) == 2 {
				w := want(k, n.Outputs())
				free[w] = append(free[w], n)
			}
		}
	}
	leaves := make([]*tree.Placed, len(b.tasks))
	taken := make(map[string]int)
	matched := 0
	var unmatched *Violation
	var operator bip340.PubKey
	for i, task := range b.tasks {
		if len(task.Outputs) == 0 {
			continue
		}
		w := want(task.Cosigner, task.Outputs)
		at := taken[w]
		if at >= len(free[w]) {
			if unmatched == nil {
				unmatched = b.unmatched(task, at, perKey)
			}
			unmatched.Tasks = append(unmatched.Tasks, task.ID)
			continue
		}
		n := free[w][at]
		taken[w]++
		matched++
		leaves[i] = n
		operator = otherKey(n, task.Cosigner)
	}
	if unmatched != nil {
		return nil, 0, unmatched
	}
	if matched == 0 {
		return leaves, total, nil
	}
	// That the operator's key is among the announced ones proves nothing: any
	// stranger may list it negated or in capitals, and the operator takes that.
	if b.isOwn(operator.XOnly()) {
		return nil, 0, violation(RuleOperatorKey, "%v is ours", operator)
	}
	for _, n := range t.Nodes() {
		// Its parity may differ: a stranger may have listed it negated, which only the
		// operator can answer for.
		if _, ok := n.Has(operator.XOnly()); !ok {
			return nil, 0, violation(RuleOperatorKey, "node %v lacks %v", n.Txid, operator)
		}
	}
	return leaves, total - matched, nil
}

// unmatched says why a task found no leaf.
func (b *Batch) unmatched(task Task, equal int, perKey map[bip340.XOnly]int) *Violation {
	switch n := perKey[task.Cosigner.XOnly()]; {
	case n == 0:
		return missing(RuleLeafMissing, "no leaf with %v", task.Cosigner)
	case equal > 0:
		return missing(RuleLeafShared, "%d leaves for more equal tasks", equal)
	default:
		return missing(RuleLeafMismatch, "%d leaves with %v, none pays what the task asked for", n, task.Cosigner)
	}
}

// otherKey is the cosigner of a leaf of two besides the task's.
func otherKey(n *tree.Placed, own bip340.PubKey) bip340.PubKey {
	if n.Cosigners[0] == own {
		return n.Cosigners[1]
	}
	return n.Cosigners[0]
}

// want is what a task looks for in a leaf, as a map key: its cosigner key and
// its outputs in order.
func want(key bip340.PubKey, outs []*wire.TxOut) string {
	w := append([]byte(nil), key[:]...)
	for _, o := range outs {
		w = binary.BigEndian.AppendUint64(w, uint64(o.Value))
		w = binary.BigEndian.AppendUint64(w, uint64(len(o.PkScript)))
		w = append(w, o.PkScript...)
	}
	return string(w)
}
