package wallet

import (
	"crypto/sha256"
	"sync"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/frost"
)

// nonceMemory remembers the public nonces that devices signed with lately, in two
// halves of which the older is forgotten when the younger is full. A device that
// uses one twice gives its share away; Vigil, which never does, is not hurt by it
// and still refuses. A restart forgets: what a device must not do is for it to
// hold, and its own store does.
type nonceMemory struct {
	mu         sync.Mutex
	young, old map[[16]byte]struct{}
}

// noncesKept bounds each half: at 16 bytes and the map's own, some 5 MB.
const noncesKept = 1 << 16

func digest(n frost.PubNonce) [16]byte {
	sum := sha256.Sum256(n[:])
	return [16]byte(sum[:16])
}

// use takes nonces for one request, or refuses all of them because one of them
// was used before.
func (m *nonceMemory) use(nonces [][]frost.PubNonce) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, list := range nonces {
		for _, n := range list {
			d := digest(n)
			_, young := m.young[d]
			if _, old := m.old[d]; young || old {
				return vigil.Errorf(vigil.CodeNonceReused, "a public nonce of signature %d was used before; make a fresh one for every signature", i)
			}
		}
	}
	for _, list := range nonces {
		for _, n := range list {
			if len(m.young) >= noncesKept || m.young == nil {
				m.old, m.young = m.young, map[[16]byte]struct{}{}
			}
			m.young[digest(n)] = struct{}{}
		}
	}
	return nil
}
