# Needs Go, a C compiler (sqlc, the race detector) and, for tests and the demo, PostgreSQL's server binaries or Docker.

# Tools are pinned here and built by `go run` outside go.mod, so that users of the module never see them.
SQLC_VERSION     = v1.31.1
GOLANGCI_VERSION = v2.15.0

SQLC     = go run github.com/sqlc-dev/sqlc/cmd/sqlc@$(SQLC_VERSION)
GOLANGCI = go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)

VERSION    = $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
TEST_FLAGS = -count=1
PACKAGES   = ./...

.DEFAULT_GOAL = help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' Makefile

.PHONY: build
build: ## build bin/bbm-runner
	go build -trimpath -ldflags '-X main.version=$(VERSION)' -o bin/bbm-runner ./cmd/bbm-runner

# One test server for all packages; internal/dbtest tells where it comes from. It is built first and not run by
# `go run`, which hides exit codes and does not pass on signals.
.PHONY: test
test: bin/test-server ## run all tests
	./bin/test-server go test $(TEST_FLAGS) $(PACKAGES)

.PHONY: test-race
test-race: bin/test-server ## run all tests under the race detector
	./bin/test-server go test -race $(TEST_FLAGS) $(PACKAGES)

.PHONY: bin/test-server
bin/test-server:
	@go build -o bin/test-server ./internal/dbtest/serve

FUZZTIME = 5m

# One target at a time: go test takes no more. Seeds, in testdata/fuzz, are run by ordinary tests too.
.PHONY: fuzz
fuzz: bin/test-server ## run each fuzz target for FUZZTIME (5m)
	@grep -rl --include='*_test.go' '^func Fuzz' . | while read -r file; do \
		sed -n 's/^func \(Fuzz[A-Za-z]*\)(.*/\1/p' "$$file" | while read -r target; do \
			echo "== $$(dirname "$$file") $$target"; \
			./bin/test-server go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) "$$(dirname "$$file")" </dev/null || exit 1; \
		done || exit 1; \
	done

.PHONY: lint
lint: ## check formatting and look for defects
	@unformatted=$$(gofmt -l .) && { test -z "$$unformatted" || { echo "gofmt these files:" "$$unformatted"; exit 1; }; }
	go vet ./...
	$(GOLANGCI) run
	go run ./internal/plans/tool vet $(SQLC) vet

# Generated aside, so that files of queries that are gone go as well, and a failure leaves everything as it was.
GENERATE = copy=$$(mktemp -d) && trap 'rm -rf "$$copy"' EXIT && cp -R sqlc.yaml queries schema "$$copy" && \
	$(SQLC) generate -f "$$copy/sqlc.yaml"

.PHONY: sqlc
sqlc: ## generate internal/dbgen from queries/ and schema/
	@$(GENERATE) && rm -rf internal/dbgen && cp -R "$$copy/internal/dbgen" internal/dbgen

.PHONY: sqlc-diff
sqlc-diff: ## fail when internal/dbgen is not what make sqlc would generate
	@$(GENERATE) && { diff -ru internal/dbgen "$$copy/internal/dbgen" || { echo "internal/dbgen is stale: run make sqlc"; exit 1; }; }

# The first run loads 10 million jobs into a local cluster that is kept: minutes, and 10 GB of disk.
.PHONY: plans
plans: ## write queries/plans from 10 million jobs
	go run ./internal/plans/tool write

.PHONY: plans-small
plans-small: ## the same from a small database, which yields the same plans
	go run ./internal/plans/tool write -small

.PHONY: plans-check
plans-check: bin/test-server ## prove that the small database yields the plans of the large one
	BBM_PLANS_LARGE=1 ./bin/test-server go test -count=1 -v -timeout 30m -run TheSmallSeedYields ./internal/plans

.PHONY: bench-scale
bench-scale: ## measure our own statements at 10 million jobs and write docs/scale.md
	go run ./internal/plans/tool bench

.PHONY: demo
demo: ## run a million rows on a throwaway server
	go run ./cmd/bbm-runner demo

BENCH_FLAGS =

.PHONY: bench
bench: ## measure against plain SQL and write docs/benchmarks.md (BENCH_FLAGS=--quick: a smoke test; --large: 10 million rows too)
	go build -o bin/bench ./internal/bench
	./bin/bench $(BENCH_FLAGS)

TORTURE_FLAGS =

.PHONY: torture
torture: ## kill runners and servers and cut networks for 30 minutes, and check (TORTURE_FLAGS="--duration 2m --seed 42")
	go build -o bin/torture ./internal/torture
	./bin/torture $(TORTURE_FLAGS)

.PHONY: clean
clean: ## remove what the other targets built
	rm -rf bin coverage.out
