//go:build goexperiment.runtimesecret

package secret

import "runtime/secret"

// Do calls f, which handles secrets, and wipes its registers, stack and
// garbage afterwards.
func Do(f func()) { secret.Do(f) }
