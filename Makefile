# make setup         makes .venv and installs the package into it, editable; CONSTRAINTS=constraints.txt: known versions
# make demo          the whole way through at demo scale, on this machine, in minutes
# make check         everything but the slow proofs: lint, census, quick tests
# make lint          format, style, types and the ladder of imports; changes nothing
# make census        modules and lines of the package by room, and where it breaks the rules of its structure
# make test          all tests but those that need Slurm
# make test-browser  opens the HTML report in Chromium (installed if missing: Debian, root)
# make test-latex    compiles the report's tables with LaTeX (installed if missing: Debian, root)
# make test-slurm    starts the Slurm of slurm/testbed (Debian, root) and runs the tests that need it
# make campaign      there too: 40 faults during studies, compared bit by bit with an undisturbed one; n=1000 for more
# make scale         there too: 10,000 runs that train nothing, submitted, watched, and counted at the end
# make upgrade       there too: studies that commit OLD began are carried on by this checkout, and not a bit differs
# make benchmark     processor time of a dry run and of a task's start; dry run, status and report of 120, 1,200 and 12,000 runs;
#                    both engines on a few images; 16 short runs with 1, 2 and 4 at once. models=resnet18: only the step and evaluation of
#                    that network beside what its layers allow, on the data set in CALTECH101_ROOT; PHASES=: more words
# make benchmark-gpu all that docs/performance.md says of a GPU, in eight minutes; again: what the first had no time for
# make format        formats the code and corrects what can be corrected
# make constraints   writes the installed versions to constraints.txt
# make clean         removes the environment, and what was built and cached

PYTHON ?= python3
PIP_OPTIONS ?=
CONSTRAINTS ?=
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Documented in the README: two epochs of one batch of ten images, one seed, in what any CPU computes fast.
DEMO_OVERRIDES := seeds=1 epochs=2 batch_size=10 max_images=10 workers=0 precision=fp32
DEMO_SECTION := all
DEMO_DATA := build/demo/stand-in

# Of make benchmark: words of jobs/benchmark.py. Without any it measures all, on the real data set.
BENCHMARK ?= models=resnet18 parts=epoch max_images=8 batch_size=4 epochs=1 workers=0 precision=fp32 data=$(DEMO_DATA)
# Of make benchmark models=NAME: further words of jobs/benchmark.py, as batch_size=64 threads=1.
PHASES ?=
# Of make benchmark: words of tests/tools/study_growth.py; 12,000 results take a minute to simulate, once.
GROWTH ?= seeds=3,30,300
# Of make benchmark: words of tests/tools/at_once.py, runs=16 and settings of the runs.
AT_ONCE ?=
# Of make benchmark-gpu: words of tests/tools/gpu_benchmark.py; device=cpu small=true tries it without a GPU.
GPU ?=
# What is quick to test. The slowest files are named in tests/conftest.py.
QUICK := not slow and not slurm and not browser and not latex

# Of make campaign: how many disturbances, which, and where.
n ?= 40
seed ?= 0
folder ?= build/campaign

# Of make upgrade: the commit that begins the studies; without it the last one before version 0.2.0.
OLD ?=

.PHONY: setup demo check lint census test test-browser test-latex test-slurm campaign scale upgrade benchmark benchmark-gpu format constraints clean

setup: $(READY)

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_OPTIONS) \
	  $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS)) --editable '.[dev]'
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

upgrade: setup
	bash slurm/testbed/start.sh
	$(BIN)/python -m tests.tools.upgrade folder=build/upgrade $(if $(OLD),old=$(OLD))

ifdef models
benchmark: setup
	$(BIN)/python jobs/benchmark.py models=$(models) parts=phases $(PHASES)
else
benchmark: setup
	$(BIN)/python -m caltech_exp.standin $(DEMO_DATA) weights
	$(BIN)/python -m tests.tools.dry_run_time $(DEMO_DATA)
	$(BIN)/python -m tests.tools.start_up $(DEMO_DATA)
	$(BIN)/python tests/tools/study_growth.py $(GROWTH)
	$(BIN)/python jobs/benchmark.py $(BENCHMARK)
	$(BIN)/python -m tests.tools.at_once $(DEMO_DATA) $(AT_ONCE)
endif

benchmark-gpu: setup
	$(BIN)/python -m tests.tools.gpu_benchmark $(GPU)

check: lint census
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m "$(QUICK)" -n 2 --dist loadfile --no-loadscope-reorder

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

census: setup
	$(BIN)/python -m tests.tools.census

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

constraints: setup
	$(BIN)/python -m tests.tools.constraints > constraints.txt.new
	mv constraints.txt.new constraints.txt

clean:
	rm -rf build report .venv .mypy_cache .pytest_cache .ruff_cache *.egg-info
