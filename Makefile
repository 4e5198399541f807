# One command each: `make demo` to see it train, `make test` before you push. `make help` lists the rest.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh

# The first of these that is Python 3.11 or newer; override with `make PYTHON=/path/to/python3.12 ...`.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
ifndef PYTHON
PYTHON := $(shell for p in python3.11 python3 python3.12 python3.13 python3.14; do \
            $$p -c '$(NEW_ENOUGH)' >/dev/null 2>&1 && { echo $$p; break; }; done)
endif

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
TORCH := $(shell grep '^torch==' constraints.txt)
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
# PyPI's Linux wheel of torch brings gigabytes of CUDA; the CPU build is the local version "+cpu". Your own pip
# configuration (an index, a folder of wheels) is asked for it first, so PyTorch's index is contacted only if needed.
TORCH_CPU := $(TORCH)$(if $(filter Linux,$(shell uname -s)),+cpu)

.PHONY: demo test check lint types protos settings golden constraints docker-test clean help

demo: .venv/.demo  ## train on handwritten digits: a server and its clients on this machine
	$(BIN)/heron-server demo

test: check  ## lint, types, and every test that needs no container engine
	$(BIN)/python -m pytest -m "not docker" -n 2 --dist loadfile

check: lint types  ## lint and types

lint: .venv/.dev  ## ruff
	$(BIN)/ruff check

types: .venv/.dev  ## mypy, strict
	$(BIN)/mypy

protos: .venv/.dev  ## generate heron_core/pb from proto/
	$(BIN)/python -m grpc_tools.protoc -I proto --python_out=. --pyi_out=. --grpc_python_out=. \
	    $$(cd proto && find . -name '*.proto' | sed 's|^\./||' | sort)

settings: .venv/.dev  ## write docs/settings.md from the settings' own documentation
	$(BIN)/python docs/make_settings.py

golden: .venv/.dev  ## record tests/golden/ for this version: a small run's checkpoint, and one more round
	$(BIN)/python tests/golden/make.py

docker-test: .venv/.dev  ## docker compose with one server and three clients, end to end
	$(BIN)/python -m pytest tests/e2e/test_compose.py

constraints: .venv/.torch  ## resolve pyproject.toml anew in a clean environment; torch stays as constraints.txt has it
	rm -rf .venv/resolve && $(PYTHON) -m venv .venv/resolve
	.venv/resolve/bin/pip install -q "$(TORCH_CPU)" || \
	    .venv/resolve/bin/pip install -q "$(TORCH_CPU)" --extra-index-url $(TORCH_INDEX)
	.venv/resolve/bin/pip install -q -e ".[dev]"
	{ sed -n '/^#/p' constraints.txt; \
	  .venv/resolve/bin/pip freeze --exclude-editable | sed 's/+cpu$$//'; } > .venv/constraints.txt
	mv .venv/constraints.txt constraints.txt && rm -rf .venv/resolve

clean:  ## remove the environment, caches and build output; runs/ stays
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

# Stamps: an install happens once, and again when what is installed changed.
.venv/.python:
	@test -n "$(PYTHON)" || { echo "Heron needs Python 3.11 or newer, and none was found on PATH." \
	    "Install it, or name it: make PYTHON=/path/to/python3.11 ..." >&2; exit 2; }
	@$(PYTHON) -c '$(NEW_ENOUGH)' || { echo "Heron needs Python 3.11 or newer, got $$($(PYTHON) -V)" \
	    "from $(PYTHON)." >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments." \
	    "On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 2; }
	$(PYTHON) -m venv --clear .venv
	@touch $@

.venv/.torch: .venv/.python constraints.txt
	@echo "installing $(TORCH_CPU) from your pip sources, else from $(TORCH_INDEX)"
	$(PIP) install -q -c constraints.txt "$(TORCH_CPU)" || \
	    $(PIP) install -c constraints.txt "$(TORCH_CPU)" --extra-index-url $(TORCH_INDEX)
	@touch $@

.venv/.demo: .venv/.torch pyproject.toml
	$(PIP) install -q -c constraints.txt -e ".[server,demo,plots]"
	@touch $@

.venv/.dev: .venv/.torch pyproject.toml
	$(PIP) install -q -c constraints.txt -e ".[dev]"
	@touch $@ .venv/.demo
