# Every target works in a clean clone with nothing but python3 and its venv module.

export OMP_WAIT_POLICY = passive

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
READY = $(VENV)/.ready
WORKERS ?= 2
LIBRARY = .demo/library
DATA ?= data/samples
QUERIES ?= "a dog looking out of a window" "a red cup of coffee" "snowy mountains behind a lake"

.DEFAULT_GOAL := help
.PHONY: help demo test test-all test-ci torture check bench bench-kernels

help: ## print this list
	@awk -F ':.*## ' '/^[a-z.-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv: $(READY) ## the environment: this tree, editable, with pinned packages (VENV=, PYTHON=)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[cpu,dev]'
	mkdir -p .src
	ln -sfn .. .src/rwkvsearch
	touch $@

demo: $(READY) ## index the sample photographs with the shipped model, then ask QUERIES
	rm -rf $(LIBRARY)
	$(BIN)/rwkvsearch index data/samples/photos --library $(LIBRARY)
	@for query in $(QUERIES); do \
		echo; echo "\$$ rwkvsearch query \"$$query\" --k 3"; \
		$(BIN)/rwkvsearch query "$$query" --k 3 --library $(LIBRARY) || exit 1; \
	done

# The Triton kernels are interpreted in a process of their own: it changes triton for good. 5: no triton.
test: $(READY) ## what a change must pass, in minutes
	TRITON_INTERPRET=1 $(BIN)/pytest -n $(WORKERS) -m "not slow" tests/kernels/test_fused.py || [ $$? -eq 5 ]
	$(BIN)/pytest -n $(WORKERS) -m "not slow and not browser and not server and not scale and not gpu"

test-all: $(READY) ## every test, also the slow and the large
	TRITON_INTERPRET=1 $(BIN)/pytest -n $(WORKERS) tests/kernels/test_fused.py || [ $$? -eq 5 ]
	$(BIN)/pytest -n $(WORKERS)

test-ci: $(READY) ## the tests that drive servers and a browser, for which chromium has to be installed
	$(BIN)/pytest -n $(WORKERS) -m "(browser or server) and not slow"

torture: $(READY) ## random changes and kills of a library, for long (TORTURE_STEPS=, TORTURE_SEED=)
	TORTURE_STEPS=$${TORTURE_STEPS:-150} $(BIN)/pytest -s tests/indexer/test_torture.py

check: $(READY) ## ruff and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: $(READY) ## recall@k of the shipped model on DATA
	$(BIN)/rwkvsearch bench recall --data $(DATA)

bench-kernels: $(READY) ## Bi-WKV: every backend that runs here, then the GPU kernels compiled without a GPU
	$(BIN)/python -m rwkvsearch.kernels.bench
	$(BIN)/python -m rwkvsearch.kernels.aot
