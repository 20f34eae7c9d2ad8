package musig2

import (
	"container/list"
	"crypto/sha256"
	"sync"

	"github.com/vigil-ark/vigil/bip340"
)

// Cache keeps the taproot contexts of the cosigner sets that were asked for
// last. In a batch the same set stands in many nodes, and aggregating n keys
// costs n multiplications. It is safe for concurrent use; two callers that ask
// for one set compute it once.
type Cache struct {
	size int

	mu     sync.Mutex
	recent *list.List // of *cached, last used first
	byKey  map[[32]byte]*list.Element
}

type cached struct {
	key     [32]byte
	context func() (*Context, error)
}

// NewCache makes a cache of at most size contexts; below 1 it keeps one.
func NewCache(size int) *Cache {
	return &Cache{size: max(size, 1), recent: list.New(), byKey: make(map[[32]byte]*list.Element)}
}

// Context returns NewTaprootContext(keys, root), computed or kept. The order of
// keys does not matter.
func (c *Cache) Context(keys []bip340.PubKey, root []byte) (*Context, error) {
	set := sorted(keys)
	return c.entry(cacheKey(set, root), func() (*Context, error) { return NewTaprootContext(keys, root) })()
}

func cacheKey(set []bip340.PubKey, root []byte) (key [32]byte) {
	h := sha256.New()
	for i := range set {
		h.Write(set[i][:]) // 33 bytes each, and the root is hashed: unambiguous
	}
	sum := sha256.Sum256(root)
	h.Write(sum[:])
	h.Sum(key[:0])
	return key
}

func (c *Cache) entry(key [32]byte, compute func() (*Context, error)) func() (*Context, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.byKey[key]; ok {
		c.recent.MoveToFront(e)
		return e.Value.(*cached).context
	}
	entry := &cached{key: key, context: sync.OnceValues(compute)}
	c.byKey[key] = c.recent.PushFront(entry)
	if c.recent.Len() > c.size {
		oldest := c.recent.Back()
		c.recent.Remove(oldest)
		delete(c.byKey, oldest.Value.(*cached).key)
	}
	return entry.context
}
