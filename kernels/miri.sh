#!/usr/bin/env bash
# The unsafe code under Miri, an interpreter that knows every rule of the language: borrows, alignment, uninitialised memory, races. It has
# no vector units, so the portable code runs, and it takes thousands of times as long, so the tests that are small enough do (`src/testing.rs`).
# Needs a nightly compiler: rustup toolchain install nightly --component miri,rust-src
set -euo pipefail
cd "$(dirname "$0")/.."
# Trees of borrows, for rayon's queues break the older rule of stacks. rayon's threads outlive a test, which is no leak of ours.
# A thread is left when it waits only: rayon frees a scope while the thread that finished it may still return from its last call
# (rayon-rs/rayon#1008). Races are found all the same, by what comes before what.
export MIRIFLAGS="-Zmiri-tree-borrows -Zmiri-ignore-leaks -Zmiri-disable-isolation -Zmiri-preemption-rate=0"
export RAYON_NUM_THREADS=2 PROPTEST_RNG_SEED=7
run() {
    cargo +nightly miri test --package swinseek-kernels "$@"
}
# By name: attention, windows and experts take it too long, and the tests of many rows and threads as well.
run --lib -- --exact heap::tests::blocks_keep_their_bytes \
    gemm::tests::{product_matches_f64,weight_gradient_matches_f64,single_precision_matches_f64,column_sums_match_f64} \
    gemm::quantized::tests::{int8_is_its_formula_on_every_path,int4_is_its_formula_on_every_path,packing_keeps_every_value} \
    ops::tests::{projections_match_f64,feed_forwards_match_f64,rounded_rotations_are_rotations_rounded}
run --test gradients -- --exact rope_matches cross_entropy_matches layer_norm_matches instance_norm_matches rms_norm_matches \
    l2_normalize_matches activations_match gather_matches
