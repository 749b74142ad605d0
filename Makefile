# Everything there is to do with this repository. `make` lists it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

export PATH := $(CURDIR)/lab/bin:$(CURDIR)/.venv/bin:$(PATH)
# A machine's own Ansible settings stay out: this repository is deployed with its own.
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg

STEP := scripts/step
# Molecule draws frames; without a terminal they would be 80 columns wide and cut lines that people search for.
export COLUMNS ?= 160
# The environment that `evidence` looks at, and the one that `secrets` makes secrets for.
INVENTORY ?= inventory/lab
ENV ?=
# The host that `lab-shell` enters.
HOST ?= gateway1
# The faults that `faults` plays; empty: all of them.
ONLY ?=
# Options of `bench`, `faults`, `bundle` and `audit`.
ARGS ?=
# What `molecule` plays.
SCENARIO ?= default

lab := ANSIBLE_INVENTORY=inventory/lab
# `test` plays all scenarios but airgap, which fetches every package of the stack for its bundle first.
other_scenarios := $(filter-out default,$(patsubst molecule/%/molecule.yml,%,$(wildcard molecule/*/molecule.yml)))
shell_scripts = $(shell grep -rlE '^\#!(/bin/sh|/usr/bin/env bash)' --exclude='*.j2' --exclude-dir=.venv --exclude-dir=.git --exclude-dir=.cache .)

##@ Use

.PHONY: help
help: ## list the targets
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@printf '\nDeploy to your own machines: ansible-playbook site.yml   (see README.md)\n'

.PHONY: up
up: ## boot the lab on this machine, deploy the stack to it and make a first call
	@start=$$SECONDS; \
	scripts/bootstrap lab controller; \
	export $(lab); \
	$(STEP) "boot the lab's hosts (the first time, their image is built: a minute)" ansible-playbook molecule/default/create.yml; \
	$(STEP) "install the upstream double" ansible-playbook molecule/default/prepare.yml; \
	$(STEP) "deploy the stack" ansible-playbook site.yml; \
	$(STEP) "make a first call" ansible-playbook playbooks/first_call.yml; \
	echo "The lab is up after $$((SECONDS - start)) s. Look inside: make lab-shell HOST=gateway1; remove it: make down"

.PHONY: down
down: ## remove the lab's hosts and their network
	@scripts/bootstrap lab controller
	@$(lab) $(STEP) "remove the lab" ansible-playbook molecule/default/destroy.yml

.PHONY: down-all
down-all: ## remove the hosts of every scenario, of a run that failed as well
	@scripts/bootstrap lab test
	@for scenario in default $(other_scenarios); do \
		$(STEP) "molecule $$scenario: remove the lab" molecule destroy --scenario-name "$$scenario"; \
	done

.PHONY: lab-shell
lab-shell: ## open a shell in a host of the lab (HOST=gateway1, postgresql1, upstream1)
	@podman exec --interactive --tty litellm-lab-$(HOST) bash

.PHONY: secrets
secrets: ## make the secrets that an environment still lacks (ENV=production)
	@[ -n "$(ENV)" ] || { echo "Name the environment: make secrets ENV=production" >&2; exit 2; }
	@scripts/bootstrap controller
	@python scripts/make_secrets.py --environment "$(ENV)"

.PHONY: sbom
sbom: ## list what the Python environments on hosts consist of, as CycloneDX, in build/sbom
	@scripts/bootstrap test
	@PYTHONPATH=scripts $(STEP) "write build/sbom" python -m supply_chain.sbom

.PHONY: audit
audit: ## look up every locked Python package among the known vulnerabilities (ARGS=--help)
	@scripts/bootstrap test
	@PYTHONPATH=scripts $(STEP) "look up known vulnerabilities" python -m supply_chain.audit $(ARGS)

.PHONY: bundle
bundle: ## collect all packages for hosts without a way out, into build/bundle (ARGS=--help)
	@scripts/bootstrap archive test
	@PYTHONPATH=scripts $(STEP) "make build/bundle" python -m supply_chain.bundle $(ARGS)

.PHONY: evidence
evidence: ## check AC-1 to AC-7 on an environment and keep the proof (INVENTORY=inventory/lab)
	@scripts/bootstrap controller
	@ANSIBLE_INVENTORY=$(INVENTORY) $(STEP) "check the acceptance criteria on $(INVENTORY)" ansible-playbook playbooks/evidence.yml

##@ Develop

.PHONY: check
check: ## lint, types, unit and template tests: under a minute, no host
	@scripts/bootstrap test
	@$(MAKE) --jobs=2 --keep-going --output-sync=target unit lint types

.PHONY: lint
lint: ## yamllint, ruff, shellcheck, ansible-lint
	@scripts/bootstrap test
	@$(STEP) "yamllint" yamllint --strict .
	@$(STEP) "ruff" bash -euc 'ruff check . && ruff format --check .'
	@$(STEP) "shellcheck" shellcheck $(shell_scripts)
	@$(lab) $(STEP) "ansible-lint" ansible-lint --offline

.PHONY: types
types: ## mypy, strict
	@scripts/bootstrap test
	@$(STEP) "mypy" mypy

.PHONY: unit
unit: ## unit and template tests
	@scripts/bootstrap test
	@$(STEP) "unit and template tests" pytest -q tests/unit tests/templates

.PHONY: integration
integration: ## tests of the package against a real PostgreSQL 17
	@scripts/bootstrap test
	@[ -n "$${LITELLM_TEST_DATABASE_URL:-}" ] || podman container exists litellm-lab-upstream1 || { echo "The lab is not up: make up boots it." >&2; exit 2; }
	@LITELLM_TEST_DATABASE_URL=$${LITELLM_TEST_DATABASE_URL:-postgresql+psycopg2://scratch:scratch@192.168.10.20/scratch} \
		$(STEP) "run the integration tests" pytest -q tests/integration

.PHONY: admin
admin: ## LiteLLM's administration on a lab: keys, teams, budgets, limits, spend, outages (INVENTORY=inventory/lab)
	@scripts/bootstrap lab test
	@$(STEP) "test the administration of $(INVENTORY)" pytest -q tests/admin --ansible-inventory=$(INVENTORY)

.PHONY: browser
browser: ## the admin UI on a lab, in Chromium; screenshots in build/browser (INVENTORY=inventory/lab)
	@scripts/bootstrap lab test browser
	@$(STEP) "test the admin UI of $(INVENTORY)" pytest -q tests/browser --ansible-inventory=$(INVENTORY)

.PHONY: conformance
conformance: ## run the same operations through Prisma's own client and ours, and compare (ARGS="--examples=20 --seed=1 -k TeamTable")
	@scripts/bootstrap test conformance
	@[ -n "$${LITELLM_TEST_DATABASE_URL:-}" ] || podman container exists litellm-lab-upstream1 || { echo "The lab is not up: make up boots it." >&2; exit 2; }
	@tests/conformance/oracle/install
	@LITELLM_TEST_DATABASE_URL=$${LITELLM_TEST_DATABASE_URL:-postgresql+psycopg2://scratch:scratch@192.168.10.20/scratch} \
		$(STEP) "compare with Prisma's own client" pytest -q tests/conformance $(ARGS)

.PHONY: molecule
molecule: ## deploy to a fresh lab, again, and in check mode, and look at every host; the lab stays up (SCENARIO=)
	@scripts/bootstrap lab test
	@$(STEP) "molecule $(SCENARIO): remove an old lab" molecule destroy --scenario-name $(SCENARIO)
	@$(STEP) "molecule $(SCENARIO)" molecule test --destroy=never --scenario-name $(SCENARIO)

.PHONY: faults
faults: ## break the lab under load in every way known, and count each call (ONLY=NAME…, ARGS=--short, INVENTORY=inventory/lab)
	@scripts/bootstrap lab test
	@PYTHONPATH=tests $(STEP) "break $(INVENTORY) and count" python -m faults --inventory=$(INVENTORY) $(ONLY:%=--only=%) $(ARGS)

.PHONY: bench
bench: ## measure what the request log and the database client cost, against baselines in the same run (ARGS="--quick", ARGS=--help)
	@scripts/bootstrap lab test conformance
	@LITELLM_TEST_DATABASE_URL=$${LITELLM_TEST_DATABASE_URL:-postgresql+psycopg2://scratch:scratch@192.168.10.20/scratch} \
		PYTHONPATH=files $(STEP) "measure" python -m bench $(ARGS)

.PHONY: switch-rehearsal
switch-rehearsal: ## switch the lab from Prisma and back, with Prisma's own client (INVENTORY=inventory/lab)
	@scripts/bootstrap lab test
	@tests/conformance/oracle/install
	@PYTHONPATH=tests $(STEP) "rehearse the switch on $(INVENTORY)" python -m rehearsal --inventory=$(INVENTORY) $(ARGS)

.PHONY: test
test: ## everything that CI runs, on a fresh lab, which is removed if all of it passes
	@start=$$SECONDS; \
	scripts/bootstrap lab test; \
	$(MAKE) check; \
	$(MAKE) molecule; \
	$(MAKE) integration; \
	$(MAKE) conformance; \
	$(MAKE) evidence INVENTORY=inventory/lab; \
	$(MAKE) admin browser INVENTORY=inventory/lab; \
	$(MAKE) faults INVENTORY=inventory/lab ARGS=--short; \
	$(MAKE) switch-rehearsal INVENTORY=inventory/lab ARGS=--spend-logs=20000; \
	$(MAKE) down; \
	for scenario in $(filter-out airgap,$(other_scenarios)); do \
		$(MAKE) molecule SCENARIO="$$scenario"; \
		$(STEP) "molecule $$scenario: remove the lab" molecule destroy --scenario-name "$$scenario"; \
	done; \
	$(MAKE) audit ARGS=--where-reachable; \
	echo "Everything passed, after $$((SECONDS - start)) s."

.PHONY: lock
lock: ## compile the lock files of Python packages anew (UPGRADE=1: to the newest versions)
	@scripts/bootstrap test
	@scripts/lock $(if $(UPGRADE),--upgrade)
