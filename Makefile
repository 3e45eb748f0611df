# From a bare clone: `make run` trains the main recipe, `make test` runs what any change can break.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
OUT    ?=
# What is installed, and in which versions: `make test CONSTRAINTS=/dev/null` tests the newest, scripts/oldest.py the oldest.
PACKAGE     ?= .[sevennet,dev]
CONSTRAINTS ?= constraints.txt
# Two processes, one thread each; a file stays in one process, and the long files start first (tests/conftest.py).
PYTEST ?= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
TESTS  ?=
# Of `make torture`. SECONDS is what bash counts itself where it comes from the environment: the command line alone is meant.
SECONDS = 600
SEED   = 0
# Of `make torture-fuzz` and `make lock`.
EACH   = 10000
EXTRAS = sevennet

# Images for containers often set it; then each of the many processes of the tests would compile torch anew, for seconds.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test test-extended test-foreign torture torture-every torture-fuzz bench lint docs lock sbom clean
.DEFAULT_GOAL := help

help:
	@echo "make run    make $(VENV) and train recipes/dtnet_total.yaml (OUT=DIR for another run folder)"
	@echo "make test   make $(VENV) and run the tests of what any change can break, in minutes"
	@echo "make test-extended   the other tests: README and guides, Ray, PostgreSQL, a browser, the wheel, all pairs"
	@echo "make test-foreign   mace, tensornet and nequix against their own packages, each in an environment of its own"
	@echo "make torture   damaged files, kills, changed inputs, broken databases, for SECONDS=600 from SEED=0 (OUT=table.csv)"
	@echo "make torture-every   each write, fsync and rename of small works fails in each way (as root; docs/results/faults.csv)"
	@echo "make torture-fuzz   EACH=10000 changed inputs of each kind (docs/results/fuzz.csv)"
	@echo "make bench  all benchmarks against their peers, and docs/benchmarks.md from them (BENCH=--quick for a check)"
	@echo "make lint   ruff and mypy"
	@echo "make docs   the documentation site, into build/site (ZOO_DOCS_EXECUTE=true runs the notebooks for it)"
	@echo "make lock   requirements.lock: versions and hashes for a deployment like this machine (EXTRAS=sevennet, OUT=FILE)"
	@echo "make sbom   sbom.json: what is installed in $(VENV), as CycloneDX (OUT=FILE)"
	@echo "make clean  remove $(VENV)"

# Made anew where what is to be installed has changed. The lowest layer first: with torch there, nothing pulls another.
# Not compiled: that takes longer than all the rest, and Python compiles what is imported, once, by itself.
$(VENV)/.installed: setup.cfg pyproject.toml $(filter-out /dev/null,$(CONSTRAINTS))
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "zoo needs Python 3.11 or newer: make PYTHON=python3.11 ..."; exit 2; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "installing torch and the rest into $(VENV); this takes some minutes"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c $(CONSTRAINTS) torch
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c $(CONSTRAINTS) -e "$(PACKAGE)"
	@touch $@

run: $(VENV)/.installed
	$(BIN)/zoo run recipes/dtnet_total.yaml $(if $(OUT),--out $(OUT))

test: $(VENV)/.installed
	$(PYTEST) -m "not extended" $(TESTS)

test-extended: $(VENV)/.installed
	$(PYTEST) -m extended $(TESTS)

test-foreign: $(VENV)/.installed
	PYTHON=$(BIN)/python scripts/test_foreign.sh

torture: $(VENV)/.installed
	PYTHONPATH=tests $(BIN)/python -m torture --seed $(SEED) --seconds $(SECONDS) $(if $(OUT),--out $(OUT))

torture-every: $(VENV)/.installed
	PYTHONPATH=tests $(BIN)/python -m torture --only kills --every --out $(or $(OUT),docs/results/faults.csv)

torture-fuzz: $(VENV)/.installed
	PYTHONPATH=tests $(BIN)/python -m torture --seed $(SEED) --only fuzz --each $(EACH) --out $(or $(OUT),docs/results/fuzz.csv)

bench: $(VENV)/.installed
	$(BIN)/python benchmarks/all.py $(BENCH)

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Nothing is fetched. Not --quiet: warnings, which --strict stops at, would not be counted. The variable silences a notice
# that is not about these pages.
docs: $(VENV)/.installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lock: $(VENV)/.installed
	$(BIN)/python scripts/lock.py $(or $(OUT),requirements.lock) $(EXTRAS)

# In an environment of its own: what makes the list is not on it.
sbom: $(VENV)/.installed
	@test -x build/sbom/bin/cyclonedx-py || { $(PYTHON) -m venv build/sbom && \
	  build/sbom/bin/pip install --quiet --disable-pip-version-check 'cyclonedx-bom>=7,<8'; }
	build/sbom/bin/cyclonedx-py environment --output-reproducible -o $(or $(OUT),sbom.json) $(VENV)

clean:
	rm -rf $(VENV) build/sbom
