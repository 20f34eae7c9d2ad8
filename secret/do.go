//go:build !goexperiment.runtimesecret

package secret

// Do calls f, which handles secrets. Built with GOEXPERIMENT=runtimesecret it
// also wipes f's registers, stack and garbage afterwards; without, as here, it
// is a plain call, and callers wipe what they know of.
func Do(f func()) { f() }
