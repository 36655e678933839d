# Every target sets up what it needs in .venv; running it again is quick.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= demo_output
BAG ?=
VIDEO ?=
ARGS ?=
STAMP := $(VENV)/.stamp
PYTEST := $(BIN)/python -m pytest
# Of the two halves of the tests, the one that ARGS selects may be empty.
OR_NONE := || test $$? -eq 5

.PHONY: setup setup-dev demo test test-fast bench bench-check lint clean
.DEFAULT_GOAL := help

help:
	@echo "make demo [BAG=folder | VIDEO=file] [ARGS=...]   run the depth node over DDS, leave $(OUT)/"
	@echo "make test          set up and run all tests with coverage"
	@echo "make test-fast     the tests that take no processes and no minutes"
	@echo "make bench         speed of the student against a reference [ARGS=--live]"
	@echo "make bench-check   has anything become more than a fifth slower than benchmarks/baseline.json?"
	@echo "make lint          ruff and mypy"
	@echo "make setup         only build .venv;  make clean  remove it and what tests left"

$(STAMP): requirements/core.txt requirements/ros.txt setup.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/core.txt -r requirements/ros.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

$(STAMP)-dev: $(STAMP) requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/dev.txt
	touch $@

setup: $(STAMP)
setup-dev: $(STAMP)-dev

demo: setup
	$(BIN)/ssmde demo $(if $(BAG),--bag "$(BAG)") $(if $(VIDEO),--video "$(VIDEO)") --out "$(OUT)" $(ARGS)

test: setup-dev
	OMP_NUM_THREADS=1 $(PYTEST) -m "not dds" --hypothesis-profile=same --numprocesses=2 --dist=worksteal --cov --cov-report= --durations=8 $(ARGS) $(OR_NONE)
	$(PYTEST) -m dds --hypothesis-profile=same --cov --cov-append --cov-report=term:skip-covered --durations=8 $(ARGS) $(OR_NONE)

test-fast: setup-dev
	$(PYTEST) -m "not slow" -q $(ARGS)

bench-check: setup
	$(BIN)/ssmde bench --check benchmarks/baseline.json $(ARGS)

bench: setup
	$(BIN)/ssmde bench $(ARGS)

lint: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build install log .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage* htmlcov demo_output *.egg-info
