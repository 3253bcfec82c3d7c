# Bootstraps and calls; the work itself is in `radfleet` and in the Python modules named below.
# Every target first makes sure of .venv (`make setup`), which takes nothing but Python 3.11 with pip.

PYTHON ?= python3.11
# Address of a package index with the CPU build of torch, where pip is not configured with one already (README).
TORCH_INDEX ?=
EXIT ?=
QUICK ?=
KEY ?= .train/publisher.pem

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.radfleet-ready
TORCH := $(shell sed -n 's/^torch==/torch==/p' constraints.txt)
on = $(filter-out 0 no false,$(1))
# glibc gives large tensors back to the system after every step; keeping them saved a third of a training core.
KEEP_MEMORY := MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=8000000000 MALLOC_TOP_PAD_=67108864

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint check bench-study bench-intake bench-models bench-cure bench-harm bench-monitoring bench-web bench-counts bench-responses \
        bench-promotion conformance chaos \
        isolation train-brain train-lesion pack clean

##@ Begin here
help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: $(STAMP) ## Build .venv (TORCH_INDEX=<address> chooses the CPU build of torch, PYTHON=<python 3.11>)

demo: $(STAMP) ## Play studies, a flag, its cure and a rollback on real components (EXIT=1 ends it, else it stays up)
	$(BIN)/radfleet demo $(if $(call on,$(EXIT)),--exit)

test: lint ## Everything: lint, types, layers and all tests: the demo alone, the others in JOBS=3 processes
	$(BIN)/python -m pytest tests/acceptance
	$(BIN)/python -m pytest --ignore tests/acceptance --numprocesses $(or $(JOBS),3) --dist loadfile --no-loadscope-reorder --durations 20

##@ While working
check: lint ## Lint, types, layers and the rules of the house, without the slow tests
	$(BIN)/python -m pytest tests/house

lint: $(STAMP) ## ruff, mypy --strict and the import contracts alone
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

##@ Measures (each writes build/NAME.json and fails when its goal is missed)
bench-study: $(STAMP) ## Volume time against dcm2niix, platform against bare OpenVINO and torch
	$(BIN)/python -m tests.bench.study

bench-intake: $(STAMP) ## Durable C-STORE against Orthanc with fsync
	TCP_NODELAY=1 $(BIN)/python -m tests.bench.intake

bench-models: $(STAMP) ## Dice of the shipped models on people never trained on
	$(BIN)/python -m serving.training.bench

bench-monitoring: $(STAMP) ## The drift detector beside its rivals on one grid, on real tables and in pixels (QUICK=1)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench.monitoring $(if $(call on,$(QUICK)),--quick)

bench-harm: $(STAMP) ## From a harmful change to the right verdict, simulated: days, labels, minutes (QUICK=1)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench.harm $(if $(call on,$(QUICK)),--quick)

bench-web: $(STAMP) ## Pages and /metrics with a made-up fleet of 1,000 clinics, on one core (QUICK=1)
	$(BIN)/python -m tests.bench.web $(if $(call on,$(QUICK)),--quick)

bench-counts: $(STAMP) ## Simulated: volume on seasons that chose nothing, and the budget spent together (QUICK=1)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench.counts $(if $(call on,$(QUICK)),--quick)

bench-responses: $(STAMP) ## Simulated: a silent change of TE, TI or voxel size named by its pattern (needs RADFLEET_DATA)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench.responses

bench-cure: $(STAMP) ## One MS patient held out: Dice before a shift, after it, after T1, after T2 (needs RADFLEET_DATA)
	$(BIN)/python -m tests.bench.cure

bench-promotion: $(STAMP) ## 1,000 requests across promotions and rollbacks: none fails, none by another version
	$(BIN)/python -m tests.bench.promotion

conformance: $(STAMP) ## Real vendor DICOM in, SEG and SR out, against the reference tools
	$(BIN)/python -m tests.conformance

chaos: $(STAMP) ## kill -9 everything while studies arrive (QUICK=1: 200 kills)
	$(BIN)/python -m tests.chaos $(if $(call on,$(QUICK)),--quick)

isolation: $(STAMP) ## Probe every way from one clinic to another (QUICK=1: 2,000 probes)
	$(BIN)/python -m tests.isolation $(if $(call on,$(QUICK)),--quick)

##@ Models
train-brain: $(STAMP) ## Train brain-extraction again from the label maps (needs RADFLEET_DATA)
	$(KEEP_MEMORY) $(BIN)/python -m serving.training.train_brain

train-lesion: $(STAMP) ## Train ms-lesion again, two seeds (needs RADFLEET_DATA)
	$(KEEP_MEMORY) $(BIN)/python -m serving.training.train_lesion --seed 1 --out .train/lesion/seed1.safetensors
	$(KEEP_MEMORY) $(BIN)/python -m serving.training.train_lesion --seed 2 --out .train/lesion/seed2.safetensors

pack: $(STAMP) ## Calibrate, score, sign and write the packages of both (KEY=FILE, made when absent)
	$(BIN)/python -m serving.training.pack --first .train/brain/first.safetensors --final .train/brain/final.safetensors \
	  --lesion .train/lesion/seed1.safetensors --lesion .train/lesion/seed2.safetensors --key $(KEY)

##@ Housekeeping
clean: ## Remove caches and build/; .venv and the data directory .radfleet stay
	rm -rf build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis *.egg-info
	find registry serving monitoring tests -name __pycache__ -type d -prune -exec rm -rf {} +

# torch goes first and alone: there the one choice is made between the small CPU build and the large default build,
# and without its dependencies, because an index that holds only torch has old copies of them.
$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v == (3, 11) else f"Radfleet needs Python 3.11 and {sys.executable} is {v[0]}.{v[1]}: remove $(VENV) and give PYTHON=<path of a python 3.11>")'
	$(BIN)/python -m pip install --quiet --no-deps $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(TORCH)
	$(BIN)/python -m pip install --quiet --editable '.[dev]' --constraint constraints.txt
	$(BIN)/python -m pip check
	@touch $@
