PYTHON ?= python3
BASELINE ?= meter
VENV   := .venv
BIN    := $(CURDIR)/$(VENV)/bin
VERSION := $(shell $(or $(wildcard $(BIN)/python),$(PYTHON)) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
# The versions that the tests ran with: in the file of this Python where it has one. NEWEST=1 takes today's.
KNOWN_GOOD := $(or $(wildcard constraints/known-good-$(VERSION).txt),constraints/known-good.txt)
CONSTRAINT := $(if $(NEWEST),,-c $(KNOWN_GOOD))

.PHONY: setup setup-test demo lint test test-newest test-slow test-gpu test-official known-good clean

setup: $(VENV)/.installed
$(VENV)/.installed: setup.py $(KNOWN_GOOD)
	$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or newer is needed, this is " + sys.version.split()[0]) if sys.version_info < (3, 10) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --upgrade pip "setuptools<81" wheel
	$(BIN)/python -m pip install $(CONSTRAINT) -e '.[meter,vilt,albef,xvlm]'
	touch $@

setup-test: $(VENV)/.installed-test
$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install $(CONSTRAINT) -e '.[meter,vilt,albef,xvlm,test]'
	touch $@

demo: setup
	$(BIN)/python -m demo --baseline $(BASELINE)

lint: setup-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# Today's releases, in .venv-newest, which is made anew; what differs from the known-good ones is said before and after.
test-newest:
	rm -rf .venv-newest
	$(MAKE) setup-test VENV=.venv-newest NEWEST=1
	.venv-newest/bin/python -m vlp.constraints --differs $(KNOWN_GOOD)
	$(MAKE) test VENV=.venv-newest NEWEST=1; code=$$?; \
	    .venv-newest/bin/python -m vlp.constraints --differs $(KNOWN_GOOD); exit $$code

test-slow: setup-test
	OMP_NUM_THREADS=2 $(BIN)/python -m pytest -m slow

test-gpu: setup-test
	$(BIN)/python -m pytest -m gpu tests/gpu

# EPIC_OFFICIAL_METER=CHECKOUT, or _VILT, _ALBEF, _XVLM: docs/official_checkouts.md
test-official: setup-test
	$(BIN)/python -m pytest -m official tests/official

known-good: setup-test
	$(BIN)/python -m vlp.constraints $(KNOWN_GOOD)

clean:
	rm -rf $(VENV) .venv-newest runs .mypy_cache .ruff_cache .pytest_cache
