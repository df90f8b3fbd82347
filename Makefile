# make demo: set up, then train the embedded policy with GRPO on freshly rendered pairs.
# make docs: set up, then build docs/ into build/docs, a site that needs no network.
# make test: set up, then run the tests, those with other trainers' packages included.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

# Where images set this, Python would compile torch and its like anew in every process, 17 s of them.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo docs test browser offer-browser frameworks lint clean
.PHONY: test-pythons test-blenders test-frameworks test-openenv test-lmms test-vllm

setup: .venv/.installed

$(BIN)/pip:
	$(PYTHON) -m venv .venv

# torch goes first and alone: with a CPU build at hand, pip takes it and then leaves it in place.
# Nothing is compiled ahead, which costs a minute: Python does so where a module is imported.
.venv/.installed: pyproject.toml constraints.txt | $(BIN)/pip
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable ".[all,dev]"
	$(BIN)/python -m pip show --quiet bpy || $(BIN)/dig-env install-blender
	$(BIN)/dig-env doctor
	touch $@

demo: setup
	$(BIN)/dig-env train --out runs/demo

docs: .venv/.docs
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going docs build/docs
	@echo build/docs/index.html

.venv/.docs: .venv/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	touch $@

# Two processes, since most tests use one core, as pip does. Worksteal keeps a file's tests
# together, whose fixtures are costly, until one process runs out of work.
test: offer-browser
	$(MAKE) --jobs 2 --output-sync lint $(FRAMEWORKS:=/.installed)
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal
	$(MAKE) --jobs 2 --output-sync frameworks

# The pages are tested in Debian's Chromium, files by strace. Where these are missing, those tests
# are skipped, except with CI=true, where they fail.
BROWSER := chromium chromium-driver strace
HAS_BROWSER := { command -v chromedriver && command -v strace; } > /dev/null

offer-browser:
	@$(HAS_BROWSER) || if [ "$$CI" = true ]; then $(MAKE) browser; else \
	  echo "chromedriver or strace is missing: the tests of pages or files are skipped."; \
	  echo "'make browser', as root, installs $(BROWSER) by apt-get."; fi

browser:
	@echo "apt-get installs $(BROWSER), for the tests of pages in a browser and of files"
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(BROWSER)

# Trainers that want another NumPy or transformers than Blender's environment has. Each gets an
# environment of its own that falls back on .venv, so that torch is there once.
FRAMEWORKS := .venv-frameworks .venv-openenv .venv-lmms .venv-vllm
LIBRARIES = $(shell $(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")

$(FRAMEWORKS:=/.installed): .venv-%/.installed: constraints-%.txt | $(BIN)/pip
	$(BIN)/python -m venv --without-pip .venv-$*
	$(BIN)/python -m pip --python .venv-$*/bin/python install --quiet --no-compile --no-deps \
	  --requirement constraints-$*.txt
	printf '%s\n' "$(CURDIR)" "$(LIBRARIES)" > $(subst .venv/,.venv-$*/,$(LIBRARIES))/fall_back.pth
	touch $@

frameworks: test-frameworks test-openenv test-lmms test-vllm

test-frameworks: TESTS := tests/frameworks
test-openenv: TESTS := tests/frameworks/test_openenv.py
test-lmms: TESTS := tests/frameworks/test_lmms_eval.py
test-vllm: TESTS := tests/agents/training/test_grpo_loss.py
test-frameworks test-openenv test-lmms test-vllm: test-%: .venv-%/.installed setup
	.venv-$*/bin/python -m pytest $(TESTS)

# The environment's own tests on newer Pythons. Blender is that of .venv.
PYTHONS := 3.12 3.13
ENVIRONMENT := answers answer_lists answer_text reward reward_input curriculum adaptive_curricula \
  env gymnasium spaces vector stages plans difficulty check_policy check_curriculum

test-pythons: $(PYTHONS:%=test-python%)

test-python%: .venv-python%/.installed setup
	DIG_ENV_BLENDER=$(CURDIR)/$(BIN)/python .venv-python$*/bin/python -m pytest \
	  $(wildcard $(ENVIRONMENT:%=tests/*/test_%.py) $(ENVIRONMENT:%=tests/*/*/test_%.py))

.PRECIOUS: .venv-python%/.installed
.venv-python%/.installed: pyproject.toml constraints.txt
	python$* -m venv .venv-python$*
	.venv-python$*/bin/python -m pip install --quiet --no-compile --constraint constraints.txt \
	  --editable ".[photos,play,serve,train]" hypothesis moviepy pytest pytest-timeout shapely
	touch $@

# The render tests with Blender 5, each version in a Python of its own: 1 GB of disk.
BLENDERS := 5.0 5.1 5.2 5.3
CACHE = $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/dig-env

test-blenders: $(BLENDERS:%=test-blender%)

test-blender%: setup
	$(BIN)/dig-env install-blender --blender $*
	DIG_ENV_BLENDER=$(CACHE)/blender-$*/bin/python $(BIN)/python -m pytest tests/scenes/render \
	  --ignore tests/scenes/render/test_interpreter.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf .venv $(FRAMEWORKS) $(PYTHONS:%=.venv-python%) build runs
