"""kill -9 a thousand times at random moments under load, while a scraper watches.

    python benchmarks/ledger_crash.py [--kills 1000] [--lanes 2] [--seed 1]

Each lane is a state directory of its own with 8 simulated GPUs, 10 samples and 10 commits a second. Ends with 1 where a
counter was ever seen lower, or missing from a scrape after it had been there; where energy was lost or doubled by a millijoule,
device time by a nanosecond, or money by any part of a nano-unit; or where a total is not the sum of its rows.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.e2e.crash import Crashes, ticks

LONGEST_S = 0.8


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1_000)
    parser.add_argument("--lanes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        places = [Path(folder) / f"lane{n}" for n in range(options.lanes)]
        lanes = [Crashes(place, devices=8, seed=options.seed + n) for n, place in enumerate(places)]

        def run(lane: Crashes) -> None:
            for n in range(options.kills // options.lanes):
                lane.crash(LONGEST_S, whole=n % 20 == 0)
                if lane.wrong or lane.watcher.fallen:
                    return
                if n % 50 == 49:
                    print(f"{lane.kills} kills, {lane.watcher.scrapes} scrapes", file=sys.stderr, flush=True)
            lane.finish()

        threads = [threading.Thread(target=run, args=(lane,)) for lane in lanes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        figures = {
            "kills": sum(lane.kills for lane in lanes), "scrapes": sum(lane.watcher.scrapes for lane in lanes),
            "acknowledged_ticks": sum(ticks(place / "state") for place in places),
            "counters": sum(len(lane.watcher.highest) for lane in lanes),
            "seen_lower_or_missing": [fall for lane in lanes for fall in lane.watcher.fallen],
            "lost_or_doubled": [fault for lane in lanes for fault in lane.wrong]}
    print(json.dumps(figures, indent=2))
    return 1 if figures["seen_lower_or_missing"] or figures["lost_or_doubled"] else 0


if __name__ == "__main__":
    sys.exit(main())
