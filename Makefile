# Graft: every command a user or a developer needs. `make` alone lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-print-directory

# Variables that a call may set: make run DATA=photos PARAMS="train_head.l2=0.1 fine_tune.enabled=false" OUT=outputs/try
DATA ?=
PARAMS ?=
OUT ?= outputs
NAME ?= digits
PORT ?= 5000
MODEL ?=
TASK ?=
CHECK ?=
PIPELINE ?= training
STORAGE ?=
PYTHON ?=
PROFILE ?=
REGISTRY ?=
TAG ?= latest
TORCH ?= cuda
TORCH_INDEX ?=
IMAGE_PYTHON ?= 3.11
BASE_IMAGE ?= python:$(IMAGE_PYTHON)-slim
NETWORK ?= default
CA_FILE ?= $(SSL_CERT_FILE)
DOCKER ?= docker
comma := ,
CLUSTER_RUN = --pipeline $(PIPELINE) --params "$(PARAMS)" --data "$(DATA)" --model "$(MODEL)"

WITH_TASK = $(if $(TASK),validate_data.task=$(TASK))

VENV := .venv
PY := $(VENV)/bin/python
GRAFT := $(PY) -m graft
PYTHONS := python3.11 python3.12 python3.13
# The stamp carries a hash of what is installed: a changed pin makes it stale, an unchanged one costs nothing.
SETUP_LOCK := components/requirements-setup.txt
STAMP := $(VENV)/.installed-$(shell cat pyproject.toml constraints.txt $(SETUP_LOCK) | sha256sum | cut -c1-16)

# Quiet third parties: no telemetry, no analytics.
export MLFLOW_DISABLE_TELEMETRY := true
export DVC_NO_ANALYTICS := 1
export GX_ANALYTICS_ENABLED := False
# dvc and mlflow start helpers by name
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: help
help: ## List the targets
	@awk -F':.*## ' '/^## /{printf "\n%s\n", substr($$0, 4)} /^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

## The pipeline
.PHONY: run
run: setup $(if $(DATA),,demo) ## Run the pipeline [DATA=folder or csv] [TASK=classify|segment|instances] [PARAMS="section.field=value ..."] [OUT=outputs] [FORCE=1] [RUNNER=subprocess] [CONTAINERS=1]
	@$(GRAFT) run $(if $(DATA),"$(DATA)") --params "$(strip $(WITH_TASK) $(PARAMS))" --out "$(OUT)" $(if $(FORCE),--force) $(if $(RUNNER),--runner $(RUNNER)) $(if $(CONTAINERS),--containers)

.PHONY: resume
resume: setup ## Go on with the last run at the step that failed
	@$(GRAFT) resume

.PHONY: repro
repro: setup demo ## Run the steps that changed since last time, through DVC
	@$(GRAFT) repro

.PHONY: ui
ui: setup ## Show every run and model in the MLflow UI [PORT=5000]
	@$(GRAFT) ui --port $(PORT)

.PHONY: sync
sync: setup ## Tell MLflow what it could not take while it was gone
	@$(GRAFT) sync

.PHONY: reproduce
reproduce: setup ## Run a recorded run again, from what MLflow knows of it, and compare digests RUN=id [OUT=outputs/reproduced]
	@$(PY) -m pipelines.reproduce "$(or $(RUN),$(error reproduce: which run? make reproduce RUN=id; make ui shows them))" $(if $(filter-out file,$(origin OUT)),--out "$(OUT)")

## The models
.PHONY: models
models: setup ## List the registered versions: aliases, metrics, why one was not promoted
	@$(GRAFT) models

.PHONY: promote
promote: setup ## Make a version the champion by hand VERSION=n
	@$(GRAFT) promote $(or $(VERSION),$(error promote: which version? make promote VERSION=n; make models lists them))

.PHONY: rollback
rollback: setup ## Make the previous champion the champion again
	@$(GRAFT) rollback

.PHONY: predict
predict: setup ## Predict a folder of images, and compare them with the test images DATA=folder [MODEL=outputs/model] [OUT=...]
	@$(GRAFT) predict "$(or $(DATA),$(error predict: which images? make predict DATA=folder))" --model "$(MODEL)" --out "$(if $(filter-out file,$(origin OUT)),$(OUT),outputs/predictions)"

