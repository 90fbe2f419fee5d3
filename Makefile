# make demo       the whole way through at demo scale, on this machine, in minutes
# make test       all tests but those that need Slurm
# make check      format, lint, types and the ladder of imports, changing nothing
# make census     modules and lines of the package by room, and where it breaks the rules of its structure
# make test-browser installs Chromium if it is missing (Debian, root) and opens the HTML report in it
# make test-latex installs LaTeX if it is missing (Debian, root) and compiles the report's tables with it
# make test-slurm starts the Slurm of slurm/testbed (Debian, root) and runs the tests that need it
# make campaign   there too: 40 disturbances of studies, compared bit by bit with an undisturbed one; n=1000 for more
# make scale      there too: 10,000 runs that train nothing, submitted, watched, and counted at the end

PYTHON ?= python3
PIP_OPTIONS ?=
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Documented in the README: two epochs of one batch of ten images, one seed, in what any CPU computes fast.
DEMO_OVERRIDES := seeds=1 epochs=2 batch_size=10 max_images=10 workers=0 precision=fp32
DEMO_SECTION := all
DEMO_DATA := build/demo/stand-in

# Of make campaign: how many disturbances, which, and where.
n ?= 40
seed ?= 0
folder ?= build/campaign

.PHONY: setup demo test test-browser test-latex test-slurm campaign scale check census format clean

setup: $(READY)

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_OPTIONS) --editable '.[dev]'
	@touch $@

# Without CALTECH101_ROOT a generated stand-in is used; the weights are stand-ins always, so that no network is needed.
demo: setup
	@set -e; \
	if [ -n "$$CALTECH101_ROOT" ]; then data="$$CALTECH101_ROOT"; study=build/demo/caltech101; \
	else data=$(DEMO_DATA); study=build/demo/study; fi; \
	$(BIN)/python -m caltech_exp.standin $(DEMO_DATA) weights; \
	$(BIN)/python jobs/submit.py section=$(DEMO_SECTION) $(DEMO_OVERRIDES) "data=$$data" "runs=$$study" \
	  imagenet_weights=$(DEMO_DATA)/weights packs=build/demo/packs profile=demo runs_per_task=8 wait=true; \
	$(BIN)/python reports/aggregate.py "runs=$$study" "out=$$study-report" "data=$$data"

test: setup
	$(BIN)/python -m pytest -m "not slurm"

test-browser: setup
	bash .ci/chromium
	CI=true $(BIN)/python -m pytest -m browser

test-latex: setup
	bash .ci/latex
	CI=true $(BIN)/python -m pytest -m latex

test-slurm: setup
	bash .ci/strace
	bash slurm/testbed/start.sh
	$(BIN)/python -m pytest -m slurm

# Interrupted, it goes on where it was; with a larger n it adds to what was done.
campaign: setup
	bash .ci/strace
	bash slurm/testbed/start.sh
	$(BIN)/python -m tests.tools.campaign n=$(n) seed=$(seed) "folder=$(folder)"

scale: setup
	bash slurm/testbed/start.sh
	$(BIN)/python -m tests.tools.scale runs=10000 held_per_task=2 runs_per_task=20 max_array_size=101

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

census: setup
	$(BIN)/python -m tests.tools.census

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf build report .venv .mypy_cache .pytest_cache .ruff_cache *.egg-info
