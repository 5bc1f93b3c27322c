# Two commands on a fresh machine: make demo, make test. Both begin with make setup.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show what there is to make
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

.PHONY: setup
setup: $(STAMP) ## Make the virtual environment and install what the lock file names

$(STAMP): requirements-dev.lock pyproject.toml
	@echo "setup: installing into $(VENV); the first time takes a few minutes"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: demo
demo: setup ## Run a day of orders, in order and in disorder, and compare (ARGS="--exit" to end after it)
	$(BIN)/twinsync demo $(ARGS)

.PHONY: check
check: setup ## Lint, format check, types, import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: test
test: setup ## Run every test, with RabbitMQ and PostgreSQL started where none is running (ARGS=tests/unit to choose)
	$(BIN)/python -m tests.services run -- \
		$(if $(ARGS),$(BIN)/python -m pytest $(ARGS),$(MAKE) --no-print-directory --keep-going test-quick test-live)

.PHONY: test-quick test-live
test-quick: setup # what shares the machine with others
	$(BIN)/python -m pytest -m "not live" --numprocesses auto

test-live: setup # what kills and freezes processes, and looks for those left over
	$(BIN)/python -m pytest -m live

.PHONY: erp
erp: setup ## Install and start a throw-away Tryton with a company in it (a minute or two, once)
	$(BIN)/python -m ops.erp start

.PHONY: erp-stop
erp-stop: setup ## End that Tryton
	$(BIN)/python -m ops.erp stop

.PHONY: test-erp
test-erp: setup ## Test against Tryton: its connector, and the golden run to the cent (after make erp)
	TWINSYNC_TEST_TRYTON=.build/erp $(BIN)/python -m tests.services run -- \
		$(BIN)/python -m pytest tests/erp tests/contracts/test_erp_connector.py -s $(ARGS)

.PHONY: sim
sim: setup ## Simulate 2,000 days with faults, each judged by the oracle (SEED=N to start elsewhere)
	$(BIN)/twinsync simulate --seed $${SEED:-1} --runs $${RUNS:-2000} --orders 8 --jobs $$(nproc)

.PHONY: campaign
campaign: setup ## Look for a broken order for half an hour: thousands of generated histories and simulated days
	TWINSYNC_TEST_EXAMPLES=5000 $(BIN)/python -m pytest tests/properties --timeout 3600
	$(BIN)/twinsync simulate --seed $${SEED:-1} --runs 1000 --orders 40 --jobs $$(nproc)

.PHONY: faults
faults: setup ## Kill, freeze, restart and fill what there is while 20,000 events come (SEED=N repeats a run)
	@seed=$${SEED:-$$RANDOM}; for way in embedded services; do \
		$(BIN)/python -m tests.faults --seed $$seed --way $$way $(ARGS) || exit 1; done

.PHONY: nodes
nodes: setup ## Add a node, move hosts to it, kill it and add another, while a day of events comes (ARGS=--namespaces)
	$(if $(ARGS),,$(BIN)/python -m tests.services run --) $(BIN)/python -m tests.nodes $(ARGS)

.PHONY: bench
bench: setup ## Measure the write path beside its limits, with RabbitMQ, SQLite and PostgreSQL (ARGS="--rounds 1")
	$(BIN)/python -m tests.services run -- $(SHELL) -c '$(BIN)/twinsync bench $(ARGS) \
		--broker "$$TWINSYNC_TEST_AMQP_URL" --database "$$TWINSYNC_TEST_POSTGRES_URL"'

.PHONY: bench-million
bench-million: setup ## Measure a million orders and shipments beside a thousand, on SQLite and PostgreSQL (half an hour)
	$(BIN)/python -m tests.services run -- $(SHELL) -c '$(BIN)/twinsync bench-million $(ARGS) \
		--database "$$TWINSYNC_TEST_POSTGRES_URL"'

.PHONY: bench-overload
bench-overload: setup ## Flood twins with scans; see how soon others are visible, and that it drains (a minute)
	$(BIN)/python -m tests.services run -- $(SHELL) -c '$(BIN)/twinsync bench-overload $(ARGS) \
		--broker "$$TWINSYNC_TEST_AMQP_URL"'

.PHONY: bench-placement
bench-placement: setup ## Measure twins that share a host beside twins that are an actor each (two minutes)
	$(BIN)/twinsync bench-placement $(ARGS)

.PHONY: bench-cost
bench-cost: setup ## Measure what an event costs on twins with a long life behind them
	$(BIN)/python -m tests.bench.cost $(ARGS)

.PHONY: bench-growth
bench-growth: setup ## Measure how a database grows per event, before and after closed twins are archived
	$(BIN)/python -m tests.services run -- $(BIN)/python -m tests.bench.growth $(ARGS)

.PHONY: capacity
capacity: setup ## Write what loads need into docs/capacity.md, simulated (ARGS="--bench FILE" for your own figures)
	$(BIN)/twinsync capacity --markdown docs/capacity.md $(ARGS)

.PHONY: bad-input
bad-input: setup ## Tell a running twinsync 5,000 malformed messages; compare memory and speed before and after
	$(BIN)/python -m tests.services run -- $(BIN)/python -m tests.bench.bad_input $(ARGS)

.PHONY: format
format: setup ## Format and mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: lock
lock: setup ## Write the lock files anew from pyproject.toml (needs uv)
	uv pip compile pyproject.toml --python-version 3.11 --universal --generate-hashes --no-header --no-annotate --no-emit-index-url --quiet -o requirements.lock
	uv pip compile pyproject.toml --extra dev --python-version 3.11 --universal --generate-hashes --no-header --no-annotate --no-emit-index-url --quiet -o requirements-dev.lock

.PHONY: clean
clean: ## Remove everything that was made here
	rm -rf $(VENV) .build .twinsync .hypothesis .mypy_cache .ruff_cache .import_linter_cache *.egg-info
