# `make help` lists what can be made. Every target does its own set-up; a newcomer needs `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA ?= ./data
ROUNDS ?= 50
SECONDS ?= 60
SEED ?= 1
EDGES ?= 0
COURIERS ?= 0

.PHONY: help setup demo run test check simulate crash nodes powercut fuzz bench picture man lock wheel clean

help: ## list all this, a line each
	@sed -n 's/^\([a-z]*\):.* ## \(.*\)/  make \1@\2/p' Makefile | tr @ '\t' | expand -t 18

# ------------------------------------------------------------------------------------------------ set-up

# One virtual environment, two locks. What runs the relay is installed first; what tests it comes on top, when a target
# first needs it, and stays. The versions of both locks agree, so neither undoes the other.
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

# What builds the package is needed for a moment only, and is no part of what runs.
define build-tools
	rm -rf $(VENV)/build-tools
	$(PIP) install --require-hashes --target $(VENV)/build-tools -r locks/build.txt
endef
WITH_BUILD_TOOLS = PYTHONPATH=$(abspath $(VENV))/build-tools PYTHONWARNINGS=ignore

$(VENV)/.run: locks/run.txt locks/build.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one with: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --require-hashes -r locks/run.txt
	$(build-tools)
	$(WITH_BUILD_TOOLS) $(PIP) install --no-deps --no-build-isolation -e .
	rm -rf $(VENV)/build-tools
	touch $@

$(VENV)/.develop: $(VENV)/.run locks/develop.txt
	$(PIP) install --require-hashes -r locks/develop.txt
	touch $@

# ------------------------------------------------------------------------------------------------ to run it

setup: $(VENV)/.run ## .venv with what the relay runs on, and .venv/bin/atmos-relay

demo: setup ## a mail from POST to inbox on this machine, then serve until Ctrl-C with pages to look at; ONCE=1 ends after the mails
	$(BIN)/python -m tools.demo $(if $(ONCE),--once)

run: setup ## serve DATA=./data, which is made where it is missing
	test -d $(DATA) || $(BIN)/atmos-relay init $(DATA)
	$(BIN)/atmos-relay serve $(DATA)

# ------------------------------------------------------------------------------------------------ to change it

test: check tests/verifier/node_modules/.ready tests/readers/node_modules/.ready tests/clients/node/node_modules/.ready tests/webhooks/node/node_modules/.ready tests/browser/node_modules/.ready $(VENV)/frameworks/.ready ## everything that CI runs: check, and all tests
# Three at a time on two cores, since a third of what tests do is to wait. In the order of the folders: to begin with files
# of many tests, as is usual, would keep the longest for the end.
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder --max-worker-restart 0

check: $(VENV)/.develop ## ruff, mypy, import-linter, and the fences of tests/house
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.house

# The JavaScript parts: an independent DKIM verifier (mailauth), two readers of mail (mailparser, postal-mime),
# nodemailer, which members send with, what verifies webhooks (standardwebhooks, svix), and what finds fault with pages
# (axe-core, html-validate).
%/node_modules/.ready: %/package-lock.json
	cd $* && npm ci --silent --no-audit --no-fund
	touch $@

# Frameworks that members send with: no part of our own environment.
$(VENV)/frameworks/.ready: tests/clients/frameworks.txt $(VENV)/.develop
	rm -rf $(@D)
	$(PIP) install --require-hashes --target $(@D) -r $<
	touch $@

# The long campaigns; `make test` runs a slice of each. tests/TRACK_RECORD.md says what they have found.
SEEDS ?= 200
FROM ?= 1
WITH ?=
JOBS ?= 2
WORLD ?= one
simulate: $(VENV)/.develop ## SEEDS=200 short lives of a relay among everything that can fail, WORLD=one, logs or nodes; prints the seeds that break a promise
	$(BIN)/python -m tests.campaigns.simulate --world $(WORLD) --seeds $(SEEDS) --from $(FROM) --jobs $(JOBS) $(if $(WITH),--with $(WITH))

crash: $(VENV)/.develop ## ROUNDS=50 of real relays, with EDGES=0 and COURIERS=0, that are killed, starved and stopped
	$(BIN)/python -m tests.campaigns.crash --rounds $(ROUNDS) --seed $(SEED) --edges $(EDGES) --couriers $(COURIERS)

