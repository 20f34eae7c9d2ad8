package lie

// Lies about the target's leaf.
const (
	LeafMissing    Name = "leaf-missing"
	LeafAmount     Name = "leaf-amount"
	LeafScript     Name = "leaf-script"
	LeafShared     Name = "leaf-shared"
	LeafExtra      Name = "leaf-extra-output"
	LeafOrder      Name = "leaf-order"
	LeafStranger   Name = "leaf-stranger-cosigner"
	LeafNoOperator Name = "leaf-without-operator"
)

func leafLies() []Spec {
	return []Spec{
		{Name: LeafMissing, Told: "the tree has no leaf for the target's intent", Forbids: Nonces, Rule: "each intent has its own leaf"},
		{Name: LeafAmount, Told: "the leaf's first output is one satoshi short", Forbids: Nonces, Rule: "a leaf's outputs equal the intent's"},
		{Name: LeafScript, Told: "the leaf's first output pays the operator", Forbids: Nonces, Rule: "a leaf's outputs equal the intent's"},
		{Name: LeafShared, Told: "two intents with equal outputs get one leaf", Forbids: Nonces, Rule: "leaves are matched injectively", Needs: "two targets with one cosigner key and equal outputs"},
		{Name: LeafExtra, Told: "the leaf has one more output, to the operator", Forbids: Nonces, Rule: "a leaf has the intent's outputs, an extension and the anchor, no others"},
		{Name: LeafOrder, Told: "the leaf's outputs are in reverse order", Forbids: Nonces, Rule: "outputs stand in the intent's order", Needs: "an intent with two different outputs"},
		{Name: LeafStranger, Told: "a stranger's key stands among the leaf's cosigners", Forbids: Nonces, Rule: "a leaf's cosigners are the intent's key and the operator's"},
		{Name: LeafNoOperator, Told: "the operator's key is missing from the leaf's cosigners", Forbids: Nonces, Rule: "a leaf's cosigners are the intent's key and the operator's"},
	}
}

// Lies about the VTXO tree above and around the leaf.
const (
	SweepKey         Name = "sweep-key"
	SweepExpiry      Name = "sweep-expiry"
	ExpiryShort      Name = "expiry-short"
	ExpiryBlocks     Name = "expiry-blocks"
	ExpiryField      Name = "expiry-field"
	CosignerField    Name = "cosigner-field"
	NodeAmount       Name = "node-amount"
	NodeScript       Name = "node-script"
	NodeExtra        Name = "node-extra-output"
	NodeVersion      Name = "node-version"
	NodeLocktime     Name = "node-locktime"
	NodeSequence     Name = "node-sequence"
	NodeNoAnchor     Name = "node-without-anchor"
	NodeMissing      Name = "node-missing"
	NodeChildren     Name = "node-children"
	NodeGarbage      Name = "node-garbage"
	NodeFlood        Name = "node-flood"
	RootForeign      Name = "root-foreign"
	RootIndex        Name = "root-index"
	RootTwice        Name = "root-twice"
	BatchScript      Name = "batch-output-script"
	BatchValue       Name = "batch-output-value"
	CommitmentJunk   Name = "commitment-garbage"
	CommitmentOnward Name = "commitment-onchain-output"
)

func treeLies() []Spec {
	return []Spec{
		{Name: SweepKey, Told: "the tree's sweep leaf holds another key than the forfeit key", Forbids: Nonces, Rule: "node keys commit to the sweep leaf of the announced forfeit key"},
		{Name: SweepExpiry, Told: "the tree can be swept sooner than BatchStarted said", Forbids: Nonces, Rule: "node keys commit to the announced expiry"},
		{Name: ExpiryShort, Told: "BatchStarted announces 512 seconds, and the tree is so", Forbids: Confirm, Rule: "the announced expiry is not below the record's minimum"},
		{Name: ExpiryBlocks, Told: "BatchStarted announces 10 blocks where delays are in seconds, and the tree is so", Forbids: Confirm, Rule: "the announced expiry is of the network's kind and not below the minimum"},
		{Name: ExpiryField, Told: "the nodes' expiry fields say another value than their keys commit to", Forbids: Nonces, Rule: "the expiry field equals the announced expiry"},
		{Name: CosignerField, Told: "the leaf's cosigner fields name another key than its script", Forbids: Nonces, Rule: "a node's script is the aggregate of its cosigner fields"},
		{Name: NodeAmount, Told: "the output that the leaf spends is one satoshi short of the leaf's outputs", Forbids: Nonces, Rule: "outputs sum to the output spent"},
		{Name: NodeScript, Told: "the output that the leaf spends pays another script", Forbids: Nonces, Rule: "the parent's output is the child's aggregate key"},
		{Name: NodeExtra, Told: "the leaf's parent has one more output, to the operator, that nothing pays for", Forbids: Nonces, Rule: "a branch has one output per child and the anchor", Needs: "a batch of two intents"},
		{Name: NodeVersion, Told: "the leaf's transaction has version 2", Forbids: Nonces, Rule: "tree transactions have version 3"},
		{Name: NodeLocktime, Told: "the leaf's transaction has a lock time far ahead", Forbids: Nonces, Rule: "tree transactions have lock time 0"},
		{Name: NodeSequence, Told: "the leaf's input has a relative lock", Forbids: Nonces, Rule: "tree inputs have the final sequence"},
		{Name: NodeNoAnchor, Told: "the leaf has no anchor output", Forbids: Nonces, Rule: "the last output is the anchor"},
		{Name: NodeMissing, Told: "the tree's root is not sent", Forbids: Nonces, Rule: "every node with our key links to commitment output 0"},
		{Name: NodeChildren, Told: "the root's children map names transactions that do not exist", Forbids: Nonces, Rule: "children are linked by what they spend", Needs: "a batch of two intents"},
		{Name: NodeGarbage, Told: "a tree event carries no PSBT", Forbids: Nonces, Rule: "what does not decode is not signed"},
		{Name: NodeFlood, Told: "thousands of tree events come for the target's topics", Forbids: Nonces, Rule: "buffers are bounded"},
		{Name: RootForeign, Told: "the tree's root spends another transaction", Forbids: Nonces, Rule: "the root spends commitment output 0"},
		{Name: RootIndex, Told: "the tree's root spends commitment output 1", Forbids: Nonces, Rule: "the root spends commitment output 0"},
		{Name: RootTwice, Told: "a second root with the target's key spends the batch output to the operator", Forbids: Nonces, Rule: "exactly one root; nothing outside the tree is signed"},
		{Name: BatchScript, Told: "commitment output 0 pays another script than the root's key", Forbids: Nonces, Rule: "commitment output 0 is the root's aggregate key"},
		{Name: BatchValue, Told: "commitment output 0 is one satoshi short", Forbids: Nonces, Rule: "commitment output 0 holds the root's total"},
		{Name: CommitmentJunk, Told: "TreeSigningStarted carries no PSBT", Forbids: Nonces, Rule: "what does not decode is not signed"},
		{Name: CommitmentOnward, Told: "the intent's on-chain output is missing from the commitment", Forbids: Nonces, Rule: "on-chain outputs are in the commitment", Needs: "an intent with an on-chain output"},
	}
}
