"""The web server in a process of its own: prints its port, publishes a new snapshot five times a second until stdin ends.

Arguments: devices, workloads per device, and a web.yml where wanted.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from agent.settings import Web
from exporters import EXPORTERS
from tests.exporters import snapshots
from tests.exporters.serving import hooks


def main(devices: str, workloads: str, web_yml: str = "") -> None:
    exporter = EXPORTERS["prometheus"](Web(port=0, config_file=Path(web_yml) if web_yml else None), hooks())
    exporter.start()
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    tick = 0
    exporter.publish(snapshots.fleet(int(devices), int(workloads)))
    print(exporter.port, flush=True)
    while not over.wait(0.2):
        tick += 1
        exporter.publish(snapshots.fleet(int(devices), int(workloads), tick))
    exporter.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
