# Two commands matter: `make quickstart` and `make test`. Both make `.venv` from requirements.lock first.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.SUFFIXES:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Without bytecode, every process would compile the whole package again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install quickstart test suite check clean

help: ## show what can be made
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(INSTALLED) ## make .venv from the lock

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)'; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo 'installing the locked packages into $(VENV); this takes some minutes the first time'
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

quickstart: $(INSTALLED) ## run the main job from nothing to predictions with provenance
	@mkdir -p quickstart/.aiida
	@AIIDA_PATH='$(CURDIR)/quickstart' $(BIN)/aiida-nanoml quickstart

test: $(INSTALLED) ## run all checks and the whole test suite
	@$(MAKE) --jobs 2 --keep-going check suite && echo 'all checks and tests passed'

# Tests wait for jobs, daemons and Slurm for a quarter of their time: on two cores, a third process fills it.
suite: $(INSTALLED) ## run the test suite alone
	$(BIN)/python -m pytest -n 3 --maxschedchunk 1

check: $(INSTALLED) ## format, lint, types, floors, documentation
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/sphinx-build -nW --keep-going -q -b html docs docs/_build/html

clean: ## remove what was built; quickstart/ with its profile stays
	rm -rf $(VENV) docs/_build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
