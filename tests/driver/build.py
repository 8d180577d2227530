"""Compiles the driver double, once per version of its source."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).resolve().parent
LIBRARY = "libnvidia-ml.so.1"
FLAGS = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-fvisibility=hidden", "-shared", "-Wl,-z,defs"]


def build(directory: Path | None = None) -> Path:
    """The folder, below ``directory``, that holds ``libnvidia-ml.so.1`` built from the present source.

    Built at most once per source: the folder is named by its hash. Builds at the same moment do not disturb each other:
    each writes a file of its own and renames it. Raises RuntimeError with the compiler's words.
    """
    sources = sorted(SOURCE.glob("*.c"))
    digest = hashlib.sha256(" ".join(FLAGS).encode())
    for file in [*sources, *sorted(SOURCE.glob("*.h"))]:
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    base = directory or Path(tempfile.gettempdir()) / f"gpu-finops-driver-double-{os.getuid()}"
    folder = base / digest.hexdigest()[:16]
    library = folder / LIBRARY
    if not library.exists():
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(suffix=".so", dir=folder)
        os.close(handle)
        command = ["cc", *FLAGS, "-o", name, *map(str, sources), "-lm", "-lpthread"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            Path(name).unlink()
            raise RuntimeError(f"the driver double does not compile:\n{done.stderr}")
        Path(name).rename(library)
    return folder


def driver_environ(scenario: Path, directory: Path | None = None) -> dict[str, str]:
    """What a process needs in its environment, beside the rest, to find the double and its scenario."""
    paths = [str(build(directory)), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    return {"LD_LIBRARY_PATH": os.pathsep.join(paths), "NVML_DOUBLE_SCENARIO": str(scenario)}
