# `make demo` and `make test` do all the set-up on a machine that has Python 3.11 or newer and nothing else.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# torch first and alone: with its version pinned before the rest is resolved, pip keeps the build that is already there.
TORCH  := $(shell grep '^torch==' requirements.lock)
# Two test workers with one thread each: more threads than cores make small matrix products slower, not faster.
TESTENV := OMP_NUM_THREADS=1 MPLBACKEND=Agg
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help install demo test lint browser bundle format lock clean

help: ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(READY) ## create .venv with the locked dependencies and this package

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $$($(PYTHON) --version 2>&1) is too old; molifold needs 3.11 or newer: make PYTHON=python3.12 ..."; exit 1; }
	@echo "setting up $(VENV) (once, one to three minutes)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(READY)

demo: $(READY) ## alanine dipeptide from nothing to a report (about 12 minutes on two cores)
	@$(BIN)/molifold demo $(ARGS)

test: lint browser ## the gate: lint, types, layers, docs, doctests, wheel, tests
	@$(TESTENV) $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup $(ARGS)

lint: $(READY) ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

browser: ## Chromium, Node.js and the front end's tools, for the tests of the page (Debian; needs root once)
	@{ command -v chromium && command -v npm; } >/dev/null || \
	  { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; } || \
	  { echo "error: the tests of the page need chromium and npm: sudo apt-get install chromium npm"; exit 1; }
	@command -v chromium >/dev/null || { apt-get update -qq && apt-get install -qq -y chromium; } >/dev/null
	@command -v npm >/dev/null || { apt-get update -qq && apt-get install -qq -y npm; } >/dev/null
	@[ web/node_modules -nt web/package-lock.json ] || { cd web && npm ci --silent --ignore-scripts && touch node_modules; }

bundle: browser ## build the front end of the workbench anew (the result is committed)
	@cd web && npm run --silent build

format: $(READY) ## rewrite the code in the house style
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

lock: ## solve the dependencies anew and write requirements.lock
	@rm -rf build/lock && $(PYTHON) -m venv build/lock
	@build/lock/bin/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	@build/lock/bin/python -m pip install --quiet --disable-pip-version-check '.[dev]'
	@(echo '# What `make test` was run with. Solve anew with `make lock`.'; \
	  build/lock/bin/python -m pip freeze --all --exclude pip --exclude molifold | sed -E 's/\+[a-z0-9.]+$$//') > build/requirements.lock
	@mv build/requirements.lock requirements.lock && rm -rf build/lock

clean: ## remove what the build made (runs/ is kept)
	@rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
