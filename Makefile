# `make run` does the main job on an embedded cloud, `make test` passes the tests; both set themselves up.
# Everything they make lies in .venv and var/.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.lock-installed
# Python 3.11's own pip takes a pin of fastapi[extras] for none of fastapi, depending on the order of lines.
PIP := pip==26.3
BENCH := .venv-bench
BENCH_READY := $(BENCH)/.lock-installed
SHARP := benchmarks/node_modules/.installed

.DEFAULT_GOAL := help
.PHONY: help run up test test-units test-airflow test-starts test-commands test-distributed fuzz check bench bench-ocr clean lock

help: ## what there is to type
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 14

$(READY): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "Python 3.11 is needed: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	@echo "Installing the pinned dependencies into $(VENV) (about a minute, once)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@touch $@

run: $(READY) ## the main job on an embedded cloud; IMAGES=folder for your own pictures
	@$(BIN)/python -m scripts.run

up: $(READY) ## Airflow's UI on the embedded cloud, until Ctrl-C
	@$(BIN)/python -m scripts.up

check: $(READY) ## lint, format, import directions, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

test: check ## all checks and tests
	@$(MAKE) --no-print-directory test-units
	@$(MAKE) --no-print-directory --jobs 3 --output-sync=target test-airflow test-starts test-commands

# What has a running Airflow mostly waits for it: three such at once, that take about as long.
STARTS := tests/end_to_end/test_ways_to_start.py tests/end_to_end/test_ingest.py
COMMANDS := tests/end_to_end/test_make_run.py
test-units: $(READY)
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --durations 20 --ignore tests/end_to_end --ignore tests/browser

test-airflow: $(READY)
	$(BIN)/python -m pytest --durations 20 tests/end_to_end tests/browser $(patsubst %,--ignore %,$(STARTS) $(COMMANDS))

test-starts: $(READY)
	$(BIN)/python -m pytest --durations 20 $(STARTS) -k "not on_postgres"

test-commands: $(READY)
	$(BIN)/python -m pytest --durations 20 $(COMMANDS) $(STARTS) -k "test_make_run or on_postgres"

test-distributed: $(READY) ## docker-compose.yaml as plain processes: a run over two Celery workers, then everything killed once
	$(BIN)/python -m pytest -m distributed tests/distributed tests/chaos

fuzz: $(READY) ## a minute of damaged pictures through the resize core
	$(BIN)/python -m tests.imaging.fuzz --minutes 1 --workers 1

$(BENCH_READY): benchmarks/requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "Python 3.11 is needed: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	@$(PYTHON) -m venv $(BENCH)
	@$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r benchmarks/requirements.lock
	@touch $@

$(SHARP): benchmarks/package.json
	@if command -v npm >/dev/null; then npm install --prefix benchmarks --no-package-lock --no-audit --no-fund --loglevel error || true; fi
	@mkdir -p $(@D) && touch $@

bench: $(BENCH_READY) $(SHARP) ## compare with the plain way, pyvips and sharp (6 minutes); QUICK=1 for a glance
	@$(BENCH)/bin/python -m benchmarks $(if $(QUICK),--quick)

bench-ocr: ## how much small text survives in proxies, read by an OCR engine (5 minutes)
	@$(PYTHON) -m venv $(BENCH)-ocr
	@$(BENCH)-ocr/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements-ocr.txt
	@$(BENCH)-ocr/bin/python -m benchmarks.ocr_recall

clean: ## stop what is left running, and remove all that the others made
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m scripts.clean; fi
	rm -rf var $(VENV) $(BENCH) $(BENCH)-ocr benchmarks/node_modules .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

lock: ## write requirements.lock anew from requirements.txt (needs uv)
	uv pip compile --quiet --universal --no-strip-extras --python-version 3.11 --generate-hashes --no-header requirements.txt -o requirements.lock
	uv pip compile --quiet --universal --no-strip-extras --python-version 3.11 --generate-hashes --no-header benchmarks/requirements.txt -o benchmarks/requirements.lock
