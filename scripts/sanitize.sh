#!/usr/bin/env bash
# Runs the stress test, and that of backlogs, under ThreadSanitizer, and under AddressSanitizer with leak detection.
#
#   scripts/sanitize.sh [thread|address]...        both by default; exit code 0: nothing was found
#
# ROUNDS (24) and SEED are given to the stress test. The stable compiler's own switches are used; the standard library
# is not rebuilt, so what it does inside is not seen; scripts/tsan.supp says what that means for Arc. Nothing else is
# suppressed.
set -euo pipefail
cd "$(dirname "$0")/.."

export RUSTC_BOOTSTRAP=1                          # -Z flags on stable
export RUSTUP_DIST_SERVER=http://127.0.0.1:9      # nothing may try to install components by itself
export HEIST_STRESS_ROUNDS=${ROUNDS:-24} HEIST_STRESS_PATIENCE=${PATIENCE:-120}
if [ -n "${SEED:-}" ]; then export HEIST_STRESS_SEED=$SEED; fi
# The first report ends the run, with a code of its own.
export TSAN_OPTIONS="halt_on_error=1 exitcode=66 suppressions=$PWD/scripts/tsan.supp second_deadlock_stack=1 ${TSAN_OPTIONS:-}"
export ASAN_OPTIONS="detect_leaks=1 detect_stack_use_after_return=1 exitcode=66 ${ASAN_OPTIONS:-}"

target=x86_64-unknown-linux-gnu
directory=${CARGO_TARGET_DIR:-target}/sanitize
failed=0
for sanitizer in "${@:-thread address}"; do
    for one in $sanitizer; do
        began=$SECONDS
        echo "== $one: building"
        # chaos: the places where a protocol is delicate yield at random. AddressSanitizer knows the system allocator's
        # blocks and not those of the executor's own memory, so it gets the former.
        # The backlog test has locks of the standard library, whose inside ThreadSanitizer does not see.
        case $one in address) memory="--cfg heist_plain_memory" also="--test backlog" ;; *) memory='' also='' ;; esac
        if CARGO_TARGET_DIR=$directory/$one \
            RUSTFLAGS="-Zsanitizer=$one -Cunsafe-allow-abi-mismatch=sanitizer --cfg heist_chaos $memory -Cforce-frame-pointers=yes" \
            cargo test ${CARGO_FLAGS:-} --release --target "$target" --test stress $also; then
            echo "== $one: found nothing ($((SECONDS - began)) s)"
        else
            echo "== $one: FOUND SOMETHING, see above ($((SECONDS - began)) s)"
            failed=1
        fi
    done
done
if [ "$failed" = 0 ]; then echo "sanitize: clean"; else echo "sanitize: NOT clean"; fi
exit "$failed"
