# All that has to be there is make and Python 3.11 or newer.
# The first target that needs the packages installs them, once, from the lock with its hashes.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTHON ?= $(shell for name in python3.11 python3 python3.12 python3.13; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { command -v "$$name"; break; }; done)
WORKERS ?= 2
WEIGHTS ?= checkpoints
PRETRAIN ?=  # more options of fit, for a trial of `make weights` with few steps
SAM ?=

.DEFAULT_GOAL := help
.PHONY: help install demo test bench lint types weights wheel lock clean

help:  ## show what can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(STAMP)  ## set up the environment

# --no-build-isolation: setuptools is in the lock too, so that nothing unpinned is fetched to build the project.
$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 or newer found; install one, or name it: make PYTHON=/path" >&2; exit 2; }
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	@echo "Installing the locked packages (about 7 GB, some minutes, once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(STAMP)  ## the whole job on a drawn cast, and one table (./demo)
	@$(BIN)/naruto-vision demo --force

# One thread a worker: two workers of two threads each would fight over two cores.
test: $(STAMP)  ## the tests
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS)

# QUICK=1 only tries whether everything runs; ONLY=T1,T6 runs some. One thread, unless OMP_NUM_THREADS says otherwise.
bench: $(STAMP)  ## time this project against the libraries it builds on (about an hour; ONLY=T1,T6, QUICK=1)
	@PYTHONPATH=tests OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m benchmarks \
		$(if $(QUICK),--quick) $(if $(ONLY),--only $(ONLY))

lint: $(STAMP)  ## ruff: rules and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(STAMP)  ## mypy, strict
	@$(BIN)/mypy

# Each step goes on from its last checkpoint, so that `make weights` can be stopped and started again; a step that is done
# is passed over. `rm -rf runs/pretrain runs/sam runs/sam-again` begins anew.
weights: $(STAMP)  ## train the packaged weights again from their seeds (more than an hour on two cores; can be stopped)
	@$(BIN)/naruto-vision fit --config configs/pretrain.yaml --ckpt_path last $(PRETRAIN)
	@$(BIN)/naruto-vision fit --config configs/sam.yaml --ckpt_path last $(SAM)
	@$(BIN)/naruto-vision fit --config configs/sam.yaml --config configs/sam-again.yaml --ckpt_path last $(SAM)
	@for pair in pretrain:tiny-clip sam-again:tiny-sam; do \
		mkdir -p "$(WEIGHTS)/$${pair#*:}"; \
		cp "runs/$${pair%%:*}/bundle/"model.{safetensors,json} "$(WEIGHTS)/$${pair#*:}/"; done

wheel: $(STAMP)  ## a wheel with the configs and the small weights inside (./dist)
	@rm -rf build
	@$(BIN)/python -m build --wheel --no-isolation

lock: $(STAMP)  ## resolve the dependencies anew into requirements.lock
	@$(BIN)/python -m uv pip compile pyproject.toml --extra cpu --extra dev --upgrade --quiet --no-config --no-header \
		--no-annotate --generate-hashes --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
		--output-file requirements.lock >/dev/null

clean:  ## remove what was built, not the environment and not runs/
	@rm -rf build dist demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
