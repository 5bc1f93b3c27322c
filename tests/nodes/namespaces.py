"""Two network namespaces, joined by one link: nodes that reach each other by that alone, as machines do.

Nothing of it is in the machine's own network: no address, no port, no route leads out.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.services import Unavailable, install

NEAR_ADDRESS, FAR_ADDRESS = "10.213.0.1", "10.213.0.2"
GONE_WITHIN_S = 10.0
FATE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1", "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
"""Otherwise Ray takes the loopback's address wherever it can, which leads to no other node."""


@dataclass(frozen=True, slots=True)
class Namespaces:
    """Names of both; the link has the same name at either end."""

    near: str
    far: str
    link: str

    def within(self, namespace: str, command: list[str]) -> list[str]:
        """The command, there. It replaces `ip`, so the process is the command's own."""
        return ["ip", "netns", "exec", namespace, *command]

    def cut(self) -> None:
        """No packet and no word of it: whoever waits for the other side waits."""
        _ip("-n", self.near, "link", "set", self.link, "down")

    def mend(self) -> None:
        _ip("-n", self.near, "link", "set", self.link, "up")

    def empty(self, namespace: str) -> None:
        """End every process in it. Returns when there is none."""
        give_up_at = time.monotonic() + GONE_WITHIN_S
        while (pids := _pids(namespace)) and time.monotonic() < give_up_at:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)


@contextlib.contextmanager
def namespaces() -> Iterator[Namespaces]:
    """Both, and in any case nothing of them afterwards. Raises: Unavailable, with the reason."""
    if sys.platform != "linux":
        raise Unavailable("network namespaces are Linux's")
    if shutil.which("ip") is None:
        install("iproute2")
    mark = secrets.token_hex(3)
    made = Namespaces(f"twinsync-near-{mark}", f"twinsync-far-{mark}", f"tws{mark}")
    try:
        for name in (made.near, made.far):
            _ip("netns", "add", name)
        _ip(
            "link", "add", made.link, "netns", made.near, "type", "veth", "peer", made.link, "netns", made.far
        )
        for name, address in ((made.near, NEAR_ADDRESS), (made.far, FAR_ADDRESS)):
            _ip("-n", name, "address", "add", f"{address}/30", "dev", made.link)
            for device in ("lo", made.link):
                _ip("-n", name, "link", "set", device, "up")
        yield made
    finally:
        _clear_away(made)


def _clear_away(made: Namespaces) -> None:
    """The link goes with the namespaces that it joins."""
    for name in (made.far, made.near):
        with contextlib.suppress(Unavailable):
            made.empty(name)
        with contextlib.suppress(Unavailable):
            _ip("netns", "delete", name)


def _pids(namespace: str) -> list[int]:
    return [int(pid) for pid in _ip("netns", "pids", namespace).split()]


def _ip(*arguments: str) -> str:
    """Raises: Unavailable where this machine does not permit it."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


class FarNode:
    """A Ray node that runs in the far namespace, and joins the one that is near."""

    def __init__(self, there: Namespaces, head: str, log: Path) -> None:
        """*head*: where its directory of actors answers."""
        self._there = there
        ray = [str(Path(sys.executable).parent / "ray"), "start", f"--address={head}", "--block"]
        ray += [f"--node-ip-address={FAR_ADDRESS}", "--num-cpus=2", "--object-store-memory=150000000"]
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                there.within(there.far, [*ray, "--disable-usage-stats"]),
                env=os.environ | FATE,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def remove(self) -> None:
        self._there.empty(self._there.far)
        self._process.wait()
