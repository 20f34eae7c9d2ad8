package tree

import (
	"fmt"

	"github.com/btcsuite/btcd/chainhash/v2"
)

// The rules that a tree can break, as stable names: they end in logs, metrics
// and tests, and are never renamed.
const (
	RuleEncoding   = "node-encoding"   // the PSBT decodes, within bounds
	RuleVersion    = "node-version"    // version 3
	RuleLocktime   = "node-locktime"   // locktime 0
	RuleInput      = "node-input"      // exactly one input
	RuleSequence   = "node-sequence"   // sequence ffffffff
	RuleAnchor     = "node-anchor"     // the last output is P2A, and no other
	RuleOutputs    = "node-outputs"    // values within the money supply
	RuleChildren   = "node-children"   // none, or one for each output
	RuleCosigners  = "node-cosigners"  // at least one, each once
	RuleExpiry     = "node-expiry"     // the announced one; none in connectors
	RuleConflict   = "node-conflict"   // one transaction is one node
	RuleRoot       = "tree-root"       // one root, on the commitment's output
	RuleLink       = "tree-link"       // a child spends its parent's output
	RuleAmount     = "tree-amount"     // that output is worth what the child pays out
	RuleScript     = "tree-script"     // and is locked by the child's cosigners
	RuleUnion      = "tree-cosigners"  // a branch has its children's cosigners
	RuleMissing    = "tree-missing"    // nodes that carry our keys are all here
	RuleSignature  = "node-signature"  // the final signature verifies
	RuleConnectors = "connector-key"   // one key locks all of a connector tree
	RuleConnector  = "connector-shape" // a connector is one output and the anchor
)

// Error says which rule a tree breaks, and where.
type Error struct {
	Rule string
	Txid chainhash.Hash // the node; zero for the tree as a whole
	// Absent is set when something is not there that should be: it may have been
	// lost on the way.
	Absent bool
	Err    error
}

// Error tells the rule, the node and the reason.
func (e *Error) Error() string {
	if e.Txid == (chainhash.Hash{}) {
		return fmt.Sprintf("tree: %s: %v", e.Rule, e.Err)
	}
	return fmt.Sprintf("tree: %s: node %v: %v", e.Rule, e.Txid, e.Err)
}

// Unwrap gives the reason.
func (e *Error) Unwrap() error { return e.Err }

func broken(rule string, txid chainhash.Hash, format string, args ...any) *Error {
	return &Error{Rule: rule, Txid: txid, Err: fmt.Errorf(format, args...)}
}

func absent(rule string, txid chainhash.Hash, format string, args ...any) *Error {
	return &Error{Rule: rule, Txid: txid, Absent: true, Err: fmt.Errorf(format, args...)}
}
