# Everything runs in .venv, which the first target creates. Nothing else must be installed or started.
PYTHON ?= python3
BIN := .venv/bin

# Prefect sends no usage data.
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export DO_NOT_TRACK := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

SCENE := runs/demo/scene
LAYERS := runs/demo/layers

# Which build of PyTorch: cpu (for processors) or cuda (PyPI's for GPUs, several GB more). Without TORCH, that of .venv.
CHOSEN := $(shell cat .venv/.torch 2>/dev/null)
TORCH := $(or $(TORCH),$(CHOSEN),cpu)
# Where the build for processors is: PyTorch's own index, or a mirror of it.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
$(if $(filter cpu cuda,$(TORCH)),,$(error TORCH=$(TORCH): expected cpu or cuda))

.PHONY: install develop demo docs wheel qgis-plugin test test-all fuzz coverage lint audit bench image clean
.NOTPARALLEL:

# What a run needs. Stamps are written last: an interrupted installation is repeated, a complete one needs no network.
install: .venv/.installed

.venv/.installed: pyproject.toml .venv/.torch
	$(BIN)/python -m pip install --quiet --prefer-binary -c constraints.txt -e '.[clouds]'
	touch $@

# What checks and tests need; it has all that a run needs.
develop: .venv/.developed

.venv/.developed: pyproject.toml .venv/.torch
	$(BIN)/python -m pip install --quiet --prefer-binary -c constraints.txt -e '.[dev,clouds,dask]'
	touch .venv/.installed $@

ifneq ($(CHOSEN),$(TORCH))
.PHONY: .venv/.torch
endif

# On macOS and Windows PyPI's build is that for processors. One try, so that an index out of reach costs seconds.
.venv/.torch: constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("truckscape needs Python 3.11 or later; this is " + sys.version.split()[0] + ". Name another: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
ifneq ($(filter-out $(TORCH),$(CHOSEN)),)
	rm -f .venv/.torch .venv/.installed .venv/.developed .venv/.documented
	$(BIN)/python -m pip uninstall --quiet --yes torch torchvision
endif
ifeq ($(TORCH) $(shell uname -s),cpu Linux)
	$(BIN)/python -m pip install -qqq --timeout 5 --retries 0 --index-url $(TORCH_INDEX) --no-deps \
		$$(grep -E '^torch(vision)?==' constraints.txt) \
		|| echo "No build of PyTorch for processors at $(TORCH_INDEX): PyPI's follows, with CUDA. A mirror: make TORCH_INDEX=URL"
endif
	echo $(TORCH) >$@

demo: install $(SCENE)/.simulated
	$(BIN)/truckscape run $(SCENE)/*.SAFE --config configs/demo.yaml --out $(LAYERS) \
		--roads $(SCENE)/truth/roads.gpkg \
		--truck-labels $(SCENE)/truth/trucks.gpkg \
		--landcover-labels $(SCENE)/truth/landcover.tif
	@echo
	@echo "The scene is simulated. Its layers:  $$(dirname $(LAYERS)/*/run.json)/"
	@echo "Drag trucks.gpkg and landcover.gpkg into QGIS, or open the report: $$(echo $(LAYERS)/*/evaluation/report.html)"

$(SCENE)/.simulated: | install
	rm -rf $(SCENE)
	$(BIN)/truckscape simulate --out $(SCENE) --size 1024 --seed 7
	touch $@

# The documentation as a site in site/. Installs once; then neither the build nor the pages need a network.
docs: .venv/.documented
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "Open site/index.html"

.venv/.documented: pyproject.toml .venv/.installed
	$(BIN)/python -m pip install --quiet --prefer-binary -c constraints.txt -e '.[clouds,docs]'
	touch $@

# The package without the checkout: truckscape-VERSION-py3-none-any.whl in dist/.
wheel: install
	rm -rf build  # of older sources
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

# The plugin for QGIS (docs/qgis.md), the same bytes on every machine; needs nothing installed.
qgis-plugin:
	$(PYTHON) qgis/pack.py dist/truckscape-qgis.zip
	@echo "In QGIS: Plugins > Manage and Install Plugins > Install from ZIP > dist/truckscape-qgis.zip"

# One process per core. The tests of a file share fixtures, so they stay in one process.
test: lint
	$(BIN)/python -m pytest -n auto --dist loadfile

# The tests that `make test` leaves out since they take long: servers, clusters, killed processes.
test-all: develop
	$(BIN)/python -m pytest -m longer -n auto --dist loadfile

# Damaged inputs of every kind: docs/reliability.md. Failing ones are kept in runs/fuzz.
FUZZ_SECONDS ?= 3600
FUZZ_SEED ?=
fuzz: develop
	$(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS) $(if $(FUZZ_SEED),--seed $(FUZZ_SEED)) --keep runs/fuzz

# Lines that no test of `make test` runs.
coverage: develop
	$(BIN)/python -m pytest -n auto --dist loadfile --cov=pipeline --cov=flows --cov-report=term:skip-covered

lint: develop
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# Needs the network: known vulnerabilities of pinned packages, and insecure patterns in the code.
audit: develop
	$(BIN)/python -m pip install --quiet bandit pip-audit
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml pipeline flows
	$(BIN)/pip-audit --requirement constraints.txt --no-deps --disable-pip

# On an idle machine. GRANULE=DIR reuses a simulated granule; simulating one takes a quarter of an hour.
bench: develop
	$(BIN)/python -m pip install --quiet --prefer-binary -c constraints.txt -e '.[bench,dask]'
	$(BIN)/python -m benchmarks $(if $(GRANULE),--granule $(GRANULE))

# Build the image without a Docker engine, and run the demo in it; as root on Debian with buildah and mmdebstrap.
image:
	docker/build

clean:
	rm -rf .venv build dist site *.egg-info runs/demo .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
