#!/usr/bin/env bash
# Runs the stress test, the API fuzzer and the matrix of user code under sanitizers and under
# valgrind's memcheck.
#
#   scripts/sanitize.sh [thread|address|poison|leak|memcheck]...
#
# The default is thread, address and poison. Exit code 0 means that nothing was found.
#
# `poison` is AddressSanitizer with the executor's own memory and poisoned free blocks. It runs the
# tests of values that outlive their executor.
#
# TESTS names the tests to run. The default is "stress fuzz_api user_code", and backlog where locks
# of the standard library do no harm. ROUNDS (24) and SEED go to the stress test, and PROGRAMS
# (5000) and SEED to the fuzzer. PLACE restricts the matrix to places with this text in their name.
#
# The script uses the stable compiler's own switches. The standard library is not rebuilt, so the
# sanitizers do not see inside it. scripts/tsan.supp explains the consequences and holds all
# suppressions.
# shellcheck disable=SC2086 # CARGO_FLAGS are several words
set -euo pipefail
cd "$(dirname "$0")/.."

export RUSTC_BOOTSTRAP=1                          # -Z flags on stable
export RUSTUP_DIST_SERVER=http://127.0.0.1:9      # installing a component fails at once
export HEIST_STRESS_ROUNDS=${ROUNDS:-24} HEIST_STRESS_PATIENCE=${PATIENCE:-120}
export HEIST_FUZZ_PROGRAMS=${PROGRAMS:-5000} HEIST_FUZZ_PATIENCE=${PATIENCE:-120} HEIST_MATRIX_PATIENCE=${PATIENCE:-120}
if [ -n "${SEED:-}" ]; then export HEIST_STRESS_SEED=$SEED HEIST_FUZZ_SEED=$SEED; fi
# The first report ends the run with exit code 66.
export TSAN_OPTIONS="halt_on_error=1 exitcode=66 suppressions=$PWD/scripts/tsan.supp second_deadlock_stack=1 ${TSAN_OPTIONS:-}"
export ASAN_OPTIONS="detect_leaks=1 detect_stack_use_after_return=1 exitcode=66 ${ASAN_OPTIONS:-}"
export LSAN_OPTIONS="exitcode=66 ${LSAN_OPTIONS:-}"

target=x86_64-unknown-linux-gnu
directory=${CARGO_TARGET_DIR:-target}/sanitize
tests=${TESTS:-stress fuzz_api user_code}

# AddressSanitizer, LeakSanitizer and memcheck know blocks of the system's allocator but not blocks
# of the executor's own memory, so the executor uses the system's allocator for them.
plain="--cfg heist_plain_memory"

one_test() { # sanitizer, test, compiler flags
    local arguments=()
    if [ "$2" = user_code ] && [ -n "${PLACE:-}" ]; then arguments=(-- "$PLACE"); fi
    CARGO_TARGET_DIR=$directory/$1 RUSTFLAGS="$3" \
        cargo test ${CARGO_FLAGS:-} --release --target "$target" --test "$2" "${arguments[@]}"
}

run() {
    local one=$1 flags name
    # With heist_chaos, delicate steps of the protocols yield at random.
    case $one in
    thread) flags="-Zsanitizer=thread" ;;
    address) flags="-Zsanitizer=address $plain" ;;
    poison) flags="-Zsanitizer=address --cfg heist_poison" ;;
    leak) flags="-Zsanitizer=leak $plain" ;;
    memcheck)
        flags="--cfg heist_chaos $plain -Cforce-frame-pointers=yes"
        export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="valgrind --quiet --error-exitcode=66 --fair-sched=yes --trace-children=yes --leak-check=full --show-leak-kinds=definite,indirect --errors-for-leak-kinds=definite,indirect"
        for name in $tests; do one_test memcheck "$name" "$flags" || return 1; done
        unset CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER
        return
        ;;
    *) echo "no such sanitizer: $one" && return 1 ;;
    esac
    flags="$flags -Cunsafe-allow-abi-mismatch=sanitizer --cfg heist_chaos -Cforce-frame-pointers=yes"
    if [ "$one" = poison ] && [ -z "${TESTS:-}" ]; then local tests="last_references p10_cascades"; fi
    for name in $tests; do one_test "$one" "$name" "$flags" || return 1; done
    # The backlog test uses locks of the standard library, and ThreadSanitizer does not see inside.
    if [ "$one" = address ] && [ -z "${TESTS:-}" ]; then one_test "$one" backlog "$flags" || return 1; fi
}

failed=0
if [ $# = 0 ]; then set -- thread address poison; fi
for one in "$@"; do
    began=$SECONDS
    echo "== $one: $tests"
    if run "$one"; then
        echo "== $one: found nothing ($((SECONDS - began)) s)"
    else
        echo "== $one: FOUND SOMETHING, see above ($((SECONDS - began)) s)"
        failed=1
    fi
done
if [ "$failed" = 0 ]; then echo "sanitize: clean"; else echo "sanitize: NOT clean"; fi
exit "$failed"