.PHONY: adapt
adapt: setup ## Adapt a model to images nobody has labelled, if that is safe DATA=folder [MODEL=models:/name@champion] [CHECK=labelled.csv] [OUT=...] [PARAMS="adapt.method=standardise"]
	@$(GRAFT) adapt "$(or $(DATA),$(error adapt: which images? make adapt DATA=folder))" --model "$(MODEL)" --check "$(CHECK)" --params "$(PARAMS)" --out "$(if $(filter-out file,$(origin OUT)),$(OUT),outputs/adapted)"

.PHONY: adapt-demo
adapt-demo: setup ## Adapt the demo's model (make run) to scanned digits of other writers, without their labels [MODEL=...]
	@$(PY) -m graft.demo.scanned_digits
	@$(GRAFT) adapt data/scanned_digits/images --check data/scanned_digits/check.csv --model "$(MODEL)" --params adapt.domain=scanned_digits --out outputs/adapt-demo

.PHONY: tasks-demo
tasks-demo: setup ## Run the pipeline on digits that are asked two questions: which digit, and whether it is even
	@$(PY) -m graft.demo.task_digits
	@$(PY) -m pipelines.cli run --data data/task_digits --params "validate_data.labels=[digit,parity] register_model.name=task-digits $(PARAMS)" --out outputs/tasks-demo

.PHONY: update
update: setup ## Add new labelled images to a model, examine it on old and new, and register it DATA=folder or csv [MODEL=models:/name@champion] [PARAMS=...] [OUT=...]
	@$(GRAFT) update "$(or $(DATA),$(error update: which images? make update DATA=folder))" --model "$(MODEL)" --params "$(PARAMS)" --out "$(if $(filter-out file,$(origin OUT)),$(OUT),outputs/update)"

.PHONY: history
history: setup ## Show what a model has learnt, in order, and what it knows of it [MODEL=models:/name@champion]
	@$(GRAFT) history --model "$(MODEL)"

.PHONY: forget
forget: setup ## Make a model that never saw some images FILE=ids.csv DATA=folder [MODEL=models:/name@champion] [OUT=...]
	@$(GRAFT) forget "$(or $(FILE),$(error forget: which images? make forget FILE=ids.csv DATA=folder))" "$(or $(DATA),$(error forget: where are they? make forget FILE=ids.csv DATA=folder))" --model "$(MODEL)" --out "$(if $(filter-out file,$(origin OUT)),$(OUT),outputs/forget)"

.PHONY: export
export: setup ## Write a model as a torch.export program and ONNX to outputs/export [MODEL=outputs/model] [INT8=1] [HUB=1]
	@$(GRAFT) export --model "$(MODEL)" $(if $(INT8),--int8) $(if $(HUB),--hub)

.PHONY: kserve
kserve: setup ## Write the champion as a KServe InferenceService to outputs/kserve.yaml [STORAGE=s3://...]
	@$(GRAFT) kserve --storage "$(STORAGE)"

.PHONY: serve
serve: PORT = 5001
serve: setup ## Serve the champion over HTTP [PORT=5001]
	@$(GRAFT) serve --port $(PORT) --out "$(OUT)"

.PHONY: try
try: PORT = 5001
try: setup ## Show a page that takes pictures and shows the champion's answers [PORT=5001] [OUT=outputs]
	@$(GRAFT) try --port $(PORT) --out "$(OUT)"

## Data
.PHONY: demo
demo: setup ## Write the demo's digits to data/digits
	@$(GRAFT) demo

.PHONY: data
data: setup ## Download a public data set to data/NAME: NAME=hymenoptera, flower_photos, cats_vs_dogs, penn_fudan
	@$(PY) -m $(if $(filter digits,$(NAME)),graft.demo.demo_digits,graft.data.public_datasets "$(NAME)")

.PHONY: doctor
doctor: setup ## Look at a folder of images for some seconds: how it is read, what is odd, what a run will do DATA=folder [PARAMS=...]
	@$(GRAFT) doctor $(if $(PARAMS),--params "$(PARAMS)") "$(or $(DATA),$(error doctor: which images? make doctor DATA=folder))"

