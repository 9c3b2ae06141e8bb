#!/usr/bin/env bash
# Everything that must hold on a card, in under ten minutes, as one JSON.
#
#   scripts/gpu-check.sh [BINARY [JSON]]      default: target/cuda/release/agentflow, ${OUT:-.}/gpu-check.json
#
# Log-probabilities on the card beside those of the processor, an answer, a small evaluation, and tokens a second of the
# engine, with Hugging Face's `generate` beside it where python3 has torch and transformers. The models have random
# weights and are made on the spot: nothing is fetched, nothing need be carried but the binary. Needs bash, awk and sed.
# Exit code 0 means that every check held, 1 that one did not, 2 that nothing could be checked.
#
#   GPU_CHECK_DEVICE    device [cuda]
#   GPU_CHECK_SHAPES    shapes of the models, the first also for parity [qwen3-0.6b qwen3-8b]
#   GPU_CHECK_BATCHES   replies at the same time [1 16 64 256]
#   GPU_CHECK_DIR       where the models are made, removed at the end [a new temporary directory]; they take 18 GB
#   GPU_CHECK_SECONDS   most seconds in all [570]; what comes later is skipped, and said so
#
# The script itself is tried on a machine without a card with
#
#   GPU_CHECK_DEVICE=cpu GPU_CHECK_SHAPES=tiny GPU_CHECK_BATCHES="1 4" scripts/gpu-check.sh target/debug/agentflow
set -uo pipefail
cd "$(dirname "$0")/.."

binary=${1:-target/cuda/release/agentflow}
json=${2:-${OUT:-.}/gpu-check.json}
device=${GPU_CHECK_DEVICE:-cuda}
read -ra shapes <<<"${GPU_CHECK_SHAPES:-qwen3-0.6b qwen3-8b}"
read -ra batches <<<"${GPU_CHECK_BATCHES:-1 16 64 256}"
deadline=$((SECONDS + ${GPU_CHECK_SECONDS:-570}))
started=$(date -u +%Y-%m-%dT%H:%M:%SZ)
export OLLAMA_HOST=127.0.0.1:9 # none may answer: the bundled planner is meant

die() {
  echo "error: $1" >&2
  exit 2
}

[[ -x $binary ]] || die "no binary at \`$binary\`; build one with scripts/cuda-build.sh, or name it"
missing=$(ldd "$binary" 2>/dev/null | sed -n 's/^\s*\(\S*\) => not found.*/\1/p' | paste -sd ' ')
[[ -z $missing ]] || die "the loader finds no $missing; add their folders to LD_LIBRARY_PATH, see docs/gpu.md"
inspected=$("$binary" model inspect --json --device "$device") || exit 2

work=${GPU_CHECK_DIR:-$(mktemp -d)}
mkdir -p "$work" && work=$(cd "$work" && pwd) || die "no directory can be made at \`$work\`"
models=$work/gpu-check-models
trap 'rm -rf "$models"; [[ -n ${GPU_CHECK_DIR:-} ]] || rm -rf "$work"' EXIT
mkdir -p "$models"

checks=() figures=() skipped=() held=true

# What a text is in JSON.
quoted() {
  printf '%s\n' "$1" | tr '\t' ' ' | sed 's/\\/\\\\/g; s/"/\\"/g; s/.*/"&"/'
}

# `check NAME VALUE BOUND`: VALUE, a number, is at most BOUND.
check() {
  local pass
  pass=$(awk -v value="$2" -v bound="$3" 'BEGIN { print (value != "" && value + 0 <= bound + 0 ? "true" : "false") }')
  [[ $pass == true ]] || held=false
  checks+=("{\"name\": \"$1\", \"value\": ${2:-null}, \"bound\": $3, \"pass\": $pass}")
  echo "check $1 ${2:-nothing} (at most $3): $pass" >&2
}

# `same NAME FOUND WANTED`: two texts are equal.
same() {
  local pass=false
  [[ -n $2 && $2 == "$3" ]] && pass=true || held=false
  checks+=("{\"name\": \"$1\", \"value\": $(quoted "$2"), \"wanted\": $(quoted "$3"), \"pass\": $pass}")
  echo "check $1 \`$2\` (wanted \`$3\`): $pass" >&2
}

