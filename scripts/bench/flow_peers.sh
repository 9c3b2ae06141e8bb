#!/usr/bin/env bash
# Our flow engine beside Orchflow, StepFlow Agent, PenguiFlow and Microflow, in turns on this machine.
#
#   scripts/bench/flow_peers.sh                    # all of it: a few minutes
#   scripts/bench/flow_peers.sh --rounds 3 --only a,c
#
# The libraries come from PyPI into a fresh virtual environment that is removed at the end. One that cannot be installed
# is skipped, and said so. `PYTHON=python3.13` names the interpreter (penguiflow wants 3.12 or later); `VENV=dir` keeps
# the environment there and uses it again.
set -euo pipefail
cd "$(dirname "$0")/../.."

peers=(orchflow==0.5.0 stepflow-agent==0.1.0 microflow==0.1.0 penguiflow==1.0.2)

newest_python() {
  for python in python3.14 python3.13 python3.12 python3; do
    # Not only found: a version manager leaves names that run nothing.
    if "$python" -c "" 2>/dev/null; then
      echo "$python"
      return
    fi
  done
  echo "no python3 found: install CPython 3.12 or later, or name it with PYTHON=" >&2
  return 1
}

python=${PYTHON:-$(newest_python)}
if [[ -z ${VENV:-} ]]; then
  VENV=$(mktemp -d)
  trap 'rm -rf "$VENV"' EXIT
fi
[[ -x $VENV/bin/python ]] || "$python" -m venv "$VENV"
for peer in "${peers[@]}"; do
  "$VENV/bin/python" -m pip install --quiet "$peer" || echo "skipped: $peer cannot be installed" >&2
done

# The program that `cargo bench` would run.
bench=$(cargo bench -p agentflow-flow --bench flow --no-run --message-format=json |
  "$VENV/bin/python" -c '
import json, sys
for message in map(json.loads, sys.stdin):
    if message.get("executable") and message["target"]["kind"] == ["bench"]:
        print(message["executable"])
')
"$VENV/bin/python" scripts/bench/flow_peers.py --bench "$bench" "$@"
