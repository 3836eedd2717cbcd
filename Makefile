# Builds, tests and tries out the engine. "make" lists the targets.

.DEFAULT_GOAL := help

GO ?= go

# The one place that holds the version is version.go. "make release
# VERSION=v1.2.3" overrides it.
VERSION ?= $(shell sed -n 's/^var Version = "\(.*\)"/\1/p' version.go)

# The whole of a test run on a slow machine, without the first build of Vault.
TEST_TIMEOUT ?= 60m
PLATFORMS ?= linux/amd64 linux/arm64 darwin/amd64 darwin/arm64

PLUGIN := vault-plugin-secrets-kms-hmac
LDFLAGS := -s -w -X $(PLUGIN).Version=$(VERSION) -X main.version=$(VERSION)
# Ends with the tests that were skipped, and why.
GOTESTSUM := gotest.tools/gotestsum@v1.13.0
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.9.0
CYCLONEDX := github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0

# Static programs without anything of the machine or the checkout that built
# them: Vault checks the sum of a plugin, so the same source gives the same file.
BUILD := CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)'

.PHONY: help
help: ## List the targets.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | awk -F '\t' '{ printf "  %-12s %s\n", $$1, $$2 }'

.PHONY: build
build: ## Build the engine to bin/plugins/ and the KMS endpoint to bin/.
	@# A folder for the plugin alone: a dev server registers every file in it.
	$(BUILD) -o bin/plugins/$(PLUGIN) ./cmd/$(PLUGIN)
	$(BUILD) -o bin/kms-gateway ./cmd/kms-gateway

# Without the plugin, for those who only want the KMS for tests.
.PHONY: bin/kms-gateway
bin/kms-gateway:
	@$(BUILD) -o bin/kms-gateway ./cmd/kms-gateway

.PHONY: dev
dev: ## Start Vault with the engine, and the KMS endpoint, until Ctrl-C.
	@scripts/dev.sh

.PHONY: demo
demo: ## Show the KMS for tests, without Vault, in seconds.
	@scripts/demo.sh

.PHONY: demo-vault
demo-vault: ## Show what the engine does, on a real Vault.
	@scripts/demo-vault.sh

.PHONY: vault
vault: ## Find Vault, or build it (the first time takes 10 to 25 minutes).
	@$(GO) run ./internal/testvault/cmd/vaultbin
	@$(GO) run ./internal/testvault/cmd/vaultbin -auth jwt
	@$(GO) run ./internal/testvault/cmd/vaultbin -auth kubernetes

# Vault comes first: go test would not show the progress of its build.
.PHONY: test
test: fmt-check vet vault ## Check everything, on a real Vault.
	$(GO) run $(GOTESTSUM) --format pkgname --format-hide-empty-pkg -- -timeout $(TEST_TIMEOUT) ./...
	cd tools/image && $(GO) test ./...
	cd tools/openbao && $(GO) test ./...
	@if command -v "$(BAO)" >/dev/null; then echo "For OpenBao: make test-openbao"; else echo "NOT TESTED on OpenBao's server, only under its plugin host: there is no $(BAO)"; fi

# OpenBao's server is not built here: its Go module has no versions that others
# can require. The module of its sdk has, and tools/openbao tests with that.
BAO ?= bao
.PHONY: test-openbao
test-openbao: ## Run the tests of the engine and the endpoint on OpenBao's bao, which must be installed.
	@command -v "$(BAO)" >/dev/null || { echo "NOT TESTED on OpenBao: there is no $(BAO) (BAO=path names one)"; exit 1; }
	"$(BAO)" version
	VAULT_BINARY="$$(command -v "$(BAO)")" $(GO) test -count 1 -timeout $(TEST_TIMEOUT) ./acceptance ./gateway

.PHONY: test-short
test-short: ## Run the tests that need no Vault.
	$(GO) test -short ./...

.PHONY: test-race
test-race: vault ## Run all tests with the race detector.
	$(GO) test -race -timeout $(TEST_TIMEOUT) ./...

# On an otherwise idle machine: about ten minutes.
.PHONY: bench
bench: vault ## Measure against Transit on a real Vault, into docs/performance.md.
	$(GO) run ./bench -write docs

# To be looked at with go tool pprof. What is measured meanwhile does not count.
.PHONY: bench-profile
bench-profile: vault ## Profiles of Vault, the plugin and the endpoint under load, into dist/profiles.
	$(GO) run ./bench -profile dist/profiles -rounds 1 -duration 4s -only 'one|batch1000|batch100' -workload 'PATCH|endpoint|a form'

# About ten minutes, most of them for making 110,100 keys.
.PHONY: bench-inventory
bench-inventory: vault ## Measure inventories on a real Vault, and MACs beside them, into docs/performance.md.
	$(GO) run ./bench -inventory 100,10000,100000 -rounds 5 -write docs

