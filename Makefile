PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo test check lint types docs clean

setup: .venv/ready

.venv/ready: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

demo: setup            ## the main job on the embedded data, about ten minutes on two cores
	$(BIN)/hoarfrost demo --out demo

test: setup            ## the test suite
	$(BIN)/pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

docs: setup
	$(BIN)/mkdocs build --strict --quiet

check: lint types docs test   ## what CI runs; pytest's summary comes last

clean:
	rm -rf .venv site build demo runs
