# Everything happens in .venv, which is made anew when pyproject.toml, the Python or the place
# of this directory changes. Nothing is installed outside of it.

PYTHON ?= python3
VENV   := .venv
RUN    := $(VENV)/bin/python -m
MADE   := $(VENV)/made-$(shell { pwd; cat pyproject.toml; $(PYTHON) -V; } 2>&1 | cksum | cut -d' ' -f1)

.DEFAULT_GOAL := help
.PHONY: demo test lint crash fuzz bench bench-peers fmt help

demo: $(MADE)  ## the whole story in half a minute, on a played WhatsApp
	@$(VENV)/bin/wabcast demo

test: $(MADE)  ## the tests, all but the long ones
	$(RUN) pytest -n auto -m "not slow"

lint: $(MADE)  ## style, types, floors
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy
	$(VENV)/bin/lint-imports --no-cache --no-logo

crash: $(MADE)  ## the long storms of kill -9; says what they proved
	$(RUN) pytest -s -m slow -p no:randomly

fuzz: $(MADE)  ## an hour of what nobody would write, at every reader; SECONDS=60 is a minute
	@$(VENV)/bin/python tests/fuzzing.py all --seconds $(or $(SECONDS),3600) --seed $(or $(SEED),$(shell date +%s))

bench: $(MADE)  ## measure, and print the table
	@$(RUN) benchmarks

bench-peers: $(MADE)  ## the same messages sent by others; installs them to a temporary place
	@$(RUN) benchmarks.peers

fmt: $(MADE)  ## put the code in order
	$(RUN) ruff check --fix .
	$(RUN) ruff format .

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1 \2/p' Makefile | awk '{printf "%s %-11s ", $$1, $$2; $$1=$$2=""; print}'

$(MADE):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "wabcast needs Python 3.11 or newer: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "setting up $(VENV), once" >&2
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV) >/dev/null || $(PYTHON) -m venv --without-pip --clear $(VENV)
	@if $(RUN) pip --version >/dev/null 2>&1; then $(RUN) pip install --quiet -e '.[dev]'; \
		else $(PYTHON) -m pip --python $(VENV)/bin/python install --quiet -e '.[dev]'; fi
	@touch $@
