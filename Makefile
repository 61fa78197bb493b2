# What a user runs. `make` alone lists it.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := .venv
PY := $(VENV)/bin/python
# On top of it, for the tests of the stores alone: Airflow's provider for each store, and the stores.
STORES := .venv-stores
# For the docs as a site.
DOCS_VENV := .venv-docs

# Airflow's own home for this clone: SQLite metadata, logs. Set AIRFLOW_HOME to use another.
export AIRFLOW_HOME ?= $(CURDIR)/.airflow
export AIRFLOW__CORE__DAGS_FOLDER := $(CURDIR)/dags
export AIRFLOW__CORE__PLUGINS_FOLDER := $(CURDIR)/plugins
export AIRFLOW__CORE__LOAD_EXAMPLES := False
# One heap for all threads of a process: 30 MB less in each, and no slower where a process has one busy thread.
export MALLOC_ARENA_MAX ?= 1

# What `make bench` loads, in learners of one batch: 1000000 takes a quarter of an hour to load.
SIZES := 1000 20000 100000

.PHONY: help env status why submit release bench bench-small bench-latency stores demo demo-data run up down services unit test test-faults test-interleavings test-kills test-versions fuzz check docs docs-site pictures wheel lock
# How many random kills `make test-kills` spreads over whole runs.
N := 200
# How many random orders `make test-interleavings` runs.
SEEDS := 500
# How long `make fuzz` draws examples.
SECONDS := 3600

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: $(VENV)/.installed ## make the Python environment (.venv), from the pinned list

$(VENV)/.installed: requirements.txt
	@for python in $${PYTHON:-} python3.12 python3.11 python3; do \
	  if "$$python" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null; then \
	    echo "environment: $$("$$python" --version), packages of requirements.txt …"; \
	    "$$python" -m venv --clear $(VENV) && \
	    $(PY) -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.txt && \
	    touch $@ && exit 0 || exit 1; \
	  fi; \
	done; \
	echo "Python 3.11 or 3.12 with venv is needed (Debian: sudo apt-get install python3 python3-venv), or set PYTHON=…" >&2; exit 1

stores: $(STORES)/.installed ## make the environment of the tests on S3, Azure and Google Cloud Storage (.venv-stores)

$(STORES)/.installed: $(VENV)/.installed dev/stores/requirements.txt dev/stores/package-lock.json
	@echo "environment of the stores: packages of dev/stores/requirements.txt, Azurite …"
	@$(PY) -m venv --clear $(STORES)
	@$(PY) -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	  > "$$($(STORES)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/base.pth"
	@$(STORES)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r dev/stores/requirements.txt
	@if command -v npm >/dev/null; then npm ci --prefix dev/stores --silent --no-audit --no-fund; \
	  else echo "npm is missing: the tests on Azure are skipped" >&2; fi
	@touch $@

services: env ## start Cassandra, Postgres, Redis and the content API on 127.0.0.1
	@$(PY) dev/services.py start

demo: services ## turn sample requests into zips, once, and show them
	@$(PY) dev/demo.py

demo-data: services ## load the sample data, and submit new requests for it
	@$(PY) dev/demo.py --submit

run: env ## run the DAG once against the environment's connections; CONF='{"request_ids": ["…"]}' passes Params
	@$(PY) dev/run_once.py

up: services ## start Airflow's scheduler, dag processor, triggerer and API server on 127.0.0.1
	@$(PY) dev/airflow_servers.py start

down: ## stop Airflow and the services
	@if [ -x $(PY) ]; then $(PY) dev/airflow_servers.py stop; $(PY) dev/services.py stop; fi

# Uses the connections of the environment. Without them, it uses the services of `make demo`, and the Airflow of `make up` if it runs.
COMMAND = $(if $(AIRFLOW_CONN_PROGRESS_EXHAUST_REQUESTS),,eval "$$($(PY) dev/airflow_servers.py command-env)"; )PYTHONPATH=plugins $(PY) -m progress_exhaust.cli

status: env ## list the newest requests, or show one and its batches; REQUEST=778A36…
	@$(COMMAND) status $(REQUEST)

