// Package docs carries those documents that a running Vigil serves.
package docs

import "embed"

//go:embed openapi/vigil.swagger.json
var files embed.FS

// OpenAPI is the description of the REST API, version 2 of the format, as JSON.
func OpenAPI() ([]byte, error) { return files.ReadFile("openapi/vigil.swagger.json") }
