# `make dev | lint | test | test-all | test-pythons | bench | man | pictures | lock | demo` is all there is.
PYTHON ?= python3.11
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

# What stands as servers and witnesses in the tests and the demo: the command, and Debian's package that brings it.
NEEDED := curl:curl git:git docker-registry:docker-registry skopeo:skopeo bsdtar:libarchive-tools zstd:zstd htpasswd:apache2-utils \
          openssl:openssl gpgv:gpgv tinyproxy:tinyproxy strace:strace mcopy:mtools mkfs.vfat:dosfstools kubectl:kubernetes-client \
          chromium:chromium pdftotext:poppler-utils npm:npm nginx:nginx-light shellcheck:shellcheck mandoc:mandoc \
          fish:fish zsh:zsh $(notdir $(PYTHON)):python3

# The other Pythons that are supported: where the machine has one, it gets an environment, and tests run there too.
OTHERS := $(filter-out $(subst python,,$(notdir $(PYTHON))),3.11 3.12 3.13)

# Bytecode is kept: the tests start the programs hundreds of times, and compiling every module each time takes most of a second.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: dev lint test test-all test-pythons pythons pulp bench man pictures lock demo tools
dev: $(STAMP)

# What is locked, with hashes, from whichever index pip is configured for; then the programs, built with what is there.
LOCK    := tests/requirements.lock
INSTALL := -m pip install --quiet --disable-pip-version-check
LOCKED  := $(INSTALL) --require-hashes --only-binary :all: --requirement $(LOCK)
OURS    := $(INSTALL) --no-deps --no-build-isolation --editable .

$(STAMP): pyproject.toml $(LOCK) | tools
	@command -v $(PYTHON) >/dev/null || { echo "needs $(PYTHON); say which Python to use with: make PYTHON=python3.12 …"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(LOCKED)
	$(BIN)/python $(OURS)
	@npm install --silent --no-audit --no-fund --no-package-lock --prefix $(VENV)/node axe-core@^4.10 \
	    || echo "axe-core is not to be had from npm: tests of pages that need it are skipped"
	@touch $@

# As root the missing packages are installed; otherwise the one command is said, and tests that need them are skipped.
tools:
	@missing=; for each in $(NEEDED); do command -v $${each%%:*} >/dev/null || missing="$$missing $${each#*:}"; done; \
	$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || missing="$$missing python3-venv"; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $$missing >/dev/null; \
	else echo "missing packages; install them with: sudo apt-get install$$missing"; fi

lint: dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# Five at a time on two cores: for much of the time commands wait, as they do in use, before they try again. By files, the slow
# ones first (tests/slow_first.txt): what a file sets up for all of its tests (registries, archives) is made once.
PYTEST := $(BIN)/pytest -n 5 --dist loadfile --no-loadscope-reorder

test: dev $(VENV)/.collected
	$(PYTEST)

# The first time, two processes rewrite the assertions of the test files (pytest keeps that beside the bytecode): else each worker does.
$(VENV)/.collected: $(STAMP)
	@for each in tests/integration "tests --ignore=tests/integration"; do $(BIN)/pytest --collect-only -qq $$each >/dev/null & done; wait; touch $@

# Every seed, release and page, each fuzz target for ten seconds, and the coverage of `common`, commands included.
test-all: export HUB_FUZZ_SECONDS ?= 10
test-all: dev pythons pulp
	$(PYTEST) -m '' --hypothesis-profile=all --cov --cov-report=
	$(BIN)/coverage report --include='common/*' --fail-under=95 --skip-covered

pythons: $(OTHERS:%=$(VENV)-%/.installed)

# An environment that cannot be made (no such Python, no package index) is no error: the tests that need it are skipped, and say so.
$(VENV)-%/.installed: pyproject.toml $(LOCK)
	@for each in python$* $(wildcard $(HOME)/.pyenv/versions/$*.*/bin/python); do \
	    if $$each -c 'import ensurepip, venv' 2>/dev/null; then \
	        if $$each -m venv $(VENV)-$* \
	           && $(VENV)-$*/bin/python $(LOCKED) && $(VENV)-$*/bin/python $(OURS); \
	        then touch $@; else rm -rf $(VENV)-$*; echo "$(VENV)-$* cannot be made: tests that need it are skipped"; fi; exit 0; \
	    fi; \
	done; echo "no Python $* on this machine: tests that need it are skipped"

# A real registry for tests/integration/test_registry_pulp.py, with requirements of its own that must not meet ours: the versions that
# were tested. Its database is Debian's. What cannot be made is no error here either.
PULP := pulpcore==3.123.* pulp-container==2.30.*
pulp: $(VENV)-pulp/.installed

$(VENV)-pulp/.installed: Makefile
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && ! ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends postgresql >/dev/null || true; \
	fi; \
	if $(PYTHON) -m venv $(VENV)-pulp && $(VENV)-pulp/bin/python -m pip install --quiet --disable-pip-version-check $(PULP:%='%'); \
	then touch $@; else rm -rf $(VENV)-pulp; echo "$(VENV)-pulp cannot be made: tests that need it are skipped"; fi

# All unit tests on every other Python that the machine has. After `make pythons`, `make test` runs there what depends on the version.
test-pythons: pythons
	@for each in $(wildcard $(OTHERS:%=$(VENV)-%/bin/pytest)); do echo "$$each tests/unit"; $$each -n 4 --dist loadfile tests/unit || exit; done

# Writes its tables into docs/benchmarks.md. `make bench WHOLE=1` also moves a quarter and all of the largest catalog (half an hour more).
# One table alone, or a larger data set: .venv/bin/python -m tests.bench moving --gigabytes 40
bench: dev
	$(BIN)/python -m tests.bench $(if $(WHOLE),--whole)
	$(BIN)/python -m tests.bench.reports
	$(BIN)/python -m tests.bench.serving

man: dev
	$(BIN)/python -m tests.man_pages

# Screenshots of the report and of the page of a deploy, into docs/pictures.
pictures: dev
	$(BIN)/python -m tests.pictures

# What kits, the container image and this environment install, renewed for each release. The same BEFORE gives the same files.
lock: BEFORE ?= $(shell date -u +%Y-%m-%dT%H:%M:%SZ)
lock: dev
	$(BIN)/python -m tests.kit_lock $(BEFORE)

demo: dev
	$(BIN)/python -m tests.demo
