# Every target sets up what it needs. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := PIP_CONSTRAINT=$(CURDIR)/constraints.txt $(PIP) install --quiet --editable
SHELL_FILES = $(shell git ls-files '*.sh' .ci/run)

.PHONY: help demo demo-stop test soak check lint format bench schema constraints clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(VENV)/.ready-demo ## set up all parts and serve two small models
	@$(BIN)/python -m tests.parts.demo

demo-stop: $(VENV)/.ready-demo ## stop what `make demo` started
	@$(BIN)/infer-dev down model-configs/demo-native.toml

test: $(VENV)/.ready-dev ## run all tests; the core's coverage must not fall below 95 %
	@$(BIN)/python -m tests.parts >/dev/null
	@rm -f .coverage .coverage.*
	$(BIN)/coverage run -m pytest
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report --skip-covered --fail-under=95 \
	  --include='infer_dev/config/*,infer_dev/plan/*,infer_dev/supervisor/*'

MINUTES ?= 30
soak: $(VENV)/.ready-dev ## everything goes wrong for MINUTES (30): what leaks, is lost or doubled
	@$(BIN)/python -m tests.soak --minutes $(MINUTES)

check: lint test ## what CI runs: lint, types, imports, shell, tests

lint: $(VENV)/.ready-dev ## lint, types, import contract, shell
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/shellcheck $(SHELL_FILES)

format: $(VENV)/.ready-dev ## format the code
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/.ready-dev ## measure against named peers
	@$(BIN)/python -m tests.parts >/dev/null
	$(BIN)/python -m benchmarks

schema: $(VENV)/.ready-dev ## write the JSON Schema of the configuration anew
	$(BIN)/infer-dev config schema > model-configs/infer-dev.schema.json

constraints: $(VENV)/.ready-dev ## write the pins of what is installed now
	$(PIP) freeze --all --exclude-editable --exclude pip --exclude setuptools | grep -E '^[A-Za-z0-9._-]+==' > constraints.txt

clean: ## remove what was built; `make demo-stop` first if the demo runs
	rm -rf $(VENV) .cache .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "cannot set up: Python 3.11 or newer is needed, $$($(PYTHON) -V) is here; set PYTHON=" >&2; exit 69; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "installing python3-venv" && apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null; \
	  else \
	    echo "cannot set up: Python's venv is missing; install it: sudo apt-get install python3-venv" >&2; exit 69; \
	  fi
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.ready-demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing infer-dev into $(VENV)"
	@$(INSTALL) '.[parts]'
	@touch $@

$(VENV)/.ready-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing infer-dev and its tools into $(VENV)"
	@$(INSTALL) '.[dev]'
	@touch $@ $(VENV)/.ready-demo
