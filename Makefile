# `make train` and `make test` need Python 3.11 or newer and make, nothing else: they build .venv themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable

# Oracles are PyTorch and scikit-learn: 1 GB, so only where REQUIRE_ORACLES=1 promises them.
ORACLES := $(if $(filter 1,$(REQUIRE_ORACLES)),$(VENV)/oracles.installed)

.NOTPARALLEL:
.PHONY: train test lint bench docs clean

train: $(VENV)/base.installed
	$(BIN)/glassnet train digits

test: $(VENV)/base.installed $(VENV)/test.installed $(ORACLES)
	$(BIN)/glassnet train digits
	$(BIN)/python -m pytest -n auto

lint: $(VENV)/lint.installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: $(VENV)/base.installed $(VENV)/oracles.installed
	$(BIN)/python benchmarks/steps.py

docs: $(VENV)/docs.installed
	$(BIN)/python -m sphinx -W --keep-going docs docs/_build

clean:
	rm -rf $(VENV) docs/_build .mypy_cache .pytest_cache .ruff_cache

$(VENV)/python.found:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "glassnet needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; \
	  exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/base.installed: pyproject.toml | $(VENV)/python.found
	$(INSTALL) .
	@touch $@

$(VENV)/%.installed: pyproject.toml | $(VENV)/python.found
	$(INSTALL) '.[$*]'
	@touch $@
