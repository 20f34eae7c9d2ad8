package rpc

import (
	"net/netip"
	"time"

	"github.com/vigil-ark/vigil"
)

// Limits bound what one source, or one wallet, may ask. Zero fields take their defaults.
type Limits struct {
	Body    int64          // bytes of a request; default 1 MiB
	Header  int            // bytes of a request's head; default 16 KiB
	Rate    float64        // requests a second from one source; default 20
	Burst   int            // default 40
	Streams int            // concurrent requests of one source; default 64
	Proxies []netip.Prefix // whose X-Forwarded-For is believed; default none
	Timeout time.Duration  // of one request, from its head to its answer; default 30 s
	Head    time.Duration  // for a request's head to arrive; default 10 s

	WalletRate   float64       // requests a second of one wallet; default 20
	WalletBurst  int           // default 60
	WalletAtOnce int           // concurrent requests of one wallet; default 16
	Watches      int           // open watches of one wallet; default 8
	WatchAge     time.Duration // after which a watch ends; default 1 h
}

func (l Limits) withDefaults() Limits {
	if l.Body <= 0 {
		l.Body = 1 << 20
	}
	if l.Header <= 0 {
		l.Header = 16 << 10
	}
	if l.Rate <= 0 {
		l.Rate = 20
	}
	if l.Burst <= 0 {
		l.Burst = 40
	}
	if l.Streams <= 0 {
		l.Streams = 64
	}
	if l.Timeout <= 0 {
		l.Timeout = 30 * time.Second
	}
	if l.Head <= 0 {
		l.Head = 10 * time.Second
	}
	if l.WalletRate <= 0 {
		l.WalletRate = 20
	}
	if l.WalletBurst <= 0 {
		l.WalletBurst = 60
	}
	if l.WalletAtOnce <= 0 {
		l.WalletAtOnce = 16
	}
	if l.Watches <= 0 {
		l.Watches = 8
	}
	if l.WatchAge <= 0 {
		l.WatchAge = time.Hour
	}
	return l
}

func (l Limits) ofSource() bound {
	return bound{rate: l.Rate, burst: l.Burst, active: l.Streams, tooFast: vigil.CodeRateLimited, tooMany: vigil.CodeTooManyStreams}
}

func (l Limits) ofWallet() bound {
	return bound{rate: l.WalletRate, burst: l.WalletBurst, active: l.WalletAtOnce, tooFast: vigil.CodeWalletRate, tooMany: vigil.CodeWalletBusy}
}

// ofWatches bounds how many are open; how fast they open is bounded with the
// wallet's other requests.
func (l Limits) ofWatches() bound {
	return bound{rate: l.WalletRate, burst: l.WalletBurst, active: l.Watches, tooFast: vigil.CodeWalletRate, tooMany: vigil.CodeTooManyWatches}
}
