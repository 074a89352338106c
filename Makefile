# Every target sets up what it needs. PYTHON is any Python 3.11 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test check bench clean
.DELETE_ON_ERROR:

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]' || { \
	  echo "The pinned packages did not install. torch must be the CPU build (constraints.txt): where the package index" \
	       "has only the CUDA build, set PIP_EXTRA_INDEX_URL to PyTorch's index of CPU wheels."; exit 1; }
	touch $@
