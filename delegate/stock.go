package delegate

import (
	"errors"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/fee"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/bip340"
)

// StockBody is a delegate as a stock wallet posts it (protocol section 6.2).
type StockBody struct {
	Message  string   // canonical register message
	Proof    string   // base64 PSBT
	Forfeits []string // base64 PSBTs
}

// StockLimits bound a body before it is parsed.
type StockLimits struct {
	Inputs  int // VTXOs, at most MaxInputs
	Outputs int // of the proof, at most MaxOutputs
}

// StockRequest is a decoded body. Nothing of it is verified yet.
type StockRequest struct{ request }

// ParseStock decodes a body within limits, without any curve work: enough to
// know whether it was here before and which VTXOs to ask the operator for. The
// error is a *vigil.Error.
func ParseStock(body StockBody, limits StockLimits) (*StockRequest, error) {
	r, err := parse(script.NewReader(), body.Message, body.Proof, body.Forfeits, limits)
	if err != nil {
		return nil, err
	}
	r.id = StockID(r.ProofTxid())
	return &StockRequest{request: *r}, nil
}

// StockTerms are what a body is held to.
type StockTerms struct {
	Params ark.Params // as the operator announces them now
	// Estimator is Params.Fees compiled; nil compiles them at every check.
	Estimator *fee.Estimator
	// Keys are the service keys whose secrets are at hand: the one in the info
	// first, then those that older addresses still name.
	Keys           []bip340.PubKey
	Fee            int64      // satoshis that Vigil asks; 0: nothing
	FeeScript      []byte     // where its fee goes
	FeeSlack       int64      // satoshis that the operator may get beyond 1.25 times its fee
	VTXOs          []ark.VTXO // the inputs as the operator's indexer reports them; unknown ones left out
	Now            int64      // unix seconds
	AnyDestination bool       // outputs may pay other scripts than the inputs'
}

// CheckStock holds a request to every rule of intake (spec sections 6 and 11)
// and returns the record to store: armed, without version. Every error is a
// *vigil.Error with a code of its own; nothing has any effect.
func CheckStock(r *StockRequest, t StockTerms) (*Record, error) {
	c := &stockCheck{StockTerms: t, intake: intake{
		request: &r.request, params: t.Params, estimator: t.Estimator, slack: t.FeeSlack, known: t.VTXOs, now: t.Now, reader: script.NewReader(),
	}}
	for _, rule := range []func() error{
		c.checkMessage, c.checkVTXOs, c.checkTimes, c.checkProof, c.checkInputs, c.checkForfeits, c.checkOutputs, c.checkFee,
	} {
		if err := rule(); err != nil {
			return nil, asRefusal(err)
		}
	}
	return c.record(), nil
}

// asRefusal makes sure that a coded error leaves; an uncoded one is our fault.
func asRefusal(err error) error {
	var coded *vigil.Error
	if errors.As(err, &coded) {
		return err
	}
	return &vigil.Error{Code: vigil.CodeInternal, Message: "the delegate could not be checked", Err: err}
}

// stockCheck is the check of a stock wallet's delegate.
type stockCheck struct {
	StockTerms
	intake
}

// record is what is to be stored once every rule has passed.
func (c *stockCheck) record() *Record {
	rec := c.intake.record()
	rec.ID, rec.Kind = c.id, Stock
	rec.DelegateKey, rec.TreeKey, rec.Service = c.key, c.key, c.served
	rec.NextAttempt = FirstAttempt(rec.ID, rec.ValidAt, rec.Expiry())
	return rec
}
