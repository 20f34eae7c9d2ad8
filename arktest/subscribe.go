package arktest

import (
	"context"
	"encoding/hex"
	"sync"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/vigil-ark/vigil/arktest/internal/code"
	"github.com/vigil-ark/vigil/arktest/internal/txfilter"
	arkv1 "github.com/vigil-ark/vigil/internal/pb/ark/v1"
)

// linger is how long a subscription lives without a stream.
const linger = time.Minute

// maxFilters bounds the filter expressions of one subscription.
const maxFilters = 64

// subscription is a listener that outlives its streams.
type subscription struct {
	*listener[*arkv1.GetSubscriptionResponse]
	filters  []*txfilter.Filter
	attached chan struct{} // closed to displace the stream, nil without one
	expire   func()        // stops the removal timer
}

// subscriptions are the indexer's, by id.
type subscriptions struct {
	clock Clock
	mu    sync.Mutex
	byID  map[string]*subscription
}

func newSubscriptions(clock Clock) *subscriptions {
	return &subscriptions{clock: clock, byID: map[string]*subscription{}}
}

func unknown(id string) error {
	return code.SubscriptionUnknown.New(code.Meta{"subscription_id": id}, "subscription %s not found", id)
}

// open makes a subscription; it dies after linger unless a stream attaches.
func (s *subscriptions) open(topics []string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	sub := &subscription{listener: newListener[*arkv1.GetSubscriptionResponse](uuid.NewString(), topics)}
	s.byID[sub.id] = sub
	s.arm(sub)
	return sub.id
}

// arm starts the removal timer; the caller holds the mutex.
func (s *subscriptions) arm(sub *subscription) {
	sub.expire = s.clock.AfterFunc(linger, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.byID[sub.id] == sub && sub.attached == nil {
			s.removeLocked(sub)
		}
	})
}

func (s *subscriptions) removeLocked(sub *subscription) {
	sub.close()
	if sub.expire != nil {
		sub.expire()
	}
	delete(s.byID, sub.id)
}

// with runs f on a subscription under the lock.
func (s *subscriptions) with(id string, f func(*subscription)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	sub, ok := s.byID[id]
	if !ok {
		return unknown(id)
	}
	f(sub)
	return nil
}

// attach makes the caller the subscription's only stream.
func (s *subscriptions) attach(id string) (sub *subscription, displaced chan struct{}, err error) {
	err = s.with(id, func(x *subscription) {
		if x.expire != nil {
			x.expire()
		}
		if x.attached != nil {
			close(x.attached)
		}
		displaced = make(chan struct{})
		x.attached, sub = displaced, x
	})
	return sub, displaced, err
}

// release ends the caller's hold; keep lets the subscription linger.
func (s *subscriptions) release(sub *subscription, mine chan struct{}, keep bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sub.attached != mine {
		return
	}
	sub.attached = nil
	if keep && (len(sub.all()) > 0 || len(sub.filters) > 0) {
		s.arm(sub)
		return
	}
	s.removeLocked(sub)
}

func (s *subscriptions) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sub := range s.byID {
		s.removeLocked(sub)
	}
}

// notify hands an event to every subscription that it concerns; one whose
// queue is full misses it.
func (s *subscriptions) notify(e txEvent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sub := range s.byID {
		ev := &arkv1.IndexerSubscriptionEvent{Txid: e.txid, Tx: e.tx}
		seen := map[string]bool{}
		add := func(list []VTXO, into *[]*arkv1.IndexerVtxo) {
			for _, v := range list {
				script := hex.EncodeToString(v.PkScript())
				if !sub.wants([]string{script}) {
					continue
				}
				*into = append(*into, indexerVTXO(v))
				if !seen[script] {
					seen[script] = true
					ev.Scripts = append(ev.Scripts, script)
				}
			}
		}
		add(e.made, &ev.NewVtxos)
		add(e.spent, &ev.SpentVtxos)
		if len(seen) == 0 && !matches(sub.filters, e) {
			continue
		}
		for _, op := range e.swept {
			ev.SweptVtxos = append(ev.SweptVtxos, &arkv1.IndexerVtxo{Outpoint: &arkv1.IndexerOutpoint{Txid: op.Hash.String(), Vout: op.Index}})
		}
		if len(e.checkpoints) > 0 {
			ev.CheckpointTxs = map[string]*arkv1.IndexerTxData{}
			for op, c := range e.checkpoints {
				encoded, _ := c.B64Encode()
				ev.CheckpointTxs[op] = &arkv1.IndexerTxData{Txid: c.UnsignedTx.TxID(), Tx: encoded}
			}
		}
		select {
		case sub.ch <- &arkv1.GetSubscriptionResponse{Data: &arkv1.GetSubscriptionResponse_Event{Event: ev}}:
		default:
		}
	}
}

func matches(filters []*txfilter.Filter, e txEvent) bool {
	for _, f := range filters {
		if e.raw != nil && f.Matches(e.raw) {
			return true
		}
	}
	return false
}

