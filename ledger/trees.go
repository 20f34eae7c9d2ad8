package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"math"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/delegate"
)

// The trees. Keys are fixed-width and big-endian, so that their order is the
// order in which they are read.
const (
	treeMeta           = "meta"              // name -> value
	treeSessions       = "delegate_sessions" // id -> Record
	treeDue            = "renewal_due"       // time(8) id(16) -> nothing; armed and due delegates by their next attempt
	treeFlight         = "in_flight"         // id(16) -> nothing; registering to unconfirmed
	treeWatching       = "watching"          // id(16) -> nothing; delegates that have not ended and watch commitments
	treeExpiries       = "expiries"          // time(8) id(16) -> nothing; live delegates by their earliest expiry
	treeEnded          = "ended"             // time(8) id(16) -> nothing; settled, spent and broken ones by their end
	treeBranches       = "branches"          // id(16) commitment(32) -> Branch without its commitment
	treeCommitments    = "commitments"       // txid(32) -> PSBT
	treeCommitmentRefs = "commitment_refs"   // txid(32) id(16) -> nothing; branches under it
	treeVTXOs          = "vtxos"             // txid(32) vout(4) -> VTXO
	treeScripts        = "scripts"           // sha256(pkScript)(32) class(1) id(16) -> nothing
	treeTombstones     = "tombstones"        // txid(32) vout(4) id(16) -> nothing; replaced, cancelled, expired ones
	treePending        = "pending"           // older id(16) -> newer id(16)
	treeHistory        = "ark_tx_history"    // owner(32) time(8) id(16) -> Entry
	treeSecretGC       = "secret_gc"         // secret name -> Garbage
	treeCounts         = "counts"            // state(1) -> count(8)
	treeUnreadable     = "quarantine"        // tree 0 key -> Unreadable
)

// origin says where the rows of a tree come from: what Repair may do with them.
type origin uint8

const (
	// truth is told by nothing else: Repair marks what cannot be read, and writes no
	// row but that of a delegate which waited for one that is over.
	truth origin = 1 + iota
	// mixed is truth of which a part follows from other rows: Repair brings that
	// part in step, makes anew the rows that others can tell, and deletes none.
	mixed
	// rebuilt follows from other rows: Repair makes it what they ask for. A tree
	// of these needs its rule in repair.asked.
	rebuilt
)

// tree is what all of Vigil must know of a tree: a new one needs its name above
// and its line below, and then its rows have checksums and a format byte, are read
// by fsck, migrated and repaired. A tree that an older version may not overlook
// also needs a new Schema, whose migration may do nothing.
type tree struct {
	name string
	from origin
	read func(key, value []byte) error // why a row means nothing, or nil
}

// trees lists them all.
func trees() []tree {
	return append([]tree{
		{treeMeta, truth, readMeta},
		{treeSessions, truth, readSession},
		{treeDue, rebuilt, bareKey(8 + idSize)},
		{treeFlight, rebuilt, bareKey(idSize)},
		{treeWatching, rebuilt, bareKey(idSize)},
		{treeExpiries, rebuilt, bareKey(8 + idSize)},
		{treeEnded, rebuilt, bareKey(8 + idSize)},
		{treeBranches, truth, readBranch},
		{treeCommitments, truth, readCommitment},
		{treeCommitmentRefs, rebuilt, bareKey(chainhash.HashSize + idSize)},
		{treeVTXOs, mixed, rowsOf[VTXO](outpointSize)},
		{treeScripts, rebuilt, bareKey(sha256.Size + 1 + idSize)},
		{treeTombstones, rebuilt, bareKey(outpointSize + idSize)},
		{treePending, rebuilt, readPending},
		{treeHistory, mixed, readHistory},
		{treeSecretGC, truth, rowsOf[Garbage](0)},
		{treeCounts, rebuilt, readCountRow},
		{treeUnreadable, rebuilt, rowsOf[Unreadable](0)},
	}, walletTrees()...)
}

// Names in the meta tree.
const (
	metaSchema     = "schema" // four bytes, in every version
	metaLayout     = "layout" // the schema number again, with a checksum
	metaGeneration = "generation"
	metaHold       = "hold"
	metaPinned     = "operator"
	metaRetired    = "retired/" // a service key
	metaService    = "service/" // a service key
)

// The classes of a row in the scripts tree: a scan of the first one is bounded
// by the number of live delegates of a script.
const (
	classOpen  byte = 0 // live or quarantined
	classEnded byte = 1
)

const (
	idSize       = len(vigil.DelegateID{})
	outpointSize = chainhash.HashSize + 4
)

func timeKey(at int64, id vigil.DelegateID) []byte {
	key := make([]byte, 8, 8+idSize)
	binary.BigEndian.PutUint64(key, uint64(max(at, 0)))
	return append(key, id[:]...)
}

func parseTimeKey(key []byte) (int64, vigil.DelegateID, bool) {
	if len(key) != 8+idSize {
		return 0, vigil.DelegateID{}, false
	}
	at := binary.BigEndian.Uint64(key)
	return int64(at & math.MaxInt64), vigil.DelegateID(key[8:]), true
}

func outpointKey(op wire.OutPoint) []byte {
	key := make([]byte, 0, outpointSize+idSize)
	key = append(key, op.Hash[:]...)
	return binary.BigEndian.AppendUint32(key, op.Index)
}

func parseOutpointKey(key []byte) (wire.OutPoint, bool) {
	if len(key) != outpointSize {
		return wire.OutPoint{}, false
	}
	return wire.OutPoint{Hash: chainhash.Hash(key[:32]), Index: binary.BigEndian.Uint32(key[32:])}, true
}

func tombstoneKey(op wire.OutPoint, id vigil.DelegateID) []byte {
	return append(outpointKey(op), id[:]...)
}

func branchKey(id vigil.DelegateID, commitment chainhash.Hash) []byte {
	return append(append(make([]byte, 0, idSize+32), id[:]...), commitment[:]...)
}

func scriptPrefix(script []byte, class byte) []byte {
	sum := sha256.Sum256(script)
	return append(sum[:], class)
}

func scriptKey(script []byte, class byte, id vigil.DelegateID) []byte {
	return append(scriptPrefix(script, class), id[:]...)
}

func historyKey(r *delegate.Record, at int64) []byte {
	owner := [32]byte(r.Wallet)
	if r.Kind != delegate.Wallet && len(r.Owners) > 0 {
		owner = r.Owners[0]
	}
	return append(owner[:], timeKey(at, r.ID)...)
}

// after returns the least key that does not begin with prefix, or nil when
// there is none: the upper end of a scan over a prefix.
func after(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] < math.MaxUint8 {
			end[i]++
			return end[:i+1]
		}
	}
	return nil
}

func classOf(s delegate.State) byte {
	if s.Ended() {
		return classEnded
	}
	return classOpen
}