nodes: $(VENV)/.develop ## ROUNDS=50 of three real relays and three PostgreSQL servers that are killed, stopped, promoted and cut off, SEED=1, with EDGES=0 edges and couriers
	$(BIN)/python -m tests.campaigns.nodes --rounds $(ROUNDS) --seed $(SEED) --children $(EDGES)

# The power is cut under a relay on a file system of the kernel. Root, FUSE and loop devices, or it says what is missing.
# PLANT=no-fsync (no-fdatasync, no-directory-sync, no-flush) plants that bug, and succeeds where it is found.
FS ?= ext4
PLANT ?=
powercut: $(VENV)/.develop ## the power is cut ROUNDS=50 times under a relay on a real file system, FS=ext4, xfs or btrfs; as root
	$(BIN)/python -m tests.campaigns.powercut --rounds $(ROUNDS) --fs $(FS) --seed $(SEED) $(if $(PLANT),--plant $(PLANT))

# The time is for all properties together, by chance and then by coverage; as long again against the SMTP client; and
# over the HTTP API.
fuzz: $(VENV)/.develop ## any octets, for some times SECONDS=60, to everything that reads what strangers wrote
	$(BIN)/python -m tests.campaigns.inputs --seconds $(SECONDS)
	$(BIN)/python -m tests.campaigns.coverage --seconds $(SECONDS)
	$(BIN)/python -m tests.campaigns.smtp_servers --seconds $(SECONDS) --seed $(SEED)
	$(BIN)/python -m tests.campaigns.api --seed $(SEED)

BENCH ?=
JSON ?= bench.json
bench: $(VENV)/.develop ## one table, and JSON: forty minutes of a quiet machine; BENCH="accept deliver" asks only these
	$(BIN)/python -m benchmarks $(BENCH) --json $(JSON)

picture: setup ## the README's picture again, from what a relay really did
	$(BIN)/python -m tools.picture

# `man` looks there by itself, for whoever has .venv/bin in PATH.
man: setup ## the man pages of all commands, in .venv/share/man: with .venv/bin in PATH, `man atmos-relay`
	$(BIN)/python -m tools.man $(VENV)/share/man

screenshots: $(VENV)/.develop tests/browser/node_modules/.ready ## docs/console/*.png again, of both consoles on a relay with a past; wants chromium
	$(BIN)/python -m tests.browser.screenshots

# ------------------------------------------------------------------------------------------------ to hand it on

# The lock for developing first: it has everything, and the other two take their versions from it.
LOCK = $(BIN)/pip-compile --quiet --strip-extras --upgrade --allow-unsafe --generate-hashes --no-header --no-annotate \
    --no-emit-index-url --no-emit-trusted-host --no-emit-find-links pyproject.toml
lock: $(VENV)/.develop ## all locks anew: what is newest today of what pyproject.toml allows, with hashes
	$(LOCK) --extra dev --extra demo --extra nodes --output-file locks/develop.txt
	$(LOCK) --extra demo --constraint locks/develop.txt --output-file locks/run.txt
	$(LOCK) --only-build-deps --build-deps-for wheel --constraint locks/develop.txt --output-file locks/build.txt

# From what is committed, not from what lies about. The tag v1.2.3 must be of a commit whose version is 1.2.3.
VERSION = $(shell sed -n 's/^version = "\(.*\)"$$/\1/p' pyproject.toml)
TAG ?= v$(VERSION)
DIST ?= dist
SOURCE = $(VENV)/source
wheel: setup ## dist/*.whl of the tag that names the version; TAG=HEAD takes any commit, to try it
	@git rev-parse --quiet --verify '$(TAG)^{commit}' >/dev/null || \
	    { echo 'There is no $(TAG) to build. docs/ARCHITECTURE.md says how a release is made; make wheel TAG=HEAD tries it.'; exit 1; }
	rm -rf $(SOURCE) && mkdir $(SOURCE)
	git archive '$(TAG)' | tar -x -C $(SOURCE)
	@test '$(TAG)' = HEAD || grep -qFx 'version = "$(TAG:v%=%)"' $(SOURCE)/pyproject.toml || \
	    { echo 'The tag $(TAG) is not named after the version in its pyproject.toml.'; exit 1; }
	$(build-tools)
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct '$(TAG)') $(WITH_BUILD_TOOLS) \
	    $(PIP) wheel --no-deps --no-build-isolation --wheel-dir '$(DIST)' $(SOURCE)
	rm -rf $(SOURCE) $(VENV)/build-tools

clean: ## remove the virtual environment
	rm -rf $(VENV) *.egg-info
