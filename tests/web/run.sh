#!/bin/sh
# The web page in a real Chromium.
# usage: run.sh INKSTONE      Skips, with a reason, where Node is missing.
set -eu
inkstone=$(realpath "$1")
cd "$(dirname "$0")"
command -v node >/dev/null && command -v npm >/dev/null || {
  echo "SKIPPED: no node and npm here: the page is not tested in a browser"
  exit 0
}
chromium=${INKSTONE_CHROMIUM:-/usr/bin/chromium}
[ -x "$chromium" ] || {
  echo "no browser at $chromium: apt-get install chromium, or set INKSTONE_CHROMIUM"
  exit 1
}
if ! cmp -s package-lock.json node_modules/.lock; then
  npm ci --no-audit --no-fund --silent
  cp package-lock.json node_modules/.lock
fi
exec node page_test.mjs "$inkstone"
