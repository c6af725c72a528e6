# Everything a developer or a CI calls. `make help` lists it. Nothing is installed into the system but Debian packages that are
# missing, and those only where this runs as root; all else goes to a cache folder, keyed by versions.

SHELL := /bin/sh
DRIVER ?= xen
NODES ?= 2
STATE ?= build/stack
export KUBEXEN_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/kubexen
PYTHON3 ?= $(or $(shell command -v python3.11),python3)

VENV := $(KUBEXEN_CACHE)/venv-$(shell cat requirements/dev.txt | cksum | cut -d' ' -f1)
LIBVIRT_VENV := $(VENV)/.libvirt-$(shell cat requirements/libvirt.txt | cksum | cut -d' ' -f1)
PYTHON := $(VENV)/bin/python
export PYTHONPATH := $(CURDIR):$(CURDIR)/operator
BEGIN := $(shell date +%s)

.PHONY: help
help: ## show this
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | awk -F'\t' '{printf "  make %-14s %s\n", $$1, $$2}'
	@echo "  settings: DRIVER=xen|sim NODES=$(NODES) STATE=$(STATE) KUBEXEN_CACHE=$(KUBEXEN_CACHE)"

$(VENV)/.ready:
	@hack/setup venv "$(PYTHON3)" "$(VENV)"

$(LIBVIRT_VENV): $(VENV)/.ready
	@hack/setup libvirt "$(VENV)" "$@"

.PHONY: demo up down env
demo: $(VENV)/.ready ## the first machines: a cluster, hosts, two domains, everything shown
	@$(PYTHON) -m hack.stack demo --driver $(DRIVER) --nodes $(NODES)

up: $(VENV)/.ready ## a cluster and hosts that stay up, in STATE
	@$(PYTHON) -m hack.stack up --driver $(DRIVER) --nodes $(NODES) --state "$(STATE)"

down: $(VENV)/.ready ## end what `make up` started
	@$(PYTHON) -m hack.stack down --state "$(STATE)"

env: $(VENV)/.ready ## shell settings for it: eval "$$(make -s env)"
	@$(PYTHON) -m hack.stack env --state "$(STATE)"

.PHONY: prepare tools images image
prepare: $(VENV)/.ready ## build all that the tests need, the programs beside the images; what is there already costs a second
	@$(MAKE) --no-print-directory -j2 tools images

tools: $(VENV)/.ready ## the programs of a cluster, from source
	@$(PYTHON) -m hack.tools.build

images: $(LIBVIRT_VENV) ## the image of Kubexen, and those of the lab's hosts and guests: one after the other, for each may call apt-get
	@$(PYTHON) -m hack.image
	@$(PYTHON) -m hack.xenlab build --debian-guest

image: $(VENV)/.ready ## the image of Kubexen alone, as an archive in the cache
	@$(PYTHON) -m hack.image

.PHONY: test test-unit test-contract test-cluster test-e2e test-xen test-long
test: lint prepare test-unit test-contract test-cluster test-e2e test-xen ## all tests
	@echo "all levels passed, after $$((($$(date +%s) - $(BEGIN)) / 60)) min of 60"

test-unit: $(VENV)/.ready $(LIBVIRT_VENV) ## plans, models, drivers' parts, the chart: no cluster, no root
	@$(PYTHON) -m hack.tools.build helm >/dev/null
	@hack/level unit 2 $(PYTHON) -m pytest -n 2 tests/unit

test-contract: $(VENV)/.ready $(LIBVIRT_VENV) ## the drivers' one suite, on the simulator and on libvirt's test driver
	@hack/level contract 1 $(PYTHON) -m pytest tests/contract

test-cluster: tools ## a real control plane and simulated hosts
	@hack/level cluster 12 $(PYTHON) -m pytest -n 6 --dist loadfile --no-loadscope-reorder tests/cluster

test-e2e: tools images ## real nodes, on this machine and in the dom0 of real Xen hosts
	@hack/level e2e 33 $(PYTHON) -m pytest -m "not long" tests/e2e

test-xen: tools ## real Xen hosts
	@$(PYTHON) -m hack.xenlab build
	@hack/level xen 10 $(PYTHON) -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not long" tests/xen

test-long: tools images ## what takes too long for `test`: the drivers' suite in real dom0s, a guest that reboots
	@hack/level long-xen 15 $(PYTHON) -m pytest -m long tests/xen
	@hack/level long-e2e 25 $(PYTHON) -m pytest -m long tests/e2e

.PHONY: lint generate bench bench-xen bench-install requirements
lint: $(VENV)/.ready ## ruff, mypy, import-linter
	@$(VENV)/bin/ruff check .
	@cd operator && $(VENV)/bin/mypy --config-file ../pyproject.toml -p kubexen
	@$(VENV)/bin/lint-imports

generate: $(VENV)/.ready ## the CRDs, from the models
	@$(PYTHON) -m kubexen.api.crdgen crds

bench: tools ## figures, and whether they are within hack/bench/rangespec.yaml
	@$(PYTHON) -m hack.bench

bench-xen: tools ## a start on a real host, beside a bare `virsh create`
	@$(PYTHON) -m hack.xenlab build
	@$(PYTHON) -m hack.bench xen

bench-install: tools images ## from `helm install` to the first domain, on a real node of a real host
	@$(PYTHON) -m hack.bench install

requirements: $(VENV)/.ready ## pin the dependencies anew, from pyproject.toml
	@hack/setup requirements "$(VENV)"
