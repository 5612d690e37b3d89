PYTHON ?= python3
BIN = .venv/bin

.PHONY: demo test test-slow check bench

demo: .venv/installed  # train the default recipe on the embedded digits, evaluate it, show where the picture is
	$(BIN)/condgan train

test: .venv/installed-test  # the whole suite but what takes minutes
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-slow: .venv/installed-test
	$(BIN)/python -m pytest -m slow

check: .venv/installed-check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

bench: .venv/installed
	$(BIN)/python -m benchmarks.throughput

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install -c constraints.txt -e .
	touch $@

.venv/installed-%: pyproject.toml constraints.txt .venv/installed
	$(BIN)/python -m pip install -c constraints.txt -e ".[$*]"
	touch $@
