# One command each; `make help` lists them.
PYTHON ?= python3
VENV   ?= .venv
REV    ?= 8f06435
BIN     = $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help setup run demo test faults mutants bench compare lint types fmt docs check clean

help: ## list the commands
	@awk -F':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install -q --disable-pip-version-check -e .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev]'
	@touch $@ $(VENV)/.run

setup: $(VENV)/.dev ## make the virtual environment with everything for development

run: $(VENV)/.run ## start the daemon on its embedded store, state in ./.state
	@$(BIN)/crmd run --config config.toml --state-dir .state

demo: $(VENV)/.run ## daemon, stand-ins and a campaign to look at, in ./.demo, no account needed
	@$(BIN)/crmd demo

test: $(VENV)/.dev ## run the default test suite
	$(BIN)/python -m pytest -n 3 --dist loadgroup $(ARGS)

faults: $(VENV)/.dev ## run the fault tests: kills, stalls, full disks (minutes)
	$(BIN)/python -m pytest -m faults --timeout 600 -p no:randomly $(ARGS)

mutants: $(VENV)/.dev ## plant defects in a copy of the code and name the test that notices each (minutes; ARGS=word)
	$(BIN)/python -m tests.mutants $(ARGS)

bench: $(VENV)/.dev ## measure crmd beside SAQ, bull and bullmq (minutes; ARGS=--quick)
	$(BIN)/python -m bench $(ARGS)

compare: $(VENV)/.dev ## measure this code beside commit REV, by default 0.1.0 (ten minutes; ARGS="--pairs 3")
	$(BIN)/python -m bench.compare $(REV) $(ARGS)

lint: $(VENV)/.dev ## ruff, format, import directions, Lua
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	@$(BIN)/python -m tests.support.expanded_lua $(VENV)/lua
	@if command -v luacheck >/dev/null; then luacheck -q --config .luacheckrc $(VENV)/lua; \
	else echo "luacheck is missing: install it (Debian: lua-check)" >&2; exit 1; fi

types: $(VENV)/.dev ## mypy in strict mode
	$(BIN)/mypy

fmt: $(VENV)/.dev ## format and mend what ruff can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.dev ## write the reference pages again from the code
	$(BIN)/python -m docs.generate

check: lint types test ## all that a change has to pass

clean: ## remove the virtual environment, caches and the local state
	rm -rf $(VENV) .revisions .state .demo build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
