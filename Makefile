# On a fresh machine with Python 3.10 or newer, git and make:
#   make demo         trains a small ProGAN on procedural images and scores every stage (five minutes on two cores)
#   make test         runs the tests
#   make test-fast    runs the tests that are not marked slow (two minutes)
# All make a virtual environment in .venv the first time. `make test PYTHON=python3.12` chooses the Python.

PYTHON ?= python3
PYTEST_ARGS ?=

# Threads of one operation sleep while they wait for each other: beside other programs they would spin in
# the way of those that they wait for (pgmetrics/runtime/openmp.py).
export OMP_WAIT_POLICY ?= passive

BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: help demo test test-fast lint check clean

help:
	@sed -n 's/^#   //p' Makefile

# Its own results of an earlier or interrupted run make way; `python -m benchmarks.stages` never removes any.
demo: $(INSTALLED)
	rm -rf runs/demo
	$(BIN)/python -m benchmarks.stages --out runs/demo

test: $(INSTALLED)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-fast: $(INSTALLED)
	$(BIN)/python -m pytest -m "not slow" $(PYTEST_ARGS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test

clean:
	rm -rf .venv build dist runs

# pip comes last into a new environment, so an interrupted one is made again.
$(INSTALLED): pyproject.toml
	@test -x $(BIN)/pip || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and \
	    "Python 3.10 or newer is needed, this is " + sys.version.split()[0] + "; make ... PYTHON=python3.12 chooses another")'
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	@echo "Installing into .venv; PyTorch is large, the first time takes minutes."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	@touch $@
