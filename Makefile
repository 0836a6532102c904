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
OUT ?= output/$(RUN)##         where tiles, detectors and tables go: RUN names the table, the configs and the seed
TILES ?= $(OUT)/tiles##        folder of the tile pairs
TILE_OPTS ?=##                 options of tools/make_tiles.py, which win over CONFIGS/tiles.yaml
INIT ?=##                      weights that teacher and independent baseline begin with; empty: ImageNet's
SEED ?=##                      seed of training; empty: the tool's default
BROWSER ?=##                   the browser of `make test-browser`; empty: the first that is found
REAL ?=##                      table of the real tiles that `make bundled` trains on
RESULTS ?= output/inference##  the results that `make view` shows, of SLIDES
DEVICE ?=##                    cpu or cuda; empty: cuda where there is one
WORKERS ?=##                   processes that read slides; empty: the tool's default
OPTS ?=##                      config overrides for training, "KEY VALUE KEY VALUE"
TESTS ?= tests##               what `make test` runs, such as TESTS="tests/mhkd -k merge"

# A folder may hold a space, which make takes for the end of a name: a path is `quoted` in a recipe and `escaped` where
# it is a target or a prerequisite, and never goes through a function that works on words.
space := $() $()
quoted = '$(subst ','\'',$(1))'
escaped = $(subst $(space),\ ,$(1))
underscored = $(subst ',_,$(subst $(space),_,$(1)))
without_slash = $(subst <end>,,$(subst /<end>,,$(1)<end>))
override CONFIGS := $(call without_slash,$(CONFIGS))
# No run shows the results of another: output/demo and output/fcos for the demo's table; for another one, after its name
# (of a slides.csv: its folder's), output/hubmap/resnet50; with SEED=2, output/demo-seed2.
DEMO_TABLE := data/demo/slides.csv
OTHER_TABLE := $(if $(subst $(DEMO_TABLE),,$(SLIDES)),$(call underscored,$(SLIDES)))
FOLDER := $(filter-out . ..,$(notdir $(patsubst %/,%,$(dir $(OTHER_TABLE)))))
TABLE := $(basename $(notdir $(OTHER_TABLE)))
COHORT := $(or $(if $(filter slides,$(TABLE)),$(FOLDER)),$(TABLE))
RUN := $(addsuffix /,$(COHORT))$(notdir $(call underscored,$(CONFIGS)))$(addprefix -seed,$(SEED))
override OUT := $(call without_slash,$(OUT))
override TILES := $(call without_slash,$(TILES))
CONFIGS_DIR := $(call escaped,$(CONFIGS))
OUT_DIR := $(call escaped,$(OUT))
MANIFEST := $(call escaped,$(TILES))/manifest.json

BIN := $(call quoted,$(VENV)/bin)
PY := $(BIN)/python
UV := $(BIN)/uv pip
INSTALL := $(UV) install --quiet --python $(PY)
COMPILE := $(UV) compile --quiet --upgrade --generate-hashes --no-header --no-annotate --python-version 3.10
SITE = $(call quoted,$(shell $(PY) -c 'import sysconfig; print(sysconfig.get_path("purelib"))'))
VENV_DIR := $(call escaped,$(VENV))
READY := $(VENV_DIR)/.ready
ROOMS := mhkd preprocess tools tests
# Which Detectron2: empty is the wheel that requirements/detectron2.lock names. Remembered from one call to the next.
INSTALLED := $(shell cat $(call quoted,$(VENV)/.detectron2) 2>/dev/null)
DETECTRON2 ?= $(INSTALLED)##   another Detectron2, such as git+https://github.com/facebookresearch/detectron2
ifneq ($(DETECTRON2),$(INSTALLED))
$(VENV_DIR)/.detectron2: FORCE
endif

##@ Set-up and checks

.PHONY: help setup lock check format test test-browser test-gpu clean FORCE

help: ## List the targets and the variables
	@awk -F ':.*## ' '/^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' Makefile
	@printf '\nVariables (make TARGET NAME=value)\n'
	@awk -F ' *[?]= *|## *' '/^[A-Z0-9_]+ [?]=.*##/ {printf "  %-12s %s%s\n", $$1, $$3, $$2 ~ /^$$|[(]if|INST/ ? "" : " [" $$2 "]"}' Makefile

setup: $(READY) ## Make the virtual environment, install everything by hash, check that it works together

$(VENV_DIR)/.locked: $(wildcard requirements/*.lock)
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo "error: $(PYTHON) is not there or not fit ($$($(PYTHON) --version 2>&1 || true)): Python 3.10 to 3.13 is needed" \
	    "(name one: make setup PYTHON=python3.12)" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(call quoted,$(VENV))
	$(PY) -m pip install --quiet --require-hashes --only-binary :all: -r requirements/bootstrap.lock
	$(INSTALL) --require-hashes --no-build-isolation -r requirements/requirements.lock
	@touch $(call quoted,$@)

# Its dependencies are in the lock. Both its wheel and its source install a stray top-level folder called tools.
$(VENV_DIR)/.detectron2: $(VENV_DIR)/.locked
	rm -rf $(SITE)/detectron2 $(SITE)/*detectron2*.dist-info
ifeq ($(DETECTRON2),)
	$(INSTALL) --no-deps --require-hashes --only-binary :all: --python-version 3.10 \
	  --python-platform x86_64-unknown-linux-gnu --target $(SITE) -r requirements/detectron2.lock
else
	$(INSTALL) --no-deps --no-build-isolation "$(DETECTRON2)"
endif
	if grep -q '^tools/' $(SITE)/*detectron2*.dist-info/RECORD; then rm -rf $(SITE)/tools; fi
	@echo '$(DETECTRON2)' > $(call quoted,$@)

$(READY): $(VENV_DIR)/.detectron2 setup.cfg pyproject.toml
	$(INSTALL) --no-deps --no-build-isolation --editable .
	$(PY) tools/doctor.py
	@touch $(call quoted,$@)

lock: $(VENV_DIR)/.locked ## Resolve the newest versions that setup.cfg allows into requirements/*.lock
	$(COMPILE) --universal setup.cfg --extra dev -o requirements/requirements.lock
	$(COMPILE) --universal requirements/bootstrap.in -c requirements/requirements.lock -o requirements/bootstrap.lock
	$(COMPILE) --no-deps --only-binary :all: --python-platform x86_64-unknown-linux-gnu \
	  requirements/detectron2.in -o requirements/detectron2.lock

check: $(READY) ## Lint, format, types, import directions and house rules
	$(BIN)/ruff check $(ROOMS)
	$(BIN)/ruff format --check $(ROOMS)
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(PY) tools/dev/check_house.py
	$(PY) tools/evidence.py check

format: $(READY) ## Mend what ruff can mend
	$(BIN)/ruff check --fix $(ROOMS)
	$(BIN)/ruff format $(ROOMS)

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

demo-slides: $(DEMO_TABLE) ## Make the demo cohort: procedural kidney slides, 12 of them without annotations

$(DEMO_TABLE): | $(READY)
	$(PY) tools/make_demo_slides.py --output-dir $(@D) --unlabelled 12 $(if $(WORKERS),--workers $(WORKERS))

tiles: $(MANIFEST) ## Cut SLIDES into teacher and student tiles, by CONFIGS/tiles.yaml and TILE_OPTS

# Always asked: the tool skips finished slides, and touches the manifest only where it changes. Slides that failed
# (exit code 3) are an error of `make tiles`; training goes on without them, since the manifest names them.
$(MANIFEST): FORCE | $(if $(OTHER_TABLE),,$(DEMO_TABLE)) $(READY)
	$(PY) tools/make_tiles.py $(call quoted,$(SLIDES)) --output-dir $(call quoted,$(TILES)) \
	  --options-file $(call quoted,$(CONFIGS)/tiles.yaml) \
	  $(if $(WORKERS),--workers $(WORKERS)) $(TILE_OPTS) $(if $(filter tiles,$(MAKECMDGOALS)),,|| test $$? -eq 3)

##@ Training (each step builds what is missing before it; an interrupted one goes on where it stopped)

.PHONY: train-teacher pseudo-labels train-step1 train-step2 train-step3 train-baseline

# The steps are stop points of one run, in $(OUT)/distill: each goes on where the one before it stopped. Which there are
# stands in the phases that distill.yaml begins with: one-stage detectors have no step 2.
PHASES := configs/$(shell sed -n 's/^_BASE_:.*[ ,[]..\/\(phases[^] ,]*\).*/\1/p' $(call quoted,$(CONFIGS)/distill.yaml) 2>/dev/null)
STEPS := $(sort $(shell grep -oh 'STEP: *[0-9]*' $(call quoted,$(CONFIGS)/distill.yaml) $(PHASES) 2>/dev/null | grep -o '[0-9]*'))
ALONE := $(foreach m,teacher baseline_independent baseline_strict,$(if $(wildcard $(CONFIGS_DIR)/$(m).yaml),$(m)))
MODELS := $(ALONE) $(addprefix step,$(STEPS))
checkpoint = $(if $(filter step%,$(1)),distill/)$(1)/detector.pth
detector = $(OUT_DIR)/$(call checkpoint,$(1))
DETECTORS := $(foreach model,$(MODELS),$(call detector,$(model)))
TEACHER := $(call quoted,$(OUT)/$(call checkpoint,teacher))
# Always asked for, as the table may be made by this very call: without unlabelled slides nothing is searched.
LABELS := $(OUT_DIR)/pseudo_labels/labels.json
# The name of the model that a recipe makes.
model = $(notdir $(lastword $(@D)))
# $(call train,name of the configuration,further options)
train = $(PY) tools/train.py --config-file $(call quoted,$(CONFIGS)/$(1).yaml) --tiles $(call quoted,$(TILES)) \
  --output-dir $(call quoted,$(OUT)/$(1)) $(2) $(if $(SEED),--seed $(SEED)) $(if $(DEVICE),--device $(DEVICE)) $(OPTS)
# With the teacher's weights, unless the configuration says itself what it begins with.
from_teacher = $(if $(shell cd $(call quoted,$(CONFIGS)) && grep -s '^ *INIT:' $(1).yaml Base-student.yaml),,--init $(TEACHER))

train-teacher: $(call detector,teacher) ## Step 0: the high-resolution teacher
pseudo-labels: $(LABELS) ## What the teacher finds on the slides that nobody annotated; train-step1 makes them itself
train-step1: $(call detector,step1) ## Global features: phase 1 (basic), then phase 2 (adaptive)
train-step2: $(call detector,step2) ## Local features: phase 3
train-step3: $(call detector,step3) ## Semantic information: phase 4, the final student
train-baseline: $(call detector,baseline_independent) $(call detector,baseline_strict) ## The students without distillation

BASES := $(addprefix $(CONFIGS_DIR)/,$(filter Base-%,$(notdir $(wildcard $(CONFIGS_DIR)/Base-*.yaml)))) $(wildcard configs/Base-*.yaml)
$(foreach m,$(ALONE),$(eval $(call detector,$(m)): $(CONFIGS_DIR)/$(m).yaml))
$(foreach n,$(STEPS),$(eval $(call detector,step$(n)): $(CONFIGS_DIR)/distill.yaml $(wildcard $(PHASES)) $(call detector,teacher)))
$(DETECTORS): $(BASES) $(MANIFEST) | $(READY)

$(call detector,teacher) $(call detector,baseline_independent):
	$(call train,$(model),$(if $(INIT),--init $(INIT)))

$(call detector,baseline_strict): $(call detector,teacher)
	$(call train,$(model),$(call from_teacher,$(model)))

$(LABELS): $(call detector,teacher) $(MANIFEST) | $(READY)
	$(PY) tools/pseudo_labels.py --tiles $(call quoted,$(TILES)) --slides $(call quoted,$(SLIDES)) --model $(TEACHER) \
	  --output-dir $(call quoted,$(OUT)/pseudo_labels) $(if $(WORKERS),--workers $(WORKERS)) $(if $(DEVICE),--device $(DEVICE))

# In order, also where make runs several jobs at once.
$(call detector,step2): $(call detector,step1)
$(call detector,step3): $(if $(filter 2,$(STEPS)),$(call detector,step2),$(call detector,step1))
$(foreach n,$(STEPS),$(call detector,step$(n))): $(LABELS)
	$(call train,distill,--teacher $(TEACHER) $(call from_teacher,distill) \
	  --pseudo-labels $(call quoted,$(OUT)/pseudo_labels) --until-step $(subst step,,$(model)))

##@ The model that comes with mhkd (docs/model_card.md)

.PHONY: bundled
BUNDLED := CONFIGS=configs/bundled SLIDES=data/bundled/slides.csv OUT=output/bundled

bundled: | $(READY) ## Train it again, from slides to mhkd/deploy; REAL is a table of the AIDPATH tiles
	$(if $(REAL),,$(error give REAL=slides.csv, the table of the AIDPATH tiles: docs/model_card.md))
	$(MAKE) output/bundled/start/teacher/detector.pth CONFIGS=configs/demo OUT=output/bundled/start \
	  SLIDES=$(DEMO_TABLE) OPTS="SOLVER.MAX_ITER 450 SOLVER.LR_SCHEDULER_NAME WarmupMultiStepLR"
	$(PY) tools/make_demo_slides.py --varied --seed 11 --train 36 --val 6 --test 6 --slide-mm 2.6 2.2 \
	  --output-dir data/bundled/procedural
	$(PY) tools/dev/mix_tables.py data/bundled/procedural/slides.csv $(REAL) --source aidpath --output data/bundled/slides.csv
	$(MAKE) train-step3 $(BUNDLED) INIT=output/bundled/start/teacher/detector.pth
	$(PY) tools/register_model.py output/bundled/distill/step3/detector.pth --name glomeruli-8um --card configs/bundled/card.json \
	  --score-thresh 0.89 --folder mhkd/deploy

##@ Results

.PHONY: evaluate demo evidence view

evaluate: $(OUT_DIR)/evaluation/evaluation.json ## Score teacher, baselines and students on the test slides
	@cat $(call quoted,$(OUT)/evaluation/evaluation.md)

$(OUT_DIR)/evaluation/evaluation.json: $(DETECTORS) $(MANIFEST) $(OUT_DIR)/.slides | $(READY)
	$(PY) tools/evaluate.py --slides $(call quoted,$(SLIDES)) --tiles $(call quoted,$(TILES)) \
	  --output-dir $(call quoted,$(OUT)/evaluation) $(if $(DEVICE),--device $(DEVICE)) \
	  $(foreach m,$(MODELS),--model $(m)=$(call quoted,$(OUT)/$(call checkpoint,$(m)))) > /dev/null

# Which table is scored, and what it says: touched only where that is another one.
$(OUT_DIR)/.slides: FORCE | $(MANIFEST)
	@table="$$(sha256sum -- $(call quoted,$(SLIDES)))" && mkdir -p $(call quoted,$(OUT)); \
	  [ "$$table" = "$$(cat $(call quoted,$@) 2>/dev/null)" ] || printf '%s\n' "$$table" > $(call quoted,$@)

demo: $(OUT_DIR)/unseen/.done evaluate ## Everything on the demo slides: cut, train, detect on an unseen slide, score
	@printf '%s\n' 'unseen slide:' $(call quoted,$(OUT))/unseen/unseen.{overlay.jpg,geojson,csv} \
	  'table as JSON:' $(call quoted,$(OUT)/evaluation/evaluation.json)

evidence: | $(READY) ## Make the tables and figures of README and docs from docs/evidence
	$(PY) tools/evidence.py write

view: $(READY) ## Look at RESULTS on SLIDES (a table, a folder, slides) in the browser
	if [ -e $(call quoted,$(SLIDES)) ]; then set -- $(call quoted,$(SLIDES)); else set -- $(wildcard $(SLIDES)); fi; \
	  $(PY) tools/view.py $(call quoted,$(RESULTS)) "$$@"

$(OUT_DIR)/unseen/.done: $(call detector,step3) | $(DEMO_TABLE) $(READY)
	IFS=, read -r slide annotation mpp rest < <(sed 1d data/demo/unseen.csv); \
	  $(PY) tools/infer_wsi.py data/demo/$$slide --mpp $$mpp --checkpoint $(call quoted,$<) --output-dir $(call quoted,$(OUT)/unseen) \
	    $(if $(DEVICE),--device $(DEVICE))
	@touch $(call quoted,$@)

# A finished file outlives an interruption of whatever its recipe did after it.
.PRECIOUS: $(DEMO_TABLE) $(MANIFEST) $(DETECTORS) $(OUT_DIR)/evaluation/evaluation.json
