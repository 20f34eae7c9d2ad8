# Everything that a developer does, by name. `make help` lists it.
GO ?= go
FUZZTIME ?= 3s
.DEFAULT_GOAL := help
.PHONY: help build demo test race lint fuzz bench demo-sdk proto docs check tidy clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

build: ## build bin/vigil
	$(GO) build -trimpath -o bin/vigil ./cmd/vigil

demo: ## the main job: delegate, kill, restart, renew, and prove that no secret leaked
	$(GO) run ./cmd/vigil demo

demo-sdk: ## the same with the unmodified npm SDK as the wallet (installs Node packages)
	./e2e/sdk/run demo

test: ## everything that CI runs
	./.ci/run

race: ## the Go tests under the race detector
	$(GO) test -race ./...

lint: ## formatting, vet and static analysis
	@out=$$(gofmt -l $$(git ls-files '*.go' | grep -v '^internal/pb/')); [ -z "$$out" ] || { echo "not formatted:"; echo "$$out"; exit 1; }
	$(GO) vet ./...
	$(GO) tool -modfile=tools/go.mod staticcheck ./...

fuzz: ## every fuzz target for FUZZTIME each (default 3s)
	./scripts/fuzz $(FUZZTIME)

bench: ## every benchmark once, with its ratio to a floor of the same run
	$(GO) test -run '^$$' -bench . -benchtime 1s ./...

proto: ## regenerate internal/pb and docs/openapi from proto/
	./tools/generate

docs: ## regenerate the documents that are made from code
	$(GO) test . -run TestErrorsDoc -update
	$(GO) test ./delegate -run TestDiagram -update
	$(GO) test ./metrics -update
	$(GO) test ./cmd/vigil -run TestConfigurationDoc -update

clean: ## remove what the build made
	rm -rf bin dist
