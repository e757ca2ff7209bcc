# `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install links demo figure test check lint docs benchmark clean

help:  ## List the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

install: $(INSTALLED)  ## Make .venv with everything in it

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 13) else "Python 3.11 or 3.12 is needed, found %d.%d: give make PYTHON=python3.11" % v)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

links:  ## Name the folders as they are imported, for type checkers and editors: .links
	@mkdir -p .links/routing_pomdp
	@for folder in envs solvers verifiers evaluation conf scripts; do \
		ln -sfn ../../$$folder .links/routing_pomdp/$$folder; done

demo: $(INSTALLED)  ## Compare solvers over cost ratios on embedded data: runs/demo
	$(BIN)/python scripts/train.py -m experiment=demo
	$(BIN)/python scripts/compare.py runs/demo

figure: demo  ## Draw docs/demo.png, the figure of the README, from runs/demo
	$(BIN)/python scripts/compare.py runs/demo --headline docs/demo.png

test: $(INSTALLED) lint  ## Lint, check types, run all tests
	$(BIN)/python -m pytest -n auto --dist worksteal

check: $(INSTALLED)  ## Lint, and test the problem and backward induction: the inner loop
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest -n auto --dist worksteal -q -m 'not slow' --ignore tests/envs/profiles tests/envs tests/solvers/exact/test_backward_induction.py

lint: $(INSTALLED) links
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.docs  ## Build the documentation site, any warning an error
	$(BIN)/python -m sphinx --fail-on-warning --quiet docs build/docs/html
	@echo build/docs/html/index.html

$(VENV)/.docs: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@

benchmark: $(INSTALLED)  ## Print speed figures
	$(BIN)/python scripts/benchmark

clean:  ## Remove .venv and caches; runs stay
	rm -rf $(VENV) .links docs/api .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
