#!/usr/bin/env bash
# The old name of `cargo xtask weaken`. The edits are in scripts/orderings.
set -euo pipefail
cd "$(dirname "$0")/.."
exec cargo xtask weaken "$@"
