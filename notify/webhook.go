package notify

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/bip340"
)

// ErrWebhook is returned for a webhook that cannot be used as configured.
var ErrWebhook = errors.New("notify: invalid webhook")

// The headers of a delivery. The signature is BIP-340 by the host key, in hex,
// over what the Signer hashes: time and body.
const (
	HeaderKey       = "Vigil-Key"
	HeaderTimestamp = "Vigil-Timestamp"
	HeaderSignature = "Vigil-Signature"
)

// Signer signs deliveries with Vigil's host key. The receiver knows it.
type Signer interface {
	// HostKey is the key of the signatures.
	HostKey() bip340.PubKey
	// SignWebhook signs a body that is sent at a time in unix seconds.
	SignWebhook(ctx context.Context, at int64, body []byte) ([64]byte, error)
}

// WebhookConfig says where events go. Its zero values are the defaults.
type WebhookConfig struct {
	// URL is what this Vigil's operator configured: https, or http to the machine
	// itself. No wallet can name one.
	URL    string
	Signer Signer

	Queue    int           // deliveries that wait; default 1,024
	Attempts int           // of one delivery; default 6
	Backoff  time.Duration // after the first failure, doubled by each; default 2 s
	Timeout  time.Duration // of one attempt; default 10 s
	Workers  int           // deliveries at once; default 4

	// Transport is how requests leave; nil is one of its own.
	Transport http.RoundTripper
	// Now tells the time; nil is the wall clock.
	Now func() time.Time
	// OnDrop, if not nil, is told of every event that was not delivered.
	OnDrop func(Drop)
}

// Drop is an event that was not delivered, and why.
type Drop struct {
	Kind Kind
	Err  error
}

// Errors in a Drop.
var (
	ErrQueueFull = errors.New("notify: the webhook's queue is full")
	ErrGaveUp    = errors.New("notify: the webhook did not take it")
)

// Webhook posts events to the one URL that is configured: each as a JSON body,
// signed, tried again a few times, and then forgotten. Nothing of it is durable.
type Webhook struct {
	cfg    WebhookConfig
	client *http.Client
	queue  chan delivery
}

// delivery is one event on its way.
type delivery struct {
	wallet vigil.WalletID
	event  Event
	id     string // the same in every attempt, so that the receiver can drop copies
}

// body is the JSON of a delivery.
type body struct {
	ID        string   `json:"id"`
	Wallet    string   `json:"wallet"`
	Kind      Kind     `json:"kind"`
	At        int64    `json:"at"`
	Outpoints []string `json:"outpoints"`
	Delegate  string   `json:"delegate_id,omitempty"`
	Text      string   `json:"text"`
	Code      string   `json:"code,omitempty"`
	TimeLeft  int64    `json:"time_left"`
}

// NewWebhook checks the configuration. Run must be running for anything to leave.
// The error is ErrWebhook.
func NewWebhook(cfg WebhookConfig) (*Webhook, error) {
	u, err := url.Parse(cfg.URL)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrWebhook, withoutURL(err))
	case u.Host == "", u.User != nil, u.Fragment != "":
		return nil, fmt.Errorf("%w: want https://host/path, without user or fragment", ErrWebhook)
	case u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())):
		return nil, fmt.Errorf("%w: https only, or http to this machine", ErrWebhook)
	case cfg.Signer == nil:
		return nil, fmt.Errorf("%w: nobody signs", ErrWebhook)
	}
	pick := func(v *int, otherwise int) {
		if *v <= 0 {
			*v = otherwise
		}
	}
	pick(&cfg.Queue, 1024)
	pick(&cfg.Attempts, 6)
	pick(&cfg.Workers, 4)
	if cfg.Backoff <= 0 {
		cfg.Backoff = 2 * time.Second
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 10 * time.Second
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.OnDrop == nil {
		cfg.OnDrop = func(Drop) {}
	}
	if cfg.Transport == nil {
		cfg.Transport = &http.Transport{MaxConnsPerHost: cfg.Workers, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: cfg.Timeout}
	}
	return &Webhook{
		cfg: cfg,
		// A redirect would send the wallet's events to where nobody configured.
		client: &http.Client{Transport: cfg.Transport, Timeout: cfg.Timeout, CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		}},
		queue: make(chan delivery, cfg.Queue),
	}, nil
}

