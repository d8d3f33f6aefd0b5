# make demo   install, watch a hard Sudoku being solved, train a 4x4 solver, measure it
# make test   install the tools too; every check
# make lint   the quick checks alone
# make fuzz   20,000 damaged files for each parser: hours
# make clean  remove what the above have made, runs/ and data/ excepted
# Another interpreter: make PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt
PUZZLE := .1..3..12..4..3.
HARD := 6.........2..3..5..58.21.7.....9....2.5....9..9....3.7.7..5..3...1......5..8....4

.PHONY: demo test lint fuzz clean

demo: $(VENV)/installed
	$(BIN)/ostinato solve $(HARD) --watch
	$(BIN)/ostinato train sudoku4-tiny
	$(BIN)/ostinato eval runs/sudoku4-tiny
	$(BIN)/ostinato solve runs/sudoku4-tiny $(PUZZLE) --watch
	@echo
	@echo "What next?"
	@echo "  $(BIN)/ostinato solve runs/sudoku4-tiny PUZZLE   a puzzle of your own: 16 digits, dots for blanks"
	@echo "  $(BIN)/ostinato train sudoku9-easy               9x9 boards: 20 minutes to two hours"
	@echo "  $(BIN)/ostinato --help                           everything else"

test: lint
	$(BIN)/pytest --no-header --numprocesses auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder --durations 5

lint: $(VENV)/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports --no-logo --no-cache

fuzz: $(VENV)/installed-dev
	$(BIN)/pytest tests/fuzz --override-ini addopts=--import-mode=importlib \
		--hypothesis-profile fuzz --timeout 0 --numprocesses auto

$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Ostinato needs Python 3.11 or newer: make PYTHON=python3.11')"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing PyTorch into $(VENV), a few hundred megabytes ..."
	@$(PIP) torch
	@echo "Installing Ostinato ..."
	@$(PIP) -e .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	@echo "Installing what the tests need ..."
	@$(PIP) -e ".[dev]"
	@touch $@

clean:
	rm -rf $(VENV) dist .hypothesis .pytest_cache .ruff_cache
	find ostinato tests -name __pycache__ -prune -exec rm -rf {} +
