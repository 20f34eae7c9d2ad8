// Package intent owns intents, the signed proofs by which owners of VTXOs ask
// the operator for something: their messages, their transactions and how they
// are verified. It holds no keys and knows nothing of the operator's API.
package intent

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/vigil-ark/vigil/bip340"
)

// Kind is the type that a message names.
type Kind string

// The kinds of message (protocol section 4.1).
const (
	Register     Kind = "register"
	EstimateFee  Kind = "estimate-intent-fee"
	Delete       Kind = "delete"
	GetPendingTx Kind = "get-pending-tx"
	GetIntent    Kind = "get-intent"
	GetData      Kind = "get-data"
)

const (
	// maxMessage bounds a message's text in bytes.
	maxMessage = 64 << 10
	// maxIndexes and maxCosigners bound its lists.
	maxIndexes   = 256
	maxCosigners = 128
)

var (
	// ErrMessage is returned for a text that is no message of the wanted kind.
	ErrMessage = errors.New("intent: invalid message")
	// ErrNotCanonical is returned for a message whose text is not the one that
	// the operator would write; a proof over it never verifies there.
	ErrNotCanonical = errors.New("intent: message is not canonical")
)

// Message is the JSON text that a proof commits to. Times are unix seconds, 0
// for none. Only Register and EstimateFee have more than Kind and ExpireAt.
type Message struct {
	Kind           Kind
	OnchainOutputs []int // indexes of the proof's outputs that leave Ark
	ValidAt        int64
	ExpireAt       int64
	Cosigners      []string // compressed keys in hex, as they were written
}

// NewRegister is the message that registers an intent without on-chain outputs.
func NewRegister(validAt, expireAt int64, cosigners ...bip340.PubKey) Message {
	m := Message{
		Kind: Register, OnchainOutputs: []int{}, ValidAt: validAt, ExpireAt: expireAt,
		Cosigners: []string{},
	}
	for _, k := range cosigners {
		m.Cosigners = append(m.Cosigners, k.String())
	}
	return m
}

// long and short are the two layouts; the order of fields is the protocol's.
type long struct {
	Type      Kind     `json:"type"`
	Indexes   []int    `json:"onchain_output_indexes"`
	ValidAt   int64    `json:"valid_at"`
	ExpireAt  int64    `json:"expire_at"`
	Cosigners []string `json:"cosigners_public_keys"`
}

type short struct {
	Type     Kind  `json:"type"`
	ExpireAt int64 `json:"expire_at"`
}

func (k Kind) long() bool { return k == Register || k == EstimateFee }

func (k Kind) known() bool {
	switch k {
	case Register, EstimateFee, Delete, GetPendingTx, GetIntent, GetData:
		return true
	}
	return false
}

// Encode writes the canonical text: compact JSON in the protocol's order. A
// nil list is written as null, as the operator's own encoder does.
func (m Message) Encode() (string, error) {
	if !m.Kind.known() {
		return "", fmt.Errorf("%w: kind %.32q", ErrMessage, m.Kind)
	}
	var v any = short{m.Kind, m.ExpireAt}
	if m.Kind.long() {
		v = long{m.Kind, m.OnchainOutputs, m.ValidAt, m.ExpireAt, m.Cosigners}
	}
	b, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrMessage, err)
	}
	return string(b), nil
}

// Decode reads a message of the wanted kind as the operator does: any order,
// spacing and unknown fields pass. Encode of the result is the text that the
// operator verifies proofs against; Canonical compares them.
func Decode(text string, want Kind) (Message, error) {
	if len(text) > maxMessage {
		return Message{}, fmt.Errorf("%w: %d bytes", ErrMessage, len(text))
	}
	var l long
	if want.long() {
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			return Message{}, fmt.Errorf("%w: %w", ErrMessage, err)
		}
	} else {
		var s short
		if err := json.Unmarshal([]byte(text), &s); err != nil {
			return Message{}, fmt.Errorf("%w: %w", ErrMessage, err)
		}
		l.Type, l.ExpireAt = s.Type, s.ExpireAt
	}
	switch {
	case !want.known(), l.Type != want:
		return Message{}, fmt.Errorf("%w: kind %.32q, want %q", ErrMessage, l.Type, want)
	case len(l.Indexes) > maxIndexes, len(l.Cosigners) > maxCosigners:
		return Message{}, fmt.Errorf("%w: too many indexes or cosigners", ErrMessage)
	case l.ValidAt < 0, l.ExpireAt < 0:
		return Message{}, fmt.Errorf("%w: negative time", ErrMessage)
	}
	return Message{l.Type, l.Indexes, l.ValidAt, l.ExpireAt, l.Cosigners}, nil
}

// DecodeCanonical is Decode for a text that must be canonical.
func DecodeCanonical(text string, want Kind) (Message, error) {
	m, err := Decode(text, want)
	if err != nil {
		return Message{}, err
	}
	if canonical, err := m.Encode(); err != nil || canonical != text {
		return Message{}, ErrNotCanonical
	}
	return m, nil
}

// KindOf is the kind that a text names, known or not, or ErrMessage.
func KindOf(text string) (Kind, error) {
	if len(text) > maxMessage {
		return "", fmt.Errorf("%w: %d bytes", ErrMessage, len(text))
	}
	var v struct {
		Type Kind `json:"type"`
	}
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		return "", fmt.Errorf("%w: %w", ErrMessage, err)
	}
	return v.Type, nil
}

// CosignerKeys decodes the cosigner keys.
func (m Message) CosignerKeys() ([]bip340.PubKey, error) {
	keys := make([]bip340.PubKey, len(m.Cosigners))
	for i, s := range m.Cosigners {
		k, err := bip340.ParsePubKeyHex(s)
		if err != nil {
			return nil, fmt.Errorf("%w: cosigner %d: %w", ErrMessage, i, err)
		}
		keys[i] = k
	}
	return keys, nil
}
