#!/usr/bin/env bash
# Counts the instructions of heist's hot paths and compares them with benches/instructions.table.
#
#     scripts/instructions.sh            old, new and ratio of each row; marks rises above 5 %
#     scripts/instructions.sh --renew    writes the table
#
# A rise is shown but is not a failure. A measurement that breaks is a failure. Without valgrind
# nothing is counted. benches/instructions.rs explains the rows, and why the counts repeat to the
# instruction. They repeat on one machine with one set of tools. Other tools count slightly
# differently, so the table names its tools.
#
# gungraun is not used, because it counts inside one function of the main thread, while the workers
# do most of the work here. The output of callgrind stays in target/instructions/counts, for
# callgrind_annotate.
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C CARGO_TERM_COLOR=never
table=benches/instructions.table

case "${1:-}" in
    "" | --renew) renew=${1:-} ;;
    *) echo "usage: scripts/instructions.sh [--renew]" >&2; exit 2 ;;
esac
if ! command -v valgrind >/dev/null; then
    echo "instructions: valgrind is not installed, so nothing is counted"
    if [ -n "$renew" ]; then exit 1; else exit 0; fi
fi

# With heist_steps the clock counts its own readings. Otherwise the program's slowness under
# valgrind would change its decisions.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/instructions"
# shellcheck disable=SC2086
program=$(RUSTFLAGS="--cfg heist_steps" cargo bench ${CARGO_FLAGS:-} --quiet --bench instructions --no-run \
    --message-format=json-render-diagnostics | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p')

counts=$CARGO_TARGET_DIR/counts
rm -rf "$counts"
mkdir -p "$counts"
for workload in $("$program" list); do
    here=$counts/$workload
    # The program names each interval at its end. Callgrind writes one `totals:` for each interval
    # and one more at the exit. Without fair scheduling, a thread that spins uncounted would keep
    # the others waiting for long.
    if ! timeout 600 valgrind --quiet --fair-sched=try \
        --tool=callgrind --callgrind-out-file="$here.callgrind" --combine-dumps=yes \
        --zero-before=instructions::counts_begin --dump-before=instructions::counts_end \
        "$program" count "$workload" >"$here.intervals" 2>"$here.errors"; then
        cat "$here.errors" >&2
        echo "instructions: $workload failed under valgrind" >&2
        exit 1
    fi
    sed -n 's/^totals: //p' "$here.callgrind" | sed '$d' >"$here.totals"
    if ! grep -q '^c\?fn=.*counts_begin' "$here.callgrind"; then
        echo "instructions: callgrind did not see where $workload begins to count" >&2
        exit 1
    fi
    if [ ! -s "$here.intervals" ] || [ "$(wc -l <"$here.intervals")" != "$(wc -l <"$here.totals")" ]; then
        echo "instructions: $workload has $(wc -l <"$here.intervals") intervals and $(wc -l <"$here.totals") counts" >&2
        exit 1
    fi
    paste -d ' ' "$here.intervals" "$here.totals"
done | awk '
    !($1 in operations) { order[++rows] = $1 }
    { operations[$1] += $2; instructions[$1] += $3 }
    END {
        for (i = 1; i <= rows; i++) {
            row = order[i]
            if (!operations[row]) { print "instructions: " row " has no operations" >"/dev/stderr"; exit 1 }
            printf "%-22s %8.1f\n", row, instructions[row] / operations[row]
        }
    }' >"$counts/new"

tools="$(rustc --version), $(getconf GNU_LIBC_VERSION 2>/dev/null || echo "another C library"), $(valgrind --version), $(uname -m)"
if [ -n "$renew" ]; then
    {
        echo "# Instructions for one operation. The rows: benches/instructions.rs. Written by scripts/instructions.sh --renew."
        echo "# $tools"
        cat "$counts/new"
    } >"$table"
    cat "$table"
    exit
fi

awk -v here="# $tools" '
    FNR == NR && /^#/ { if (FNR == 2 && $0 != here) print "the table is of other tools, " substr($0, 3); next }
    FNR == NR { old[$1] = $2; next }
    FNR == 1 { printf "%-22s %8s %8s %7s\n", "instructions", "old", "new", "ratio" }
    !($1 in old) { printf "%-22s %8s %8.1f %7s  not in the table yet\n", $1, "-", $2, "-"; next }
    {
        ratio = $2 / old[$1]
        rise = ratio > 1.05
        rises += rise
        printf "%-22s %8.1f %8.1f %7.3f%s\n", $1, old[$1], $2, ratio, rise ? "  ROSE" : ""
        delete old[$1]
    }
    END {
        for (row in old) { print "instructions: " row " is in the table and was not counted" >"/dev/stderr"; missing = 1 }
        if (rises) print rises " rose by more than 5 %: is it worth that? If so: scripts/instructions.sh --renew"
        exit missing
    }' "$table" "$counts/new"
