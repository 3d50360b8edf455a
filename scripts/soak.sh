#!/usr/bin/env bash
# The long runs: counted messages beside programs of the fuzzer, the fuzzer alone, the stress test with injected yields, and the
# silence test ten times.
#
#   scripts/soak.sh [MINUTES]        60 of stress by default; exit code 0: everything held
#
# MESSAGES (1000000000) is how many counted messages there are, PROGRAMS (1000000) how many programs the fuzzer runs.
# SEED is given to all of them. Each prints the seed of what fails.
set -euo pipefail
cd "$(dirname "$0")/.."

minutes=${1:-60}
export RUSTUP_DIST_SERVER=http://127.0.0.1:9 # nothing may try to install components by itself
directory=${CARGO_TARGET_DIR:-target}/soak
if [ -n "${SEED:-}" ]; then export HEIST_STRESS_SEED=$SEED HEIST_FUZZ_SEED=$SEED; fi

stress() { # name, share of the time in percent, flags
    echo "== stress, $1: $((minutes * 60 * $2 / 100)) s"
    CARGO_TARGET_DIR=$directory RUSTFLAGS="--cfg heist_chaos" HEIST_STRESS_ROUNDS=0 \
        HEIST_STRESS_SECONDS=$((minutes * 60 * $2 / 100)) cargo test ${CARGO_FLAGS:-} "${@:3}" --test stress
}

echo "== counted messages beside programs of the fuzzer"
CARGO_TARGET_DIR=$directory HEIST_SOAK_MESSAGES=${MESSAGES:-1000000000} \
    cargo test ${CARGO_FLAGS:-} --release --test fuzz_api
echo "== programs of the fuzzer, with yields"
CARGO_TARGET_DIR=$directory RUSTFLAGS="--cfg heist_chaos" HEIST_FUZZ_PROGRAMS=${PROGRAMS:-1000000} \
    cargo test ${CARGO_FLAGS:-} --release --test fuzz_api
stress "optimized, with yields" 60 --release
stress "with debug assertions and yields" 40
echo "== no wake-up is lost: ten runs of 10^4 silences"
for _ in {1..10}; do
    CARGO_TARGET_DIR=$directory cargo test ${CARGO_FLAGS:-} --release --test p04_no_lost_wakeup
done
echo "soak: everything held"
