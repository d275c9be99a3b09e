# Hookwright. `make` says what there is.

CARGO ?= cargo
ONCE ?=
ONLY ?=
export ONCE

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help prerequisites tools build demo test bench lint fmt generate audit clean

help: ## Show this
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

prerequisites:
	@tools/prerequisites.sh

tools: prerequisites ## Build the servers and install the libraries that the demo and the tests use (once, cached)
	@tools/step.sh "Servers and command lines" tools/build.sh
	@tools/step.sh "Receivers' libraries" tools/receivers.sh

build: prerequisites ## Build Hookwright
	@tools/step.sh "Building Hookwright" $(CARGO) build --workspace --locked

demo: tools build ## Start everything and show the main job; ONCE=1 verifies and exits
	@exec $(CARGO) run --quiet --locked --package hookwright-e2e --bin hookwright-demo

test: tools build ## Run every test
	@tools/step.sh "Tests" $(CARGO) test --workspace --locked

bench: tools ## Measure, against references in the same run; ONLY=A,B for some scenarios
	@tools/step.sh "Building for measurement" $(CARGO) build --release --workspace --locked
	@target/release/hookwright-bench run $(if $(ONLY),--only $(ONLY))

lint: ## Check formatting and lints
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

fmt: ## Format
	$(CARGO) fmt --all

generate: ## Generate the CRDs' YAML from the Rust types
	$(CARGO) run --quiet --locked --package hookwright-crds --bin hookwright-crds-yaml

audit: ## Check dependencies: bans, licences, sources
	@tools/audit.sh

clean: ## Remove what cargo built; the cache of servers and libraries stays
	$(CARGO) clean
