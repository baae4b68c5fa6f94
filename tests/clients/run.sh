#!/bin/sh
# The published clients of OpenAI, Anthropic and Ollama against a running `inkstone serve`.
# usage: run.sh INKSTONE MODEL.gguf     Skips, with a reason, where there is no npm.
set -eu
inkstone=$1
model=$2
work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$work"' EXIT
cp "$(dirname "$0")/package.json" "$(dirname "$0")/clients.mjs" "$(dirname "$0")/template.jinja" \
  "$work"
command -v npm >/dev/null || { echo "SKIPPED: no npm here"; exit 0; }
(cd "$work" && npm install --no-audit --no-fund --silent >npm.log 2>&1) || {
  echo "npm cannot install the clients: $(tail -n 1 "$work/npm.log")" >&2
  exit 1
}
"$inkstone" serve -m "$model" --port 0 --sequences 4 --quiet \
  --chat-template "$work/template.jinja" >"$work/out" &
server=$!
for _ in $(seq 300); do
  grep -q '^listening on ' "$work/out" && break
  kill -0 "$server" || exit 1
  sleep 0.1
done
url=$(sed -n 's/^listening on //p' "$work/out")
cd "$work" && node clients.mjs "$url"
