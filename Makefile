# Every target creates .venv and installs what it needs; none touches anything outside this folder.
# Another Python goes into a folder of its own: make test PYTHON=python3.12 VENV=.venv-3.12
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := -m pip install --quiet --disable-pip-version-check
# Tests run in two processes; a worker that has none left takes some of the other's.
PYTEST := -m pytest -n 2 --dist worksteal

.PHONY: setup demo test test-all test-lowest lint type bench format docs aihwkit-check bench-aihwkit

setup: $(STAMP)

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python $(PIP) -e ".[agents,dev]"
	touch $(STAMP)

demo: setup
	$(BIN)/python -m experiments.demo

test: setup
	$(BIN)/python $(PYTEST)

$(VENV)/.installed-zoo: $(STAMP)
	$(BIN)/python $(PIP) -e ".[agents,dev,docs,zoo]"
	touch $@

test-all: $(VENV)/.installed-zoo
	$(BIN)/python $(PYTEST) -m "slow or not slow"

# The fast tests under the lowest version of everything that pyproject.toml names.
LOWEST := .venv-lowest/bin

.venv-lowest/.installed: pyproject.toml
	test -x $(LOWEST)/python || $(PYTHON) -m venv .venv-lowest
	$(LOWEST)/python $(PIP) uv
	$(LOWEST)/uv pip install --quiet --python $(LOWEST)/python --compile-bytecode --resolution lowest-direct -e ".[agents,dev]"
	touch $@

test-lowest: .venv-lowest/.installed
	$(LOWEST)/python $(PYTEST)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

type: setup
	$(BIN)/mypy

bench: setup
	$(BIN)/python -m experiments.bench

$(VENV)/.installed-docs: $(STAMP)
	$(BIN)/python $(PIP) -e ".[agents,dev,docs]"
	touch $@

# The site is build/docs/index.html; a warning is an error.
docs: $(VENV)/.installed-docs
	$(BIN)/python -m sphinx -q -W --keep-going -E -b html docs build/docs

# Their own environment: aihwkit 1.1.0 runs with torch 2.10.0 on Python 3.11 (1.2.0 on 3.12).
AIHWKIT := .venv-aihwkit/bin/python

.venv-aihwkit/.installed: pyproject.toml
	test -x $(AIHWKIT) || python3.11 -m venv .venv-aihwkit
	$(AIHWKIT) $(PIP) -e . torch==2.10.0 aihwkit==1.1.0
	touch $@

aihwkit-check: .venv-aihwkit/.installed
	$(AIHWKIT) -m experiments.aihwkit

bench-aihwkit: .venv-aihwkit/.installed
	$(AIHWKIT) -m experiments.aihwkit_speed
