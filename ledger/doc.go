// Package ledger owns what Vigil remembers: the trees of the key-value store,
// their keys, encodings and versions, and every change that spans them. It is
// the only package that knows them, and it knows nothing of secrets, of the
// operator or of who is asking.
package ledger
