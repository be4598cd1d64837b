# `make help` lists the targets. The first target that runs creates .venv.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.stamp

.DEFAULT_GOAL := help
.PHONY: help setup train ablation models validation gallery wandb-sync bench bench-gpu test test-fast lint docs wheel clean

# ABLATION=full is the published setting and needs a GPU. MODELS=b0,b1,b2 downloads weights from the
# model hub once.
ABLATION ?= small
# Seeds of each row of the ablation. More seeds are added to the finished runs of fewer.
SEEDS ?= 3
MODELS ?= lite0,lite1,lite2
# Parallel jobs of a sweep: as many as fit on the GPUs, or two on a CPU.
AT_ONCE := hydra.launcher.jobs=$(if $(shell nvidia-smi --list-gpus 2>/dev/null),null,2)

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

setup: $(STAMP)  ## create .venv and install the pinned versions

$(STAMP): requirements.lock pyproject.toml
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

train: $(STAMP)  ## the main job: rendered products, two folds, their ensemble and a submission
	$(PY) train.py -m experiment=quickstart fold=0,1 $(AT_ONCE)
	$(PY) -m product_cls.ensemble runs=multirun/quickstart

# The report lists failed jobs, so it is written even if some failed.
ablation: $(STAMP)  ## ablation of recipe A: the value of each step, as table, plot and report.html
	$(PY) train.py -m sweep=ablation experiment=ablation_$(ABLATION) $(AT_ONCE) \
		"seed=range(0,$(SEEDS))"; status=$$?; \
	$(PY) -m product_cls.report runs=multirun/ablation_$(ABLATION) && exit $$status

models: $(STAMP)  ## model sizes x 5 folds: single folds, votes, test-time augmentation
	$(PY) train.py -m sweep=models model=$(MODELS) $(AT_ONCE); status=$$?; \
	$(PY) -m product_cls.report.models runs=multirun/models && exit $$status

validation: $(STAMP)  ## compare validation on random folds and on held-out views with the test
	$(PY) train.py -m sweep=validation $(AT_ONCE); status=$$?; \
	$(PY) -m product_cls.report.validation runs=multirun/validation && exit $$status

gallery: $(STAMP)  ## contact sheets of rendered products by shape, pitch and likeness: data/gallery
	$(PY) -m product_cls.report.gallery

wandb-sync: $(STAMP)  ## upload W&B runs that were offline or lost the network
	$(PY) -m product_cls.tracking.sync

# One thread, so that compared programs do not share cores; the programs take turns.
bench: export OMP_NUM_THREADS = 1
bench: $(STAMP)  ## speed against common alternatives: tables, benchmarks/results/*.json
	$(PY) benchmarks/loading.py
	$(PY) benchmarks/augment.py
	$(PY) benchmarks/adamp.py
	$(PY) benchmarks/train_step.py
	$(PY) benchmarks/timm_script.py
	$(PY) benchmarks/inference.py
	$(PY) benchmarks/predict.py
	$(PY) benchmarks/growth.py
	$(PY) benchmarks/start_up.py
	$(PY) benchmarks/sweeps.py

# gpu.py comes first: without a GPU it fails with a message and ends the target.
GPU := models=[b0,b1,b2,nfnet_f0] size=256 batch=128
RESULTS := benchmarks/results
bench-gpu: $(STAMP)  ## benchmarks on a GPU: end to end, variants of a step, predictions
	$(PY) benchmarks/gpu.py
	$(PY) benchmarks/step_variants.py $(GPU)
	$(PY) benchmarks/adamp.py device=cuda out=$(RESULTS)/adamp_gpu.json
	$(PY) benchmarks/train_step.py model=b0 size=256 batch=128 precision=bf16-mixed steps=100 out=$(RESULTS)/train_step_gpu.json
	$(PY) benchmarks/timm_script.py models=[b0] size=256 batch=128 workers=8 pictures=12800 precision=bf16-mixed out=$(RESULTS)/timm_script_gpu.json
	$(PY) benchmarks/predict.py backbone=efficientnet_b0 size=256 pictures=2048 batch=128 bf16=true device=cuda "views=[[identity],[identity,hflip],[identity,hflip,size_320,hflip+size_320],[identity,hflip,five_crop]]" out=$(RESULTS)/predict_gpu.json

# Two workers. Each test file runs in one worker, so its fixtures are built once.
PYTEST := $(PY) -m pytest -n 2 --dist loadfile

test: $(STAMP)  ## all tests
	$(PYTEST)

test-fast: $(STAMP)  ## only the fast tests
	$(PYTEST) -m "not slow"

lint: $(STAMP)  ## ruff (lint and format), mypy, and the layers of the package
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports

docs: $(STAMP)  ## build the site into site/; broken links are errors
	$(PY) -m mkdocs build --strict

wheel: $(STAMP)  ## build the wheel into dist/
	$(PY) -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

clean:  ## remove runs, rendered pictures, image stores and caches; your own data stays
	rm -rf data/cache data/rendered-* data/letters-* data/gallery multirun/*/ multirun/mlflow.db* outputs site dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache *.egg-info
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
