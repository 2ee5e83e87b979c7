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

.PHONY: help demo demo-stop demo-container image image-cpu image-merged run-merged shell test soak check lint format \
  bench schema screenshots constraints clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: $(VENV)/.ready-demo ## set up all parts and serve two small models
	@$(BIN)/python -m tests.parts.demo

demo-stop: $(VENV)/.ready-demo ## stop what `make demo` started
	@$(BIN)/infer-dev down model-configs/demo-native.toml

COMPOSE := docker compose --project-directory dockers/infer-dev
# The user in the container is you, so that the workspace's files are yours; root's own are for UID 1000.
HOST_UID := $(shell id -u)
export DEV_UID ?= $(if $(filter 0,$(HOST_UID)),1000,$(HOST_UID))
export DEV_GID ?= $(if $(filter 0,$(HOST_UID)),1000,$(shell id -g))

# Made by you, before Docker makes them as root.
FOLDERS := $(addprefix dockers/infer-dev/.container/,workspace ssh models packages)
$(FOLDERS):
	@mkdir -p $@

image: $(FOLDERS) ## build the container's image on CUDA's base
	INFER_DEV_VARIANT=cuda $(COMPOSE) build stage-2

image-cpu: $(FOLDERS) ## build the container's image on a small base, without CUDA
	INFER_DEV_VARIANT=cpu $(COMPOSE) build stage-2

shell: $(FOLDERS) ## a shell in the container, started if it does not run
	$(COMPOSE) up -d --no-recreate stage-2
	$(COMPOSE) exec -u dev stage-2 bash

demo-container: $(VENV)/.ready-demo ## build the CPU image, serve two small models in it, log in by SSH, stop it
	@$(BIN)/python -m tests.parts.demo_container

MERGED ?= infer-dev:merged
image-merged: ## the same as one image by one `docker build`, without Compose
	docker build -f dockers/infer-dev/Dockerfile --target stage-2 --build-arg DEV_UID=$(DEV_UID) \
	  --build-arg DEV_GID=$(DEV_GID) $(BUILD_FLAGS) -t $(MERGED) .

RUN_FLAGS ?= --gpus all
run-merged: ## run that image; RUN_FLAGS (--gpus all) and ARGS are passed on
	docker run --rm -it $(RUN_FLAGS) --stop-timeout 35 -p 127.0.0.1:11980:8080 -p 127.0.0.1:11922:22 \
	  -v "$(CURDIR)/model-configs:/model-configs:ro" $(MERGED) $(ARGS)

WORKERS ?= logical
test: $(VENV)/.ready-dev ## run all tests; the core's coverage must not fall below 95 %
	@$(BIN)/python -m tests.parts >/dev/null
	@rm -f .coverage .coverage.*
	$(BIN)/coverage run -m pytest -n $(WORKERS) --maxprocesses 4 --max-worker-restart 0 --no-loadscope-reorder
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report --skip-covered --fail-under=95 \
	  --include='infer_dev/config/*,infer_dev/plan/*,infer_dev/supervisor/*'

MINUTES ?= 30
soak: $(VENV)/.ready-dev ## everything goes wrong for MINUTES (30): what leaks, is lost or doubled
	@$(BIN)/python -m tests.soak --minutes $(MINUTES)

check: lint test ## what CI runs: lint, types, imports, shell, tests

lint: $(VENV)/.ready-dev ## lint, types, import contract, shell, Dockerfile
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/shellcheck $(SHELL_FILES)
	$(BIN)/hadolint dockers/infer-dev/Dockerfile

format: $(VENV)/.ready-dev ## format the code
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/.ready-dev ## measure against named peers
	@$(BIN)/python -m tests.parts >/dev/null
	$(BIN)/python -m benchmarks

screenshots: $(VENV)/.ready-dev ## write the pictures of the dashboard anew
	@$(BIN)/python -m tests.parts >/dev/null
	$(BIN)/python -m tests.parts.screenshots

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
