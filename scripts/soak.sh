#!/usr/bin/env bash
# Runs the long tests: counted messages beside programs of the fuzzer, the fuzzer alone, the stress
# test with injected yields, and the silence test ten times.
#
#   scripts/soak.sh [MINUTES]        minutes of stress (default 60); exit code 0: all tests passed
#
# MESSAGES (1000000000) is the number of counted messages, and PROGRAMS (1000000) the number of
# programs of the fuzzer. SEED goes to all tests. Each test prints the seed of a failure.
# shellcheck disable=SC2086 # CARGO_FLAGS are several words
set -euo pipefail
cd "$(dirname "$0")/.."

minutes=${1:-60}
export RUSTUP_DIST_SERVER=http://127.0.0.1:9 # installing a component fails at once
directory=${CARGO_TARGET_DIR:-target}/soak
if [ -n "${SEED:-}" ]; then export HEIST_STRESS_SEED=$SEED HEIST_FUZZ_SEED=$SEED; fi

stress() { # name, share of the time in percent, cargo flags
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
