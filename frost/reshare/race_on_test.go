//go:build race

package reshare

// every is the step of the tests that change bytes, sets bounds what is tried of
// one kind: the race detector makes curve operations ten times dearer, and finds
// nothing more here for each.
const every, sets = 41, 1
