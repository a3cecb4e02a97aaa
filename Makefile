PYTHON ?= python3
BASELINE ?= meter
VENV   := .venv
BIN    := $(CURDIR)/$(VENV)/bin

.PHONY: setup setup-test demo lint test test-slow test-gpu test-official known-good clean

setup: $(VENV)/.installed
$(VENV)/.installed: setup.py
	$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or newer is needed, this is " + sys.version.split()[0]) if sys.version_info < (3, 10) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --upgrade pip "setuptools<81" wheel
	$(BIN)/python -m pip install -e '.[meter,vilt,albef,xvlm]'
	touch $@

setup-test: $(VENV)/.installed-test
$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install -e '.[meter,vilt,albef,xvlm,test]'
	touch $@

demo: setup
	$(BIN)/python -m demo --baseline $(BASELINE)

lint: setup-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-slow: setup-test
	OMP_NUM_THREADS=2 $(BIN)/python -m pytest -m slow

test-gpu: setup-test
	$(BIN)/python -m pytest -m gpu tests/gpu

# EPIC_OFFICIAL_METER=CHECKOUT, or _VILT, _ALBEF, _XVLM: docs/official_checkouts.md
test-official: setup-test
	$(BIN)/python -m pytest -m official tests/official

known-good: setup-test
	$(BIN)/python -m vlp.constraints constraints/known-good.txt

clean:
	rm -rf $(VENV) runs .mypy_cache .ruff_cache .pytest_cache
