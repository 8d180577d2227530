#!/bin/sh
# Checks the FOCUS export with the FOCUS project's own validator: CSV and Parquet of a ledger with every kind of charge,
# or the FILEs named. Ends with 1 where a rule is broken that is not known and explained in scripts/focus_check.py.
#
#   sh scripts/focus-check.sh [FILE ...]
#   sh scripts/focus-check.sh --python       prints the Python it would take, or says that there is none and ends with 1
#
# The validator runs on Python 3.12 and 3.13, not on 3.11, so it has an environment of its own, .cache/focus, made from
# requirements-focus.lock when that changes. FOCUS_PYTHON=/path/to/python3 chooses the Python.
set -eu
cd "$(dirname "$0")/.."

python_good() {
    "$1" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 12), (3, 13))); import sqlite3, ssl, venv' \
        >/dev/null 2>&1
}

find_python() {
    if [ -n "${FOCUS_PYTHON:-}" ]; then
        set -- "$FOCUS_PYTHON"
    else
        # Also beside the Python that is here, where a version manager keeps several.
        beside=$(python3 -c 'import os, sys; print(os.path.dirname(sys.base_prefix))' 2>/dev/null || echo /nonexistent)
        set -- python3.12 python3.13 python3 "${HOME:-/nonexistent}"/.pyenv/versions/3.1[23].*/bin/python \
            "$beside"/3.1[23].*/bin/python
    fi
    for candidate; do
        if command -v "$candidate" >/dev/null 2>&1 && python_good "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    echo "focus-check: the validator of FOCUS needs Python 3.12 or 3.13, and none is there (looked at: $*); install one," \
        "or name one with FOCUS_PYTHON=/path/to/python3" >&2
    return 1
}

python=$(find_python)
[ "${1:-}" != --python ] || { echo "$python"; exit 0; }

unset PYTHONHOME PYTHONPATH PIP_TARGET PIP_PREFIX PIP_ROOT PIP_PYTHON PIP_DRY_RUN PIP_REQUIREMENT PIP_EDITABLE PIP_CONSTRAINT \
    PIP_NO_BINARY PIP_ONLY_BINARY PIP_IGNORE_INSTALLED PIP_REPORT PIP_REQUIRE_VIRTUALENV
export PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
[ -w "${HOME:-/nonexistent}" ] || export PIP_NO_CACHE_DIR=1

sh scripts/bootstrap.sh dev
env=$PWD/.cache/focus
key=$({ pwd; "$python" --version; cat requirements-focus.lock; } | sha256sum | cut -d ' ' -f 1)
if [ "$(cat "$env/made" 2>/dev/null)" != "$key" ]; then
    echo "making .cache/focus with $python (half a minute, 600 MB) ..." >&2
    rm -rf "$env"
    mkdir -p .cache
    "$python" -m venv --without-pip "$env"
    # The validator itself may have to be built, with poetry-core and pyyaml, which are among the others.
    ours='/^[^ #]/ { ours = /^focus-validator==/ }'
    awk "$ours !ours" requirements-focus.lock > "$env/others.txt"
    awk "$ours ours" requirements-focus.lock > "$env/validator.txt"
    install() {
        # --no-deps: the lock names all that is wanted, and not all that the validator declares (see scripts/lock.sh).
        .venv/bin/python -m pip --python "$env/bin/python" install --quiet --no-deps --require-hashes "$@"
    }
    if ! install --only-binary :all: --requirement "$env/others.txt" ||
        ! install --no-build-isolation --requirement "$env/validator.txt"; then
        echo "focus-check: the locked packages could not be installed (the reason is above)" >&2
        exit 1
    fi
    echo "$key" > "$env/made"
fi
exec .venv/bin/python scripts/focus_check.py "$env" "$@"
