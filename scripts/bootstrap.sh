#!/bin/sh
# Makes .venv with what the agent needs to run (`runtime`, the default) or to be tested (`dev`).
#
# Needs python3 (3.11 or later) and a network; no root, no uv, no pip, no python3-venv. Every package is pinned with
# its hash in the lock files. Called again with nothing changed it does nothing. PYTHON=/path/to/python3 chooses another.
set -eu
cd "$(dirname "$0")/.."
profile=${1:-runtime}

fail() {
    echo "bootstrap: $*" >&2
    exit 1
}

locks_of() {
    case $1 in
        runtime) echo requirements.lock requirements-build.lock ;;
        dev) echo requirements-dev.lock ;;
        *) return 1 ;;
    esac
}

# What an environment was made from, and where: the scripts in it name this directory.
key_of() {
    { pwd; cat $(locks_of "$1") pyproject.toml; } | sha256sum | cut -d ' ' -f 1
}

python_good() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11)); import ctypes, sqlite3, ssl, venv' >/dev/null 2>&1
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        set -- "$PYTHON"
    else
        set -- python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3
    fi
    first=$1
    for candidate; do
        if command -v "$candidate" >/dev/null 2>&1 && python_good "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    found=$("$first" -c 'import platform; print("is " + platform.python_version())' 2>/dev/null || echo "is not there")
    fail "Python 3.11 or later is needed and $first $found:" \
        "install one (Debian 12 and Ubuntu 24.04 have it as python3) or name one with PYTHON=/path/to/python3"
}

venv_works() {
    [ -x .venv/bin/python ] && python_good .venv/bin/python && .venv/bin/python -m pip --version >/dev/null 2>&1
}

make_venv() {
    python=$(find_python)
    echo "making .venv with $python" >&2
    if "$python" -m venv --clear .venv >/dev/null 2>&1 && venv_works; then
        return
    fi
    # Debian keeps pip apart from python3. Its wheel lies in a package that can be unpacked without root.
    "$python" -m venv --clear --without-pip .venv ||
        fail "$python cannot make a virtual environment in $PWD/.venv (the reason is above)"
    wheel=$(ls /usr/share/python-wheels/pip-*.whl 2>/dev/null | head -n 1)
    if [ -z "$wheel" ]; then
        . scripts/debs.sh
        debs_have_apt || fail "$python has no pip and no ensurepip: install them, or name another with PYTHON=/path/to/python3"
        debs_unpack "$PWD/.cache/pip" python3-pip-whl ||
            fail "pip cannot be had: install the package python3-venv as root, then try again"
        wheel=$(ls .cache/pip/usr/share/python-wheels/pip-*.whl | head -n 1)
    fi
    .venv/bin/python "$wheel/pip" install --quiet --no-index --no-deps --no-cache-dir "$wheel" ||
        fail "pip could not be installed into .venv from $wheel"
}

locks_of "$profile" >/dev/null || fail "unknown profile '$profile': use runtime or dev"

# What would send packages elsewhere than .venv, or choose others than the locks name. Index, proxy and certificate
# settings (PIP_INDEX_URL, PIP_CERT, ...) stay as the machine has them.
unset PYTHONHOME PYTHONPATH PIP_TARGET PIP_PREFIX PIP_ROOT PIP_PYTHON PIP_DRY_RUN PIP_NO_DEPS PIP_REQUIREMENT \
    PIP_EDITABLE PIP_CONSTRAINT PIP_BUILD_CONSTRAINT PIP_NO_BINARY PIP_ONLY_BINARY PIP_IGNORE_INSTALLED \
    PIP_NO_BUILD_ISOLATION PIP_REPORT PIP_REQUIRE_VIRTUALENV PIP_QUIET PIP_VERBOSE
export PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
[ -w "${HOME:-/nonexistent}" ] || export PIP_NO_CACHE_DIR=1

for made in "$profile" dev; do        # dev holds all that runtime does
    if [ "$(cat ".venv/bootstrap-$made" 2>/dev/null)" = "$(key_of "$made")" ] && venv_works; then
        exit 0
    fi
done

[ -w . ] || fail "$PWD is not writable: clone the repository to a directory of your own"
venv_works || make_venv
rm -f .venv/bootstrap-*
echo "installing the packages that the lock files name ..." >&2
.venv/bin/python -m pip install --quiet --require-hashes --only-binary :all: $(printf ' --requirement %s' $(locks_of "$profile")) ||
    fail "the locked packages could not be installed (the reason is above); nothing was started"
.venv/bin/python -m pip install --quiet --no-deps --no-build-isolation --no-index --editable . ||
    fail "the agent itself could not be installed into .venv (the reason is above)"
key_of "$profile" > ".venv/bootstrap-$profile"
