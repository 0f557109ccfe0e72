# Everything runs in .venv, which the first call makes; PYTHON picks the interpreter.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help quickstart test test-long docs lint format clean

help:
	@echo "make quickstart   distil the digits that come with the package, score them, show them"
	@echo "make test         everything CI runs: lint, types, layers, tests"
	@echo "make test-long    the tests that take long: 10,000 hostile inputs, 137 killed runs"
	@echo "make docs         the documentation as pages in build/docs, its gallery computed anew"
	@echo "make lint         what make test does, without the tests"
	@echo "make format       format the code"
	@echo "make clean        remove .venv and caches"

quickstart: $(VENV)/.installed
	$(BIN)/potstill quickstart

test: lint
	$(BIN)/python -m pytest -n 2 --durations=10

test-long: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 -m long --durations=10 -rP

docs: $(VENV)/.installed-docs
	$(BIN)/python -m sphinx -W --keep-going -b html -d build/doctrees docs build/docs

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --strict --config-file= --follow-imports=silent --cache-dir=.mypy_cache/user tests/user_types.py
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "error: $(PYTHON) is older than 3.11; call make with PYTHON=python3.11 or newer" >&2; exit 2; }
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: pyproject.toml $(VENV)/.created
	$(BIN)/python -m pip install --quiet -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml $(VENV)/.created
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: pyproject.toml $(VENV)/.created
	$(BIN)/python -m pip install --quiet -e '.[docs]'
	@touch $@ $(VENV)/.installed

clean:
	rm -rf build docs/_generated docs/auto_gallery docs/api/generated
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