func loopback(host string) bool { return host == "localhost" || host == "127.0.0.1" || host == "::1" }

// Offer queues an event; it never blocks, and drops the event when the queue is
// full. It is a Hub's sink.
func (w *Webhook) Offer(wallet vigil.WalletID, e Event) {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails: crypto/rand
	select {
	case w.queue <- delivery{wallet, e, hex.EncodeToString(id[:])}:
	default:
		w.cfg.OnDrop(Drop{e.Kind, ErrQueueFull})
	}
}

// Run delivers until ctx ends, then returns; what is queued is lost then.
func (w *Webhook) Run(ctx context.Context) {
	defer w.client.CloseIdleConnections()
	var workers sync.WaitGroup
	for range w.cfg.Workers {
		workers.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case d := <-w.queue:
					if err := w.deliver(ctx, d); err != nil && ctx.Err() == nil {
						w.cfg.OnDrop(Drop{d.event.Kind, err})
					}
				}
			}
		})
	}
	workers.Wait()
}

// deliver tries until the receiver takes the event or its attempts are used up.
func (w *Webhook) deliver(ctx context.Context, d delivery) error {
	b, err := json.Marshal(d.body())
	if err != nil {
		return fmt.Errorf("%w: %w", ErrGaveUp, err)
	}
	wait := w.cfg.Backoff
	for attempt := 1; ; attempt++ {
		final, err := w.post(ctx, b)
		if err == nil {
			return nil
		}
		if final || attempt == w.cfg.Attempts {
			return fmt.Errorf("%w, attempt %d: %w", ErrGaveUp, attempt, err)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-timer.C:
		}
		wait *= 2
	}
}

func (d delivery) body() body {
	b := body{
		ID: d.id, Wallet: d.wallet.String(), Kind: d.event.Kind, At: d.event.At, Outpoints: d.event.Outpoints,
		Text: d.event.Text, Code: d.event.Code, TimeLeft: d.event.TimeLeft,
	}
	if b.Outpoints == nil {
		b.Outpoints = []string{}
	}
	if d.event.Delegate != (vigil.DelegateID{}) {
		b.Delegate = d.event.Delegate.String()
	}
	return b
}

// withoutURL takes the URL out of an error: its path may be what lets one in.
func withoutURL(err error) error {
	var of *url.Error
	if errors.As(err, &of) {
		return of.Err
	}
	return err
}

// maxAnswer is how much of an answer is read, so that the connection can be used
// again.
const maxAnswer = 4 << 10

// post makes one attempt; final says that another one is of no use.
func (w *Webhook) post(ctx context.Context, b []byte) (final bool, err error) {
	at := w.cfg.Now().Unix()
	sig, err := w.cfg.Signer.SignWebhook(ctx, at, b)
	if err != nil {
		return false, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.cfg.URL, bytes.NewReader(b))
	if err != nil {
		return true, err
	}
	key := w.cfg.Signer.HostKey()
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "vigil")
	req.Header.Set(HeaderKey, key.String())
	req.Header.Set(HeaderTimestamp, strconv.FormatInt(at, 10))
	req.Header.Set(HeaderSignature, hex.EncodeToString(sig[:]))
	res, err := w.client.Do(req)
	if err != nil {
		return false, withoutURL(err)
	}
	defer res.Body.Close()
	_, _ = io.CopyN(io.Discard, res.Body, maxAnswer)
	switch c := res.StatusCode; {
	case c >= 200 && c < 300:
		return false, nil
	case c >= 300 && c < 400:
		return true, fmt.Errorf("it redirects (%d)", c)
	case c == http.StatusRequestTimeout, c == http.StatusTooManyRequests, c >= 500:
		return false, fmt.Errorf("status %d", c)
	default:
		return true, fmt.Errorf("status %d", c)
	}
}
