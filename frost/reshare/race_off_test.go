//go:build !race

package reshare

// every is the step of the tests that change bytes, sets bounds what is tried of
// one kind.
const every, sets = 1, 5
