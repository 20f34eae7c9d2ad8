package delegate

import "errors"

// Errors of whoever opens a delegate's session. Both quarantine the delegate;
// any other error is a store that is down, and the opening is tried again.
var (
	// ErrSecretMissing says that no secret is stored for a key of the record.
	ErrSecretMissing = errors.New("delegate: no secret is stored for its key")
	// ErrSecretWrong says that a stored secret is not the record's: its public key
	// differs, or it does not authenticate.
	ErrSecretWrong = errors.New("delegate: the stored secret is not its key's")
)
