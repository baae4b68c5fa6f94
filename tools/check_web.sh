#!/bin/sh
# The page that is committed (web/dist) is what web/ builds, and its unit tests pass.
# usage: check_web.sh [--update]    --update replaces the committed page by the built one.
# Skips, with a reason, where Node is missing; with it, a registry that cannot be reached fails.
set -eu
cd "$(dirname "$0")/../web"
command -v node >/dev/null && command -v npm >/dev/null || {
  echo "SKIPPED: no node and npm here: the page is not built again"
  exit 0
}
# Installed again only where the lock file changed.
if ! cmp -s package-lock.json node_modules/.lock; then
  npm ci --no-audit --no-fund --silent
  cp package-lock.json node_modules/.lock
fi
npx --no-install tsc --noEmit
npx --no-install vitest run --reporter=dot
npx --no-install vite build --logLevel warn
if [ "${1:-}" = --update ]; then
  node pack.mjs
  exit 0
fi
built=$(mktemp -d)
trap 'rm -rf "$built"' EXIT
node pack.mjs "$built"
# What is inside the archives: their own bytes depend on the version of zlib.
gzip -dc dist/index.html.gz >"$built/committed"
gzip -dc "$built/index.html.gz" >"$built/new"
cmp "$built/committed" "$built/new" && cmp dist/csp.txt "$built/csp.txt" || {
  echo "web/dist is not what web/ builds: run tools/check_web.sh --update and commit it"
  exit 1
}
echo "the page: as committed"
