package tapscript

import (
	"errors"
	"fmt"
)

// granularity is the step of a relative lock in seconds (BIP-68): 512 s.
const granularity = 512

// BIP-68 bits of a sequence number.
const (
	seqDisabled  = 1 << 31
	seqIsSeconds = 1 << 22
	seqMask      = 0xffff
)

// ErrDelay is returned for a delay that no sequence number can carry.
var ErrDelay = errors.New("tapscript: delay does not fit a sequence number")

// Delay is a relative lock: blocks, or seconds in steps of 512.
type Delay struct {
	Value   uint32
	Seconds bool
}

// NewDelay decodes the operator's setting: below 512 it counts blocks, from 512
// on seconds, rounded down to a multiple of 512 (protocol section 2.1).
func NewDelay(setting uint32) Delay {
	if setting < granularity {
		return Delay{Value: setting}
	}
	return Delay{Value: setting - setting%granularity, Seconds: true}
}

// InSeconds is the length that the operator compares by: one block is one
// second (protocol section 2.1).
func (d Delay) InSeconds() int64 { return int64(d.Value) }

// Sequence is the BIP-68 sequence number of d.
func (d Delay) Sequence() (uint32, error) {
	if !d.Seconds {
		if d.Value > seqMask {
			return 0, ErrDelay
		}
		return d.Value, nil
	}
	if d.Value%granularity != 0 || d.Value/granularity > seqMask {
		return 0, ErrDelay
	}
	return seqIsSeconds | d.Value/granularity, nil
}

// MustSequence is Sequence for a delay that was validated before; an impossible
// delay becomes the disabled sequence.
func (d Delay) MustSequence() uint32 {
	s, err := d.Sequence()
	if err != nil {
		return seqDisabled
	}
	return s
}

// delayOfNumber decodes the operand of CHECKSEQUENCEVERIFY. As in arkd, a block
// count is taken whole.
func delayOfNumber(n int64) (Delay, error) {
	if n < 0 || n > 0xffffffff || n&seqDisabled != 0 {
		return Delay{}, ErrDelay
	}
	if n&seqIsSeconds != 0 {
		return Delay{Value: uint32(n&seqMask) * granularity, Seconds: true}, nil
	}
	return Delay{Value: uint32(n)}, nil
}

// InputLock decodes the sequence of a proof input. ok is false when bit 31
// disables the lock. Seconds come out as n*512-1, one less than the script's
// own value, as arkd's check has it (protocol section 11, trap 13).
func InputLock(sequence uint32) (seconds int64, ok bool) {
	if sequence&seqDisabled != 0 {
		return 0, false
	}
	n := int64(sequence & seqMask)
	if sequence&seqIsSeconds != 0 {
		return n*granularity - 1, true
	}
	return n, true
}

// String gives the value with its unit.
func (d Delay) String() string {
	if d.Seconds {
		return fmt.Sprintf("%d s", d.Value)
	}
	return fmt.Sprintf("%d blocks", d.Value)
}
