package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// terminal writes text that may hold what a server, an operator or a chain's API
// said: nothing in it moves the cursor, changes colours or turns the direction of
// writing. What could is written as its number, in the form that JSON has for it, so
// that an answer in JSON stays the same.
type terminal struct{ io.Writer }

// Write implements io.Writer.
func (t terminal) Write(p []byte) (int, error) {
	text := p
	if bytes.ContainsFunc(p, harmful) {
		text = []byte(escaped(string(p), harmful))
	}
	if _, err := t.Writer.Write(text); err != nil {
		return 0, err
	}
	return len(p), nil
}

// harmful are control characters but for the ends of lines and tabs, what turns the
// direction of writing, and what is no UTF-8.
func harmful(r rune) bool {
	switch {
	case r == '\n' || r == '\t':
		return false
	case r < ' ', r >= 0x7f && r < 0xa0, r == utf8.RuneError:
		return true
	case r == 0x061c, r == 0x200e, r == 0x200f, r >= 0x2028 && r <= 0x202e, r >= 0x2066 && r <= 0x2069:
		return true
	}
	return false
}

func escaped(s string, what func(rune) bool) string {
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], string(utf8.RuneError)):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r != utf8.RuneError && what(r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// cell is what a peer said, for a line that it may not leave.
func cell(s string) string {
	return escaped(s, func(r rune) bool { return r == '\n' || r == '\t' || harmful(r) })
}

// reason is an error for people. Its text may be a peer's: all lines but the first
// are indented, so that none of them passes for one of Vigil's own.
func reason(err error) string {
	return strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "\n  ")
}