func parseScripts(list []string) error {
	if len(list) == 0 {
		return invalid("missing scripts")
	}
	for _, s := range list {
		if _, err := parseScript(s); err != nil {
			return err
		}
	}
	return nil
}

// SubscribeForScripts makes a subscription or adds scripts to one.
func (s *indexer) SubscribeForScripts(_ context.Context, req *arkv1.SubscribeForScriptsRequest) (*arkv1.SubscribeForScriptsResponse, error) {
	if err := parseScripts(req.GetScripts()); err != nil {
		return nil, err
	}
	id := req.GetSubscriptionId()
	if id == "" {
		return &arkv1.SubscribeForScriptsResponse{SubscriptionId: s.p.subs.open(req.GetScripts())}, nil
	}
	if err := s.p.subs.with(id, func(sub *subscription) { sub.add(req.GetScripts()) }); err != nil {
		return nil, err
	}
	return &arkv1.SubscribeForScriptsResponse{SubscriptionId: id}, nil
}

// UnsubscribeForScripts removes scripts from a subscription; without scripts,
// all of them.
func (s *indexer) UnsubscribeForScripts(_ context.Context, req *arkv1.UnsubscribeForScriptsRequest) (*arkv1.UnsubscribeForScriptsResponse, error) {
	if req.GetSubscriptionId() == "" {
		return nil, invalid("missing subscription id")
	}
	err := s.p.subs.with(req.GetSubscriptionId(), func(sub *subscription) {
		if len(req.GetScripts()) > 0 {
			sub.remove(req.GetScripts())
			return
		}
		sub.overwrite(nil)
		if len(sub.filters) == 0 {
			s.p.subs.removeLocked(sub)
		}
	})
	if err != nil {
		return nil, err
	}
	return &arkv1.UnsubscribeForScriptsResponse{}, nil
}

// UpdateSubscription replaces a subscription's expressions and changes its
// scripts.
func (s *indexer) UpdateSubscription(_ context.Context, req *arkv1.UpdateSubscriptionRequest) (*arkv1.UpdateSubscriptionResponse, error) {
	if req.GetSubscriptionId() == "" {
		return nil, invalid("missing subscription id")
	}
	if req.GetFilter() == nil {
		return nil, invalid("missing filter")
	}
	if err := s.applyFilter(req.GetSubscriptionId(), req.GetFilter(), false); err != nil {
		return nil, err
	}
	return &arkv1.UpdateSubscriptionResponse{}, nil
}

func (s *indexer) applyFilter(id string, f *arkv1.SubscriptionFilter, initial bool) error {
	var compiled []*txfilter.Filter
	for _, src := range f.GetExpressions() {
		c, err := txfilter.Compile(src)
		if err != nil {
			return code.TxFilter.New(code.Meta{"expression": src}, "invalid tx filter %q: %w", src, err)
		}
		compiled = append(compiled, c)
	}
	scripts := f.GetScripts()
	for _, list := range [][]string{scripts.GetAdd(), scripts.GetRemove()} {
		if len(list) > 0 {
			if err := parseScripts(list); err != nil {
				return err
			}
		}
	}
	if len(compiled) > maxFilters {
		return code.TooManyFilters.New(code.Meta{"subscription_id": id, "max_tx_filters": maxFilters, "got_tx_filters": len(compiled)},
			"tx filters per subscription limit (%d) exceeded", maxFilters)
	}
	return s.p.subs.with(id, func(sub *subscription) {
		sub.filters = compiled
		sub.add(scripts.GetAdd())
		switch {
		case initial || scripts == nil:
		case len(scripts.GetRemove()) > 0:
			sub.remove(scripts.GetRemove())
		case len(scripts.GetAdd()) == 0:
			sub.overwrite(nil)
		}
	})
}

// GetSubscription streams a subscription's events; without an id it makes one
// that ends with the stream.
func (s *indexer) GetSubscription(req *arkv1.GetSubscriptionRequest, stream grpc.ServerStreamingServer[arkv1.GetSubscriptionResponse]) error {
	id := req.GetSubscriptionId()
	fresh := id == ""
	if fresh {
		id = s.p.subs.open(nil)
	}
	sub, displaced, err := s.p.subs.attach(id)
	if err != nil {
		return err
	}
	defer s.p.subs.release(sub, displaced, !fresh)
	if fresh {
		if f := req.GetFilter(); f != nil {
			if err := s.applyFilter(id, f, true); err != nil {
				return err
			}
		}
		if err := stream.Send(&arkv1.GetSubscriptionResponse{Data: &arkv1.GetSubscriptionResponse_SubscriptionStarted{
			SubscriptionStarted: &arkv1.IndexerSubscriptionStartedEvent{SubscriptionId: id},
		}}); err != nil {
			return status.Error(codes.Unavailable, err.Error())
		}
	}
	return pump(s.p, sub.listener, stream, displaced, &arkv1.GetSubscriptionResponse{
		Data: &arkv1.GetSubscriptionResponse_Heartbeat{Heartbeat: &arkv1.IndexerHeartbeat{}},
	})
}
