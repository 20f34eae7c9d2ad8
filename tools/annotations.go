//go:build tools

// Package tools pins what is needed to generate code and to check it, in a
// module of its own, so that none of it is a dependency of Vigil.
package tools

// Only for the annotations.proto and http.proto beside its Go files: the module
// that they come from cannot be fetched as a Go module.
import _ "github.com/gogo/googleapis/google/api"
