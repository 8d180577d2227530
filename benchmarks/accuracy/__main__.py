"""Every accuracy table: ``python -m benchmarks.accuracy``. A part is a module beside this one that prints its own."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent

if __name__ == "__main__":
    parts = [name for _, name, _ in pkgutil.iter_modules([str(HERE)])
             if name != "__main__" and "__main__" in (HERE / f"{name}.py").read_text(encoding="utf-8")]
    for name in parts:
        print(f"## {name}\n", flush=True)
        subprocess.run([sys.executable, "-m", f"benchmarks.accuracy.{name}"], cwd=HERE.parents[1], check=True)
        print(flush=True)
