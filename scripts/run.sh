#!/bin/sh
# Starts the agent: on this machine's GPUs or, where no NVIDIA driver is loaded, on simulated ones. Arguments go to
# `gpu-finops run`. Without a configuration, deploy/quickstart.toml is copied to gpu-finops.toml first, to be edited.
set -eu
cd "$(dirname "$0")/.."
sh scripts/bootstrap.sh runtime

source_given= config_given=${GPU_FINOPS_CONFIG:-} state_given=
for argument; do
    case $argument in
        --source | --source=*) source_given=1 ;;
        --config.file | --config.file=*) config_given=1 ;;
        --state.dir | --state.dir=*) state_given=1 ;;
    esac
done

if [ -z "$source_given" ]; then
    # A driver that does not answer within 10 s is there all the same: the agent will say what ails it.
    status=0
    timeout 10 .venv/bin/python scripts/driver_present.py || status=$?
    if [ "$status" = 3 ]; then
        cat >&2 <<'END'
***********************************************************************
*  No NVIDIA driver is loaded on this machine.                        *
*  The GPUs that follow are SIMULATED: no number of theirs is real.   *
***********************************************************************
END
        set -- --source simulated "$@"
        # A ledger of its own: what was never consumed must not stand beside what was.
        [ -n "$state_given" ] || set -- --state.dir gpu-finops-state/simulated "$@"
    else
        set -- --source auto "$@"
    fi
fi

if [ -z "$config_given" ] && [ ! -e gpu-finops.toml ] && [ ! -e /etc/gpu-finops/gpu-finops.toml ]; then
    cp deploy/quickstart.toml gpu-finops.toml
    echo "gpu-finops.toml written with EXAMPLE prices: put your own tariff and hardware prices there." >&2
fi
exec .venv/bin/gpu-finops run "$@"
