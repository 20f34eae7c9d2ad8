# Everything that a developer does, by name. `make help` lists it.
GO ?= go
FUZZTIME ?= 3s
GENERATED = ^(internal/pb|vigilpb)/
.DEFAULT_GOAL := help
.PHONY: help build demo demo-sdk test quick race crash lint fuzz bench timing proto docs vuln systemd clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-10s %s\n", $$1, $$2}'

build: ## build bin/vigil
	$(GO) build -trimpath -o bin/vigil ./cmd/vigil

demo: ## the main job: delegate, kill, restart, renew, and prove that no secret leaked
	$(GO) run ./cmd/vigil demo

demo-sdk: ## the same with the unmodified npm SDK as the wallet (installs its packages)
	./e2e/sdk/run demo

test: ## everything that CI runs, with what each part took (installs npm packages)
	./.ci/run

quick: ## the Go tests, as often as you like
	$(GO) test ./...

race: ## the Go tests under the race detector
	./.ci/run race

crash: ## kill the process at every write, and look at what is left
	./.ci/run crash

lint: ## formatting, vet and static analysis
	@out=$$(gofmt -l $$(git ls-files '*.go' | grep -Ev '$(GENERATED)')); [ -z "$$out" ] || { echo "not formatted:"; echo "$$out"; exit 1; }
	$(GO) mod tidy -diff
	$(GO) vet ./...
	$(GO) vet -tags crashpoints ./cmd/vigil ./kv/sqlite ./secret/sealed
	$(GO) tool -modfile=tools/go.mod staticcheck ./...
	bash -n .ci/run scripts/fuzz e2e/sdk/run e2e/systemd/run

fuzz: ## every fuzz target for FUZZTIME each (default 3s)
	./scripts/fuzz $(FUZZTIME)

bench: ## every benchmark, with its ratio to a floor of the same run
	$(GO) test -run '^$$' -bench . -benchtime 1s -timeout 2h ./...

timing: ## does the time of a secret multiplication tell the secret? with a control that must
	$(GO) test -tags timing -run Timing -count 1 -v ./bip340

proto: ## regenerate internal/pb, vigilpb and docs/openapi from proto/
	./tools/generate

docs: ## regenerate the documents that are made from code
	$(GO) test . -run 'TestErrorsDoc|TestRoomsDoc' -update
	$(GO) test ./delegate -run TestDiagram -update
	$(GO) test ./metrics -update
	$(GO) test ./cmd/vigil -run 'TestConfigurationDoc|TestReadmeShowsTheDemo' -update

vuln: ## known vulnerabilities in what we depend on (asks vuln.go.dev, so not in CI)
	$(GO) run golang.org/x/vuln/cmd/govulncheck@v1.9.0 ./...

systemd: ## the unit of deploy/ under a real systemd in namespaces (needs root)
	./e2e/systemd/run

clean: ## remove what the build made
	rm -rf bin dist e2e/sdk/node_modules examples/ts/node_modules
