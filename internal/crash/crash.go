// Package crash owns the points at which a test may kill the process, just
// before and just after every durable write. It knows nothing of what is
// written.
//
// Without the build tag crashpoints every point is an inlined no-op. With it,
// the environment decides:
//
//	VIGIL_CRASH_AT=N      the process kills itself with SIGKILL at the N-th
//	                      point that it passes, counting from 1
//	VIGIL_CRASH_LOG=file  every point passed is appended as "N name", so that
//	                      a run without a crash counts them
package crash
