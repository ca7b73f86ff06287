# Needs make and Python 3.11 or newer. The first target that needs the packages installs them from the lock, with hashes.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTHON ?= $(shell for name in python3.11 python3 python3.12 python3.13; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { command -v "$$name"; break; }; done)
WORKERS ?= 2
WEIGHTS ?= checkpoints
PRETRAIN ?=  # further options of fit, to try `make weights` with few steps
SAM ?=

.DEFAULT_GOAL := help
.PHONY: help install demo test bench real lint types docs weights wheel lock clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(STAMP)  ## create .venv with the locked packages

# --no-build-isolation: setuptools is in the lock too, so that nothing unpinned is fetched to build the project.
$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 or newer found; install one, or name it: make PYTHON=/path" >&2; exit 2; }
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	@echo "Installing the locked packages (about 7 GB, some minutes, once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(STAMP)  ## run the whole job on synthetic data and print one table (./demo)
	@$(BIN)/naruto-vision demo --force

# One thread per worker, so that two workers do not compete for two cores. A worker keeps neighbouring tests, which share
# what they build, until another one has nothing left to do.
test: $(STAMP)  ## run the tests
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

# QUICK=1 checks that everything runs; ONLY=T1,T6 selects benchmarks. One thread, unless OMP_NUM_THREADS is set.
bench: $(STAMP)  ## time this project against its libraries (about an hour; ONLY=T1,T6, QUICK=1)
	@PYTHONPATH=tests OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m benchmarks \
		$(if $(QUICK),--quick) $(if $(ONLY),--only $(ONLY))

real: $(STAMP)  ## measure on real images: REAL=DIR of data sets; ONLY=gallery,fit,series,names; OUT=FILE for the figures as JSON
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} PYTHONPATH=tests $(BIN)/python -m benchmarks.real --data "$(REAL)" \
		$(if $(ONLY),--only $(ONLY)) $(if $(OUT),--out $(OUT))

lint: $(STAMP)  ## run ruff: rules and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(STAMP)  ## run mypy, strict
	@$(BIN)/mypy

# Fails if a tutorial does, or a link leads nowhere. TUTORIALS=false leaves out running them.
docs: $(STAMP)  ## run the tutorials and build the documentation as a site (./site)
	@PATH="$(CURDIR)/$(BIN):$$PATH" OMP_NUM_THREADS=1 NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

# Each step resumes from its last checkpoint; finished steps are skipped.
# `rm -rf runs/pretrain runs/sam runs/sam-again runs/sam-refine` starts from scratch.
weights: $(STAMP)  ## train the packaged weights from their seeds (more than an hour on two cores; resumes)
	@$(BIN)/naruto-vision fit --config configs/pretrain.yaml --ckpt_path last $(PRETRAIN)
	@$(BIN)/naruto-vision fit --config configs/sam.yaml --ckpt_path last $(SAM)
	@$(BIN)/naruto-vision fit --config configs/sam.yaml --config configs/sam-again.yaml --ckpt_path last $(SAM)
	@$(BIN)/naruto-vision fit --config configs/sam.yaml --config configs/sam-refine.yaml --ckpt_path last $(SAM)
	@for pair in pretrain:tiny-clip sam-refine:tiny-sam; do \
		mkdir -p "$(WEIGHTS)/$${pair#*:}"; \
		cp "runs/$${pair%%:*}/bundle/"model.{safetensors,json} "$(WEIGHTS)/$${pair#*:}/"; done

wheel: $(STAMP)  ## build a wheel, with the configs and the packaged weights, and a source distribution (./dist)
	@rm -rf build
	@$(BIN)/python -m build --no-isolation --quiet

lock: $(STAMP)  ## resolve the dependencies into requirements.lock
	@$(BIN)/python -m uv pip compile pyproject.toml --extra cpu --extra dev --upgrade --quiet --no-config --no-header \
		--no-annotate --generate-hashes --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
		--output-file requirements.lock >/dev/null

clean:  ## remove build outputs and caches; keeps .venv and runs/
	@rm -rf build dist demo site .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
