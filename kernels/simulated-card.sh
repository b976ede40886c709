#!/usr/bin/env bash
# Programs with the feature `cuda`, without a card, a driver or a toolkit:
#
#   kernels/simulated-card.sh [command...]     by default: cargo test -p swinseek-kernels --features cuda --test cuda_simulated
#
# The command finds a driver whose kernels are those of kernels/cuda, compiled for the CPU, and whose other kernels and matrix
# products are plain loops (kernels/cuda/host/driver). Needs make and a C++17 compiler. Cargo builds in a folder of its own, or in
# $SIMULATED_CARD_TARGET: what build scripts keep of this driver's compiler is of no use to a real card.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
card=${CARGO_TARGET_DIR:-$here/../target}/simulated-card
mkdir -p "$card"
card=$(cd "$card" && pwd)
make --silent --jobs "$(nproc)" --file "$here/cuda/host/driver/Makefile" OUT="$card"

unset CUDA_PATH CUDA_ROOT CUDA_TOOLKIT_ROOT_DIR CUDARC_CUDA_VERSION NVCC_CCBIN
export CARGO_TARGET_DIR=${SIMULATED_CARD_TARGET:-$card/cargo} SWINSEEK_EXPECT_GPU=1
export CUDA_HOME=$card NVCC=$card/bin/nvcc CUDA_COMPUTE_CAP=90
export PATH=$card/bin:$PATH LIBRARY_PATH=$card/lib${LIBRARY_PATH:+:$LIBRARY_PATH}
export LD_LIBRARY_PATH=$card/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
[ $# -gt 0 ] || set -- cargo test -p swinseek-kernels --features cuda --test cuda_simulated
exec "$@"
