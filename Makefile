# Every target installs what it needs into .venv, once, and again when pyproject.toml or
# constraints.txt has changed. An existing .venv is used as it is. Plain `make` lists the targets.
PYTHON ?= python3
EXTRAS ?= dev
JOBS ?= 2
DATA ?=

VENV := .venv
RUN := $(VENV)/bin/python -m
INSTALL := $(RUN) pip install --disable-pip-version-check -c constraints.txt -e
PACKAGE := $(VENV)/.installed
TOOLS := $(VENV)/.installed-$(EXTRAS)
LAB := $(VENV)/.installed-study
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo test test-fast lint types benchmark notebooks lessons prove lab clean

help:  # the list of targets
	@echo "make TARGET, which is one of:"
	@sed -n 's/^\([a-z-]*\):.*# \(.*\)/  \1|\2/p' Makefile | awk -F '|' '{printf "%-12s %s\n", $$1, $$2}'

install: $(PACKAGE)  # the package and its console script m6rec, in .venv
	@echo "$(VENV)/bin/m6rec is ready"

demo: $(PACKAGE)  # train on the embedded world, beat the baselines, write out/report.html
	@$(VENV)/bin/m6rec demo --out out

test: lint types  # what CI runs: lint, types, imports, every test, coverage of at least 90%
	@$(RUN) pytest -n $(JOBS) --cov --cov-report=term:skip-covered

test-fast: $(TOOLS)  # the tests that are not slow, without coverage
	@$(RUN) pytest -q -n $(JOBS) -m "not slow"

lint: $(TOOLS)  # ruff, its formatting, and the contracts on imports
	@$(RUN) ruff check
	@$(RUN) ruff format --check
	@$(VENV)/bin/lint-imports --no-logo

types: $(TOOLS)  # mypy, strict
	@$(RUN) mypy

lab: $(LAB)  # a workspace in m6rec-course, opened in JupyterLab
	@$(VENV)/bin/m6rec start m6rec-course
	@$(VENV)/bin/m6rec lab m6rec-course

notebooks: $(TOOLS)  # from solutions/*/*.py: the notebooks of solutions and the learners'
	@$(RUN) m6rec_mini.course.build

lessons: $(TOOLS)  # run every lesson from top to bottom, into out/lessons
	@mkdir -p out/lessons
	@for lesson in lessons/*.md; do \
	    echo "$$lesson"; \
	    $(RUN) jupytext --quiet --to ipynb --execute --output out/lessons/$$(basename $$lesson .md).ipynb $$lesson || exit 1; \
	done

prove: $(TOOLS)  # the graders against right answers, wrong ones, mutants and cheats: make prove NN=07
	@$(VENV)/bin/m6rec prove $(NN)

benchmark: $(PACKAGE)  # compare on real data: make benchmark DATA=path/to/movielens
	@test -n "$(DATA)" || { echo "Name the folder of the data: make benchmark DATA=path/to/movielens" >&2; exit 2; }
	@$(VENV)/bin/m6rec benchmark --path "$(DATA)"

clean:  # remove all that was made, but for .venv
	@rm -rf out build dist *.egg-info .coverage .coverage.* .hypothesis .import_linter_cache .*_cache
	@find m6rec_mini tests -name __pycache__ -prune -exec rm -rf {} +

# One thread a worker: the tests' matrices are small. Without its compiler ranx answers in seconds.
test test-fast: export OMP_NUM_THREADS = 1
test test-fast: export NUMBA_DISABLE_JIT = 1

$(VENV)/pyvenv.cfg:
	@for python in "$(PYTHON)" python3.13 python3.12 python3.11; do \
	    if "$$python" -c '$(SUPPORTED)' 2>/dev/null; then \
	        echo "Making $(VENV) with $$("$$python" --version)"; \
	        exec "$$python" -m venv $(VENV); \
	    fi; \
	done; \
	echo "Python 3.11, 3.12 or 3.13 is needed, but $(PYTHON) is: $$("$(PYTHON)" --version 2>&1)." >&2; \
	echo "Install one of them, or say where it is: make PYTHON=path/to/python3.12" >&2; \
	exit 1

$(PACKAGE) $(sort $(TOOLS) $(LAB)): pyproject.toml constraints.txt | $(VENV)/pyvenv.cfg
	@$(VENV)/bin/python -c '$(SUPPORTED)' || \
	    { echo "$(VENV) has $$($(VENV)/bin/python --version 2>&1), not 3.11 to 3.13; remove $(VENV) and run make again" >&2; exit 1; }
	@echo "Installing into $(VENV); the first time takes a few minutes, most of it torch"
	@$(INSTALL) ".$(patsubst $(VENV)/.installed-%,[%],$(filter $(VENV)/.installed-%,$@))"
	@$(RUN) pip check
	@touch $@ $(PACKAGE)
