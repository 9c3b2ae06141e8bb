#!/usr/bin/env bash
# How long a user waits: for --help, and for an answer of the bundled planner.
#
#   cargo build --release && scripts/bench/start.sh
#
# Median of 11 runs each, as `figure` lines.
set -euo pipefail
binary=${1:-target/release/agentflow}
# No Ollama may answer: the bundled planner is meant.
export OLLAMA_HOST=127.0.0.1:9

median_ms() {
  for _ in $(seq 11); do
    local start=$EPOCHREALTIME
    "$@" >/dev/null 2>&1
    local end=$EPOCHREALTIME
    echo $((${end/./} - ${start/./}))
  done | sort -n | awk 'NR == 6 { printf "%.1f\n", $1 / 1000 }'
}

echo "figure cli.help_ms $(median_ms "$binary" --help) ms"
echo "figure cli.solve_bundled_ms $(median_ms "$binary" solve "What is 15% of 240, then doubled?") ms"