.PHONY: validate
validate: setup ## Check a folder of images and write a page about it DATA=folder or csv [TASK=classify|segment|instances] [OUT=outputs/data] [PARAMS=...]
	@$(GRAFT) validate $(if $(TASK)$(PARAMS),--params "$(strip $(WITH_TASK) $(PARAMS))") "$(or $(DATA),$(error validate: which images? make validate DATA=folder))" --out "$(if $(filter outputs,$(OUT)),outputs/data,$(OUT))"

.PHONY: relabel
relabel: setup ## Apply a reviewed queue of label errors as a new data version FILE=queue.csv [DATA=folder or csv] [NEW_CLASSES=1]
	@$(PY) -m graft.data.relabel $(if $(DATA),--data "$(DATA)") $(if $(NEW_CLASSES),--new-classes) "$(or $(FILE),$(error relabel: which queue? make relabel FILE=queue.csv))"

## Containers and Kubeflow (docs/kubeflow.md)
.PHONY: images
images: setup ## Build the steps' images [REGISTRY=host/team] [TAG=latest] [TORCH=cuda|index|mounted] [IMAGE_PYTHON=3.11] [BASE_IMAGE=...] [NETWORK=host]
	@$(PY) -m components.wheel outputs/images/wheel >/dev/null
	@for target in data torch; do \
	  DOCKER_BUILDKIT=1 $(DOCKER) build --file components/Dockerfile --target $$target --network $(NETWORK) \
	    --tag $(if $(REGISTRY),$(REGISTRY)/)graft-python-$$target:$(TAG) \
	    --build-arg BASE_IMAGE=$(BASE_IMAGE) --build-arg TORCH=$(TORCH) --build-arg TORCH_INDEX=$(TORCH_INDEX) \
	    --build-arg REVISION=$$(git rev-parse HEAD 2>/dev/null || echo unknown) --build-arg SOURCE_DATE_EPOCH=0 \
	    $(if $(CA_FILE),--secret id=ca$(comma)src=$(CA_FILE)) . ; \
	  mkdir -p outputs/images; $(PY) -m components.sbom $$target $(TORCH) > outputs/images/graft-python-$$target.cdx.json; \
	done

.PHONY: push
push: setup ## Push the images, and write their references by digest for a profile REGISTRY=host/team [TAG=latest]
	@$(PY) -m components.push --registry "$(or $(REGISTRY),$(error push: where to? make push REGISTRY=host/team))" --tag "$(TAG)" --docker "$(DOCKER)"

.PHONY: compile
compile: setup ## Write a pipeline for Kubeflow to outputs/PIPELINE.yaml [PIPELINE=training|batch|update|adapt] [PROFILE=k8s or file] [PARAMS=...] [DATA=...] [MODEL=...]
	@$(GRAFT) compile $(CLUSTER_RUN) --profile "$(PROFILE)"

.PHONY: submit
submit: setup ## Run on the cluster at KF_PIPELINES_ENDPOINT [PIPELINE=training|batch|update|adapt] [PROFILE=k8s or file] [PARAMS=...] [DATA=...] [MODEL=...]
	@$(GRAFT) submit $(CLUSTER_RUN) --profile "$(or $(PROFILE),k8s)"

.PHONY: test-containers
test-containers: setup ## Build the images and run the pipeline in them; starts a container engine if none answers
	@.ci/containers

## The project
.PHONY: setup
setup: $(STAMP) ## Make .venv from the locked packages, if it is missing or stale [PYTHON=python3.11] [TORCH_INDEX=...]
	@:

