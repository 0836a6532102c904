# One command per thing worth doing; `make help` lists them. Every target builds what it needs, and only that.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules
export UV_PYTHON_DOWNLOADS := never

PYTHON ?= python3##            the Python to set up with, 3.10 to 3.13
VENV ?= .venv##                where the virtual environment goes
CONFIGS ?= configs/demo##      folder of the training configs, such as configs/resnet50
SLIDES ?= data/demo/slides.csv##  the cohort table; the default is made by `make demo-slides`
OUT ?= output/$(notdir $(CONFIGS))##  where tiles, detectors and tables go; give each cohort and each seed its own
TILES ?= $(OUT)/tiles##        folder of the tile pairs
TILE_OPTS ?= $(if $(filter configs/demo configs/native configs/retinanet configs/fcos configs/bundled,$(CONFIGS)),--teacher-mpp 2 --student-mpp 8 --tile-px 256 --empty-ratio 0.25$(if $(filter configs/bundled,$(CONFIGS)), --merge-labels Glomerulus))##  options of tools/make_tiles.py
INIT ?=##                      weights that teacher and independent baseline begin with; empty: ImageNet's
SEED ?=##                      seed of training; empty: the tool's default
BROWSER ?=##                   the browser of `make test-browser`; empty: the first that is found
REAL ?=##                      table of the real tiles that `make bundled` trains on
RESULTS ?= output/inference##  the results that `make view` shows, of SLIDES
DEVICE ?=##                    cpu or cuda; empty: cuda where there is one
WORKERS ?=##                   processes that read slides; empty: the tool's default
OPTS ?=##                      config overrides for training, "KEY VALUE KEY VALUE"
TESTS ?= tests##               what `make test` runs, such as TESTS="tests/mhkd -k merge"

