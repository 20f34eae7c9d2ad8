//go:build !race

package stock_test

// hostileRequests is how many bad requests must leave nothing behind.
const hostileRequests = 10_000
