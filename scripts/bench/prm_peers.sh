#!/usr/bin/env bash
# Training and scoring of a PRM beside Hugging Face's `Trainer` and transformers, in turns on this machine, on two threads.
#
#   scripts/bench/prm_peers.sh                              # all of it: most of an hour on two idle cores, 14 GB of memory
#   scripts/bench/prm_peers.sh --only tiny --what score     # see prm_peers.py for more
#
#   VENV       virtual environment with the peer, made if absent   [a new one, removed at the end]
#   SCRATCH    where the models are, made if absent: 4 GB           [a new directory, removed at the end]
#   AGENTFLOW  our binary                                          [target/release/agentflow, built first]
#   PYTHON     an interpreter with wheels of torch                 [python3]
#
# The models have random weights: in the tiny planner's shape and in Qwen3-0.6B's.
set -euo pipefail
cd "$(dirname "$0")/../.."

packages=(torch==2.15.0 transformers==5.23.0 accelerate==1.15.0 safetensors==0.8.0 numpy==2.4.6)

temporary=()
trap '((${#temporary[@]} == 0)) || rm -rf "${temporary[@]}"' EXIT
for name in VENV SCRATCH; do
  if [[ -z ${!name:-} ]]; then
    printf -v "$name" '%s' "$(mktemp -d)"
    temporary+=("${!name}")
  fi
done

if [[ ! -x $VENV/bin/python ]]; then
  "${PYTHON:-python3}" -m venv "$VENV"
fi
if ! "$VENV/bin/python" -c "import accelerate, torch, transformers" 2>/dev/null; then
  "$VENV/bin/python" -m pip install --quiet "${packages[@]}"
fi
if [[ -z ${AGENTFLOW:-} ]]; then
  cargo build --release
  AGENTFLOW=target/release/agentflow
fi

for shape in tiny qwen3-0.6b; do
  if [[ ! -d $SCRATCH/$shape ]]; then
    rm -rf "$SCRATCH/$shape.new"
    "$AGENTFLOW" model random --shape "$shape" --out "$SCRATCH/$shape.new"
    mv "$SCRATCH/$shape.new" "$SCRATCH/$shape"
  fi
done
"$VENV/bin/python" scripts/bench/prm_peers.py --binary "$AGENTFLOW" --models "$SCRATCH" "$@"
