# make demo and make test are all a newcomer needs; both set up the environment first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test lint docs reproduce bench clean

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

demo: $(INSTALLED)  ## fit, judge and report on real digits that the package ships
	$(BIN)/isthmus demo

test: $(INSTALLED)  ## the whole suite on all cores, docstrings' examples included; warnings are errors
	$(BIN)/pytest -n auto --dist worksteal

lint: $(INSTALLED)  ## style, order of imports, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(INSTALLED)  ## run every example of the guide
	$(BIN)/pytest tests/test_docs.py

reproduce: $(INSTALLED)  ## run an experiment on a published claim: make reproduce NAME=deep-ae-mnist [QUICK=1]; without NAME list all
	$(BIN)/python -m experiments $(NAME) $(if $(QUICK),--quick)

bench: $(INSTALLED)  ## side-by-side timings, as ratios
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) demo .pytest_cache .mypy_cache .ruff_cache
