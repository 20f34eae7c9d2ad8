package batch

import (
	"errors"
	"fmt"

	"github.com/vigil-ark/vigil/ark/tree"
)

// The rules of a batch beyond those of its trees, as stable names: they end in
// logs, metrics and tests, and are never renamed. Rules lists all.
const (
	RuleTooMuch            = "too-much"
	RuleConflict           = "event-conflict"
	RuleCommitment         = "commitment-encoding"
	RuleCommitmentChanged  = "commitment-changed"
	RuleOnchain            = "onchain-output"
	RuleBoarding           = "boarding-input"
	RuleUnlisted           = "cosigner-unlisted"
	RuleNoTree             = "tree-absent"
	RuleLeafMissing        = "leaf-missing"
	RuleLeafMismatch       = "leaf-mismatch"
	RuleLeafShared         = "leaf-shared"
	RuleOperatorKey        = "operator-key"
	RuleNoncesMissing      = "nonces-missing"
	RuleNonceCosigners     = "nonce-cosigners"
	RuleNonceEcho          = "nonce-echo"
	RuleNonceInvalid       = "nonce-invalid"
	RuleNegated            = "cosigner-negated"
	RuleSignatureMissing   = "signature-missing"
	RuleConnectorMissing   = "connector-missing"
	RuleConnectorTopic     = "connector-topic"
	RuleConnectorDuplicate = "connector-duplicate"
	RuleConnectorValue     = "connector-value"
	RuleFinalizedTxid      = "finalized-txid"
)

// Rule is a row of the table of everything that is checked in a batch.
type Rule struct{ Name, Meaning string }

// Rules is that table, in the order in which a batch meets them.
func Rules() []Rule {
	return []Rule{
		{RuleTooMuch, "nodes, nonces and signatures of one batch stay within bounds"},
		{RuleConflict, "an event that comes again says the same"},

		{tree.RuleEncoding, "a node is a well-formed PSBT within bounds"},
		{tree.RuleVersion, "a node has version 3"},
		{tree.RuleLocktime, "a node has locktime 0"},
		{tree.RuleInput, "a node has exactly one input"},
		{tree.RuleSequence, "a node's input has sequence ffffffff"},
		{tree.RuleAnchor, "a node's last output, and no other, is the anchor"},
		{tree.RuleOutputs, "a node's values lie within the money supply"},
		{tree.RuleChildren, "a node has no children, or one for each output"},
		{tree.RuleCosigners, "a node has at least one cosigner, and each once"},
		{tree.RuleExpiry, "a VTXO node states the announced expiry, a connector node none"},
		{tree.RuleConflict, "one transaction comes as one node"},

		{RuleCommitment, "the commitment transaction is a well-formed PSBT within bounds"},
		{RuleOnchain, "every on-chain output of ours is in the commitment transaction, each once"},
		{RuleBoarding, "every boarding input of ours is in the commitment transaction"},
		{RuleUnlisted, "our cosigner keys are among the announced ones"},
		{RuleNoTree, "nodes with our keys arrive when a task has off-chain outputs"},
		{tree.RuleRoot, "exactly one node spends output 0 of the commitment transaction (connectors: output 1)"},
		{tree.RuleLink, "a node spends its parent's output, in the place that the parent gives it"},
		{tree.RuleAmount, "an output is worth what the node that spends it pays out"},
		{tree.RuleUnion, "a branch has its children's cosigners, no fewer and no others"},
		{tree.RuleMissing, "along every key of ours the nodes go down to a leaf"},
		{tree.RuleScript, "an output is locked by the cosigners under the operator's sweep leaf with the announced expiry"},
		{RuleLeafMissing, "every task finds a leaf with its key"},
		{RuleLeafMismatch, "that leaf has exactly the task's outputs, and the cosigners task and operator"},
		{RuleLeafShared, "no leaf serves two tasks"},
		{RuleOperatorKey, "one operator key, none of ours, stands in every node of ours"},

		{RuleNoncesMissing, "every node of ours gets its nonces"},
		{RuleNonceCosigners, "a node's nonces are of its cosigners, all and no others"},
		{RuleNonceEcho, "our nonces come back as we sent them"},
		{RuleNegated, "no node lists a key of ours negated: nobody can sign that tree for the operator"},
		{RuleNonceInvalid, "every nonce is two points"},

		{RuleCommitmentChanged, "the finalization names the commitment transaction that was signed for"},
		{RuleSignatureMissing, "every node of ours gets its final signature"},
		{tree.RuleSignature, "every final signature verifies"},
		{tree.RuleConnectors, "one key locks everything in the connector tree"},
		{tree.RuleConnector, "a connector's node has one output and the anchor"},
		{RuleConnectorMissing, "a connector announced for an input of ours is delivered"},
		{RuleConnectorTopic, "a connector is for exactly one input"},
		{RuleConnectorDuplicate, "an input gets one connector"},
		{RuleConnectorValue, "a connector is worth the dust that forfeits were signed for"},
		{RuleFinalizedTxid, "the operator broadcasts the transaction that was signed for"},
	}
}

// Violation says that the operator broke a rule. Nothing more is signed in
// this batch.
type Violation struct {
	Rule  string
	Tasks []string // the ids of the tasks that it hits; empty for all
	// Absent says that something did not come by the event that closes its group.
	// On a stream that was cut meanwhile it may just be lost; on an unbroken one
	// it is a lie.
	Absent bool
	Err    error
}

// Error tells the rule and the reason.
func (v *Violation) Error() string { return fmt.Sprintf("batch: %s: %v", v.Rule, v.Err) }

// Unwrap gives the reason.
func (v *Violation) Unwrap() error { return v.Err }

func violation(rule, format string, args ...any) *Violation {
	return &Violation{Rule: rule, Err: fmt.Errorf(format, args...)}
}

func missing(rule, format string, args ...any) *Violation {
	return &Violation{Rule: rule, Absent: true, Err: fmt.Errorf(format, args...)}
}

// of turns an error of package tree into the violation of the same rule; a
// violation stays what it is.
func of(err error) *Violation {
	var v *Violation
	if errors.As(err, &v) {
		return v
	}
	var e *tree.Error
	if errors.As(err, &e) {
		return &Violation{Rule: e.Rule, Absent: e.Absent, Err: err}
	}
	return &Violation{Rule: tree.RuleEncoding, Err: err}
}
