#!/usr/bin/env bash
# Our engine beside llama.cpp and Hugging Face's `generate`, in turns on this machine: Qwen3-0.6B's shape, random weights.
#
#   scripts/bench/engine_peers.sh                          # all of it: about half an hour on two cores
#   scripts/bench/engine_peers.sh --only q8_0 --rounds 3   # see engine_peers.py for more
#
#   VENV       virtual environment with the peers, made if absent  [a new one, removed at the end]
#   SCRATCH    where the models are, made if absent: 4 GB           [a new directory, removed at the end]
#   AGENTFLOW  our binary                                          [target/release/agentflow, built first]
#   PYTHON     an interpreter with wheels of torch                 [python3]
#
# llama-cpp-python comes as source and is compiled for this machine's processor, so it takes what llama.cpp has for it.
set -euo pipefail
cd "$(dirname "$0")/../.."

packages=(llama-cpp-python==0.3.36 gguf==0.19.0 torch==2.15.0 transformers==5.23.0 safetensors==0.8.0 numpy==2.4.6)

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
if ! "$VENV/bin/python" -c "import gguf, llama_cpp, torch, transformers" 2>/dev/null; then
  "$VENV/bin/python" -m pip install --quiet "${packages[@]}"
fi
if [[ -z ${AGENTFLOW:-} ]]; then
  cargo build --release
  AGENTFLOW=target/release/agentflow
fi

if [[ ! -d $SCRATCH/hf ]]; then
  rm -rf "$SCRATCH/hf.new"
  "$AGENTFLOW" model random --shape qwen3-0.6b --out "$SCRATCH/hf.new"
  mv "$SCRATCH/hf.new" "$SCRATCH/hf"
fi
"$VENV/bin/python" scripts/gguf_files.py "$SCRATCH/hf" "$SCRATCH" >"$SCRATCH/gguf_files.log" 2>&1 ||
  { tail -n 3 "$SCRATCH/gguf_files.log" >&2; exit 1; }
"$VENV/bin/python" scripts/bench/engine_peers.py --binary "$AGENTFLOW" --models "$SCRATCH" "$@"
