#!/bin/sh
# Runs every test: style, types and import layers first, then pytest. Arguments go to pytest.
set -eu
cd "$(dirname "$0")/.."
sh scripts/bootstrap.sh dev
PATH=$(sh scripts/test-tools.sh)
export PATH
sh scripts/lint.sh
exec .venv/bin/python -m pytest "$@"
