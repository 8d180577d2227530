#!/bin/sh
# Everything that reads the code without running it: style, types, import layers.
set -eu
cd "$(dirname "$0")/.."
sh scripts/bootstrap.sh dev
.venv/bin/python -m ruff check .
.venv/bin/python -m mypy
.venv/bin/lint-imports --no-cache
