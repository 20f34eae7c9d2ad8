package ark

import (
	"errors"
	"fmt"
	"strconv"
)

const (
	// delayUnit is both the number below which a delay counts blocks and the
	// granularity of BIP-68 seconds.
	delayUnit = 512
	// sequenceSeconds is BIP-68's type flag: the value counts units of 512 s.
	sequenceSeconds = 1 << 22
	// sequenceMask covers BIP-68's value.
	sequenceMask = 0xffff
	// MaxDelay is the longest delay that BIP-68 can express, about 388 days.
	MaxDelay Delay = sequenceMask * delayUnit
)

// ErrDelay is returned for a number that is no delay in the operator's
// encoding, or for a BIP-68 sequence that has none.
var ErrDelay = errors.New("ark: invalid delay")

// ParseDelay checks a delay as the operator announces it: a positive number of
// blocks below 512, or seconds in multiples of 512 up to MaxDelay.
func ParseDelay(v int64) (Delay, error) {
	if v <= 0 || v > int64(MaxDelay) || v >= delayUnit && v%delayUnit != 0 {
		return 0, fmt.Errorf("%w: %d", ErrDelay, v)
	}
	return Delay(v), nil
}

// DelayFromSequence is the inverse of Sequence. Sequences with BIP-68 disabled,
// with bits that BIP-68 does not define, of 512 blocks or more, and zero are
// ErrDelay.
func DelayFromSequence(seq uint32) (Delay, error) {
	switch {
	case seq&^(sequenceSeconds|sequenceMask) != 0, seq&sequenceMask == 0:
	case seq&sequenceSeconds != 0:
		return Delay(seq&sequenceMask) * delayUnit, nil
	case seq < delayUnit:
		return Delay(seq), nil
	}
	return 0, fmt.Errorf("%w: sequence %#x", ErrDelay, seq)
}

// IsBlocks says whether the delay counts blocks rather than seconds.
func (d Delay) IsBlocks() bool { return d < delayUnit }

// Sequence is the delay as a BIP-68 input sequence and CSV operand.
func (d Delay) Sequence() uint32 {
	if d.IsBlocks() {
		return uint32(d)
	}
	return sequenceSeconds | uint32(d)/delayUnit&sequenceMask
}

// Seconds is the delay in seconds as the operator compares delays: one block
// counts as one second (protocol section 2.1).
func (d Delay) Seconds() int64 { return int64(d) }

// String tells number and unit.
func (d Delay) String() string {
	if d.IsBlocks() {
		return strconv.FormatUint(uint64(d), 10) + " blocks"
	}
	return strconv.FormatUint(uint64(d), 10) + " s"
}