skip() {
  skipped+=("$(quoted "$1")")
  echo "skipped: $1" >&2
}

# `measured NAME COMMAND…`: the `figure` lines of a command, named `NAME.…`; skipped where time is up or it fails.
measured() {
  local name=$1 left=$((deadline - SECONDS)) log
  shift
  ((left > 5)) || { skip "$name: the time is up"; return 1; }
  log=$(timeout "$left" "$@" 2>"$work/stderr") || {
    skip "$name: exit code $?, $(tail -n 1 "$work/stderr")"
    return 1
  }
  while read -r _ figure value unit; do
    [[ " ${figures[*]} " == *"\"$name.${figure#*.}\""* ]] && continue # the time to load, of every batch anew
    figures+=("{\"name\": \"$name.${figure#*.}\", \"value\": $value, \"unit\": \"$unit\"}")
    echo "figure $name.${figure#*.} $value $unit" >&2
  done < <(grep '^figure ' <<<"$log")
}

# The numbers of one key of each JSON line, one a line.
numbers() {
  sed -n "s/.*\"$1\":\[\([^]]*\)\].*/\1/p" | tr ',' '\n'
}

# `logprobs LINES MODEL… `: of the tokens in LINES, one number a line.
logprobs() {
  local lines=$1
  shift
  timeout "$((deadline - SECONDS))" "$binary" model logprobs --input "$lines" "$@" | numbers logprobs
}

# The largest difference between two columns of equally many numbers; nothing where they are not.
largest_difference() {
  paste "$1" "$2" | awk '
    NF != 2 || $1 != $1 + 0 || $2 != $2 + 0 { bad = 1 }
    { difference = $1 - $2; if (difference < 0) difference = -difference; if (difference > largest) largest = difference }
    END { if (NR > 0 && !bad) printf "%.6f\n", largest }'
}

# `parity NAME F32_BOUND BF16_BOUND LINES MODEL…`: the device beside the processor in f32.
parity() {
  local name=$1 f32_bound=$2 bf16_bound=$3 lines=$4
  shift 4
  logprobs "$lines" "$@" --device cpu --dtype f32 >"$work/cpu"
  logprobs "$lines" "$@" --device "$device" --dtype f32 >"$work/f32"
  logprobs "$lines" "$@" --device "$device" --dtype bf16 >"$work/bf16"
  check "parity.$name.f32.max_abs_logprob_difference" "$(largest_difference "$work/cpu" "$work/f32")" "$f32_bound"
  check "parity.$name.bf16.max_abs_logprob_difference" "$(largest_difference "$work/cpu" "$work/bf16")" "$bf16_bound"
}

# Replies of the bundled planner to a question, drawn hot by the processor, as lines for `model logprobs`.
planner_lines() {
  local prompt
  prompt=$(echo '{"messages": [{"role": "user", "content": "What is 15% of 240, then doubled?"}]}' |
    "$binary" model render | sed -n 's/.*"ids":\(\[[^]]*\]\).*/\1/p')
  for seed in 1 2 3 4 5 6 7 8; do
    echo "{\"prompt_ids\": $prompt, \"max_tokens\": 48, \"temperature\": 1.5, \"seed\": $seed}"
  done | "$binary" model generate --device cpu --dtype f32 |
    sed -n "s/.*\"ids\":\(\[[^]]*\]\).*/{\"prompt_ids\": $prompt, \"completion_ids\": \1}/p"
}

# Four sequences of arbitrary tokens: 64 of prompt, 128 scored.
arbitrary_lines() {
  awk 'BEGIN {
    srand(1)
    for (line = 0; line < 4; line++) {
      for (at = 0; at < 192; at++) ids[at] = int(rand() * 8000)
      printf "{\"prompt_ids\": ["
      for (at = 0; at < 64; at++) printf "%s%d", (at ? "," : ""), ids[at]
      printf "], \"completion_ids\": ["
      for (at = 64; at < 192; at++) printf "%s%d", (at > 64 ? "," : ""), ids[at]
      print "]}"
    }
  }'
}

