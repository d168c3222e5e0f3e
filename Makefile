# The two commands of the README are `make demo` and `make test`; the rest is what they are made of.
# Everything runs in $(VENV), made with exactly the versions of constraints.txt.

PYTHON ?= python3
VENV ?= .venv
DEMO ?= demo
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

export DO_NOT_TRACK := 1
export TOKENIZERS_PARALLELISM := false

.PHONY: install demo ui test test-long test-fast bench lint format docs constraints clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,bench]'
	$(BIN)/python -m pip check
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/python -m pipelines.demo $(DEMO)

ui: $(STAMP)
	@test -f $(DEMO)/study.yaml || { echo "no demo in $(DEMO): run \`make demo\` first"; exit 1; }
	DAGSTER_HOME=$(abspath $(DEMO)/dagster) CLINICAL_MM_STUDY=$(abspath $(DEMO)/study.yaml) \
		$(BIN)/dagster dev -w workspace.yaml --host 127.0.0.1

test: $(STAMP)
	$(BIN)/python -m pytest -m "not long"

# What takes minutes: the planted truth over three seeds, and the scheduled path of a second delivery.
test-long: $(STAMP)
	$(BIN)/python -m pytest -m long

test-fast: $(STAMP)
	$(BIN)/python -m pytest -m "not slow and not service and not long"

# Ours against the stated alternatives, as a table in Markdown; leave the machine alone meanwhile.
bench: $(STAMP)
	$(BIN)/python -m benchmarks

lint: $(STAMP)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pip freeze --exclude-editable | $(BIN)/python tests/check_constraints.py constraints.txt

format: $(STAMP)
	$(BIN)/ruff check --fix-only --quiet
	$(BIN)/ruff format

docs: $(STAMP)
	$(BIN)/clinical-mm options > docs/study-file.md

# Resolve the newest versions that the ranges of pyproject.toml admit, and pin them.
constraints:
	rm -rf build/resolve
	$(PYTHON) -m venv build/resolve
	build/resolve/bin/python -m pip install --quiet --upgrade pip
	build/resolve/bin/python -m pip install --quiet torch==2.13.0 '.[dev,bench]'
	build/resolve/bin/python -m pip freeze | sed 's/+cpu//' | grep -v '^clinical-mm' > constraints.txt

clean:
	rm -rf $(VENV) $(DEMO) build
