# Thin: every target is a script that also runs by itself.
.DEFAULT_GOAL := help
SHELL := /bin/bash
ENV ?= local
export ENV

.PHONY: help build up plan down call generate lint test soak bench clean

help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z][a-z-]*:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  ENV=<name>      names the deployment (default local); several live side by side"

build: ## build the node binaries, cw and the provider into bin/, with an image manifest
	@scripts/build.sh

up: ## build, apply the local scenario, and make a call through it
	@scripts/up.sh

plan: ## show what an apply would change
	@scripts/terraform.sh plan

down: ## destroy the local scenario
	@scripts/down.sh

call: ## make a call through the running deployment
	@scripts/call.sh

generate: ## generated code, formatted examples, provider documentation
	@scripts/generate.sh

lint: ## static checks
	@scripts/lint.sh

test: ## every test, in a form short enough for CI
	@scripts/test.sh

soak: ## the long forms of the tests
	@scripts/soak.sh

bench: ## measure speed
	@scripts/bench.sh

clean: ## remove what make build made (not state of deployments)
	rm -rf bin build
