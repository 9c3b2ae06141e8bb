#!/usr/bin/env bash
# The official Python clients of Ollama and OpenAI against `agentflow serve` with the bundled planner.
#
#   scripts/conformance/clients.sh [BINARY]      default: target/release/agentflow, else target/debug/agentflow
#
# Needs python3 with venv, and pip's index for `ollama` and `openai` on the first run (CONFORMANCE_VENV keeps them
# elsewhere than target/conformance-venv). Exit code 0 means that every check held.
set -euo pipefail
cd "$(dirname "$0")/../.."

binary=${1:-target/release/agentflow}
[ -x "$binary" ] || binary=target/debug/agentflow
[ -x "$binary" ] || { echo "no binary at $binary; build one with: cargo build --release" >&2; exit 2; }

venv=${CONFORMANCE_VENV:-target/conformance-venv}
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/python" -c 'import ollama, openai' 2>/dev/null ||
    "$venv/bin/pip" install --quiet --disable-pip-version-check ollama openai

log=$(mktemp)
"$binary" serve --port 0 --concurrency 4 2>"$log" &
server=$!
trap 'kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; rm -f "$log"' EXIT
for _ in $(seq 200); do
    url=$(sed -n 's/.* at \(http:[^,]*\),.*/\1/p' "$log")
    [ -n "$url" ] && break
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
done
[ -n "$url" ] || { echo "the server did not start:" >&2; cat "$log" >&2; exit 1; }

"$venv/bin/python" scripts/conformance/clients.py "$url"
