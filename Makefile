# `make help` lists the targets. What they need comes from the npm registry into this folder; nothing is installed
# elsewhere, and once it is here no target needs a network.
# Only relative paths: make cannot hold a path with a space in a target.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help install bun demo dev compose up down logs test check lint format bench clean

# The pinned Bun of .tools/ where the machine has none that is new enough (scripts/install-bun.sh).
# With `exec` where make's end is to be the command's: a shell in between would leave it running.
RUN := PATH="$$PWD/.tools/node_modules/.bin:$$PATH"

help:
	@echo 'make demo    start everything, upscale and score a picture, ask a language model, stop'
	@echo 'make dev     start everything and keep it running (Ctrl-C stops it)'
	@echo 'make up      the same in containers, in the background (Docker with compose; docs/operations.md)'
	@echo 'make down    stop the containers; what is stored stays'
	@echo 'make logs    follow their logs'
	@echo 'make test    the tests'
	@echo 'make check   types, lint, unused code'
	@echo 'make lint    lint alone'
	@echo 'make format  format the source'
	@echo 'make bench   the task benchmark (bench/README.md)'
	@echo 'make clean   remove data/ (tasks, results); what was installed stays'

install: bun node_modules/.millrace-installed

bun:
	@sh scripts/install-bun.sh

# After an interrupted installation the mark is missing, and the next target installs again.
node_modules/.millrace-installed: package.json bun.lock | bun
	@rm -f $@
	@$(RUN) bun install --frozen-lockfile
	@touch $@

demo: install
	@$(RUN) exec bun scripts/demo.ts

dev: install
	@$(RUN) exec bun src/main.ts up

compose:
	@docker compose version >/dev/null 2>&1 || \
	  { echo 'this needs Docker with its compose plugin; `make dev` runs the same without containers' >&2; exit 1; }

up: compose
	@docker compose up --detach --build --wait

down: compose
	@docker compose --profile gpu down

logs: compose
	@docker compose --profile gpu logs --follow --tail 100

test: install
	@$(RUN) bun run test

check: install
	@$(RUN) bun run check

lint: install
	@$(RUN) bun run lint

format: install
	@$(RUN) bun run format

bench: install
	@$(RUN) bun run bench:tasks

clean:
	@rm -rf data
