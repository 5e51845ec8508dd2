#!/bin/sh
# Puts the Bun that package.json pins ("packageManager") into .tools/, unless the machine has one at least as new.
# Called by make, from the project's folder; needs Node and npm only when Bun is missing.
set -eu
wanted=$(sed -n 's/.*"packageManager": *"bun@\([0-9.]*\)".*/\1/p' package.json)
[ -n "$wanted" ] || { echo "install-bun: package.json pins no bun version" >&2; exit 1; }

at_least() { # $1 >= $2
  [ "$(printf '%s\n%s\n' "$1" "$2" | sort -t. -k1,1n -k2,2n -k3,3n | head -n 1)" = "$2" ]
}
mkdir -p .tools
for bun in .tools/node_modules/.bin/bun bun; do
  if have=$("$bun" --version 2>/dev/null) && at_least "$have" "$wanted"; then exit 0; fi
done
command -v npm >/dev/null || { echo "install-bun: needs npm (Node 20 or later), or Bun $wanted on PATH: https://bun.com" >&2; exit 1; }
echo "installing bun@$wanted into .tools/"
npm install --prefix .tools --no-save --no-package-lock --no-audit --no-fund --loglevel=error "bun@$wanted"
.tools/node_modules/.bin/bun --version >/dev/null
