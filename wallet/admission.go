package wallet

import (
	"crypto/sha256"
	"crypto/subtle"
	"sync"
	"time"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/frost"
)

// Registration says who may make a wallet here.
type Registration struct {
	// Mode is "open", "token" or "closed"; "" is closed.
	Mode string
	// Tokens are the SHA-256 sums of the tokens that are taken now; nil: none.
	Tokens func() [][32]byte
}

// The modes of Registration.
const (
	Open   = "open"
	Token  = "token"
	Closed = "closed"
)

func (r Registration) mode() string {
	if r.Mode == "" {
		return Closed
	}
	return r.Mode
}

// check says whether somebody with this token may make a wallet.
func (r Registration) check(token string) error {
	switch r.mode() {
	case Open:
		return nil
	case Token:
		sum := sha256.Sum256([]byte(token))
		found := 0
		if r.Tokens != nil {
			for _, t := range r.Tokens() {
				found |= subtle.ConstantTimeCompare(sum[:], t[:])
			}
		}
		if found == 1 {
			return nil
		}
		return vigil.Errorf(vigil.CodeRegistrationToken, "the registration token is missing or wrong")
	}
	return vigil.Errorf(vigil.CodeRegistrationClosed, "this server takes no new wallets")
}

// admissions counts the wallets that one source made within a day. It forgets
// at a restart, when the bound on all wallets still holds.
type admissions struct {
	perSource int
	mu        sync.Mutex
	since     time.Time
	made      map[string]int
}

// sourcesKept bounds the memory of admissions: beyond it every further source
// counts as one.
const sourcesKept = 1 << 16

// check refuses a source that made as many wallets as it may; take counts one, or
// refuses too: many may have been begun at once.
func (a *admissions) check(source string, now time.Time) error { return a.at(source, now, 0) }
func (a *admissions) take(source string, now time.Time) error  { return a.at(source, now, 1) }

func (a *admissions) at(source string, now time.Time, more int) error {
	if source == "" {
		return nil // in the same process: nobody from outside
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if age := now.Sub(a.since); a.made == nil || age < 0 || age >= 24*time.Hour {
		a.since, a.made = now, map[string]int{}
	}
	if _, known := a.made[source]; !known && len(a.made) >= sourcesKept {
		source = "others"
	}
	if a.made[source]+more > a.perSource || more == 0 && a.made[source] >= a.perSource {
		return vigil.Errorf(vigil.CodeTooManyWallets, "%d wallets were made from this address within a day, which is as many as may be", a.made[source])
	}
	a.made[source] += more
	return nil
}

// founding is what a device said when it began a wallet, until the wallet is
// there.
type founding struct {
	session   frost.SessionID
	seats     int
	identity  bip340.PubKey
	name      string
	recovery  bip340.XOnly
	delay     ark.Delay
	threshold int
	source    string
	counted   bool // against its source
	until     time.Time
}

// foundings are those under way, one for each device's host key: a later one
// takes an earlier one's place. They live in memory alone.
type foundings struct {
	most      int
	perSource int
	mu        sync.Mutex
	open      map[bip340.PubKey]founding
}

// foundingFor is how long a founding may take: the ceremony's own deadline.
const foundingFor = 10 * time.Minute

func (f *foundings) add(owner bip340.PubKey, what founding, now time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.open == nil {
		f.open = map[bip340.PubKey]founding{}
	}
	if n := f.from(what.source, owner, now); n >= f.perSource {
		return vigil.Errorf(vigil.CodeTooManyCeremonies, "%d wallets are being made from this address at once, which is as many as may be; retry later", n)
	}
	if _, again := f.open[owner]; !again && len(f.open) >= f.most {
		for key, old := range f.open {
			if now.After(old.until) {
				delete(f.open, key)
			}
		}
		if len(f.open) >= f.most {
			return vigil.Errorf(vigil.CodeTooManyCeremonies, "%d wallets are being made at once, which is as many as may be; retry later", len(f.open))
		}
	}
	what.until = now.Add(foundingFor)
	f.open[owner] = what
	return nil
}

// from counts what one source has under way, but for the owner's own: it must not
// take the places of all others, nor those of refreshes.
func (f *foundings) from(source string, owner bip340.PubKey, now time.Time) (n int) {
	if source == "" {
		return 0 // in the same process
	}
	for key, old := range f.open {
		if key != owner && old.source == source && !now.After(old.until) {
			n++
		}
	}
	return n
}

// of returns what the owner of a ceremony said at its beginning.
func (f *foundings) of(owner bip340.PubKey, session frost.SessionID, now time.Time) (founding, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	what, ok := f.open[owner]
	if !ok || what.session != session || now.After(what.until) {
		return founding{}, vigil.Errorf(vigil.CodeCeremonyUnknown, "there is no such ceremony of this key, or it expired; begin a new one")
	}
	return what, nil
}

// count has take count the wallet against its source, once however often the last
// step is repeated.
func (f *foundings) count(owner bip340.PubKey, session frost.SessionID, take func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	what, ok := f.open[owner]
	if !ok || what.session != session {
		return vigil.Errorf(vigil.CodeCeremonyUnknown, "the ceremony is over, or another took its place; begin a new one")
	}
	if what.counted {
		return nil
	}
	if err := take(); err != nil {
		return err
	}
	what.counted = true
	f.open[owner] = what
	return nil
}

func (f *foundings) has(owner bip340.PubKey) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, ok := f.open[owner]
	return ok
}

func (f *foundings) end(owner bip340.PubKey) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.open, owner)
}
