# Every target does its own set-up; `make demo` and `make test` are the two that a newcomer needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA ?= ./data
ROUNDS ?= 50
SECONDS ?= 60
SEED ?= 1

.PHONY: setup demo test check run simulate bench crash powercut fuzz lock clean

# The virtual environment is made again when what it is made from changes.
$(VENV)/.ready: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one with: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

setup: $(VENV)/.ready

demo: setup
	$(BIN)/python -m tools.demo $(if $(ONCE),--once)

run: setup
	test -d $(DATA) || $(BIN)/atmos-relay init $(DATA)
	$(BIN)/atmos-relay serve $(DATA)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The JavaScript parts: an independent DKIM verifier (mailauth).
tests/verifier/node_modules/.ready: tests/verifier/package-lock.json
	cd tests/verifier && npm ci --silent --no-audit --no-fund
	touch $@

test: check tests/verifier/node_modules/.ready
	$(BIN)/python -m pytest -n 2 --dist loadfile

# A relay's short life, once a seed, among everything that can fail; a seed that breaks a promise is printed.
SEEDS ?= 200
FROM ?= 1
JOBS ?= 2
simulate: setup
	$(BIN)/python -m tests.campaigns.simulate --seeds $(SEEDS) --from $(FROM) --jobs $(JOBS)

# One table, and JSON. A quiet machine and twenty minutes; `make bench BENCH="accept deliver"` asks only these.
BENCH ?=
JSON ?= bench.json
bench: setup
	$(BIN)/python -m benchmarks $(BENCH) --json $(JSON)

# The long campaigns; `make test` runs a slice of each. tests/TRACK_RECORD.md says what they have found.
crash: setup
	$(BIN)/python -m tests.campaigns.crash --rounds $(ROUNDS) --seed $(SEED)

# The power is cut under a relay on a file system of the kernel. Root, FUSE and loop devices, or it says what is missing.
# PLANT=no-fsync (no-fdatasync, no-directory-sync, no-flush) plants that bug, and succeeds where it is found.
FS ?= ext4
PLANT ?=
powercut: setup
	$(BIN)/python -m tests.campaigns.powercut --rounds $(ROUNDS) --fs $(FS) --seed $(SEED) $(if $(PLANT),--plant $(PLANT))

# The time is for all properties together, by chance and then by coverage; as long again against the SMTP client; and
# over the HTTP API.
fuzz: setup
	$(BIN)/python -m tests.campaigns.inputs --seconds $(SECONDS)
	$(BIN)/python -m tests.campaigns.coverage --seconds $(SECONDS)
	$(BIN)/python -m tests.campaigns.smtp_servers --seconds $(SECONDS) --seed $(SEED)
	$(BIN)/python -m tests.campaigns.api --seed $(SEED)

# Locks what pyproject.toml allows, hashes and all, to what is newest today.
lock:
	$(BIN)/pip-compile --quiet --strip-extras --upgrade --allow-unsafe --extra dev --generate-hashes --no-header --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-annotate \
	    --build-deps-for editable --output-file requirements.lock pyproject.toml

clean:
	rm -rf $(VENV) *.egg-info
