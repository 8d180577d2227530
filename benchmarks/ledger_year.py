"""A year of 8 GPUs, 4 in Berlin and 4 in Shanghai, at an injected clock, through the whole pipeline, against exact figures.

    python benchmarks/ledger_year.py [--days 365] [--seed 1]

Berlin has clock changes within the night rate's hours, a day-ahead series with negative prices, adders, tax on top, and new
terms in July; its GPUs are owned, maintained, rented, written off, and one is divided. Shanghai has blocks over the calendar
year, from April to March, others on its meter, new terms in September, and a host to share. On both, named processes work alone
or share, park, come and go; a driver does not tell, nobody looks for nine hours; there are budgets. Both restart or reload
every nine days, and keep quarters of an hour for 35 days and hours for 70. Readings come at odd moments about 52 minutes apart,
so that every boundary cuts intervals: money is made of a charge a quarter of an hour, share and component however dense they
are, and takes most of the time. The two run beside each other.

What must come out is worked out apart (``benchmarks/year``): energy, GPU time and states by the truth of the simulation,
money by a price for each minute, or the area under the blocks, times that, in exact fractions. Every line of ``off`` must be 0:
booked + carried is exact to the last fraction of a nano-unit, every counter less than one from it, and the ledger's rows, its
summary, the counters and the budgets are one sum. Ends with 1 where it is not so, or where that takes longer than 60 s.
"""

from __future__ import annotations

import argparse
import datetime as dt
import gc
import json
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.year.lane import DAY_S, Lane
from benchmarks.year.prices import ByBlock, ByMinute, midnight_s
from benchmarks.year.truth import KEPT, PLAIN, RENTED, WRITTEN_OFF

LIMIT_S = 60.0


def berlin(directory: Path, days: int, seed: int, first: dt.date = dt.date(2026, 1, 1), **rhythm: Any) -> Lane:
    """Nobody looks while the clock is put forward, nor when the terms change; and now and then."""
    prices = ByMinute(first, days, seed)
    outages_s = [midnight_s(dt.date(2026, 3, 29), prices.zone) - 7_200, midnight_s(dt.date(2026, 7, 1), prices.zone) - 9_999,
                 *range(prices.start_s + 20 * DAY_S + 12_345, prices.end_s, 47 * DAY_S)]
    return Lane(directory, prices, [PLAIN, WRITTEN_OFF, KEPT, RENTED], outages_s, seed, **rhythm)


def shanghai(directory: Path, days: int, seed: int, first: dt.date = dt.date(2026, 4, 1), **rhythm: Any) -> Lane:
    """Nobody looks for a while either."""
    prices = ByBlock(first, days)
    outages_s = [prices.start_s + 30 * DAY_S, prices.start_s + 200 * DAY_S]
    return Lane(directory, prices, [PLAIN, KEPT, PLAIN, WRITTEN_OFF], outages_s, seed, with_host=True, **rhythm)


LANES = {"Berlin": berlin, "Shanghai": shanghai}


def live(name: str, days: int, seed: int) -> dict[str, object]:
    gc.disable()                                 # what is not freed by its count is little, and looking for it takes its time
    with tempfile.TemporaryDirectory() as folder:
        return LANES[name](Path(folder), days, seed).run() | {"cpu_s": round(time.process_time(), 1)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    began, good = time.perf_counter(), True
    with ProcessPoolExecutor(len(LANES)) as pool:
        for name, figures in zip(LANES, pool.map(live, LANES, [options.days] * 2, [options.seed] * 2), strict=True):
            good = good and not any(figures["off"].values())
            print(name, json.dumps(figures, indent=2, default=lambda fraction: f"{float(fraction):.6f}"))
    seconds = time.perf_counter() - began
    print(f"{'0 off' if good else 'OFF'} in {seconds:.1f} s")
    return 0 if good and seconds <= LIMIT_S else 1


if __name__ == "__main__":
    sys.exit(main())
