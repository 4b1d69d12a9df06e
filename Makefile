# Each target makes the virtual environment it needs: `make demo`, `make test`, `make lint` work on a fresh clone.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# Without an NVIDIA GPU, the constraints keep several GB of CUDA packages away where pip knows an index of CPU builds:
#     make demo PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
CONSTRAINTS := $(if $(shell command -v nvidia-smi 2>/dev/null),,-c constraints-cpu.txt)

# The page's JavaScript is checked by tools from npm; the page itself needs none of them.
NODE_STAMP := node_modules/.installed
.PHONY: demo test lint lint-python lint-page format docs pages site dist clean

demo: $(STAMP)
	$(BIN)/upicker demo $(if $(OUT),--out $(OUT))

test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: lint-python lint-page

lint-python: $(STAMP)
	$(BIN)/ruff check src tests benchmarks plugins docs packaging
	$(BIN)/ruff format --check src tests benchmarks plugins docs packaging
	$(BIN)/pyright --pythonpath $(BIN)/python

ifneq ($(shell command -v npm 2>/dev/null),)
lint-page: $(NODE_STAMP)
	npm run --silent lint
	npm run --silent types
else
lint-page:
	@echo "npm is not installed: the page's JavaScript is NOT checked (Node 20.19 or newer brings npm)"; test -z "$(CI)"
endif

format: $(STAMP)
	$(BIN)/ruff check --fix src tests benchmarks plugins docs packaging
	$(BIN)/ruff format src tests benchmarks plugins docs packaging

docs: pages site

# The pages that are made from the code; tests check that they are current.
pages: $(STAMP)
	$(BIN)/upicker config --markdown > docs/config.md
	$(BIN)/python docs/formats.py
	$(BIN)/python docs/manpage.py

# The source distribution and the wheel that is built from it, checked and tried.
dist: $(STAMP)
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl
	packaging/try_wheel.sh $(BIN)/python dist/*.whl

# The site: build/docs/index.html. A warning, such as a link that leads nowhere, is an error.
site: $(STAMP)
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going --nitpicky docs build/docs

$(STAMP): pyproject.toml constraints-cpu.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'Python 3.11 or newer is needed: make $(MAKECMDGOALS) PYTHON=python3.12'; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(CONSTRAINTS) -e '.[dev]'
	@touch $@

$(NODE_STAMP): package.json package-lock.json
	npm ci --no-audit --no-fund
	@touch $@

clean:
	rm -rf $(VENV) node_modules build dist .pytest_cache .ruff_cache .hypothesis
	find src tests benchmarks -name __pycache__ -prune -exec rm -rf {} +
