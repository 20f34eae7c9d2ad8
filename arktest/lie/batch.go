package lie

// Lies while the tree is signed.
const (
	NonceSubstituted  Name = "nonce-substituted"
	NonceOverwritten  Name = "nonce-overwritten"
	NonceMissing      Name = "nonce-missing"
	NonceForeign      Name = "nonce-foreign"
	NonceBad          Name = "nonce-bad"
	NonceAggregate    Name = "nonce-aggregate"
	NonceReplay       Name = "nonce-replay"
	SigningTwice      Name = "signing-twice"
	SignatureBad      Name = "signature-bad"
	SignatureRootBad  Name = "signature-root-bad"
	SignatureMissing  Name = "signature-missing"
	SignatureSwapped  Name = "signature-swapped"
	StrangerCompletes Name = "stranger-completes"
	StrangerStalls    Name = "stranger-stalls"
	StrangerKeeps     Name = "stranger-keeps-forfeit"
)

func signingLies() []Spec {
	return []Spec{
		{Name: NonceSubstituted, Told: "TreeNonces echoes another nonce for the target's key", Forbids: Signatures, Rule: "our nonces are echoed unchanged, else they are wiped"},
		{Name: NonceOverwritten, Told: "a stranger submits nonces for the target's key after it did", Forbids: Signatures, Rule: "our nonces are echoed unchanged; the conviction that follows is transient"},
		{Name: NonceMissing, Told: "TreeNonces leaves the operator's own nonce out", Forbids: Signatures, Rule: "every cosigner's nonce is there"},
		{Name: NonceForeign, Told: "TreeNonces leaves the operator out and names a stranger instead", Forbids: Signatures, Rule: "nonces are those of the node's cosigners"},
		{Name: NonceBad, Told: "the operator's nonces are no curve points", Forbids: Signatures, Rule: "nonces decode strictly"},
		{Name: NonceAggregate, Told: "TreeNoncesAggregated is not the sum of TreeNonces", Forbids: Nothing, Rule: "the sum is computed from TreeNonces; the operator's own sum is not needed"},
		{Name: NonceReplay, Told: "after the target's signatures TreeNonces comes again with another operator nonce", Forbids: Nothing, Rule: "a secret nonce signs once: no second partial signature leaves"},
		{Name: SigningTwice, Told: "TreeSigningStarted comes again with another commitment", Forbids: Forfeits, Rule: "forfeits go only to the commitment whose tree was signed"},
		{Name: SignatureBad, Told: "the leaf's signature does not verify", Forbids: Forfeits, Rule: "every signature of the branch verifies before forfeits leave"},
		{Name: SignatureRootBad, Told: "the root's signature does not verify", Forbids: Forfeits, Rule: "every signature of the branch verifies before forfeits leave"},
		{Name: SignatureMissing, Told: "the leaf's signature is not sent", Forbids: Forfeits, Rule: "every signature of the branch verifies before forfeits leave"},
		{Name: SignatureSwapped, Told: "root and leaf get each other's signature", Forbids: Forfeits, Rule: "every signature of the branch verifies before forfeits leave", Needs: "a batch of two intents"},
		{Name: StrangerCompletes, Told: "a stranger's intent lists the target's cosigner key", Forbids: Nothing, Rule: "nodes under a stranger's leaf are signed too: the batch ends well"},
		{Name: StrangerStalls, Told: "a stranger's intent lists the target's cosigner key and one of its own, and never sends nonces", Forbids: Signatures, Rule: "the batch fails by no fault of the target; nobody of ours is convicted; tried again"},
		{Name: StrangerKeeps, Told: "a stranger's intent lists the target's cosigner key and never sends its forfeit", Forbids: Nothing, Rule: "the batch fails after the target's forfeits; tried again"},
	}
}

// Lies about connectors.
const (
	ConnectorForeign  Name = "connector-foreign"
	ConnectorIndex    Name = "connector-index"
	ConnectorOutput   Name = "connector-output"
	ConnectorValue    Name = "connector-value"
	ConnectorShared   Name = "connector-shared"
	ConnectorStranger Name = "connector-stranger"
	ConnectorMissing  Name = "connector-missing"
)

