// Package proof owns the test operator's reading of intents: their canonical
// messages and the proof of ownership (protocol section 4). It must know
// nothing of Vigil's ark packages.
package proof

import (
	"encoding/json"
	"errors"
	"fmt"
)

// Message types.
const (
	Register    = "register"
	EstimateFee = "estimate-intent-fee"
	Delete      = "delete"
	PendingTx   = "get-pending-tx"
	GetIntent   = "get-intent"
	GetData     = "get-data"
)

// ErrMessage is returned for text that does not decode to the type expected.
var ErrMessage = errors.New("proof: message does not decode")

// maxMessage bounds a message's text.
const maxMessage = 64 << 10

// Message is a decoded intent message; the short kinds use Type and ExpireAt
// alone.
type Message struct {
	Type      string   `json:"type"`
	Onchain   []int    `json:"onchain_output_indexes"`
	ValidAt   int64    `json:"valid_at"`
	ExpireAt  int64    `json:"expire_at"`
	Cosigners []string `json:"cosigners_public_keys"`
}

// brief is the form of the kinds without outputs.
type brief struct {
	Type     string `json:"type"`
	ExpireAt int64  `json:"expire_at"`
}

// Decode reads text as a message of the wanted type.
func Decode(text, want string) (Message, error) {
	if len(text) > maxMessage {
		return Message{}, fmt.Errorf("%w: %d bytes", ErrMessage, len(text))
	}
	var m Message
	var err error
	if want == Register || want == EstimateFee {
		err = json.Unmarshal([]byte(text), &m)
	} else {
		var b brief
		err = json.Unmarshal([]byte(text), &b)
		m = Message{Type: b.Type, ExpireAt: b.ExpireAt}
	}
	if err != nil {
		return Message{}, fmt.Errorf("%w: %w", ErrMessage, err)
	}
	if m.Type != want {
		return Message{}, fmt.Errorf("%w: type %q", ErrMessage, m.Type)
	}
	return m, nil
}

// Encode writes the canonical text, which is what a proof commits to.
func (m Message) Encode() string {
	var v any = m
	if m.Type != Register && m.Type != EstimateFee {
		v = brief{m.Type, m.ExpireAt}
	}
	raw, err := json.Marshal(v)
	if err != nil { // strings and numbers always encode
		return ""
	}
	return string(raw)
}
