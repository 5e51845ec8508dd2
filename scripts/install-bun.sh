#!/bin/sh
# Puts the Bun that package.json pins ("packageManager") into .tools/, unless the machine has one at least as new.
# Called by make, from the project's folder; needs Node and npm only when Bun is missing, and no network when it is there.
set -eu
wanted=$(sed -n 's/.*"packageManager": *"bun@\([0-9.]*\)".*/\1/p' package.json)
[ -n "$wanted" ] || { echo "install-bun: package.json pins no bun version" >&2; exit 1; }

at_least() { # $1 >= $2
  [ "$(printf '%s\n%s\n' "$1" "$2" | sort -t. -k1,1n -k2,2n -k3,3n | head -n 1)" = "$2" ]
}
works() {
  have=$("$1" --version 2>/dev/null) && at_least "$have" "$wanted"
}
for bun in .tools/node_modules/.bin/bun bun; do
  if works "$bun"; then exit 0; fi
done
command -v npm >/dev/null || { echo "install-bun: needs npm (Node 20 or later), or Bun $wanted on PATH: https://bun.com" >&2; exit 1; }
echo "installing bun@$wanted into .tools/"
mkdir -p .tools
# npm works on the nearest folder that has a package.json: this one keeps it out of the project's own.
printf '{ "private": true }\n' >.tools/package.json
# Not `--prefix .tools`: that also moves npm's global configuration, and a machine's registry, proxy and certificate
# authority would be lost (seen: every request retried for 70 s, six minutes in all). The fetch settings bound a line
# that stalls; npm's own wait five minutes for one answer.
(cd .tools && npm install --no-save --no-package-lock --no-audit --no-fund --ignore-scripts --loglevel=error \
  --no-update-notifier --fetch-timeout=120000 --fetch-retries=4 --fetch-retry-mintimeout=1000 --fetch-retry-maxtimeout=8000 "bun@$wanted")
# The package's install script only copies the binary of this platform, and machines may forbid install scripts.
mkdir -p .tools/node_modules/.bin
for binary in .tools/node_modules/@oven/bun-*/bin/bun; do
  if works "$binary"; then
    ln -sf "../${binary#.tools/node_modules/}" .tools/node_modules/.bin/bun
    ln -sf bun .tools/node_modules/.bin/bunx
    exit 0
  fi
done
echo "install-bun: bun@$wanted has no binary that runs on this machine; put Bun $wanted on PATH: https://bun.com" >&2
exit 1
