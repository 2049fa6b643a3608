# Every target makes what it needs first; a second call does nothing twice.
# Needed: make and Python 3.10 or newer. Another Python: make PYTHON=python3.12 test
PYTHON ?= python3
JOBS ?= auto
ARGS ?=
WHY ?=
CONSTRAINTS ?= constraints.txt

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check --no-warn-script-location -c $(CONSTRAINTS)
METADATA := settings.ini setup.py pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.PHONY: help install dev demo bench test drill lint coverage mutants losses audit docs docs-test lab prepare clean
.SILENT:

help:  ## list the targets
	awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-9s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

$(VENV)/.made:
	$(PYTHON) -c 'import sys; sys.exit("corrmatch needs Python 3.10 or newer, this is %d.%d: make PYTHON=python3.12 ..." % sys.version_info[:2] if sys.version_info < (3, 10) else 0)'
	echo "making $(VENV) ..."
	$(PYTHON) -m venv $(VENV)
	$(PIP) "setuptools>=65" wheel
	touch $@

$(VENV)/.installed: $(VENV)/.made $(METADATA)
	echo "installing corrmatch and what it needs into $(VENV) (PyTorch is large: minutes the first time) ..."
	$(PIP) --no-build-isolation -e .
	touch $@

$(VENV)/.dev: $(VENV)/.installed
	echo "installing the development tools into $(VENV) ..."
	$(PIP) --no-build-isolation -e '.[dev]'
	touch $@

install: $(VENV)/.installed  ## install the package into .venv
	echo "corrmatch is installed: $(BIN)/corrmatch --help"

dev: $(VENV)/.dev  ## install the development tools as well
	echo "ready: make test, make docs, make lab"

$(VENV)/.browser: $(VENV)/.dev
	$(PIP) --no-build-isolation -e '.[browser]'
	touch $@

demo: $(VENV)/.installed  ## train and evaluate on the toy dataset: at most 10 minutes on 2 cores
	$(BIN)/corrmatch demo $(ARGS)

bench: $(VENV)/.installed  ## what a training step of each method costs: minutes on 2 cores (ARGS="--crop 161 --recipe voc_classic_92")
	$(BIN)/python benchmarks/steps.py $(ARGS)

test: $(VENV)/.dev  ## run every check: notebooks, sync, site, tests (ARGS="-k sync" for some)
	PATH="$(CURDIR)/$(BIN):$$PATH" OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --maxprocesses 4 --dist loadfile $(ARGS)

drill: $(VENV)/.dev  ## the long fault and load drills, one after another; the table goes to results/drills.csv
	rm -f runs/drills.csv && mkdir -p runs
	PATH="$(CURDIR)/$(BIN):$$PATH" OMP_NUM_THREADS=1 CORRMATCH_DRILLS="$(CURDIR)/runs/drills.csv" $(BIN)/python -m pytest -m "slow or not slow" tests/test_drills.py tests/test_kills.py tests/test_runs.py tests/test_processes.py tests/test_load.py $(ARGS)
	cp runs/drills.csv results/drills.csv

lint: $(VENV)/.dev  ## look for faults that need no run
	$(BIN)/ruff check --no-cache --output-format concise .
	$(BIN)/ruff format --no-cache --check .

coverage: $(VENV)/.dev  ## which lines and branches of the package the tests and the notebooks run
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tests/measure_coverage.py $(ARGS)

mutants: $(VENV)/.dev  ## break the core modules on purpose: does a test notice? (ARGS="losses" for one)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tests/mutants.py $(ARGS)

losses: $(VENV)/.dev  ## compare twenty steps with the committed list; WHY="what changed" writes it anew
	$(BIN)/python tests/twenty_steps.py $(if $(WHY),"$(WHY)")

audit: $(VENV)/.installed  ## known weaknesses of what is installed (asks a public database)
	$(PYTHON) -m venv $(VENV)/audit
	$(VENV)/audit/bin/python -m pip install -qq --disable-pip-version-check pip-audit
	$(VENV)/audit/bin/pip-audit --skip-editable --path "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" $(ARGS)

docs: $(VENV)/.dev  ## build the site into docs/_build/html
	$(BIN)/python -c 'import myst_nb' 2>/dev/null || { echo "the site needs Python 3.11 or newer: remove $(VENV), then make PYTHON=python3.12 docs"; exit 1; }
	$(BIN)/python -m sphinx -q -E -W --keep-going -d docs/_build/doctrees -c docs nbs docs/_build/html
	echo "the site is in docs/_build/html: open index.html, or python3 -m http.server -d docs/_build/html"

docs-test: docs $(VENV)/.browser  ## look at the site, a report and JupyterLab in a browser (ARGS="-m ''" for every notebook in JupyterLab)
	PATH="$(CURDIR)/$(BIN):$$PATH" OMP_NUM_THREADS=1 $(BIN)/python -m pytest docs/tests -m "not slow" $(ARGS)

lab: $(VENV)/.dev  ## open JupyterLab at the root of the repository
	$(BIN)/python -m jupyter lab $(ARGS)

prepare: $(VENV)/.dev  ## before a commit: format, export and clean the notebooks, rebuild the README
	$(BIN)/ruff format --no-cache -q .
	$(BIN)/nbdev_export
	$(BIN)/ruff format --no-cache -q $(CURDIR)/corrmatch
	$(BIN)/nbdev_clean
	$(BIN)/python docs/readme.py

clean:  ## remove what was built (not .venv, not runs)
	rm -rf docs/_build _proc _docs build dist *.egg-info .pytest_cache
