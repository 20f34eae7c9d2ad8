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
	forfeitPrefix  = "forfeit-secret." // bearer forfeits of a delegate over two-leaf coins
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

// ForfeitName is the name of what SealForfeits stores for a delegate.
func ForfeitName(id vigil.DelegateID) string { return forfeitPrefix + id.String() }

// WalletNames are the names of everything that a wallet with the given delegates
// may have in the store: what its deletion makes garbage.
func WalletNames(w vigil.WalletID, delegates ...vigil.DelegateID) []string {
	names := append(walletSecrets(w), TreeNames(delegates...)...)
	for _, id := range delegates {
		names = append(names, ForfeitName(id))
	}
	return names
}

// Garbage are the names of the secrets that a delegate needs and nobody else, so
// that they are garbage when it has ended: its tree key, and its sealed forfeits if
// it has any. A stock delegate has none of its own. While a commitment of an earlier
// attempt may still confirm, the record is not at its end, and neither are they. Of a
// record that could not be read, and has no inputs here, whatever it may have had.
func Garbage(rec *delegate.Record) []string {
	switch {
	case rec.Kind != delegate.Wallet:
		return nil
	case rec.HasSealed(), len(rec.Inputs) == 0:
		return []string{treeName(rec.ID), ForfeitName(rec.ID)}
	}
	return []string{treeName(rec.ID)}
}
