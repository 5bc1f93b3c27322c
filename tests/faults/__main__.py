"""The fault campaign: a day of 20,000 events, in trouble from beginning to end.

    python -m tests.faults --seed 1 --way embedded
    python -m tests.faults --seed 1 --way services

Exit status 0 where nothing was lost, nothing posted twice, and all is as in the run without trouble.
"""

from __future__ import annotations

import argparse
import logging
import secrets
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from ops.local import ray_home

EVENTS = 20_000
RATE_PER_S = 180.0


def main() -> int:
    told = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started and mounted is cleared
    logging.getLogger("ray").setLevel(logging.ERROR)
    build = Path(".build")
    build.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="faults-", dir=build)).resolve()
    folder.chmod(0o755)
    try:
        with ray_home(folder / "ray"):
            from tests.faults.playing import play

            return 0 if play(told.seed, told.way, told.events, told.rate, folder) else 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10_000))
    parser.add_argument("--way", choices=["embedded", "services"], default="embedded")
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--rate", type=float, default=RATE_PER_S, help="events a second")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
