#!/usr/bin/env bash
# `agentflow score` beside math-verify, on the gold answers of MATH-500 against boxed copies of themselves.
#
#   cargo build --release && scripts/bench/score_peer.sh math500.jsonl
#
# The file has an `answer` a line. math-verify comes from PyPI into a fresh virtual environment that is removed at the
# end; `VENV=dir` keeps it there and uses it again, `BINARY=path` names another build of ours. Both get the same pairs in
# one run and are measured per CPU second, user and system, over all their threads.
set -euo pipefail
cd "$(dirname "$0")/../.."
golds=${1:?give the JSON lines of MATH-500: each has an answer}
binary=${BINARY:-target/release/agentflow}
if [[ -z ${VENV:-} ]]; then
  VENV=$(mktemp -d)
  trap 'rm -rf "$VENV"' EXIT
fi
[[ -x $VENV/bin/python ]] || "${PYTHON:-python3}" -m venv "$VENV"
"$VENV/bin/python" -m pip install --quiet math-verify==0.9.0 antlr4-python3-runtime==4.13.2
"$VENV/bin/python" scripts/bench/score_peer.py "$binary" "$golds"
