# Every target creates .venv and installs what it needs; none touches anything outside this folder.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: setup demo test test-all lint type bench format readme aihwkit-check bench-aihwkit

setup: $(STAMP)

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[agents,dev]"
	touch $(STAMP)

demo: setup
	$(BIN)/python -m agents.demo

test: setup
	$(BIN)/python -m pytest

test-all: setup
	$(BIN)/python -m pytest -m "slow or not slow"

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

type: setup
	$(BIN)/mypy

bench: setup
	$(BIN)/python -m agents.bench

readme: setup
	$(BIN)/python -m agents.readme

# Their own environment: aihwkit 1.1.0 runs with torch 2.10.0 on Python 3.11 (1.2.0 on 3.12).
AIHWKIT := .venv-aihwkit/bin/python

.venv-aihwkit/.installed: pyproject.toml
	test -x $(AIHWKIT) || python3.11 -m venv .venv-aihwkit
	$(AIHWKIT) -m pip install --quiet --disable-pip-version-check -e . torch==2.10.0 aihwkit==1.1.0
	touch $@

aihwkit-check: .venv-aihwkit/.installed
	$(AIHWKIT) scripts/aihwkit_check.py

bench-aihwkit: .venv-aihwkit/.installed
	$(AIHWKIT) scripts/aihwkit_bench.py
