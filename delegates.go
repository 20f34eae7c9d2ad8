package vigil

import "context"

// Delegates is what an owner of coins may ask of a Vigil: the port that the
// handlers, the command line and every test speak to. All refusals are *Error.
type Delegates interface {
	// Terms tells a wallet which key to name and what a delegation costs.
	Terms(ctx context.Context) (Terms, error)
	// Submit checks and stores a delegate. When it returns, the delegate is
	// durable. The same request again is answered with the delegate's state.
	Submit(ctx context.Context, s Submission) (Summary, error)
	// List returns the delegates over the coins whose scripts the proof proves.
	List(ctx context.Context, i Intent) ([]Summary, error)
	// Cancel takes back the delegate over the coins that the proof proves.
	Cancel(ctx context.Context, i Intent) (Summary, error)
}

// Terms are what a delegation costs and to whom it goes.
type Terms struct {
	Key     string // the service delegate key, compressed, hex
	Fee     int64  // satoshis
	Address string // Ark address of the fee output
}

// Intent is an Ark intent as it travels: a message's JSON text and a proof as
// base64 PSBT.
type Intent struct{ Message, Proof string }

// Submission is what an owner signed ahead.
type Submission struct {
	Intent
	Forfeits      []string // base64 PSBTs
	RejectReplace bool     // refuse when an older delegate covers an input
}

// Summary is one delegate as its owner may see it. Times are unix seconds, 0
// for none; amounts satoshis.
type Summary struct {
	ID           DelegateID
	State        string
	ValidAt      int64
	NextAttempt  int64
	Inputs       []string // txid:vout
	Amount       int64
	ExpiresAt    int64 // the earliest expiry among the inputs
	Attempts     uint32
	ErrorCode    string
	ErrorText    string
	CommitmentTx string
}
