# Every target sets itself up: it needs make, a Python of 3.11 or later with its venv module, and a package index.
#
#   make demo                 the whole service on this machine: Redis, a sandbox of the API, two workers, a file of rows
#   make demo FILE=my.csv     the same with your own rows
#   make test                 all tests but the long ones; make test ARGS="-k outbox" some of them
#   make lint types           style and types
#   make bench                how fast it is, beside celery-batches
#   make soak                 hours of injected faults
#   make lock                 brings the lock files in line with pyproject.toml; make lock ARGS=--upgrade renews all
#   make clean                removes what tools left behind; make distclean the environments too

.DEFAULT_GOAL := help
.PHONY: help demo test lint types lock bench soak clean distclean

# Quoted by the shell in the recipe, so that a file name may hold blanks and quotes.
export FILE
VENV := .venv
BIN := $(VENV)/bin
INSTALL := -m pip install -qq --disable-pip-version-check

# Prints the first Python that is new enough, or says what is missing. `make PYTHON=/path/to/python3 …` decides itself.
PYTHON ?=
FIND_PYTHON = for python in $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11 python); do \
    if "$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
      command -v "$$python"; exit 0; \
    fi; \
  done; \
  echo "bunce-attributes needs Python 3.11 or later with its venv module, and found none." >&2; \
  echo "Install it (on Debian and Ubuntu: apt-get install python3 python3-venv), or name one: make PYTHON=/path/to/python3" >&2; \
  exit 1

# $(call environment,FOLDER): a virtual environment there, unless a working one is there already. It ignores itself in git.
environment = $(1)/bin/python -c '' 2>/dev/null || { \
    python=$$($(FIND_PYTHON)) && echo "Setting up $(1) with $$("$$python" --version)" && \
    "$$python" -m venv --clear $(1) && echo '*' > $(1)/.gitignore; \
  }

help:
	@sed -n 's/^#   make/make/p' Makefile

demo: $(VENV)/.service
	@$(BIN)/bunce-attributes demo $${FILE:+"$$FILE"}

test: $(VENV)/.dev
	@$(BIN)/pytest -m "not soak" $(ARGS)

soak: $(VENV)/.dev
	@$(BIN)/pytest -m soak --timeout=0 $(ARGS)

lint: $(VENV)/.dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/hadolint deploy/Dockerfile
	@$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
	@$(BIN)/kubernetes-validate --strict $(filter-out %/kustomization.yaml,$(wildcard deploy/kubernetes/*.yaml)) >/dev/null

types: $(VENV)/.dev
	@$(BIN)/mypy

bench: .venv-bench/.done
	@.venv-bench/bin/python -m benchmarks $(ARGS)

# What the service needs, by hash. The developers' lock holds the same versions, so both share one environment.
$(VENV)/.service: requirements.lock pyproject.toml
	@$(call environment,$(VENV))
	@$(BIN)/python $(INSTALL) --require-hashes -r requirements.lock
	@$(BIN)/python $(INSTALL) --no-deps -e .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.service
	@$(BIN)/python $(INSTALL) --require-hashes -r requirements-dev.lock
	@touch $@

# celery-batches stays out of the environment that is tested and released.
.venv-bench/.done: requirements.lock benchmarks/requirements.txt pyproject.toml
	@$(call environment,.venv-bench)
	@.venv-bench/bin/python $(INSTALL) --require-hashes -r requirements.lock
	@.venv-bench/bin/python $(INSTALL) -r benchmarks/requirements.txt
	@.venv-bench/bin/python $(INSTALL) --no-deps -e .
	@touch $@

# One resolution for all Pythons and systems that we support. Neither lock names the index that it was made from.
LOCK = .venv-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command "make lock" $(ARGS) pyproject.toml

lock:
	@$(call environment,.venv-lock)
	@.venv-lock/bin/python $(INSTALL) uv
	@$(LOCK) --extra service --extra flower --output-file requirements.lock
	@$(LOCK) --extra dev --constraint requirements.lock --output-file requirements-dev.lock

clean:
	@rm -rf build dist .demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -path './.venv*' -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	@rm -rf .venv .venv-bench .venv-lock
