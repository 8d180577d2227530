#!/bin/sh
# Prints the speed and size table, with nvitop-exporter beside us in the same run. Arguments go to benchmarks/footprint.py.
set -eu
cd "$(dirname "$0")/.."
sh scripts/bootstrap.sh dev
RIVAL=.cache/rival
if [ ! -x "$RIVAL/bin/nvitop-exporter" ]; then
    .venv/bin/python -m venv --without-pip "$RIVAL"
    .venv/bin/python -m pip --python "$RIVAL/bin/python" install --quiet nvitop-exporter
fi
.venv/bin/python benchmarks/footprint.py --rival "$RIVAL/bin/nvitop-exporter" "$@"
.venv/bin/python benchmarks/scrape.py
