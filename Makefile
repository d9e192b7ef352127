# Everything needs Python 3.11+, git and make; nothing needs root, containers or a GPU.
PYTHON ?= python3
VENV   ?= .venv
WORKERS ?= 2
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
DEV    := $(VENV)/.installed-dev

# Tests and recipes start hundreds of interpreters: without bytecode files each of them compiles the package anew.
unexport PYTHONDONTWRITEBYTECODE

VLLM   ?= .venv-vllm/bin/vllm

HARBOR ?= .venv-harbor/bin/python
PYTHON312 ?= python3.12

.PHONY: help setup demo test slow vllm harbor agents integrations lint format docs bench lab lock clean

help:  ## show this help
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(DEV)  ## install everything at the pinned versions into .venv

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "swebench_lab needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) -V 2>&1). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[notebook,chat]'
	@touch $@

$(DEV): $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(STAMP)  ## run the main job on the bundled tasks: real bugs, real sandboxes, graded rollouts
	$(BIN)/swebench-lab recipe run quickstart --preset demo --run-dir runs/demo

test: $(DEV)  ## lint, check types and run the test suite
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations=20

slow: $(DEV)  ## run the tests that take long: every attack on every tier, notebooks, browsers
	$(BIN)/python -m pytest -m slow

vllm: $(DEV)  ## run the tests that need vLLM, its CPU build in a venv of its own; VLLM=PROGRAM: one that is there
	@test -x $(VLLM) || $(BIN)/python tests/vllm_venv.py .venv-vllm
	SWEBENCH_LAB_VLLM=$(abspath $(VLLM)) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -s -m slow tests/training/test_served.py tests/policies/serving/test_vllm.py tests/agents/external/test_served_agents.py
	SWEBENCH_LAB_VLLM=$(abspath $(VLLM)) OMP_NUM_THREADS=1 $(dir $(VLLM))python -m pytest -s -m slow tests/integrations/test_openenv_vllm.py

harbor: $(DEV)  ## compare with Harbor's own package, and run every demo task by it; in a venv of its own (HARBOR=PYTHON: one that has both)
	@$(HARBOR) -c 'import harbor, pytest' 2>/dev/null || { $(BIN)/python -m uv venv --quiet --clear --python $(PYTHON312) .venv-harbor && \
	  $(BIN)/python -m uv pip install --quiet --python .venv-harbor/bin/python --editable '.[harbor]' pytest; }
	SWEBENCH_LAB_HARBOR_PYTHON=$(abspath $(HARBOR)) $(BIN)/python -m pytest tests/tasks/test_to_harbor.py tests/tasks/test_harbor_rewards.py
	$(HARBOR) -m pytest -s -m slow -p no:warnings tests/integrations/test_harbor.py

agents: $(DEV)  ## run the agents of others, from npm and PyPI, on demo bugs in boxes without a network
	LAB_REAL_AGENTS=1 $(BIN)/python -m pytest -m slow -s tests/agents/external/test_real_agents.py

integrations: $(DEV)  ## run the tests of each tool that can use this package, in a venv of its own; PYTHON312=PROGRAM
	$(BIN)/python tests/integrations/venvs.py .venv-integrations $(PYTHON312)

lint: $(DEV)  ## lint, check formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(DEV)  ## format code and strip notebook outputs
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/nbstripout notebooks/*.ipynb recipes/*.ipynb

docs: $(DEV)  ## write the API reference from the docstrings, to docs/api/swebench_lab.html
	$(BIN)/python -m pdoc --docformat google --output-directory docs/api swebench_lab '!swebench_lab\.(?!errors$$)' swebench_lab.agents.configs swebench_lab.experiments.plots swebench_lab.rollouts.rewards swebench_lab.snapshots.specs swebench_lab.testing.conformance swebench_lab.testing.doctor.probe swebench_lab.training.model.pretrained

bench: $(DEV)  ## measure sandboxes and collections against baselines in one run
	$(BIN)/python -m tests.benchmarks --docs docs

lab: $(STAMP)  ## open JupyterLab on the notebooks
	$(BIN)/jupyter lab --notebook-dir .

lock: $(DEV)  ## choose the newest versions that fit and pin them in constraints.txt
	@echo '# Versions the project is tested with, for every Python from 3.11 on. Written by `make lock`.' > constraints.txt
	$(BIN)/uv pip compile pyproject.toml --extra all --extra dev --universal --python-version 3.11 --upgrade \
	  --no-annotate --no-header --quiet | grep -vE '^(pip|setuptools)==' >> constraints.txt

clean:  ## remove what the other targets made here (the shared Snapshot cache stays; see swebench-lab gc)
	rm -rf $(VENV) .venv-vllm .venv-harbor .venv-integrations runs build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
