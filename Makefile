# Each target does its own set-up, a virtual environment included. `make run` is the main job, `make test` the project's own tests.
VENV   := .venv
PYTHON ?= python3
PYTEST := $(VENV)/bin/pytest

# Hundreds of processes of tests, workers and probes: what one of them has compiled serves all.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: run run-kind test testbed test-kind kill-matrix bench bench-policy lint help
help: ## what there is
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --upgrade 'pip>=25.1'
	$(VENV)/bin/pip install --quiet --group dev --editable '.[kind]'
	touch $@

run: $(VENV)/ready lab-means ## every suite on the embedded lab: no Docker, no cluster, no registry
	$(PYTEST) --cluster=lab -n 12 -p no:pytest-kind -p no:hypothesispytest

run-kind: $(VENV)/ready cluster-means ## every suite on a kind cluster with Cilium and MetalLB, removed afterwards
	$(PYTEST) --cluster=kind --cni=cilium --loadbalancer=metallb -n 4

kill-matrix: $(VENV)/ready lab-means ## every fault of the lab against the cases that must notice it; writes reports/kill-matrix.{md,json}
	$(VENV)/bin/python plugins/bench/kill_matrix.py

test: $(VENV)/ready ## the project's own tests: no cluster, no Docker
	$(PYTEST) plugins/tests -m "not kind" -n 4 --dist worksteal

testbed: $(VENV)/ready ## what a kind cluster needs where no container registry can be reached; writes netproof.toml
	.ci/testbed/up cilium metallb >/dev/null

test-kind: $(VENV)/ready cluster-means ## the project's own tests that need a real cluster: broken networks, interrupted runs, wrong input
	$(PYTEST) plugins/tests -m kind

bench: $(VENV)/ready lab-means cluster-means ## rounds, convergence and memory on the lab and on kind with Cilium, each beside its limit
	$(VENV)/bin/python plugins/bench/lab.py
	$(VENV)/bin/python plugins/bench/bench.py

bench-policy: $(VENV)/ready cluster-means ## the same 20 policy cases with Cyclonus v0.5.6 and with Netproof on one cluster; half an hour; needs Go
	$(VENV)/bin/python plugins/bench/policy.py

lint: $(VENV)/ready ## ruff, mypy, import contracts
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	PYTHONPATH=plugins $(VENV)/bin/lint-imports --no-logo

# The lab needs one program that does not come with Python.
.PHONY: lab-means
lab-means:
	@command -v nft >/dev/null || [ -x /usr/sbin/nft ] || .ci/nft

# Plain kind where a container registry answers (or the images are there already); the testbed elsewhere.
.PHONY: cluster-means
cluster-means:
	@.ci/means
