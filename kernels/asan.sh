#!/usr/bin/env bash
# The tests of the CPU kernels under AddressSanitizer: every load and store of the vector code is checked, and so are the
# dependencies. What assembly reads and writes (tiles) is not. Extra arguments are given to the tests.
set -euo pipefail
cd "$(dirname "$0")/.."
host=$(rustc -vV | sed -n 's/^host: //p')
runtime=$(rustc --print sysroot)/lib/rustlib/$host/lib
if ! ls "$runtime"/librustc*_rt.asan.* > /dev/null 2>&1; then
    echo "this compiler has no AddressSanitizer for $host: the check is left out" >&2
    exit 0
fi
# The flag is not stable, the sanitizer in the stable compiler is the nightly one's. `--target` keeps build scripts free of it; half the
# optimisation takes half the time to compile and keeps the vector code inlined.
export RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address
exec cargo test --target "$host" --target-dir "${CARGO_TARGET_DIR:-target}/asan" \
    --config profile.dev.opt-level=1 --config 'profile.dev.package."*".opt-level=1' \
    -p swinseek-kernels --lib --test linear --test gradients -- "$@"
