#!/bin/sh
# Writes the lock files anew from pyproject.toml: every package, pinned with the hashes of all its files, for every
# Python from 3.11 on. Extra arguments go to uv: `sh scripts/lock.sh --upgrade` takes newer versions.
set -eu
cd "$(dirname "$0")/.."
sh scripts/bootstrap.sh runtime
mkdir -p .cache
[ -x .cache/uv/bin/uv ] || { .venv/bin/python -m venv --without-pip .cache/uv && .venv/bin/python -m pip --python .cache/uv/bin/python install --quiet uv; }

lock() {
    out=$1
    shift
    # --custom-compile-command: uv's own header would repeat the command line, index addresses included.
    .cache/uv/bin/uv --quiet pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
        --no-emit-find-links --custom-compile-command "sh scripts/lock.sh" --output-file "$out" "$@"
}

lock requirements.lock pyproject.toml "$@"
printf 'hatchling>=1.27\neditables>=0.5\n' | lock requirements-build.lock - "$@"
printf 'hatchling>=1.27\neditables>=0.5\n' |
    lock requirements-dev.lock --constraint requirements.lock --constraint requirements-build.lock --extra dev pyproject.toml - "$@"
