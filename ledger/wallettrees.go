package ledger

import (
	"bytes"
	"encoding/binary"

	"github.com/vigil-ark/vigil"
)

// The trees of the wallets. Every row but those of replay and audit begins with
// the wallet's id, or is found from such a row.
const (
	treeWallets  = "wallets"        // wallet(32) -> Wallet
	treeRecovery = "recovery"       // wallet(32) epoch(4) -> Epoch
	treeAliases  = "wallet_aliases" // kind(1) host key, sha256(pkScript) or secret's name -> wallet(32)
	treeHoldings = "wallet_vtxos"   // wallet(32) txid(32) vout(4) -> Holding
	treePrepared = "prepared"       // wallet(32) delegate(16), zero for the wallet -> Plan
	treeLapses   = "lapses"         // time(8) wallet(32) delegate(16) -> nothing; plans by when they are garbage
	treeDeleting = "deleting"       // wallet(32) -> nothing; wallets that are being taken apart
	treeSynced   = "wallet_syncs"   // time(8) wallet(32) -> nothing; active wallets by when they were synced
	treeTokens   = "device_tokens"  // wallet(32) sha256(token)(32) -> Token
	treePolicies = "policies"       // wallet(32) -> Policy
	treeSpends   = "spend_windows"  // wallet(32) time(8) sighash(32) -> Spend
	treeReplay   = "replay"         // length(1) owner nonce(16) -> begun
	treeAnswers  = "answers"        // the same key -> the answer as it left
	treeFresh    = "replay_times"   // time(8), then the same key -> nothing; by when they may be forgotten
	treeAudit    = "audit"          // number(8), from 1 -> audited; 0 -> chain
)

// The kinds of aliases.
const (
	aliasHost   byte = 1
	aliasScript byte = 2
	aliasSecret byte = 3
)

const walletSize = len(vigil.WalletID{})

func epochKey(id vigil.WalletID, number uint32) []byte {
	return binary.BigEndian.AppendUint32(append(make([]byte, 0, walletSize+4), id[:]...), number)
}

func syncedKey(at int64, id vigil.WalletID) []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(max(at, 0))), id[:]...)
}

// under is a key below a wallet's.
func under(id vigil.WalletID, rest []byte) []byte {
	return append(append(make([]byte, 0, walletSize+len(rest)), id[:]...), rest...)
}

// walletTrees lists them with what a row of each must be.
func walletTrees() []tree {
	const shortest = 1 + 1 + 16 // a key of a request, with an owner of one byte
	return []tree{
		{treeWallets, truth, rowsOf[Wallet](walletSize)},
		{treeRecovery, truth, rowsOf[Epoch](walletSize + 4)},
		{treeAliases, rebuilt, readAlias},
		{treeHoldings, rebuilt, rowsOf[Holding](walletSize + outpointSize)},
		{treePrepared, truth, rowsOf[Plan](walletSize + idSize)},
		{treeLapses, rebuilt, bareKey(8 + walletSize + idSize)},
		{treeDeleting, rebuilt, bareKey(walletSize)},
		{treeSynced, rebuilt, bareKey(8 + walletSize)},
		{treeTokens, truth, readToken},
		{treePolicies, truth, rowsOf[Policy](walletSize)},
		{treeSpends, truth, rowsOf[Spend](walletSize + 8 + 32)},
		{treeReplay, truth, longer(shortest, rowsOf[begun](0))},
		{treeAnswers, truth, longer(shortest, rowsOf[answer](0))},
		{treeFresh, rebuilt, longer(8+shortest, bareValue)},
		{treeAudit, truth, readAudited},
	}
}

func readAlias(key, value []byte) error {
	switch {
	case len(key) < 2, key[0] < aliasHost, key[0] > aliasSecret:
		return errKey
	case len(value) != walletSize:
		return errValue
	}
	return nil
}

func readToken(key, value []byte) error {
	t := new(Token)
	if len(key) != walletSize+32 {
		return errKey
	}
	if err := decodeRow(value, t); err != nil {
		return err
	}
	if !bytes.Equal(key, tokenKey(vigil.WalletID(key), t.Text)) {
		return errMisplace
	}
	return nil
}

func readAudited(key, value []byte) error {
	switch {
	case len(key) != 8:
		return errKey
	case binary.BigEndian.Uint64(key) == 0:
		return decodeRow(value, new(chain))
	}
	_, err := decodeAudited(value)
	return err
}

// longer is for keys of at least a size.
func longer(size int, read func(key, value []byte) error) func(key, value []byte) error {
	return func(key, value []byte) error {
		if len(key) < size {
			return errKey
		}
		return read(key, value)
	}
}

func bareValue(_, value []byte) error {
	if len(value) != 0 {
		return errValue
	}
	return nil
}
