# Needs git, make, and Python 3.11 or later with pip and venv; `make bench` redis-server, too.
# All else goes into $(VENV).

PYTHON ?= python3
# The versions of what is installed: `lowest` for the lowest that pyproject.toml allows of what an app
# needs, `pre` for the newest, pre-releases included. By default, the newest releases.
VERSIONS ?=
# `make test PYTHON=python3.13 VERSIONS=pre` has an environment of its own, .venv-3.13-pre.
VENV ?= .venv$(patsubst python%,-%,$(filter-out python python3,$(notdir $(PYTHON))))$(VERSIONS:%=-%)
APP ?= examples/async_app
PORT ?= 5000
PYTEST_ARGS ?=
SUITES ?=
BENCH_ARGS ?=

BIN := $(VENV)/bin
# Twice quiet: errors are still shown.
PIP := $(BIN)/python -m pip --quiet --quiet --disable-pip-version-check
BIND := import socket, sys; socket.create_server(("127.0.0.1", int(sys.argv[1]))).close()
LOWEST := $(VENV)/lowest.txt
INSTALL := $(PIP) install $(if $(filter lowest,$(VERSIONS)),--constraint $(LOWEST)) $(if $(filter pre,$(VERSIONS)),--pre)

# Compiled modules are kept, also where others are not: each process that a test starts would compile them.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run quick test integrations suites extras check coverage lint format types bench docs build dev clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/with-run ## Serve examples/async_app.py on http://127.0.0.1:5000 (APP=examples/mandelbrot, PORT=5001)
	@$(BIN)/python -c '$(BIND)' $(PORT) 2>/dev/null || { \
	  echo "Port $(PORT) cannot be used; perhaps another program has it. Try: make run PORT=5001" >&2; exit 1; }
	$(BIN)/flask --app $(APP) run --host 127.0.0.1 --port $(PORT)

quick: $(VENV)/with-test ## Run the quick tests, without servers and backends, in a minute or two
	$(BIN)/python -m pytest -n 2 -m 'not slow' tests/unit tests/promises tests/board $(PYTEST_ARGS)

test: $(VENV)/with-test ## Run all the tests (PYTHON=python3.13, PYTEST_ARGS='-k map')
	$(BIN)/python -m pytest $(PYTEST_ARGS)

integrations: $(VENV)/with-integrations ## Run the tests with packages that apps use, too
	$(BIN)/python -m pytest tests/integrations tests/served/test_docs.py -k 'integrations or mail.md or schedules or testing_page or websockets' $(PYTEST_ARGS)

extras: $(VENV)/with-extras ## Install each extra by itself and check that it works
	@for extra in '' dask metrics store cli,store; do \
	  $(BIN)/uv run --quiet --isolated --no-project --python $(BIN)/python \
	    --with ".[$$extra]" --refresh-package flask-executor $(if $(filter lowest,$(VERSIONS)),--resolution lowest-direct) tests/extras.py $$extra || exit 1; \
	done

check: lint types quick docs ## Run lint, types, quick and docs: what finds most mistakes

suites: $(VENV)/with-suites ## Run tests of other projects with this package (SUITES='flask asgiref')
	$(BIN)/python tests/suites/run.py $(SUITES)

coverage: $(VENV)/with-test ## Run the tests and show which lines and branches they miss
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(PYTEST_ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

lint: $(VENV)/with-lint ## Check the code and its format with ruff, the workflows with zizmor
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/zizmor --offline --quiet --persona auditor .github

format: $(VENV)/with-lint ## Format the code and mend what ruff can mend
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: $(VENV)/with-typing ## Check the types with mypy and pyright
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

bench: $(VENV)/with-bench ## Run the benchmarks, write docs/reference/benchmarks.md (BENCH_ARGS=--help)
	$(BIN)/python benchmarks/run.py $(BENCH_ARGS)

docs: $(VENV)/with-docs ## Build the documentation into docs/_build and check its links
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going docs docs/_build/html

build: $(VENV)/with-build ## Build the sdist and the wheel into dist/, check that PyPI can show the README
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	$(BIN)/twine check --strict dist/*

dev: $(VENV)/with-dev ## Make an environment with all the tools, for your editor

clean: ## Remove environments, builds and caches
	rm -rf .venv .venv-* dist docs/_build htmlcov .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment is made anew when pyproject.toml has changed; its with-… files say what it has.
$(VENV)/made: pyproject.toml
	@if [ -e $(VENV) ] && [ ! -e $(VENV)/pyvenv.cfg ]; then \
	  echo "$(VENV) is no virtual environment; give another VENV" >&2; exit 1; fi
	@echo "Making $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(PIP) install --upgrade pip
ifeq ($(VERSIONS),lowest)
	@$(PIP) install 'uv>=0.9'
	@$(BIN)/uv pip compile --quiet --python $(BIN)/python --resolution lowest-direct \
	  --all-extras --group drivers --output-file $(LOWEST) pyproject.toml
endif
	@touch $@

$(VENV)/with-%: $(VENV)/made
	@echo "Installing the package and its $* tools into $(VENV)"
	@$(INSTALL) --editable . --group $*
	@touch $@
