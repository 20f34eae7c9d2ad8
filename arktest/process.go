package arktest

import (
	"context"
	"sync"

	arkv1 "github.com/vigil-ark/vigil/internal/pb/ark/v1"
)

// process is what a restart of the operator loses: queue, running batch,
// cosigner key, streams.
type process struct {
	op     *Operator
	ctx    context.Context // ends with Down
	cancel context.CancelFunc
	key    *keyPair // operator cosigner, made anew at every start
	queue  *queue
	events *broker[*arkv1.GetEventStreamResponse]
	txs    *broker[*arkv1.GetTransactionsStreamResponse]
	subs   *subscriptions
	wg     sync.WaitGroup

	mu    sync.Mutex
	round *round
}
