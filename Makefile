PYTHON ?= python3
BIN := .venv/bin
WORKERS ?= 2
PYTEST := $(BIN)/pytest -n $(WORKERS) --dist worksteal
unexport PYTHONDONTWRITEBYTECODE  # else each worker, and each process that a test starts, compiles all modules

.PHONY: setup demo test slowtests alltests check lint types docs clean

setup: .venv/ready

.venv/ready: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

demo: setup            ## the main job on the embedded data, about seven minutes on two cores
	$(BIN)/hoarfrost demo --out demo

test: setup            ## the inner loop: what is quick, about six minutes on two cores
	$(PYTEST) -m "not slow and not long" --hypothesis-profile quick

slowtests: setup       ## all that CI runs: the slow ones too
	$(PYTEST) -m "not long" --hypothesis-profile quick

alltests: setup        ## all tests, with all examples: before a release, about half an hour on two cores
	$(PYTEST)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

docs: setup
	$(BIN)/mkdocs build --strict --quiet

check: lint types docs slowtests   ## what CI runs; pytest's summary comes last

clean:
	rm -rf .venv site build demo runs
