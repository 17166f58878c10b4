# Every target does its own set-up: Python 3.11+, make and a C compiler are all it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready-dev
READY := $(VENV)/.ready

.PHONY: help demo test bench lock clean
help: ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 22

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is %d.%d: make PYTHON=python3.11" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

SOURCES := pyproject.toml setup.py src/fiduciary/models/_kernel.c src/fiduciary/checks/_reach.c

$(READY): $(VENV)/bin/python requirements/all.lock $(SOURCES)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/all.lock
	$(BIN)/python -m pip install --quiet --no-build-isolation --no-deps -e .
	touch $@

$(STAMP): $(READY) requirements/dev.lock
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.lock
	touch $@

demo: $(READY) ## a governed decision, end to end, on a generated portfolio
	$(BIN)/fiduciary demo credit

test: $(STAMP) ## types, lint, import floors, docs and all fast tests
	$(BIN)/ruff check src tests bench
	$(BIN)/ruff format --check src tests bench
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -n 2 --dist loadfile

-include $(wildcard make/*.mk)

bench: bench-shap bench-ledger bench-battery bench-serve ## every benchmark, one after the other (bench-serve needs wrk)

lock: $(STAMP) ## pin every dependency again, with hashes and without index addresses
	cd requirements && for name in base all dev; do ../$(BIN)/pip-compile -q --generate-hashes --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --strip-extras --allow-unsafe --no-header $$name.in -o $$name.lock; done

clean: ## remove environments, builds and the demo
	rm -rf $(VENV) .venvs build demo bench/out .mypy_cache .ruff_cache .pytest_cache
