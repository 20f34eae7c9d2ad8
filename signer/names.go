package signer

import (
	"strconv"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/delegate"
)

// The names of secrets. Nobody else builds them; what they are for is in spec
// section 3.
const (
	hostName       = "host-key.1"
	servicePrefix  = "delegate-service." // the number that follows grows by one with every key that is added
	dkgPrefix      = "dkg-secret."
	delegatePrefix = "delegate-secret."
	treePrefix     = "tree-secret."
)

// ServiceName is the secret's name of the n-th service delegate key.
func ServiceName(n int) string { return servicePrefix + strconv.Itoa(n) }

func dkgName(w vigil.WalletID) string         { return dkgPrefix + w.String() }
func delegateName(w vigil.WalletID) string    { return delegatePrefix + w.String() }
func treeName(id vigil.DelegateID) string     { return treePrefix + id.String() }
func walletSecrets(w vigil.WalletID) []string { return []string{dkgName(w), delegateName(w)} }

// TreeNames are the names of what NewTreeKey stores for the given delegates:
// what is to be garbage, should they never be submitted.
func TreeNames(ids ...vigil.DelegateID) []string {
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = treeName(id)
	}
	return names
}

// WalletNames are the names of everything that a wallet with the given delegates
// may have in the store: what its deletion makes garbage.
func WalletNames(w vigil.WalletID, delegates ...vigil.DelegateID) []string {
	return append(walletSecrets(w), TreeNames(delegates...)...)
}

// Garbage are the names of the secrets that a delegate which has ended needs no
// longer: its tree key, which nobody else uses. A stock delegate has none of its
// own. While a commitment of an earlier attempt may still confirm, the record is
// not at its end, and neither is the key.
func Garbage(rec *delegate.Record) []string {
	if rec.Kind != delegate.Wallet {
		return nil
	}
	return []string{treeName(rec.ID)}
}
