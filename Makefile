# `make help` lists the targets. Everything they need comes from the npm registry into this folder; nothing is installed elsewhere.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help install demo dev up test check lint format bench clean

# A machine's own Bun is used when it is new enough; else the pinned npm package is fetched into .tools/.
# (Relative paths only: make cannot hold a path with a space in a target.)
RUN := PATH="$$PWD/.tools/node_modules/.bin:$$PATH"

help:
	@echo 'make demo    start everything, upscale and score a picture, print the timeline, stop'
	@echo 'make dev     start everything and keep it running (Ctrl-C stops it)'
	@echo 'make test    the tests'
	@echo 'make check   types, lint, layers, dead code'
	@echo 'make bench   the task benchmark (bench/README.md)'
	@echo 'make clean   remove data/ (tasks, results); dependencies stay'

install: .tools/bun-ready node_modules/.millrace-installed

.tools/bun-ready: package.json
	@sh scripts/install-bun.sh
	@touch $@

node_modules/.millrace-installed: .tools/bun-ready package.json bun.lock
	@$(RUN) bun install --frozen-lockfile
	@touch $@

demo: install
	@$(RUN) bun scripts/demo.ts

dev up: install
	@$(RUN) bun src/main.ts up

test: install
	@$(RUN) bun test

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
