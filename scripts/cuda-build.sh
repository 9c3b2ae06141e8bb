#!/usr/bin/env bash
# A binary that runs models on an NVIDIA card, built on a machine that needs no card, no driver and no CUDA.
#
#   scripts/cuda-build.sh [CARGO OPTIONS]      -> target/cuda/release/agentflow
#
# With CUDA_HOME set, and bin/nvcc in it, that toolkit is used. Otherwise nvcc and the libraries come from PyPI into a
# virtual environment outside of the repository: 1.2 GB, fetched once. docs/gpu.md says how the binary is carried and run.
#
#   CUDA_COMPUTE_CAP    compute capability without the dot [90: H100, H200]; the binary runs on no other
#   CUDA_VENV           the virtual environment [${XDG_CACHE_HOME:-~/.cache}/agentflow-cuda]
#   CARGO_TARGET_DIR    where cargo builds [target/cuda]
#   CUDAFORGE_THREADS   compilers of kernels at the same time [half of the cores]
#   PYTHON              what makes the virtual environment [python3]
set -euo pipefail
cd "$(dirname "$0")/.."

# What torch 2.11 pins, so that its libraries on the target are the ones linked here. nvvm and crt are pinned for nvcc's
# sake: it refuses those of a later release.
packages=(
  nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88
  nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85 nvidia-cuda-nvrtc==13.0.88
  nvidia-cublas==13.1.0.3 nvidia-curand==10.4.0.35
)

die() {
  echo "error: $1" >&2
  exit "${2:-1}"
}

need() {
  command -v "$1" >/dev/null || die "\`$1\` is missing: $2" 2
}

# A toolkit in a virtual environment, with the layout that linkers expect; sets CUDA_HOME.
toolkit_from_wheels() {
  local venv=${CUDA_VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/agentflow-cuda}
  local python=${PYTHON:-python3}
  need "$python" "install Python 3.9 or later with venv, or set PYTHON, or CUDA_HOME for a toolkit that is there"
  if [[ ! -x $venv/bin/python ]]; then
    "$python" -m venv "$venv" || die "no virtual environment can be made in \`$venv\`; Debian has python3-venv for it"
  fi
  local mark=$venv/packages.txt
  if [[ ! -f $mark || $(<"$mark") != "${packages[*]}" ]]; then
    echo "fetching nvcc and CUDA's libraries (1.2 GB) into $venv" >&2
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "${packages[@]}" ||
      die "pip could not install CUDA's packages; with a toolkit of your own, set CUDA_HOME"
    echo "${packages[*]}" >"$mark"
  fi
  CUDA_HOME=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/nvidia/cu13
  [[ -x $CUDA_HOME/bin/nvcc ]] || die "no nvcc in \`$CUDA_HOME\`; remove \`$venv\` and run this again"

  # Wheels have neither lib64 nor the names without a version.
  ln -sfn lib "$CUDA_HOME/lib64"
  local library
  for library in libcudart.so.13 libcublas.so.13 libcublasLt.so.13 libcurand.so.10 libnvrtc.so.13; do
    [[ -e $CUDA_HOME/lib/$library ]] || die "\`$CUDA_HOME/lib\` lacks $library; remove \`$venv\` and run this again"
    ln -sf "$library" "$CUDA_HOME/lib/${library%.so.*}.so"
  done
  driver_stub "$CUDA_HOME/lib/stubs"
}

# The driver's library comes with the driver. For the linker, every function of cuda.h, each of which answers
# CUDA_ERROR_NO_DEVICE.
driver_stub() {
  local dir=$1
  [[ -e $dir/libcuda.so.1 ]] && return
  mkdir -p "$dir"
  grep -oE '\bcu[A-Z][A-Za-z0-9_]*' "$CUDA_HOME/include/cuda.h" | sort -u |
    sed 's/.*/int &(void) { return 100; }/' >"$dir/stub.c"
  cc -shared -fPIC -w -Wl,-soname,libcuda.so.1 -o "$dir/libcuda.so" "$dir/stub.c"
  ln -sf libcuda.so "$dir/libcuda.so.1"
}

need cargo "install Rust from https://rustup.rs"
need cc "install a C compiler, e.g. gcc with g++"
need c++ "nvcc needs a C++ compiler, e.g. g++"
if [[ -n ${CUDA_HOME:-} ]]; then
  [[ -x $CUDA_HOME/bin/nvcc ]] ||
    die "CUDA_HOME is \`$CUDA_HOME\`, which has no bin/nvcc; correct it, or unset it to use packages from PyPI" 2
else
  toolkit_from_wheels
fi
export CUDA_HOME PATH="$CUDA_HOME/bin:$PATH"
export CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-90}
[[ $CUDA_COMPUTE_CAP =~ ^[0-9]{2,3}$ ]] ||
  die "CUDA_COMPUTE_CAP is \`$CUDA_COMPUTE_CAP\`; write it without the dot, e.g. 90 for 9.0" 2
# Half of the size of the binary; the driver unpacks a kernel when it is loaded.
export NVCC_APPEND_FLAGS=${NVCC_APPEND_FLAGS:--Xfatbin=-compress-all --compress-mode=size}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target/cuda}

cargo build --release --package agentflow --features cuda "$@"

binary=$CARGO_TARGET_DIR/release/agentflow
libraries=$CUDA_HOME/lib64
[[ -d $libraries ]] || libraries=$CUDA_HOME/lib
cat <<END
$binary: $(stat -c %s "$binary" | awk '{ printf "%.1f MB", $1 / 1e6 }'), for compute capability ${CUDA_COMPUTE_CAP%?}.${CUDA_COMPUTE_CAP: -1}

A machine with a card needs its driver's libcuda.so.1, and libcublas.so.13, libcublasLt.so.13 and libcurand.so.10 from a
toolkit's lib64, from a folder \`lib\` beside the binary, or from a Python environment with torch or with the packages
nvidia-cublas and nvidia-curand:

  export LD_LIBRARY_PATH=\$(python3 -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/nvidia/cu13/lib
  ./agentflow solve --device cuda "What is 15% of 240, then doubled?"

Here, without a card:

  LD_LIBRARY_PATH=$libraries:$libraries/stubs $binary solve --device auto "What is 15% of 240, then doubled?"
END
