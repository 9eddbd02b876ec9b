# Every chore is one command; none of them needs anything but Go and Python 3.
.DEFAULT_GOAL := help
.PHONY: help build demo test ci lint fmt clean

help: ## list the chores
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

build: ## build bin/millrace
	go build -o bin/millrace ./cmd/millrace

demo: ## build and run the demonstration, and print where to look
	go run ./scripts/demo

test: ## pass everything this machine can; says what it left out
	go run ./scripts/check

ci: ## pass everything, installing what is needed; nothing may be left out
	bash .ci/run

lint: ## format, vet, linters, types
	go run ./scripts/check --only lint,python-lint,vulns

fmt: ## format all Go
	gofmt -w cmd internal scripts test

clean: ## remove what the other chores made in this folder
	rm -rf bin .millrace
