# `make demo` and `make test` do all the set-up themselves: .venv, pip, the locked dependencies.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
CHECK  := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.PHONY: demo test test-slow lint bench clean

demo: $(VENV)/.installed
	$(BIN)/dualsight demo

test: $(VENV)/.installed-dev
	$(CHECK) -n 2 -m "not slow"

test-slow: $(VENV)/.installed-dev
	$(CHECK) -m slow --timeout 1800

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/ty check src

bench: $(VENV)/.installed-dev
	for file in benchmarks/*.py; do $(BIN)/python $$file || exit 1; done

$(VENV)/.installed: pyproject.toml constraints.txt tools/venv.py
	$(PYTHON) tools/venv.py $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[sim,video]"
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[sim,video,gl,lora,dev]"
	touch $@

clean:
	rm -rf $(VENV) runs