func connectorLies() []Spec {
	forfeit := "a connector of commitment output 1"
	return []Spec{
		{Name: ConnectorForeign, Told: "the connectors descend from another transaction", Forbids: Forfeits, Rule: "connectors descend from output 1 of the signed commitment", Needs: forfeit},
		{Name: ConnectorIndex, Told: "the connectors descend from commitment output 0", Forbids: Forfeits, Rule: "connectors descend from output 1 of the signed commitment", Needs: forfeit},
		{Name: ConnectorOutput, Told: "commitment output 1 pays another script than the connectors' root", Forbids: Forfeits, Rule: "the connectors' chain of values and scripts holds", Needs: forfeit},
		{Name: ConnectorValue, Told: "connectors are worth one satoshi more than dust", Forbids: Forfeits, Rule: "a connector is worth the dust that the forfeit was signed for", Needs: forfeit},
		{Name: ConnectorShared, Told: "two inputs are given one connector", Forbids: Nothing, Rule: "a connector is used once: at most one of the two forfeits leaves", Needs: "two inputs that need forfeits"},
		{Name: ConnectorStranger, Told: "a connector names an input that the batch does not renew", Forbids: Nothing, Rule: "no forfeit leaves for an input that is not in the batch", Needs: "a second target whose VTXO is not registered"},
		{Name: ConnectorMissing, Told: "no connector comes, though one is due", Forbids: Forfeits, Rule: "without a connector no forfeit leaves; the batch fails; tried again", Needs: forfeit},
	}
}

// Lies about a batch's beginning and end.
const (
	Unlisted             Name = "intent-unlisted"
	BatchTwice           Name = "batch-twice"
	BatchForeign         Name = "batch-foreign"
	ConfirmRefused       Name = "confirm-refused"
	FinalizationTxid     Name = "finalization-txid"
	FinalizationEarly    Name = "finalization-early"
	FinalizedTxid        Name = "finalized-txid"
	FinalizedUnbroadcast Name = "finalized-unbroadcast"
	FinalizedSilent      Name = "finalized-silent"
	FailedAfterForfeits  Name = "failed-after-forfeits"
	FailedButBroadcast   Name = "failed-but-broadcast"
	CrashAfterBroadcast  Name = "crash-after-broadcast"
	CrashAfterConfirm    Name = "crash-after-confirm"
	CrashAfterNonces     Name = "crash-after-nonces"
	CrashAfterForfeits   Name = "crash-after-forfeits"
	DoubleSpent          Name = "commitment-double-spent"
)

func endLies() []Spec {
	return []Spec{
		{Name: Unlisted, Told: "the intent is taken from the queue and never listed: it vanishes", Forbids: Confirm, Rule: "an id that no batch lists for three sessions is registered again"},
		{Name: BatchTwice, Told: "BatchStarted comes twice, the second time with another id", Forbids: Nothing, Rule: "one batch at a time; nothing is sent for the invented one"},
		{Name: BatchForeign, Told: "events of an unknown batch with the target's topics come in between", Forbids: Nothing, Rule: "events of another batch change nothing"},
		{Name: ConfirmRefused, Told: "ConfirmRegistration is refused", Forbids: Nonces, Rule: "an unconfirmed intent takes part in nothing; tried again"},
		{Name: FinalizationTxid, Told: "BatchFinalization names another commitment than was signed", Forbids: Forfeits, Rule: "the finalization's txid equals the signed one"},
		{Name: FinalizationEarly, Told: "BatchFinalization comes before any nonce was asked for", Forbids: Forfeits, Rule: "no forfeits before the branch is signed"},
		{Name: FinalizedTxid, Told: "BatchFinalized names another txid", Forbids: Nothing, Rule: "settled by the commitment that was signed, not by what is announced"},
		{Name: FinalizedUnbroadcast, Told: "BatchFinalized and the indexer say settled, but nothing was broadcast", Forbids: Nothing, Rule: "not settled before the commitment confirms, where the chain can be asked"},
		{Name: FinalizedSilent, Told: "the batch ends well and BatchFinalized never comes", Forbids: Nothing, Rule: "found settled at the indexer"},
		{Name: FailedAfterForfeits, Told: "the batch fails once the forfeits are in; nothing is broadcast", Forbids: Nothing, Rule: "one further attempt; a second forfeit only for a commitment whose branch is stored"},
		{Name: FailedButBroadcast, Told: "BatchFailed, though the commitment is on the chain", Forbids: Nothing, Rule: "found settled by its commitment: no second attempt while it may confirm"},
		{Name: CrashAfterBroadcast, Told: "the operator crashes after the broadcast and before storing", Forbids: Nothing, Rule: "found settled by its commitment: no second attempt while it may confirm"},
		{Name: CrashAfterConfirm, Told: "the operator restarts after the confirmations", Forbids: Nonces, Rule: "registered again"},
		{Name: CrashAfterNonces, Told: "the operator restarts after the nonces", Forbids: Signatures, Rule: "registered again, with fresh nonces"},
		{Name: CrashAfterForfeits, Told: "the operator restarts once the forfeits are in; nothing is broadcast", Forbids: Nothing, Rule: "one further attempt after the session's end"},
		{Name: DoubleSpent, Told: "the commitment is broadcast and then double-spent by the operator", Forbids: Nothing, Rule: "back to due when a conflicting transaction confirms"},
	}
}
