# Each target makes the virtual environment it needs: `make demo`, `make test`, `make lint` work on a fresh clone.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# Without an NVIDIA GPU, the constraints keep several GB of CUDA packages away.
CONSTRAINTS := $(if $(shell command -v nvidia-smi 2>/dev/null),,-c constraints-cpu.txt)

.PHONY: demo test lint format docs clean

demo: $(STAMP)
	$(BIN)/upicker demo $(if $(OUT),--out $(OUT))

test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check src tests benchmarks plugins docs
	$(BIN)/ruff format --check src tests benchmarks plugins docs
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(STAMP)
	$(BIN)/ruff check --fix src tests benchmarks plugins docs
	$(BIN)/ruff format src tests benchmarks plugins docs

# The pages that are made from the code; tests check that they are current.
docs: $(STAMP)
	$(BIN)/upicker config --markdown > docs/config.md

$(STAMP): pyproject.toml constraints-cpu.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'Python 3.11 or newer is needed: make $(MAKECMDGOALS) PYTHON=python3.12'; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(CONSTRAINTS) -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis
	find src tests benchmarks -name __pycache__ -prune -exec rm -rf {} +
