# The index of what one can do: `make` prints it. The first target that needs it sets up .venv.

.DEFAULT_GOAL := help
.PHONY: run sweep compare import cost forecast reproduce logs explain catalog report browser-tools status stop resume doctor engines model bench build push plan apply output destroy smoke sbom lock container-tools checkov test check emulate rendezvous emulate-image invoke dataset clean-table repartition verify train convert calibrate evaluate mutate faults fuzz schema clean clean-runs help
# What is written behind `make` would be expanded and then read by a shell: a path is all that these can be.
$(foreach v,VENV PYTHON,$(foreach c,$$ ` ; & | < > ( ) ' " * ?,$(if $(findstring $(c),$(value $(v))),$(error $(v) holds $(c): it is a path))))
VENV := .venv
# The Python 3.11, 3.12 or 3.13 to make .venv with; found by itself when empty.
PYTHON :=
READY := $(VENV)/.ready
# A second opinion of the state machine, next to the interpreter's of the local AWS.
ASL_VALIDATOR := asl-validator@4.0.0
PY := $(VENV)/bin/python

# Handed to the scripts through the environment, word for word: $(value …) keeps dollar signs, the environment needs no quotes.
RUN_VARIABLES := MODEL WORLD BATCH DATASET FILES RESULT PROFILE PAYLOAD TARGET TOLERATE ENGINE PRECISION OUTPUTS BUDGET FMI BACKUP FORECAST
OTHER_VARIABLES := RUN NAME N SHARD_MB SEED SOURCE FIELDS TRAINING FUNCTION EVENT PORT WORKERS CONCURRENCY INACTIVE_S S3_FAILURE_EVERY STARTS_PER_S ALL_COLD LOG_DIR QUICK YES ARCH CONTAINER_ENGINE BASE_IMAGE NO_REGISTRY SLIM IMAGE BASE TABLE PARTIAL SWEEP RANK FILE PRICES REGISTRY DATA MEMORY REPEAT RETRY TO SCALINGS TRUST_PICKLE ROWS FORCE THREADS TABLES FROM DEVICE PACKAGES JOBS HOST HEALTH_PORT RENDEZVOUS_KEY CARD FORMAT WHERE DEADLINE CHILD REGION MINUTES SNAP_START
# What was written behind `make`, for a command to refuse what it does not know; one of several targets may know it.
GIVEN_VARIABLES := $(foreach v,$(.VARIABLES),$(if $(filter command,$(origin $(v))),$(v)))
GIVEN_VARIABLES := $(filter-out $(if $(word 2,$(MAKECMDGOALS)),$(RUN_VARIABLES) $(OTHER_VARIABLES)),$(GIVEN_VARIABLES))
# Other programs have these words too; only what is written behind `make` counts, and a command that knows one says so.
OF_OTHERS := MODEL CARD PROFILE FILES TARGET SOURCE FIELDS WHERE RUN NAME N PORT WORKERS CONCURRENCY INACTIVE_S S3_FAILURE_EVERY STARTS_PER_S ALL_COLD LOG_DIR SEED EVENT QUICK ARCH IMAGE BASE TABLE PARTIAL SWEEP RANK FILE PRICES BUDGET REGISTRY DATA MEMORY REPEAT RETRY TO SCALINGS ROWS FORCE THREADS FROM DEVICE PACKAGES JOBS HOST HEALTH_PORT FORMAT DEADLINE CHILD REGION FORECAST MINUTES SNAP_START ENGINE BACKUP RESULT OUTPUTS FUNCTION TABLES TRAINING PAYLOAD
IGNORED_VARIABLES := $(foreach v,$(OF_OTHERS),$(if $(filter environment,$(origin $(v))),$(v)))
$(foreach v,$(IGNORED_VARIABLES),$(eval override $(v) :=))
$(foreach v,$(RUN_VARIABLES) $(OTHER_VARIABLES),$(eval override $(v) := $$(value $(v))))
export $(RUN_VARIABLES) $(OTHER_VARIABLES) GIVEN_VARIABLES IGNORED_VARIABLES PYTHON VENV
# Of another Python: with it, ours would not even start.
unexport PYTHONHOME

# A Python that is gone, or was updated by the system, makes the environment worth nothing, whatever its mark says.
ifeq ($(realpath $(PY)),)
.PHONY: $(READY)
endif
$(READY): pyproject.toml scripts/requirements.txt scripts/setup.sh $(wildcard inference/engines/native/source/*)
	@scripts/setup.sh

## Predict

run: $(READY) ## Predict the redshifts of a dataset and print the result
	@$(PY) -m scripts.run

catalog: $(READY) ## Redshifts as FITS and Parquet; FORMAT=votable, qp: p(z)
	@$(PY) -m scripts.catalog

report: $(READY) ## Write a page about RUN=name or SWEEP=name, and Markdown
	@$(PY) -m scripts.report

status: $(READY) ## Show how RUN=name is doing; without RUN, list all runs
	@$(PY) -m scripts.status

clean-runs: $(READY) ## Delete runs that have ended, after asking; or RUN=name
	@$(PY) -m scripts.clean_runs

stop: $(READY) ## Stop a run and its ranks: RUN=name
	@$(PY) -m scripts.stop

resume: $(READY) ## Continue RUN=name: what is done is not done again
	@$(PY) -m scripts.resume

cost: $(READY) ## Show what RUN=name cost; without RUN, what WORLD=8 would
	@$(PY) -m scripts.cost

forecast: $(READY) ## Forecast time and price: WORLD=64; or choose: DEADLINE=60
	@$(PY) -m scripts.forecast

logs: $(READY) ## Show what the workers of RUN=name printed; RANK=17
	@$(PY) -m scripts.logs

explain: $(READY) ## Explain what became of one rank: RUN=name RANK=17
	@$(PY) -m scripts.explain

doctor: $(READY) ## Check what could go wrong, before any money is spent
	@$(PY) -m scripts.doctor

## Experiment

sweep: $(READY) ## Compare settings: WORLD=1,2,4 BATCH=8,32 REPEAT=3
	@$(PY) -m scripts.sweep

compare: $(READY) ## Compare RUN=name with plain torch and published numbers
	@$(PY) -m scripts.compare

import: $(READY) ## Read published results: FILE=combined_data.json WORLD=517
	@$(PY) -m scripts.import_run

reproduce: $(READY) ## Remake published tables and figures: FROM=folder
	@$(PY) -m scripts.reproduce

## Deploy

build: $(READY) ## Build the image; ARCH=arm64 NO_REGISTRY=1 SLIM=1
	@$(PY) -m scripts.image build

push: $(READY) ## Push the image to ECR and record its digest for Terraform
	@$(PY) -m scripts.image push

plan: $(READY) ## Show what apply would change
	@$(PY) -m scripts.deploy plan

apply: $(READY) ## Deploy; asks before data are deleted (not with YES=1)
	@$(PY) -m scripts.deploy apply

output: $(READY) ## Print what is deployed, as JSON
	@$(PY) -m scripts.deploy output

destroy: $(READY) ## Delete all that is deployed, after listing the data
	@$(PY) -m scripts.deploy destroy

smoke: $(READY) ## Try a real account: 3 ranks, under 0.02 USD, then destroy
	@$(PY) -m scripts.smoke

## Data and model

dataset: $(READY) ## Make the sample; or NAME=big N=100000; or SOURCE=my.csv
	@$(PY) -m scripts.dataset

clean-table: $(READY) ## Clean a table: SOURCE=my.csv; count what each rule finds
	@$(PY) -m scripts.clean_table

repartition: $(READY) ## Move galaxies into other shards: DATASET=big SHARD_MB=25
	@$(PY) -m scripts.repartition

verify: $(READY) ## Check every shard of a dataset against its card and table
	@$(PY) -m scripts.verify

model: $(READY) ## List the models; MODEL=mine: its card; FILE=: import one
	@$(PY) -m scripts.model

train: $(READY) ## Train on your own galaxies: DATASET=mine MODEL=mine
	@OMP_WAIT_POLICY=PASSIVE $(PY) -m scripts.train

calibrate: $(READY) ## Calibrate sigma, p(z) and the domain flag of the weights
	@$(PY) -m scripts.calibrate

evaluate: $(READY) ## Accuracy with intervals, and plots; test set or RUN=name
	@$(PY) -m scripts.evaluate

convert: $(READY) ## Convert a published checkpoint: FILE=x.pt TRUST_PICKLE=1
	@$(PY) -m scripts.convert

engines: $(READY) ## Export the network for faster engines, and compare them
	@$(PY) -m scripts.engines

bench: $(READY) ## Benchmark against the published loop; QUICK=1 BASE=a.json
	@$(PY) -m scripts.bench

## Parts on their own

emulate: $(READY) ## Serve the local AWS for the AWS CLI, boto3 or Terraform
	@$(PY) -m scripts.emulate

rendezvous: $(READY) ## Serve the rendezvous where ranks meet; PORT=10000
	@$(PY) -m scripts.rendezvous

invoke: $(READY) ## Call a handler: FUNCTION=infer EVENT=file.json
	@$(PY) -m scripts.invoke

emulate-image: $(READY) ## Run the image as FUNCTION=infer on Lambda would
	@$(PY) -m scripts.image emulate

## Development

test: $(READY) ## Run unit and integration tests (no AWS, no network)
	$(PY) -m pytest -n auto --dist loadfile --no-loadscope-reorder tests/unit tests/integration tests/faults

check: $(READY) ## Lint, formatting, types, Terraform's format, docs/schema
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy --cache-dir "$${XDG_CACHE_HOME:-$$HOME/.cache}/serverless-redshift-inference/types"
	@if command -v terraform >/dev/null; then set -x; terraform fmt -check -recursive terraform; \
	else echo "skipped: terraform fmt (terraform is not installed)"; fi
	@if npx --yes $(ASL_VALIDATOR) --version >/dev/null 2>&1; then set -x; npx --yes $(ASL_VALIDATOR) --json-path terraform/state_machine.asl.json; \
	else echo "skipped: $(ASL_VALIDATOR) (npx is not installed, or finds no registry)"; fi
	$(PY) -m scripts.schema check
	$(PY) -m scripts.image lint

mutate: $(READY) ## Break the code at random: do the tests notice?
	@$(PY) -m tests.mutate

faults: $(READY) ## Try every fault in the table; write docs/faults.md
	$(PY) -m pytest -q -p no:xdist tests/faults --deselect tests/faults/test_matrix.py::test_the_table_in_the_documentation_is_this_one
	@$(PY) -m tests.faults.document

fuzz: $(READY) ## Feed damaged files to every reader, for MINUTES=60
	@$(PY) -m tests.fuzz

checkov: $(READY) ## Scan Terraform with checkov, in an environment of its own
	@[ -x .cache/checkov/bin/checkov ] || { $(PY) -m venv .cache/checkov && .cache/checkov/bin/pip install -q checkov==3.3.30; }
	.cache/checkov/bin/checkov --config-file terraform/.checkov.yaml

sbom: $(READY) ## Write what the image contains, SPDX JSON
	@$(PY) -m scripts.image sbom

lock: $(READY) ## Pin every package by checksum: .venv, the images
	@$(PY) -m scripts.image lock

container-tools: $(READY) ## Install Podman where no engine answers (Debian, root)
	@$(PY) -m scripts.image install

browser-tools: $(READY) ## Install Chromium for the tests of reports (Debian, root)
	@$(PY) -m tests.browser

schema: $(READY) ## Write the JSON Schema of every payload to docs/schema
	@$(PY) -m scripts.schema write

clean: ## Remove .venv and caches; runs/, datasets/, sweeps/ stay
	@if [ -e $(VENV) ] && [ ! -e $(READY) ] && [ ! -e $(VENV)/setup.log ]; then echo "$(VENV) was not made by make: it stays"; \
	else rm -rf $(VENV); fi
	rm -rf .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info docker/wheels/*.whl
	rm -rf inference/engines/native/build inference/models/astromae/*.native
	find handlers inference scripts tests -name __pycache__ -type d -prune -exec rm -rf {} +
	@for kept in runs datasets sweeps training evaluation smoke; do [ ! -d $$kept ] || echo "$$kept/ stays"; done
	@shared="$${XDG_CACHE_HOME:-$$HOME/.cache}/serverless-redshift-inference"; [ ! -d "$$shared" ] || echo "$$shared/ stays, for every clone"

help: ## Show this help
	@awk 'BEGIN {FS = ":.*## "} /^## / {print substr($$0, 4)} /^[a-z0-9-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' Makefile
	@sed -n 's/^#: //p' Makefile

#: Variables of make run, as in: make run WORLD=8 BATCH=256
#:   WORLD=8            ranks, one invocation each; as many as shards if not given
#:   BATCH=256          galaxies per batch
#:   DATASET=sdss/10MB  a dataset under datasets/, or any folder of shards
#:   SOURCE=my.csv      dataset, run and catalog in one; FIELDS= as below
#:   FILES=2            only the first 2 shards
#:   ROWS=626           only the first 626 galaxies
#:   RESULT=my/run      where results go, in the bucket or here; runs/ if not given
#:   PROFILE=1          measure with torch's profiler, as the published runs did
#:   PAYLOAD=file.json  a request as JSON, also a published one; variables win
#:   FMI=1              ranks exchange their sums when done; see docs/fmi.md
#:   BACKUP=0           do not invoke slow ranks again, which costs extra
#:   TOLERATE=20        percentage of ranks that may fail
#:   MODEL=mine         the model that predicts; the shipped one if not given
#:   ENGINE=torch       torch, onnxruntime, openvino or native; native if not given
#:   PRECISION=fp32     or int8, bf16, where they were found accurate enough
#:   TARGET=local       where to run: local, or aws once it is deployed
#:   BUDGET=2.00        refuse a run that may cost more, in USD at list prices
#:   FORECAST=1         print a forecast before the run, and how good it was after
#:   OUTPUTS=file.json  use a stack deployed elsewhere: terraform output -json
#: Variables of make catalog
#:   FORMAT=votable     or qp, for p(z)
#:   TABLE=my.csv       join the columns of a table; TABLE=none: no positions
#:   PARTIAL=1          write one although ranks are lost
#: Variables of make sweep: WORLD BATCH FILES ENGINE PRECISION PROFILE, and
#:   DATA=sdss,big      datasets
#:   SHARD_MB=10,25     the same galaxies in shards of these sizes
#:   MEMORY=1769,3008   memory of a rank in megabytes
#:   REPEAT=3           runs of each setting, in random order; SEED=1 changes it
#:   SWEEP=file.yaml    the lists as a file, in lower case: world: [1, 2]
#:   NAME=mine          folder under sweeps/; the same command continues it
#:   RETRY=1            run again what failed; YES=1 asks nothing
#: Variables of make forecast: WORLD DATASET FILES ENGINE PRECISION, and
#:   N=660000           this many galaxies instead of a dataset
#:   MEMORY=1769 ARCH=arm64 CHILD=EXPRESS CONCURRENCY=1000 REGION=us-east-1
#:                      a deployment other than this one
#:   DEADLINE=60        seconds; with BUDGET or without: which settings to take
#:   PRICES=file.toml   another list of prices, for make cost as well
#:   FILE=runs.csv      judge forecasts by published runs; TO=docs writes the page
#: Variables of make dataset and clean-table
#:   SOURCE=my.csv      a table of any format, published .pt or .npz, or a folder
#:                      of FITS cutouts
#:   FIELDS="u=MAG_U,z_spec=ZBEST"
#:                      columns that are not recognized; see docs/inputs.md
#:   ROWS=626           the first rows; or small, medium, large: 250, 626, 1253
#:   WHERE="r < 17.8"   a selection by u g r i z, z_spec, ra, dec, object_id
#:   YES=1              replace a dataset made from another source
#:   MODEL=theirs       the bands and cutouts that this model reads; without it, a
#:                      table gives magnitudes only; MODEL=astromae renders images
#:   NAME=big N=100000  this many synthetic galaxies instead
#:   TRAINING=1         drop what training must not see, instead of flagging it
#:   SHARD_MB=25        size of the largest shard
#:   SEED=1             another random draw
#: Variables of make train; with neither, all of it anew on the sample, an hour
#:   DATASET=mine       galaxies with redshifts, 200 at least
#:   MODEL=mine         the new model, models/mine/
#:   FROM=scratch       start without weights, or from a model by its name, or from
#:                      FROM=published.pt TRUST_PICKLE=1; else the shipped one
#:   TABLES="a.csv"     instead, more galaxies for the final layers, rendered
#:   DEVICE=cuda        or cpu; a GPU where torch finds one
#:   SEED=1 THREADS=2   QUICK=1 rehearses every step
#: Variables of make calibrate: MODEL, and one of
#:   DATASET=other      galaxies with redshifts that a model of yours never saw
#:   TABLES="a.csv"     what the weights learned from, next to the sample
#: Variables of make build, push and emulate-image
#:   ARCH=arm64 SLIM=1 NO_REGISTRY=1 BASE_IMAGE=name CONTAINER_ENGINE=podman
#:   REGISTRY=127.0.0.1:5000  FUNCTION=infer      see docker/README.md
#: Variables of make emulate
#:   PORT=8080 WORKERS=2 LOG_DIR=folder
#:   CONCURRENCY=10 INACTIVE_S=30 S3_FAILURE_EVERY=50 STARTS_PER_S=5 ALL_COLD=1
#:                      fail and wait as a busy account does
#: Other variables
#:   RUN=last           the newest run; or a part of its name that no other has
#:   FILE=log.csv       make logs: a log exported from CloudWatch
#:   FILE=net.onnx CARD=card.toml NAME=theirs       make model: import a network
#:   FILE=x.pt TO=x.safetensors SCALINGS=file.json  make convert
#:   FORCE=1 ROWS=folder  make engines: export again; compare on these shards
#:   IMAGE=1            make invoke: inside the image
#:   HOST=0.0.0.0 HEALTH_PORT=8081 RENDEZVOUS_KEY=secret  make rendezvous
#:   SNAP_START=1       make smoke: try SnapStart too
#:   PACKAGES=handlers N=40 JOBS=2 SEED=1  make mutate
#: Of every target
#:   PYTHON=python3.11  the Python to make .venv with; found by itself when absent
