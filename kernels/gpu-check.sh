#!/usr/bin/env bash
# The CUDA kernels on a real card. Two steps, so that nothing need be installed or fetched where the card is:
#
#   kernels/gpu-check.sh build [folder]     with nvcc ($CUDA_HOME/bin, or the path): programs into target/gpu-check
#   kernels/gpu-check.sh models [folder]    the same for swinseek itself; the first time takes many minutes
#   [folder]/gpu-check.sh run [goldens]     with a card and its driver alone: tests, compute-sanitizer if it is there, times
#
# The programs are those of kernels/cuda/tests: the same comparisons with f64 references that run on the CPU. With swinseek in the
# folder, and CUDA's libraries (cuBLAS, cuRAND, NVRTC, the runtime) where the loader or Python has them, the operations, the whole
# models of fusion/tests/goldens (or the folder named) and `bench --device cuda` follow.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
programs="activation causal_attention cross_attention mla_decode moe norms quant_linear rope sampling window_attention"

build() {
    local folder=${1:-$here/../target/gpu-check} nvcc=nvcc
    local libraries=()
    if [ -n "${CUDA_HOME:-}" ]; then
        nvcc=$CUDA_HOME/bin/nvcc
        libraries=("-L$CUDA_HOME/lib") # the wheels have no lib64
    fi
    mkdir -p "$folder"
    # Machine code for sm_80 and sm_90; a newer card's driver translates the PTX.
    for program in $programs gpu_bench; do
        "$nvcc" -x cu -std=c++17 -O2 -gencode=arch=compute_80,code=sm_80 -gencode=arch=compute_90,code=sm_90 \
            -gencode=arch=compute_90,code=compute_90 "${libraries[@]}" "$here/cuda/tests/$program.cpp" -o "$folder/$program"
    done
    cp "$here/gpu-check.sh" "$folder/"
    echo "built in $folder"
}

# A program needs the driver's library to be linked; that of the simulated card has the names.
models() {
    local folder=${1:-$here/../target/gpu-check} card=$here/../target/simulated-card
    mkdir -p "$folder" "$card/stub"
    make --silent --file "$here/cuda/host/driver/Makefile" OUT="$card" "$card/lib/libcuda.so.1"
    cp "$card/lib/libcuda.so.1" "$card/stub/libcuda.so"
    export LIBRARY_PATH=${CUDA_HOME:+$CUDA_HOME/lib:}$card/stub CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-90}
    (
        cd "$here/.."
        cargo build --release --features cuda
        cp "${CARGO_TARGET_DIR:-target}/release/swinseek" "$folder/"
        cargo test --release -p swinseek-kernels --features cuda --test cuda_simulated --no-run --message-format json |
            grep -oE '"executable":"[^"]+/cuda_simulated-[^"]+"' | cut -d'"' -f4 | xargs -I{} cp {} "$folder/operations"
    )
    cp "$here/gpu-check.sh" "$folder/"
    echo "built in $folder"
}

# Where PyPI's wheels put CUDA's libraries.
wheels() {
    python3 - <<'END' 2> /dev/null || true
import glob, os, site
folders = [f for s in site.getsitepackages() for f in glob.glob(os.path.join(s, "nvidia", "*", "lib"))]
print(":".join(folders))
END
}

run_models() {
    local goldens=${1:-fusion/tests/goldens} failed=0 golden
    LD_LIBRARY_PATH=$(wheels)${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    export LD_LIBRARY_PATH
    echo "== operations"
    SWINSEEK_EXPECT_GPU=1 "$here/operations" --test-threads 1 || failed=1
    for golden in "$goldens"/*/golden.safetensors; do
        echo "== $golden"
        "$here/swinseek" verify "$(dirname "$golden")" --golden "$golden" --device cuda | grep -v '^ok' || failed=1
    done
    "$here/swinseek" bench --device cuda --all-precisions || failed=1
    return "$failed"
}

run() {
    local failed=0
    command -v nvidia-smi > /dev/null && nvidia-smi --query-gpu=name,driver_version,power.limit --format=csv
    for program in $programs; do
        echo "== $program"
        "$here/$program" || failed=1
    done
    local sanitizer
    sanitizer=$(command -v compute-sanitizer || ls "${CUDA_HOME:-/usr/local/cuda}/bin/compute-sanitizer" 2> /dev/null || true)
    if [ -z "$sanitizer" ]; then
        echo "== compute-sanitizer was not found: memory and races were not checked"
    else
        for tool in memcheck racecheck synccheck initcheck; do
            for program in $programs; do
                echo "== $tool $program"
                "$sanitizer" --tool "$tool" --error-exitcode 9 "$here/$program" || failed=1
            done
        done
    fi
    echo "== times"
    "$here/gpu_bench" || failed=1
    if [ -x "$here/swinseek" ]; then
        run_models "$@" || failed=1
    fi
    [ "$failed" = 0 ] && echo "all passed"
    return "$failed"
}

case "${1:-}" in
    build | models | run) "$@" ;;
    *) sed -n '2,11p' "$0" >&2; exit 2 ;;
esac
