#!/bin/sh
# Starts the agent: on this machine's GPUs or, where no NVIDIA driver is loaded, on simulated ones. Arguments go to
# `gpu-finops run`. Without a configuration, deploy/quickstart.toml is copied to gpu-finops.toml first, to be edited.
set -eu
cd "$(dirname "$0")/.."
sh scripts/bootstrap.sh runtime

chosen=
for argument; do
    case $argument in
        --source | --source=*) chosen=1 ;;
        --config.file | --config.file=*) GPU_FINOPS_CONFIG=given ;;
    esac
done

if [ -z "$chosen" ]; then
    # A driver that does not answer within 10 s is there all the same: the agent will say what ails it.
    status=0
    timeout 10 .venv/bin/python scripts/driver_present.py || status=$?
    if [ "$status" = 1 ]; then
        cat >&2 <<'END'
***********************************************************************
*  No NVIDIA driver is loaded on this machine.                        *
*  The GPUs that follow are SIMULATED: no number of theirs is real.   *
***********************************************************************
END
        set -- --source simulated "$@"
    else
        set -- --source auto "$@"
    fi
fi

if [ -z "${GPU_FINOPS_CONFIG:-}" ] && [ ! -e gpu-finops.toml ] && [ ! -e /etc/gpu-finops/gpu-finops.toml ]; then
    cp deploy/quickstart.toml gpu-finops.toml
    echo "gpu-finops.toml written with EXAMPLE prices: put your own tariff and hardware prices there." >&2
fi
exec .venv/bin/gpu-finops run "$@"
