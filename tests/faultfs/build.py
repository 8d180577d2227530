"""Compiles the failing disk, once per version of its source."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).resolve().parent / "faultfs.c"
FLAGS = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-fvisibility=hidden", "-shared"]


def build(directory: Path) -> Path:
    """The library to preload, built below ``directory``. Raises RuntimeError with the compiler's words."""
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    library = directory / f"faultfs-{digest}.so"
    if not library.exists():
        handle, name = tempfile.mkstemp(suffix=".so", dir=directory)
        os.close(handle)
        done = subprocess.run(["cc", *FLAGS, "-o", name, str(SOURCE), "-ldl"], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            Path(name).unlink()
            raise RuntimeError(f"the failing disk does not compile:\n{done.stderr}")
        Path(name).rename(library)
    return library
