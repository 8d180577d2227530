#!/bin/sh
# Writes the lock files anew from pyproject.toml: every package, pinned with the hashes of all its files, for every
# Python from 3.11 on. Extra arguments go to uv: `sh scripts/lock.sh --upgrade` takes newer versions.
set -eu
cd "$(dirname "$0")/.."
sh scripts/bootstrap.sh runtime
mkdir -p .cache
[ -x .cache/uv/bin/uv ] || { .venv/bin/python -m venv --without-pip .cache/uv && .venv/bin/python -m pip --python .cache/uv/bin/python install --quiet uv; }

python=3.11
lock() {
    out=$1
    shift
    # --custom-compile-command: uv's own header would repeat the command line, index addresses included.
    .cache/uv/bin/uv --quiet pip compile --universal --python-version "$python" --generate-hashes --no-emit-index-url \
        --no-emit-find-links --custom-compile-command "sh scripts/lock.sh" --output-file "$out" "$@"
}

lock requirements.lock pyproject.toml "$@"
printf 'hatchling>=1.27\neditables>=0.5\n' | lock requirements-build.lock - "$@"
printf 'hatchling>=1.27\neditables>=0.5\n' |
    lock requirements-dev.lock --constraint requirements.lock --constraint requirements-build.lock --extra dev pyproject.toml - "$@"

# The validator's environment (scripts/focus-check.sh), and poetry-core, which builds it: some indexes have no wheel of it. It
# asks for numpy below 2, of which Python 3.13 has no wheel, and for pandasql, which has none at all and which it never imports.
python=3.12
printf 'numpy<2; python_version < "3.13"\nnumpy>=2.1,<2.4; python_version >= "3.13"\n' > .cache/focus-override.txt
.venv/bin/python -c 'import tomllib
print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["focus"], "poetry-core>=2", sep="\n")' |
    lock requirements-focus.lock --override .cache/focus-override.txt --no-emit-package pandasql - "$@"
