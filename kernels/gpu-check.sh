#!/usr/bin/env bash
# The CUDA kernels on a real card. Two steps, so that nothing need be installed or fetched where the card is:
#
#   kernels/gpu-check.sh build [folder]     with nvcc ($CUDA_HOME/bin, or the path): programs into target/gpu-check
#   [folder]/gpu-check.sh run               with a card and its driver alone: tests, compute-sanitizer if it is there, times
#
# The programs are those of kernels/cuda/tests: the same comparisons with f64 references that run on the CPU.
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
    [ "$failed" = 0 ] && echo "all passed"
    return "$failed"
}

case "${1:-}" in
    build | run) "$@" ;;
    *) sed -n '2,8p' "$0" >&2; exit 2 ;;
esac
