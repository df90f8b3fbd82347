# make demo: set up, then train the embedded policy with GRPO on freshly rendered pairs.
# make test: set up, then run the tests.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

.PHONY: setup demo test lint clean

setup: .venv/.installed

# torch goes first and alone: with a CPU build at hand, pip takes it and then leaves it in place.
.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	$(BIN)/python -m pip show --quiet bpy || $(BIN)/dig-env install-blender
	$(BIN)/dig-env doctor
	touch $@

demo: setup
	$(BIN)/dig-env train --out runs/demo

test: setup lint
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:
	rm -rf .venv runs
