"""A real Chromium without a screen."""

from __future__ import annotations

import subprocess
from pathlib import Path

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage")


def dom_after(url: str, profile: Path, milliseconds: int, *flags: str) -> str:
    """The document as it stands after scripts have run for so long by the page's own clock."""
    done = subprocess.run(
        ["chromium", *FLAGS, *flags, f"--user-data-dir={profile}", f"--virtual-time-budget={milliseconds}", "--dump-dom", url],
        capture_output=True, text=True, check=True, timeout=60)
    return done.stdout