$(STAMP):
	@python=""; \
	for candidate in $(or $(PYTHON),$(PYTHONS) python3); do \
	  if "$$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python="$$candidate"; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "setup: no Python 3.11 or newer with venv found (looked for $(or $(PYTHON),$(PYTHONS) python3)); install one or name it: make setup PYTHON=/path/to/python" >&2; exit 1; \
	fi; \
	[ -x $(PY) ] || "$$python" -m venv $(VENV); \
	echo "setup: installing the locked packages into $(VENV) (some minutes the first time)"; \
	pip() { $(PY) -m pip install --progress-bar off --disable-pip-version-check --no-deps --no-build-isolation "$$@" \
	  | awk '/^ *Downloading .*[MG]B\)/ {print "  " $$1, $$2, $$3, $$4} /^Installing collected/ {print "  installing", NF - 3, "packages"} {fflush()}'; }; \
	pip --require-hashes -r components/requirements-build.txt; \
	if [ -z "$(TORCH_INDEX)" ]; then pip --require-hashes -r $(SETUP_LOCK); else \
	  pip --require-hashes -r <(grep -vE '^(torch|torchvision|triton|nvidia-|cuda-)' $(SETUP_LOCK)); \
	  pip --index-url "$(TORCH_INDEX)" $$(grep -E '^(torch|torchvision)==' constraints.txt); \
	fi; \
	pip -e .; \
	rm -f $(VENV)/.installed-*; touch $(STAMP)

PYTEST = $(PY) -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder --max-worker-restart 0 --durations 10

.PHONY: test
test: setup ## Run all tests but the slow ones [PARAMS="-k name"]
	@$(PYTEST) -m "not slow and not containers and not faults" $(PARAMS)

.PHONY: test-all
test-all: setup ## Run every test, then those of make test on each other supported Python that is found [PARAMS="-k name"]
	@$(PYTEST) $(PARAMS)
	@for python in $$(.ci/pythons $(PYTHONS)); do $(MAKE) test-python PYTHON="$$python"; done

.PHONY: test-python
test-python: ## Run the tests of make test on another Python, in an environment of its own PYTHON=python3.13
	@version=$$($(or $(PYTHON),$(error test-python: which one? make test-python PYTHON=python3.13)) \
	  -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	echo "the tests on Python $$version"; $(MAKE) test VENV=$(VENV)-$$version

FAULTS = outputs/faults.jsonl

.PHONY: test-faults
test-faults: setup ## Inject faults: damaged files, kills, full disks, bad requests; counts into docs/reliability.md
	@mkdir -p outputs; rm -f $(FAULTS)
	@GRAFT_FAULTS_RESULTS=$(CURDIR)/$(FAULTS) $(PYTEST) -m "not slow" tests/faults $(PARAMS)
	@$(PY) -m tests.faults.table $(FAULTS)

.PHONY: soak
soak: setup ## The same for half an hour: more of each, whole pipelines killed, ten minutes of traffic, guards removed
	@mkdir -p outputs; rm -f $(FAULTS)
	@GRAFT_FAULTS_RESULTS=$(CURDIR)/$(FAULTS) GRAFT_FAULTS_SCALE=2 GRAFT_FUZZ_SECONDS=120 GRAFT_SOAK_SECONDS=600 \
	  GRAFT_KILLED_PIPELINES=8 GRAFT_KILLED_STEPS=50 timeout 1250 $(PYTEST) tests/faults $(PARAMS)
	@$(PY) -m tests.faults.table $(FAULTS)
	@GRAFT_FUZZ_SECONDS=4 timeout 540 $(PY) -m tests.faults.mutants

.PHONY: audit
audit: setup ## List what is installed with its licences in outputs/audit, and look for known vulnerabilities
	@$(PY) -m components.audit

.PHONY: bench
bench: setup ## Compare speed and accuracy with naive loops and fastai, into docs/benchmarks.md [PARAMS="decode forward"]
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -r benchmarks/requirements.txt
	@$(PY) -m benchmarks $(PARAMS)

.PHONY: lint
lint: setup ## Check style, types and which wing imports which
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy
	@$(VENV)/bin/lint-imports --no-cache

.PHONY: lock
lock: setup ## Write the requirements with hashes, after a change of constraints.txt or of an extra
	@$(PY) -m components.lock

.PHONY: format
format: setup ## Format the code; update the code dependencies in dvc.yaml and the diagram in docs/architecture.md
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .
	@$(PY) -m pipelines.code
	@$(PY) -m tests.support.wing_graph

.PHONY: clean
clean: ## Remove what runs and tools leave behind (outputs, artifacts); keeps data, .venv, mlruns and .graft-cache
	@rm -rf outputs artifacts .mypy_cache .ruff_cache .pytest_cache .hypothesis
