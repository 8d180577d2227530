"""Every write, flush and open of a commit that the disk can refuse: nothing corrupt, nothing doubled, nothing lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.faultfs.build import build


def test_the_nth_operation_of_a_flush_or_a_start_fails_for_every_n(tmp_path: Path, repository: Path) -> None:
    environ = dict(os.environ) | {"LD_PRELOAD": str(build(tmp_path))}
    done = subprocess.run([sys.executable, "-m", "tests.faultfs.flushes", str(tmp_path / "disk")], cwd=repository, env=environ,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    cases = json.loads(done.stdout)
    assert set(cases) == {f"{scenario}: {fault}" for scenario in ("flush", "start") for fault in (
        "write EIO", "write ENOSPC", "write short", "fsync EIO", "fsync ENOSPC", "open EIO", "open ENOSPC", "open EMFILE")}
    assert min(cases[f"flush: write {kind}"] for kind in ("EIO", "ENOSPC", "short")) > 30      # frames and checkpoint
    assert cases["flush: fsync EIO"] >= 2
    assert cases["start: open EIO"] >= 2