why: env ## show a batch in each request for it: its state, and why; BATCH=0133…
	@$(COMMAND) why $(BATCH)

submit: env ## submit a test request; BATCHES="0133… 0134…" or COURSE=do_…, CHANNEL=0126…, BY=user
	@$(COMMAND) submit $(if $(BATCHES),--batches $(BATCHES)) $(if $(COURSE),--course $(COURSE)) $(if $(CHANNEL),--channel $(CHANNEL)) $(if $(BY),--by $(BY))

release: env ## release a request that another installation holds; REQUEST=778A36…, YES=1 asks nothing
	@$(COMMAND) release $(REQUEST) $(if $(YES),--yes)

check: env ## lint, types, import rules
	@$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check . && $(VENV)/bin/mypy

unit: env ## run the tests that need no server, in seconds
	@$(PY) -m pytest -n auto --dist worksteal tests/unit tests/dag

ifdef T
# The slow tests of a file that is named are wanted too.
test: $(if $(filter tests/stores%,$(T)),stores,env) ## run every check and every test; T=tests/unit/test_text.py runs one file or folder
	@$(if $(filter tests/stores%,$(T)),$(STORES)/bin/python,$(PY)) -m pytest $(if $(findstring .py,$(T)),-m "") $(T)
else
test: check stores unit
	@$(PY) tests/run_all.py
endif

test-faults: check stores ## run every fault test, and every slow test of the other folders
	@$(STORES)/bin/python -m pytest tests/faults -m ""
	@$(STORES)/bin/python -m pytest tests/integration tests/drivers tests/servers tests/stores -m slow

test-interleavings: env ## let two to four clients meet on Postgres, statement by statement, in SEEDS random orders; SEEDS=500
	@$(PY) tests/interleavings/run.py --bound 1 --seeds $(SEEDS)

test-kills: env ## kill processes at N random moments of whole runs, and compare the results with a quiet run; N=200
	@$(PY) tests/faults/kills.py $(N)

fuzz: env ## draw bytes for every input from outside, for SECONDS; FUZZ="--seed 1 --only zip" replays; SECONDS=3600
	@PYTHONPATH=plugins $(PY) -m tests.fuzz.run $(SECONDS) $(FUZZ)

test-versions: env ## run tests on other versions of Airflow, Python, Cassandra and Postgres; ROWS="3.2.2 unit" chooses (needs uv)
	@$(PY) tests/versions.py $(ROWS)

bench: env ## measure whole runs over one big batch, on real services: time, CPU, memory; SIZES="1000 1000000" chooses
	@$(PY) benchmarks/big_batch.py $(SIZES)

bench-small: env ## measure 200 batches of 50 learners, in runs of 50, through Airflow's own servers
	@$(PY) benchmarks/small_batches.py

bench-latency: env ## measure 20 requests of 1,000 and of 20,000 learners on idle servers, from INSERT to SUCCESS
	@$(PY) benchmarks/latency.py

docs: env ## write the parts of docs/ that are made from the code
	@$(PY) dev/docs.py

pictures: env ## take the pictures of the page for docs/images, with sample requests
	@$(PY) dev/page_pictures.py pictures

docs-site: $(DOCS_VENV)/.installed ## build the docs as a site with search, in .site
	@$(DOCS_VENV)/bin/zensical build --clean --strict && echo "open $(CURDIR)/.site/index.html"

$(DOCS_VENV)/.installed: dev/docs_site/requirements.txt
	@python3 -m venv --clear $(DOCS_VENV)
	@$(DOCS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r dev/docs_site/requirements.txt
	@touch $@

wheel: env ## build the package as a wheel, in dist
	@$(PY) -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .

lock: ## pin the newest versions for requirements.in, and for the stores (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade --custom-compile-command "make lock" \
	  requirements.in --output-file requirements.txt
	@# What they have in common is of one version, where it can be.
	cp requirements.txt dev/stores/ && cd dev/stores && \
	  uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --custom-compile-command "make lock" \
	  requirements.in --output-file requirements.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade --custom-compile-command "make lock" \
	  dev/docs_site/requirements.in --output-file dev/docs_site/requirements.txt