PY := $(VENV)/bin/python
UV := $(VENV)/bin/uv pip
INSTALL := $(UV) install --quiet --python $(PY)
COMPILE := $(UV) compile --quiet --upgrade --generate-hashes --no-header --no-annotate --python-version 3.10
SITE = $(shell $(PY) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
READY := $(VENV)/.ready
ROOMS := mhkd preprocess tools tests
# Which Detectron2: empty is the wheel that requirements/detectron2.lock names. Remembered from one call to the next.
INSTALLED := $(shell cat $(VENV)/.detectron2 2>/dev/null)
DETECTRON2 ?= $(INSTALLED)##   another Detectron2, such as git+https://github.com/facebookresearch/detectron2
ifneq ($(DETECTRON2),$(INSTALLED))
$(VENV)/.detectron2: FORCE
endif

##@ Set-up and checks

.PHONY: help setup lock check format test test-browser test-gpu clean FORCE

help: ## List the targets and the variables
	@awk -F ':.*## ' '/^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' Makefile
	@printf '\nVariables (make TARGET NAME=value)\n'
	@awk -F ' *[?]= *|## *' '/^[A-Z0-9_]+ [?]=.*##/ {printf "  %-12s %s%s\n", $$1, $$3, $$2 ~ /^$$|[(]if|INST/ ? "" : " [" $$2 "]"}' Makefile

setup: $(READY) ## Make the virtual environment, install everything by hash, check that it works together

$(VENV)/.locked: $(wildcard requirements/*.lock)
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo "error: $(PYTHON) is not there or not fit ($$($(PYTHON) --version 2>&1 || true)): Python 3.10 to 3.13 is needed" \
	    "(name one: make setup PYTHON=python3.12)" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(PY) -m pip install --quiet --require-hashes --only-binary :all: -r requirements/bootstrap.lock
	$(INSTALL) --require-hashes --no-build-isolation -r requirements/requirements.lock
	@touch $@

# Its dependencies are in the lock. Both its wheel and its source install a stray top-level folder called tools.
$(VENV)/.detectron2: $(VENV)/.locked
	rm -rf $(SITE)/detectron2 $(SITE)/*detectron2*.dist-info
ifeq ($(DETECTRON2),)
	$(INSTALL) --no-deps --require-hashes --only-binary :all: --python-version 3.10 \
	  --python-platform x86_64-unknown-linux-gnu --target $(SITE) -r requirements/detectron2.lock
else
	$(INSTALL) --no-deps --no-build-isolation "$(DETECTRON2)"
endif
	if grep -q '^tools/' $(SITE)/*detectron2*.dist-info/RECORD; then rm -rf $(SITE)/tools; fi
	@echo '$(DETECTRON2)' > $@

$(READY): $(VENV)/.detectron2 setup.cfg pyproject.toml
	$(INSTALL) --no-deps --no-build-isolation --editable .
	$(PY) tools/verify_install.py
	@touch $@

lock: $(VENV)/.locked ## Resolve the newest versions that setup.cfg allows into requirements/*.lock
	$(COMPILE) --universal setup.cfg --extra dev -o requirements/requirements.lock
	$(COMPILE) --universal requirements/bootstrap.in -c requirements/requirements.lock -o requirements/bootstrap.lock
	$(COMPILE) --no-deps --only-binary :all: --python-platform x86_64-unknown-linux-gnu \
	  requirements/detectron2.in -o requirements/detectron2.lock

check: $(READY) ## Lint, format, types, import directions and house rules
	$(VENV)/bin/ruff check $(ROOMS)
	$(VENV)/bin/ruff format --check $(ROOMS)
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-cache
	$(PY) tools/dev/check_house.py

format: $(READY) ## Mend what ruff can mend
	$(VENV)/bin/ruff check --fix $(ROOMS)
	$(VENV)/bin/ruff format $(ROOMS)

test: $(READY) ## Run the tests
	$(PY) -m pytest $(TESTS)

test-browser: $(READY) ## Test viewer and reports in a real browser (chromium or chrome; BROWSER=its path)
	$(INSTALL) --constraint requirements/requirements.lock 'playwright >= 1.50'
	MHKD_BROWSER=$(or $(BROWSER),required) $(PY) -m pytest tests/mhkd/inference/viewer/test_static.py

test-gpu: $(READY) ## Run the tests that need a GPU; without one they are skipped, and say so
	$(PY) -m pytest tests/gpu -m gpu -rs

clean: ## Remove caches and build leftovers; slides, runs and the environment stay
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find $(ROOMS) configs -name __pycache__ -type d -prune -exec rm -rf {} +

##@ Data

.PHONY: demo-slides tiles

demo-slides: data/demo/slides.csv ## Make the demo cohort: procedural kidney slides with annotations

data/demo/slides.csv: | $(READY)
	$(PY) tools/make_demo_slides.py --output-dir $(@D) $(if $(WORKERS),--workers $(WORKERS))

tiles: $(TILES)/manifest.json ## Cut SLIDES into teacher and student tiles

$(TILES)/manifest.json: $(SLIDES) | $(READY)
	$(PY) tools/make_tiles.py $(SLIDES) --output-dir $(TILES) $(if $(WORKERS),--workers $(WORKERS)) $(TILE_OPTS)

##@ Training (each step builds what is missing before it; an interrupted one goes on where it stopped)

.PHONY: train-teacher train-step1 train-step2 train-step3 train-baseline

# One-stage detectors have no step 2: their step 3 follows step 1.
MODELS := $(foreach m,teacher baseline_independent baseline_strict step1 step2 step3,$(if $(wildcard $(CONFIGS)/$(m).yaml),$(m)))
detector = $(OUT)/$(1)/detector.pth
DETECTORS := $(foreach model,$(MODELS),$(call detector,$(model)))
train = $(PY) tools/train.py --config-file $(CONFIGS)/$(@D:$(OUT)/%=%).yaml --tiles $(TILES) --output-dir $(@D) $(1) \
  $(if $(SEED),--seed $(SEED)) $(if $(DEVICE),--device $(DEVICE)) $(OPTS)
TEACHER := $(call detector,teacher)
# With the teacher's weights, unless the configuration says itself what it begins with.
from_teacher = $(if $(shell grep -s '^ *INIT:' $(CONFIGS)/$(1).yaml),,--init $(TEACHER))

train-teacher: $(TEACHER) ## Step 0: the high-resolution teacher
train-step1: $(call detector,step1) ## Global features: phase 1 (basic), then phase 2 (adaptive)
train-step2: $(call detector,step2) ## Local features: phase 3
train-step3: $(call detector,step3) ## Semantic information: phase 4, the final student
train-baseline: $(call detector,baseline_independent) $(call detector,baseline_strict) ## The students without distillation

$(DETECTORS): $(OUT)/%/detector.pth: $(CONFIGS)/%.yaml \
  $(wildcard $(CONFIGS)/Base-*.yaml configs/Base-*.yaml) $(TILES)/manifest.json | $(READY)

$(TEACHER) $(call detector,baseline_independent):
	$(call train,$(if $(INIT),--init $(INIT)))

$(call detector,baseline_strict): $(TEACHER)
	$(call train,$(call from_teacher,baseline_strict))

$(call detector,step1): $(TEACHER)
	$(call train,--teacher $(TEACHER) $(call from_teacher,step1))

$(call detector,step2): $(CONFIGS)/step2.yaml $(call detector,step1)
	$(call train,--teacher $(TEACHER) --init $(call detector,step1))

BEFORE_STEP3 := $(call detector,$(if $(filter step2,$(MODELS)),step2,step1))
$(call detector,step3): $(BEFORE_STEP3)
	$(call train,--teacher $(TEACHER) --init $(BEFORE_STEP3))

##@ The model that comes with mhkd (docs/model_card.md)

.PHONY: bundled
BUNDLED := CONFIGS=configs/bundled SLIDES=data/bundled/slides.csv OUT=output/bundled

bundled: | $(READY) ## Train it again, from slides to mhkd/deploy; REAL is a table of the AIDPATH tiles
	$(if $(REAL),,$(error give REAL=slides.csv, the table of the AIDPATH tiles: docs/model_card.md))
	$(MAKE) output/demo/teacher/detector.pth CONFIGS=configs/demo OUT=output/demo SLIDES=data/demo/slides.csv
	$(PY) tools/make_demo_slides.py --varied --seed 11 --train 36 --val 6 --test 6 --slide-mm 2.6 2.2 \
	  --output-dir data/bundled/procedural
	$(PY) tools/mix_tables.py data/bundled/procedural/slides.csv $(REAL) --source aidpath --output data/bundled/slides.csv
	$(MAKE) train-step3 $(BUNDLED) INIT=output/demo/teacher/detector.pth
	$(PY) tools/register_model.py output/bundled/step3/detector.pth --name glomeruli-8um --card configs/bundled/card.json \
	  --score-thresh 0.89 --folder mhkd/deploy

##@ Results

.PHONY: evaluate demo view

evaluate: $(OUT)/evaluation/evaluation.json ## Score teacher, baselines and students on the test slides
	@cat $(OUT)/evaluation/evaluation.md

$(OUT)/evaluation/evaluation.json: $(DETECTORS) | $(READY)
	$(PY) tools/evaluate.py --slides $(SLIDES) --tiles $(TILES) --output-dir $(@D) \
	  $(foreach model,$(MODELS),--model $(model)=$(call detector,$(model))) $(if $(DEVICE),--device $(DEVICE)) > /dev/null

demo: $(OUT)/unseen/.done evaluate ## Everything on the demo slides: cut, train, detect on an unseen slide, score
	@printf '%s\n' 'unseen slide:' $(OUT)/unseen/unseen.{overlay.jpg,geojson,csv} 'table as JSON:' $(OUT)/evaluation/evaluation.json

view: $(READY) ## Look at RESULTS on SLIDES (a table, a folder, slides) in the browser
	$(PY) tools/view.py $(RESULTS) $(wildcard $(SLIDES))

$(OUT)/unseen/.done: $(call detector,step3) | $(READY)
	IFS=, read -r slide annotation mpp rest < <(sed 1d data/demo/unseen.csv); \
	  $(PY) tools/infer_wsi.py data/demo/$$slide --mpp $$mpp --checkpoint $< --output-dir $(@D) \
	    $(if $(DEVICE),--device $(DEVICE))
	@touch $@

# A finished file outlives an interruption of whatever its recipe did after it.
.PRECIOUS: data/demo/slides.csv $(TILES)/manifest.json $(DETECTORS) $(OUT)/evaluation/evaluation.json