# --- what must be the same -------------------------------------------------------------------------------------------

planner_lines >"$work/planner"
# docs/gpu.md says what the bounds come from.
parity planner 0.001 0.3 "$work/planner"

question="What is 15% of 240, then doubled?"
wanted=$("$binary" solve --quiet --device cpu "$question")
for dtype in f32 bf16; do
  same "solve.planner.$dtype" "$("$binary" solve --quiet --device "$device" --dtype "$dtype" "$question")" "$wanted"
done
evaluate() {
  "$binary" eval --backend local --limit 40 --json --runs "$work/runs-$1" --device "$1" --dtype f32 2>/dev/null |
    sed -n '/"all"/,/}/s/.*"correct": \([0-9]*\).*/\1 of 40/p'
}
same eval.planner.f32 "$(evaluate "$device")" "$(evaluate cpu)"
# The commit that the binary was built from stands in the record of a run.
commit=$(sed -n 's/^commit = "\(.*\)"/\1/p' "$work"/runs-*/*/run.toml 2>/dev/null | head -n 1)

arbitrary_lines >"$work/arbitrary"
for shape in "${shapes[@]}"; do
  model=$models/$shape
  timeout "$((deadline - SECONDS))" "$binary" model random --shape "$shape" --out "$model" >/dev/null || {
    skip "$shape: its model could not be made"
    continue
  }
  if [[ $shape == "${shapes[0]}" ]]; then
    parity "$shape" 0.001 0.1 "$work/arbitrary" --model "$model"
  fi

  # --- how fast ------------------------------------------------------------------------------------------------------
  lengths=(--prompt 512 --tokens 64)
  [[ $shape == tiny ]] && lengths=(--prompt 64 --tokens 16)
  for batch in "${batches[@]}"; do
    measured "engine.$shape" "$binary" bench engine --model "$model" --device "$device" --dtype bf16 \
      --batch "$batch" "${lengths[@]}"
  done
  if python3 -c 'import torch, transformers' 2>/dev/null; then
    for batch in "${batches[@]}"; do
      measured "hf.$shape" python3 scripts/bench/hf_generate.py --model "$model" --device "$device" --dtype bf16 \
        --batch "$batch" "${lengths[@]}"
    done
  else
    skip "hf.$shape: python3 has no torch and transformers"
  fi
  rm -rf "$model"
done

# --- training --------------------------------------------------------------------------------------------------------
if "$binary" train sft --help | grep -q -- --device; then
  timeout "$((deadline - SECONDS))" "$binary" train sft --config configs/tiny/sft.toml --set schedule.updates=20 \
    --device "$device" --runs "$work/train" >/dev/null 2>"$work/stderr"
  same train.tiny "exit code $?" "exit code 0"
else
  skip "train.tiny: training has no --device yet"
fi

# --- the record ------------------------------------------------------------------------------------------------------
joined() {
  local IFS=$'\n'
  (($# == 0)) || printf '%s\n' "$*" | sed 's/^/    /; $!s/$/,/'
}
of_inspected() {
  sed -n "s/^  \"$1\": \"\(.*\)\",\{0,1\}\$/\1/p" <<<"$inspected"
}
card=$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null | head -n 1)
cat >"$json" <<END || die "\`$json\` cannot be written"
{
  "date": "$started",
  "commit": "${commit:-unknown}",
  "command": $(quoted "scripts/gpu-check.sh $*"),
  "device": $(quoted "$(of_inspected device)"),
  "card": $(quoted "${card:-none}"),
  "processor": $(quoted "$(sed -n 's/^model name\s*: //p' /proc/cpuinfo 2>/dev/null | head -n 1), $(nproc) cores"),
  "wall_s": $SECONDS,
  "pass": $held,
  "checks": [
$(joined "${checks[@]}")
  ],
  "figures": [
$(joined "${figures[@]}")
  ],
  "skipped": [
$(joined "${skipped[@]}")
  ]
}
END
echo "$json: $([[ $held == true ]] && echo "every check held" || echo "a check did not hold")" >&2
[[ $held == true ]]
