package rpc

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/vigil-ark/vigil"
)

func addr(n int) netip.Addr {
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, uint32(n))))
}

// Sources that have been silent long enough to have a full bucket are
// forgotten; those with a request under way are not.
func TestSourcesAreForgotten(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	s := newSources[netip.Addr](Limits{}.withDefaults().ofSource(), func() time.Time { return now })
	stays, _, _ := s.enter(addr(1))
	for n := 2; n <= 1000; n++ {
		done, _, code := s.enter(addr(n))
		if code != "" {
			t.Fatal(code)
		}
		done()
	}
	if len(s.byKey) != 1000 {
		t.Fatalf("%d sources", len(s.byKey))
	}
	now = now.Add(time.Minute)
	done, _, _ := s.enter(addr(2000))
	if len(s.byKey) != 2 {
		t.Errorf("%d sources are remembered, want the busy one and the new one", len(s.byKey))
	}
	done()
	stays()
	now = now.Add(time.Minute)
	if _, _, _ = s.enter(addr(2001)); len(s.byKey) != 1 {
		t.Errorf("%d sources are remembered", len(s.byKey))
	}
}

// However many ask at once, what is remembered is bounded; the last ones share.
func TestSourcesAreBounded(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	s := newSources[netip.Addr](Limits{Rate: .001, Burst: 1, Streams: 2}.ofSource(), func() time.Time { return now })
	for n := range maxSources {
		if _, _, code := s.enter(addr(n)); code != "" {
			t.Fatalf("source %d: %s", n, code)
		}
	}
	if _, _, code := s.enter(addr(maxSources)); code != "" {
		t.Errorf("the first that shares: %s", code)
	}
	if _, wait, code := s.enter(addr(maxSources + 1)); code != vigil.CodeRateLimited || wait <= 0 {
		t.Errorf("the second that shares: %q, %v", code, wait)
	}
	if len(s.byKey) != maxSources {
		t.Errorf("%d sources", len(s.byKey))
	}
}
