#!/usr/bin/env bash
# Breaks the code in many ways, at least one for each promise, and checks that the tests notice
# each break. Works on a copy of the tree.
#
#     scripts/break-promises.sh            all breaks
#     scripts/break-promises.sh p04        breaks with this prefix
#
# Each break is a file in scripts/breaks. Its first lines are `test:` (the arguments for
# `cargo test`), `file:` (the file to edit) and optionally `times:` (how often to try, where the
# failure depends on timing). The old text follows a line `--- old`, and the new text follows a line
# `--- new`. The script fails if a break no longer applies or if no test notices it.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
only=${1:-}
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$root/target/breaks}" CARGO_TERM_COLOR=never
export HEIST_WATCHDOG_SECS="${HEIST_WATCHDOG_SECS:-20}"

field() { sed -n "s/^$1: //p" "$2" | head -1; }

noticed=0 survived=0 stale=0
for break in scripts/breaks/"$only"*; do
    name=$(basename "$break")
    printf '%-44s ' "$name"
    rm -rf "$copy/tree"
    mkdir "$copy/tree"
    git ls-files -z | tar --null -T - -cf - | tar -xmf - -C "$copy/tree" # new times, so that cargo sees reverted files
    file=$(field file "$break") test=$(field test "$break") times=$(field times "$break")
    if ! perl -0777 -e '
        my ($break, $file) = @ARGV;
        open my $b, "<", $break or die; my $text = <$b>;
        my ($old, $new) = $text =~ /^--- old\n(.*?)^--- new\n(.*)\z/ms or die "no old and new";
        open my $f, "<", $file or die; my $source = <$f>;
        my $at = index $source, $old; die "the text is not there" if $at < 0;
        substr($source, $at, length $old) = $new;
        open my $o, ">", $file or die; print $o $source;
    ' "$break" "$copy/tree/$file" 2>/dev/null; then
        echo "STALE: no longer applies to $file"
        stale=$((stale + 1))
        continue
    fi
    # shellcheck disable=SC2086
    if ! (cd "$copy/tree" && cargo test --quiet --no-run $test >"$copy/log" 2>&1); then
        echo "STALE: does not compile"
        stale=$((stale + 1))
        continue
    fi
    verdict="SURVIVED"
    for _ in $(seq "${times:-1}"); do
        # A hanging test counts as noticed.
        # shellcheck disable=SC2086
        if ! (cd "$copy/tree" && timeout 120 cargo test --quiet $test >"$copy/log" 2>&1); then
            verdict="noticed"
            break
        fi
    done
    echo "$verdict by: cargo test $test"
    if [ "$verdict" = noticed ]; then noticed=$((noticed + 1)); else survived=$((survived + 1)); fi
done
echo "$noticed noticed, $survived survived, $stale stale"
[ "$survived" = 0 ] && [ "$stale" = 0 ] && [ "$noticed" -gt 0 ]
