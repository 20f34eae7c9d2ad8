//go:build race

package stock_test

// hostileRequests under the race detector, which makes each ten times as dear;
// the full number runs without it.
const hostileRequests = 1_000
