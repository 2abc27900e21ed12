# Each command makes its own environment in .venv when there is none, and installs the package again
# only when its sources have changed. Needed: make, gcc, python3 (3.11 or newer, with venv and headers).
#
#   make study   train and examine a network on handwritten digits -> study/report.html
#   make test    the tests, against the installed package
#   make test-long   the tests that take minutes: studies of a convolutional network and of a transformer, every
#                    primitive compiled in every way
#   make test-cuda   the tests on an emulated CUDA device (REAL_GPU=1: on this machine's), needs g++ too
#   make nvrtc   the kernels that those tests reached, by NVIDIA's compiler (ARCHITECTURES="sm_75 sm_90": for these)
#   make mutants our kernels, broken in one place at a time: do the tests notice? (TARGETS="optim linalg": some)
#   make lint    ruff, cython-lint, mypy
#   make docs    the documentation -> docs/_build/html/index.html
#   make bench   the benchmarks
#   make array-api CHECKOUT=...   the conformance suite of the array API, from a checkout of array-api-tests
#   make clean   remove what these commands made, study/ excepted

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python

# One thread each: the machine's cores are few and small products gain nothing from more.
export OMP_NUM_THREADS := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYTHONPATH :=
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

SOURCES := meson.build meson.options pyproject.toml README.md LICENSE $(shell find src -type f \
  ! -name '*.so' ! -name '*.pyc' ! -name _version.py ! -name _build_info.py ! -path '*/nnmath_core/_ext/*.cu' ! -path '*/nnmath_core/_ext/*.cuh')

.PHONY: study test test-long test-cuda nvrtc mutants lint docs bench array-api clean

study: $(VENV)/.package $(VENV)/.study
	$(VENV)/bin/nnmath study

# As many processes as there are cores, with one thread each.
test: $(VENV)/.package $(VENV)/.test
	$(PY) -m pytest -q -n auto --dist worksteal

test-long: $(VENV)/.package $(VENV)/.test
	$(PY) -m pytest -m long

# As many processes as there are cores; they share what they have compiled, in build/cuda-emulation.
test-cuda: $(VENV)/.package $(VENV)/.cuda-test
	PYTHONPATH=tests/cuda $(PY) -m pytest -p emulated.plugin -q -n auto --dist worksteal tests/test_gpu.py tests/cuda

# CUDA 13 begins at sm_75; CUDA 12.9, which still knows sm_70, is installed in a folder of its own.
ARCHITECTURES ?= sm_70 sm_75 sm_80 sm_89 sm_90 sm_100
nvrtc: $(VENV)/.package $(VENV)/.cuda-test $(if $(filter sm_70,$(ARCHITECTURES)),$(VENV)/.nvrtc-12)
	NNMATH_NVRTC_12=$(VENV)/nvrtc-12 PYTHONPATH=tests/cuda $(PY) -m emulated.nvrtc $(ARCHITECTURES)

$(VENV)/.nvrtc-12: | $(PY)
	$(PY) -m pip install -q --no-deps --target $(VENV)/nvrtc-12 "nvidia-cuda-nvrtc-cu12==12.9.*" "nvidia-cuda-runtime-cu12==12.9.*"
	@touch $@

mutants: $(VENV)/.package $(VENV)/.cuda-test
	PYTHONPATH=tests/cuda $(PY) tests/cuda/mutate.py $(TARGETS)

lint: $(VENV)/.lint
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/cython-lint src/_ext
	$(VENV)/bin/mypy

docs: $(VENV)/.package $(VENV)/.docs
	$(PY) -m sphinx -W --keep-going -b html docs docs/_build/html

bench: $(VENV)/.package $(VENV)/.bench
	$(PY) bench/run.py --devices cpu,cuda --peers installed --sizes quick --plot

# The suite needs Hypothesis, which is among the packages of the tests, ndindex and pytest-json-report.
array-api: $(VENV)/.package $(VENV)/.test
	@test -n "$(CHECKOUT)" || { echo "make: make array-api CHECKOUT=/path/to/array-api-tests"; exit 1; }
	$(PY) -m pip install -q -r "$(CHECKOUT)/requirements.txt"
	$(PY) tests/array_api_conformance.py "$(CHECKOUT)"

clean:
	rm -rf $(VENV) build docs/_build docs/api/generated

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "make: Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "make: python3 has no venv: apt-get install python3-venv python3-dev"; exit 1; }

# The tools of the build live in the environment too, so that a second build compiles only what changed.
$(VENV)/.tools: pyproject.toml .ci/requirements.py | $(PY)
	$(PY) .ci/requirements.py > $(VENV)/requirements-build.txt
	$(PY) -m pip install -q -r $(VENV)/requirements-build.txt
	@touch $@

$(VENV)/.package: $(SOURCES) $(VENV)/.tools
	@command -v cc >/dev/null || command -v gcc >/dev/null || command -v clang >/dev/null || \
	  { echo "make: no C compiler was found: apt-get install gcc python3-dev"; exit 1; }
	$(PY) -m pip install -q --no-build-isolation --no-deps -Cbuild-dir=$(VENV)/build .
	@touch $@

$(VENV)/.study $(VENV)/.test $(VENV)/.cuda-test $(VENV)/.lint $(VENV)/.docs $(VENV)/.bench: $(VENV)/.%: pyproject.toml .ci/requirements.py | $(PY)
	$(PY) .ci/requirements.py $* > $(VENV)/requirements-$*.txt
	$(PY) -m pip install -q -r $(VENV)/requirements-$*.txt
	@touch $@
