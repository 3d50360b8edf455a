#!/usr/bin/env bash
# The old name of `cargo xtask breaks`.
set -euo pipefail
cd "$(dirname "$0")/.."
exec cargo xtask breaks "$@"