.PHONY: bench-parts
bench-parts: vault ## Run the benchmarks of the parts.
	$(GO) test -run '^$$' -bench . -benchmem ./...

# As root also with cut and lossy links. "make chaos CHAOS='-length 1h -seed 7'"
# sets the length, and repeats the decisions of a run.
CHAOS ?= -length 5m
.PHONY: chaos
chaos: vault ## Break a cluster of three while clients use it, into docs/reliability.md.
	$(GO) run ./chaos -write docs $(CHAOS)

SOAK ?= -length 1h -clients 3 -pause 30ms
.PHONY: soak
soak: vault ## Load without faults, an hour by default: does anything grow? Into docs/soak.svg.
	$(GO) run ./chaos -soak -write docs $(SOAK)

.PHONY: mutants
mutants: vault ## Show that make chaos finds what is wrong with each of chaos/mutants.
	@mkdir -p dist
	$(GO) test -timeout $(TEST_TIMEOUT) -run '^TestMutants$$' ./chaos -mutants -mutant-table $(CURDIR)/dist/mutants.md

# In short turns, and what they find is kept. "make fuzz FUZZ=300" takes five
# minutes.
FUZZ ?= 3600
.PHONY: fuzz
fuzz: ## Fuzz all targets for FUZZ seconds (an hour) in all.
	@scripts/fuzz.sh $(FUZZ)

.PHONY: cover
cover: vault ## Run all tests and sum up which statements they reach.
	$(GO) test -timeout $(TEST_TIMEOUT) -coverpkg ./... -coverprofile cover.out ./...
	$(GO) tool cover -func cover.out | tail -1

.PHONY: fmt
fmt: ## Format the source.
	gofmt -w .

.PHONY: fmt-check
fmt-check:
	@files=$$(gofmt -l .); if [ -n "$$files" ]; then echo "not formatted (run make fmt):"; echo "$$files"; exit 1; fi

.PHONY: vet
vet:
	$(GO) vet ./...

.PHONY: lint
lint: fmt-check vet ## Run the linters.
	$(GO) run $(STATICCHECK) ./...
	@if command -v shellcheck >/dev/null; then shellcheck -x scripts/*.sh .ci/run; else echo "shellcheck is not installed: scripts not checked"; fi

.PHONY: release
release: ## Cross-build the programs to dist/, with the sums that Vault asks for.
	rm -rf dist && mkdir dist
	@for platform in $(PLATFORMS); do \
		export GOOS=$${platform%/*} GOARCH=$${platform#*/}; \
		for program in $(PLUGIN) kms-gateway; do \
			echo "$$program $(VERSION) $$platform"; \
			$(BUILD) -o "dist/$${program}_$(VERSION)_$${GOOS}_$${GOARCH}" "./cmd/$$program" || exit 1; \
		done; \
	done
	cd dist && { sha256sum *_* || shasum -a 256 *_*; } >SHA256SUMS

# Without a container engine. PUSH=registry.example.com/team also pushes them.
.PHONY: image
image: ## Make OCI images of what is in dist/, and tell the sums that Vault and OpenBao ask for.
	cd tools/image && $(GO) run . -dist ../../dist -version $(VERSION) $(if $(PUSH),-push $(PUSH))

# The parts of the programs, read from the programs themselves.
.PHONY: sbom
sbom: ## Write the bill of materials (CycloneDX) of what is in dist/.
	@for program in dist/*_linux_amd64; do \
		$(GO) run $(CYCLONEDX) bin -json -noserial -version $(VERSION) -output "$$program.cdx.json" "$$program" || exit 1; \
	done

.PHONY: sign
sign: ## Sign the sums in dist/ with the SSH key in KEY.
	@test -n "$(KEY)" || { echo "make sign KEY=path of a private SSH key"; exit 1; }
	ssh-keygen -Y sign -f "$(KEY)" -n file dist/SHA256SUMS

.PHONY: vuln
vuln: ## Look for known vulnerabilities in what the programs call.
	$(GO) run $(GOVULNCHECK) ./...

.PHONY: outdated
outdated: ## List the programs' modules with their ages, newer versions and known vulnerabilities.
	@scripts/modules.sh

# What differs by nature is left out, see docs/release.md.
FIPS_DIFFERS := TestImportEveryWrappingAndLength/.*/.*/RSAES_OAEP_SHA_1|TestMacKeyAgreesWithRFC2104|TestMacKeyComputesTheVectorsOfRFC4231|TestDevMemory
.PHONY: test-fips
test-fips: ## Run the tests that need no Vault with FIPS 140-3 algorithms only.
	GODEBUG=fips140=only $(GO) test -short -skip '$(FIPS_DIFFERS)' ./...

.PHONY: clean
clean: ## Remove what the other targets wrote here.
	rm -rf bin dist cover.out
