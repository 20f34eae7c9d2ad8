package frost

import (
	"encoding/binary"
	"fmt"
)

// Type says what an envelope carries.
type Type byte

// The types of messages. Those of signing carry a fixed number of signatures'
// worth, u: one nonce, answer or partial signature for each message that is
// signed.
const (
	TypeNonces      Type = 1 // u public nonces of 66 bytes
	TypeAnswers     Type = 2 // u times public nonce and partial signature, 98 bytes
	TypePartialSigs Type = 3 // u partial signatures of 32 bytes

	TypeKeygen1       Type = 16 // ChillDKG: participant message 1
	TypeKeygenSums    Type = 17 // coordinator message 1
	TypeKeygen2       Type = 18 // participant message 2
	TypeKeygenCert    Type = 19 // coordinator message 2
	TypeKeygenAck     Type = 20 // recovery acknowledgment
	TypeKeygenInquiry Type = 21 // investigation message to one participant

	TypeRefresh1        Type = 32 // refresh: participant message 1
	TypeRefreshSums     Type = 33 // coordinator message 1
	TypeRefresh2        Type = 34 // participant message 2, hygiene
	TypeRefreshCert     Type = 35 // coordinator message 2, hygiene
	TypeRefreshAck      Type = 36 // acknowledgment
	TypeRefreshSealed   Type = 37 // a sealed share
	TypeRefreshHealing2 Type = 38 // participant message 2, healing
	TypeRefreshHealCert Type = 39 // coordinator message 2, healing
)

// Shape is what fixes a body's length beside its type: the key's threshold and
// participants, and for signing the number of messages.
type Shape struct{ T, N, U int }

// MaxMessages bounds how many signatures one envelope is about: an intent over
// 128 inputs with its forfeits fits.
const MaxMessages = 512

// BodyLen returns the exact length of a body in bytes. Errors are ErrEncoding
// for a type that does not exist or a shape that no key has.
func (t Type) BodyLen(s Shape) (int, error) {
	if t >= TypeKeygen1 && (s.T < 1 || s.T > s.N || s.N > MaxParticipants) {
		return 0, fmt.Errorf("%w: %d of %d", ErrEncoding, s.T, s.N)
	}
	if t < TypeKeygen1 && (s.U < 1 || s.U > MaxMessages) {
		return 0, fmt.Errorf("%w: %d messages", ErrEncoding, s.U)
	}
	if t >= TypeRefresh1 && s.T < 2 {
		return 0, fmt.Errorf("%w: a refresh of 1 of %d", ErrEncoding, s.N)
	}
	switch t {
	case TypeNonces:
		return 66 * s.U, nil
	case TypeAnswers:
		return 98 * s.U, nil
	case TypePartialSigs:
		return 32 * s.U, nil
	case TypeRefreshSealed:
		return 32, nil
	case TypeKeygen1:
		return 33*s.T + 97 + 32*s.N, nil
	case TypeKeygenSums:
		return 162*s.N + 33*(s.T-1), nil
	case TypeKeygen2, TypeKeygenAck, TypeRefresh2, TypeRefreshAck:
		return 64, nil
	case TypeKeygenCert, TypeRefreshCert:
		return 64 * s.N, nil
	case TypeKeygenInquiry:
		return 65 * s.N, nil
	case TypeRefresh1:
		return 33*(s.T-1) + 97 + 32*s.N, nil
	case TypeRefreshSums:
		return 162*s.N + 33*(s.T-2), nil
	case TypeRefreshHealing2:
		return 128, nil
	case TypeRefreshHealCert:
		return 128 * s.N, nil
	}
	return 0, fmt.Errorf("%w: message type %d", ErrEncoding, t)
}

// Envelope is one message of a ceremony or a signature. Nothing outside it has a
// cryptographic meaning. It is not authenticated by itself.
type Envelope struct {
	Type    Type
	Session SessionID
	Epoch   uint32
	Body    []byte
}

const envelopeHead = 1 + 1 + 32 + 4

// Encode returns u8 version, u8 type, the session id, u32 epoch and the body.
func (e *Envelope) Encode() []byte {
	b := make([]byte, 0, envelopeHead+len(e.Body))
	b = append(b, byte(V1), byte(e.Type))
	b = append(b, e.Session[:]...)
	b = binary.BigEndian.AppendUint32(b, e.Epoch)
	return append(b, e.Body...)
}

// ParseEnvelope decodes a message that must be of the wanted type and have
// exactly the body length that type and shape give. The body is b's own memory.
// Errors are ErrVersion and ErrEncoding.
func ParseEnvelope(b []byte, want Type, s Shape) (*Envelope, error) {
	n, err := want.BodyLen(s)
	if err != nil {
		return nil, err
	}
	switch {
	case len(b) == 0:
		return nil, fmt.Errorf("%w: empty message", ErrEncoding)
	case Version(b[0]) != V1:
		return nil, fmt.Errorf("%w: %d", ErrVersion, b[0])
	case len(b) != envelopeHead+n:
		return nil, fmt.Errorf("%w: message of %d bytes, want %d", ErrEncoding, len(b), envelopeHead+n)
	case Type(b[1]) != want:
		return nil, fmt.Errorf("%w: message of type %d, want %d", ErrEncoding, b[1], want)
	}
	e := &Envelope{Type: want, Epoch: binary.BigEndian.Uint32(b[34:]), Body: b[envelopeHead:]}
	copy(e.Session[:], b[2:])
	return e, nil
}
