# Two commands do all the set-up: `make demo` and `make test`. PYTHON names the interpreter the environment is made from.
PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
TESTS ?= tests
FUZZ ?= 20
GPU_OUT ?= outputs/gpu
BENCHMARKS ?= $(filter-out benchmarks/gpu.py,$(sort $(wildcard benchmarks/[!_]*.py)))

BIN := $(VENV)/bin
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip -qq
INPUTS := pyproject.toml constraints.txt

.PHONY: help demo test fuzz lint format bench gpu families picture clean
.DELETE_ON_ERROR:
.SUFFIXES:

help:
	@echo "make demo     set up, then generate outputs/demo.mp4 from a prompt with the built-in model"
	@echo "make test     set up, then run the test suite (TESTS=tests/media for a part of it)"
	@echo "make fuzz     try many more malformed files and options than the test suite does (FUZZ=20 times as many)"
	@echo "make lint     formatting, lint rules and strict types"
	@echo "make format   mend the formatting and what the linter can mend itself"
	@echo "make bench    run the side-by-side measurements, one after another"
	@echo "make gpu      check and measure on a GPU, with PYTHON as it is: it installs nothing"
	@echo "make families write the tables of models and the types of public names, after a family.py changed"
	@echo "make picture  draw docs/images/architecture.svg from the imports"
	@echo "make clean    remove the environment, caches and outputs"

demo: $(VENV)/.installed
	@mkdir -p outputs
	@$(BIN)/filmstrip generate "a red star spinning on a navy background" -o outputs/demo.mp4
	@echo "The video lies at $(CURDIR)/outputs/demo.mp4"

test: $(VENV)/.installed-test
	@$(BIN)/python -m pytest -n $(WORKERS) $(TESTS)

fuzz: $(VENV)/.installed-test
	@FILMSTRIP_FUZZ=$(FUZZ) $(BIN)/python -m pytest -n $(WORKERS) tests/fuzzing

lint: $(VENV)/.installed-lint
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

format: $(VENV)/.installed-lint
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(VENV)/.installed-test
	@set -e; for script in $(BENCHMARKS); do echo "== $$script"; $(BIN)/python $$script; done

gpu:
	@$(PYTHON) tests/gpu/check.py --out $(GPU_OUT)

families: $(VENV)/.installed
	@$(BIN)/python docs/from_families.py

picture:
	@$(PYTHON) -m docs.architecture

clean:
	rm -rf $(VENV) outputs build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis src/*.egg-info
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps make a second run fast: pip runs again only after pyproject.toml or constraints.txt changed.
$(VENV)/.environment:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "Filmstrip needs Python 3.10 or newer; name one with: make PYTHON=/path/to/python3 ..." >&2; exit 1; }
	@echo "Creating the virtual environment $(VENV)"
	@$(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "Could not create $(VENV); on Debian and Ubuntu, install the package python3-venv." >&2; exit 1; }
	@touch $@

# torch comes first and alone: whichever build (CPU or other) pip is configured for is then there, and the constraint
# keeps every later step from replacing it.
$(VENV)/.installed: $(INPUTS) | $(VENV)/.environment
	@echo "Installing Filmstrip (the first time takes some minutes)"
	@$(PIP) install "$$(grep '^torch==' constraints.txt)"
	@$(PIP) install --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	@echo "Installing what the tests need"
	@$(PIP) install --constraint constraints.txt --editable ".[test]"
	@touch $@

$(VENV)/.installed-lint: $(VENV)/.installed-test
	@echo "Installing the linters"
	@$(PIP) install --constraint constraints.txt --editable ".[test,lint]"
	@touch $@
