# Hookwright. `make` says what there is.

CARGO ?= cargo
ONCE ?=
ONLY ?=
KIND ?=
DIR ?=
FROM ?=
export ONCE

# cargo chooses the features of dependencies by what it is asked to build: for tests tokio has others than for binaries
# alone. So all say the same, the whole workspace and a test; otherwise most dependencies are compiled twice.
BUILD := $(CARGO) build --workspace --locked
TEST := $(CARGO) test --workspace --locked
TARGET := $(or $(CARGO_TARGET_DIR),target)
# What needs no server: the tests beside the code, and these of tests/ folders.
UNIT := --lib --bins --test schema_memory --test positions --test schema --test releases
# Most end-to-end tests wait most of the time.
E2E := RUST_TEST_THREADS=6 $(TEST) --test e2e --
SUMMARY := $(abspath $(TARGET))/test-long.txt
LONG := fault_table:: kills:: cluster:: cut_connections:: due:: status::scale:: status::counts::a_time_without storage::

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help prerequisites tools build demo check test test-servers test-long conformance faults bench lint fmt generate manifests image cluster-test audit clean

help: ## Show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

prerequisites:
	@tools/prerequisites.sh

tools: prerequisites ## Build the servers and install the libraries that the demo and the tests use (once, cached)
	@tools/step.sh "Servers, command lines and receivers' libraries" \
	  sh -c 'tools/receivers.sh & libraries=$$!; tools/build.sh; built=$$?; wait $$libraries && exit $$built'

build: prerequisites ## Build Hookwright
	@tools/step.sh "Building Hookwright and its tests" $(BUILD) --bins --tests

demo: ## Start everything and show the main job; ONCE=1 verifies and exits
	@tools/demo.sh

check: prerequisites ## Check what needs no server: formatting, lints, unit tests
	@tools/step.sh "Formatting" $(CARGO) fmt --all --check
	@tools/step.sh "Import circles" tools/import-circles.py
	@tools/step.sh "Lints" $(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	@tools/step.sh "Building Hookwright and its tests" $(BUILD) --bins --tests
	@tools/step.sh "Unit tests" $(TEST) $(UNIT)

test: check test-servers ## Run every test

test-servers: tools build ## Run the tests that need servers
	@tools/step.sh "The bench, a little of everything" $(TEST) --test smoke
	@tools/step.sh "End-to-end tests" env $(E2E)

test-long: tools build ## Run the long form of the tests that have one, and all on three NATS servers; prints a summary
	@rm -f $(SUMMARY)
	@export HOOKWRIGHT_TEST_SUMMARY=$(SUMMARY); rc=0; \
	  HOOKWRIGHT_TEST_LONG=1 \
	  tools/step.sh "Long tests of schemas and positions" $(TEST) --lib --test schema_memory --test positions -- schema:: memory lag laps || rc=1; \
	  HOOKWRIGHT_TEST_LONG=1 \
	  tools/step.sh "Long tests" $(TEST) --test e2e -- --test-threads=1 $(LONG) || rc=1; \
	  echo "On three NATS servers:" >>$(SUMMARY); \
	  HOOKWRIGHT_TEST_SERVERS=3 \
	  tools/step.sh "End-to-end tests on three NATS servers" $(TEST) --test e2e -- --test-threads=3 || rc=1; \
	  echo "==> Summary"; cat $(SUMMARY); exit $$rc

conformance: ## Run published files of a specification as they are: KIND=cesql|jmespath|json-schema DIR=<folder>
	@$(CARGO) run --quiet --workspace --locked -p hookwright-core --example conformance -- "$(KIND)" "$(DIR)"

faults: tools build ## Run faults on real processes under load; prints what each costs
	@HOOKWRIGHT_TEST_LONG=1 tools/step.sh "Faults" $(TEST) --test e2e -- --test-threads=1 --nocapture fault_table::

bench: tools ## Measure, against references in the same run; ONLY=A,B for some scenarios
	@tools/step.sh "Building for measurement" $(CARGO) build --release --workspace --locked
	@$(TARGET)/release/hookwright-bench run $(if $(ONLY),--only $(ONLY))

lint: ## Check formatting and lints
	$(CARGO) fmt --all --check
	tools/import-circles.py
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

fmt: ## Format
	$(CARGO) fmt --all

generate: prerequisites ## Generate the CRDs' YAML from the Rust types, and render the chart
	@$(BUILD) --quiet --bin hookwright-crds-yaml --test releases
	@$(TARGET)/debug/hookwright-crds-yaml
	@tools/chart.sh

manifests: ## Render the chart: charts/hookwright/renders, manifests/
	@tools/chart.sh

image: ## Build the images, as OCI layouts in target/images
	@tools/step.sh "Building for release" $(CARGO) build --release --workspace --locked --bin hookwright-operator --bin hookwright-dispatcher
	@tools/image.sh $(TARGET)/release $(TARGET)/images

cluster-test: ## Install, upgrade under traffic and remove Hookwright on a Kubernetes node, as root; FROM=<commit> upgrades from there
	@tools/node/prerequisites.sh
	@$(MAKE) --no-print-directory image
	@$(if $(FROM),tools/step.sh "Building the commit to upgrade from" tools/node/earlier.sh "$(FROM)" $(TARGET)/earlier)
	@tools/cluster-test.sh $(TARGET)/images $(if $(FROM),$(TARGET)/earlier/chart $(TARGET)/earlier/images)

audit: ## Check dependencies: bans, licences, sources
	@tools/audit.sh

clean: ## Remove what cargo built; the cache of servers and libraries stays
	$(CARGO) clean
