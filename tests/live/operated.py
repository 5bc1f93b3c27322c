"""A twinsync as operations know it: a process beside database, broker and ERP, and a shell to run it from."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import randrange
from typing import Any

import httpx
import pika
import pytest

from adapters.amqp.topology import Names
from adapters.simulated_erp.process import RunningErp
from adapters.simulated_erp.process import start as start_erp
from canonical.envelope import BATCH, STRUCTURED, Event, batch
from canonical.facts.order import OrderPlaced
from ops.demo.day import ANY_CLOCK_S
from tests import services
from tests.alerts import ROOT, Block, Rule, Sample, blocks, samples
from tests.live.servers import family, own
from tests.services import Server
from tests.stories import placed

KEY, ERP = "night", "main"
WITHIN_S = 90.0
"""For whatever is to come about on a machine that has other things to do."""
NEEDED = ("bash", "curl", "psql", "pg_isready")

ByHand = Mapping[str, Callable[[], object]]
"""Name of a step that only a person can take → what stands for it here."""


def until(said: Callable[[], bool], within_s: float = WITHIN_S) -> None:
    deadline = time.monotonic() + within_s
    while not said():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.2)


@dataclass
class Operated:
    folder: Path
    database: Server
    broker: Server
    erp: RunningErp
    port: int = field(default_factory=lambda: _kept_port())
    told: int = 0
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def database_url(self) -> str:
        return self.database.url.replace("+asyncpg", "")

    # --- the process

    @property
    def runs(self) -> bool:
        return self._process is not None

    def start(self) -> None:
        """Returns when it is ready."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ops.cli", "up", "--port", str(self.port)],
                env=self._settings(),
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )
        self.until_ready()

    def until_ready(self) -> None:
        until(self._is_ready)

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(WITHIN_S)
            self._process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def _settings(self) -> dict[str, str]:
        way = {"connector": "simulated", "url": self.erp.url}
        hasty = {"breaker_rest_s": 0.2, "retry_first_s": 0.1, "retry_most_s": 0.5, "retries_per_s": 20}
        settings = {
            "DATA_DIR": str(self.folder),
            "DATABASE_URL": self.database.url,
            "AMQP_URL": self.broker.url,
            "API_KEYS": f"operator:{KEY}",
            "ERPS": json.dumps({ERP: way | hasty}),
            "SWEEP_EVERY_S": "0.3",
            "RECONCILE_EVERY_S": "3",
            "RECONCILE_PATIENCE_S": "0.1",
            "ARCHIVE_AFTER_DAYS": "0",
            "AHEAD_MAX_S": str(ANY_CLOCK_S),
        }
        return _outer() | {f"TWINSYNC_{name}": value for name, value in settings.items()}

    def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "log").read_text()
        with contextlib.suppress(httpx.TransportError):
            return self.knows("/readyz") and self.knows("/v1/gaps")  # another's would not know the key
        return False

    def freeze_hosts(self) -> None:
        """All that would replace one another: hosts and ingest hang at once, as on a machine that swaps."""
        self._freeze(b"ray::HostActor", b"ray::IngestActor")

    def freeze_gateway(self) -> None:
        """With all that would replace it."""
        self._freeze(b"ray::GatewayActor", b"ray::HostActor", b"ray::IngestActor")

    def _freeze(self, *titles: bytes) -> None:
        assert self._process is not None
        frozen = [pid for pid in family(self._process.pid) if _is_one_of(pid, titles)]
        assert len(frozen) >= len(titles)
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)

    # --- what it is told and what it says

    def ask(self, path: str) -> Any:
        headers = {"Authorization": f"Bearer {KEY}"}
        return httpx.get(f"{self.url}{path}", headers=headers).raise_for_status().json()

    def tell(self, *events: Event) -> None:
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": BATCH}
        httpx.post(f"{self.url}/v1/events", content=batch(events), headers=headers).raise_for_status()

    def tell_broker(self, body: bytes) -> None:
        """Past everything that would refuse it at the door."""
        with pika.BlockingConnection(pika.URLParameters(self.broker.url)) as connection:
            connection.channel().basic_publish(
                Names().events, OrderPlaced.TYPE, body, pika.BasicProperties(content_type=STRUCTURED)
            )

    def fill_queue(self, name: str) -> None:
        """With one change of a twin, by somebody who refuses more."""
        with pika.BlockingConnection(pika.URLParameters(self.broker.url)) as connection:
            channel = connection.channel()
            limits = {"x-queue-type": "quorum", "x-max-length": 1, "x-overflow": "reject-publish"}
            channel.queue_declare(name, durable=True, arguments=limits)
            for _ in range(3):
                channel.basic_publish("", name, b"[]")
            channel.queue_bind(name, Names().changes, "#")

    def delete_queue(self, name: str) -> None:
        with pika.BlockingConnection(pika.URLParameters(self.broker.url)) as connection:
            connection.channel().queue_delete(name)

    def set_erp(self, path: str, what: Mapping[str, Any]) -> None:
        httpx.post(f"{self.erp.url}{path}", json=dict(what)).raise_for_status()

    def documents(self) -> list[Any]:
        """Those that stand in the ERP, the first thousand."""
        found = httpx.get(f"{self.erp.url}/documents", params={"live": "true", "limit": 1_000})
        return found.raise_for_status().json()["documents"]  # type: ignore[no-any-return]

    def scrape(self) -> list[Sample]:
        try:
            return samples(httpx.get(f"{self.url}/metrics", timeout=10).raise_for_status().text)
        except httpx.HTTPError:
            return samples(None)

    def knows(self, path: str) -> bool:
        headers = {"Authorization": f"Bearer {KEY}"}
        return httpx.get(f"{self.url}{path}", headers=headers).status_code == 200

    def takes_facts(self) -> None:
        """What is told now comes all the way."""
        self.told += 1
        order = f"SO-TOLD-{self.told}"
        self.tell(placed(order=order))
        until(lambda: self.knows(f"/v1/orders/{order}"))

    # --- what is done

    def tried(
        self,
        rule: Rule,
        bring_about: Callable[[], object] | None,
        names: Callable[[], Mapping[str, str]] = dict,
        by_hand: ByHand | None = None,
    ) -> str:
        """Bring about what a rule is raised by, follow its runbook, and see that it is over.

        *bring_about*: None where it is so already. *names*: what a person reads off the steps before and
        sets. Answers what the scripts printed.
        """
        before = self.scrape()
        if bring_about is not None:
            until(lambda: not rule.holds(self.scrape(), before))
            bring_about()
        until(lambda: rule.holds(self.scrape(), before))
        raised = self.scrape()
        printed = self._follow(blocks(rule.runbook), names(), by_hand or {})
        until(lambda: not rule.holds(self.scrape(), raised))
        self.takes_facts()
        return printed

    def run(self, script: str) -> str:
        return self._run(Block("sh", script), {})

    def backdate(self) -> None:
        """What waits for the ERP has waited since a year ago."""
        self.run(
            """psql -q "$DATABASE" -c "UPDATE commands SET queued_at = '2025' || substr(queued_at, 5)\""""
        )

    def _follow(self, steps: list[Block], names: Mapping[str, str], by_hand: ByHand) -> str:
        steps_by_hand = {"ask": lambda: None, **by_hand}
        printed = ""
        for step in steps:
            if step.by_hand is not None:
                steps_by_hand[step.by_hand]()
            else:
                printed += self._run(step, names)
        assert {step.by_hand for step in steps} >= set(by_hand), "a step by hand that the page does not have"
        return printed

    def _run(self, step: Block, names: Mapping[str, str]) -> str:
        """As a person pastes it: line by line, and nothing after a line that fails."""
        done = subprocess.run(
            ["bash", "-e", "-u", "-c", step.text],
            env=self._shell() | names,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=WITHIN_S,
            check=False,
        )
        told = f"{step.text}\n→ {done.returncode}\n{done.stdout}{done.stderr}"
        assert (done.returncode != 0) == step.fails, told
        return f"{told}\n"

    def _shell(self) -> dict[str, str]:
        return _outer() | {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "TWINSYNC_URL": self.url,
            "TWINSYNC_API_KEY": KEY,
            "DATABASE": self.database_url,
            "ERP": ERP,
            "COLUMNS": "200",
        }

    def write_programs(self) -> None:
        """twinsync of this checkout, and rabbitmqctl of this broker."""
        programs = self.folder / "bin"
        programs.mkdir()
        checkout = f"PYTHONPATH={shlex.quote(str(ROOT))} exec {shlex.quote(sys.executable)} -m ops.cli"
        pairs = Path(f"/proc/{self.broker.pid}/environ").read_bytes().decode().split("\0")
        node = " ".join(shlex.quote(pair) for pair in pairs if pair.partition("=")[0].isidentifier())
        for name, command in (
            ("twinsync", checkout),
            ("rabbitmqctl", f"exec env {node} /usr/lib/rabbitmq/bin/rabbitmqctl"),
        ):
            (programs / name).write_text(f'#!/bin/sh\n{command} "$@"\n')
            (programs / name).chmod(0o755)


def _is_one_of(pid: int, titles: tuple[bytes, ...]) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(titles)
    return False


def _kept_port() -> int:
    """A free one below those that the system gives away: Ray takes hundreds of those while it starts."""
    while True:
        port = randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def _outer() -> dict[str, str]:
    """Our environment without what another Ray or another twinsync of these tests has put there."""
    ours = ("RAY_", "TWINSYNC_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


@contextlib.contextmanager
def operated() -> Iterator[Operated]:
    """Not started yet, with servers that nobody else uses, so that they may be killed."""
    if missing := [name for name in NEEDED if shutil.which(name) is None]:
        pytest.skip(f"a runbook needs {', '.join(missing)}")
    folder = Path(tempfile.mkdtemp(prefix="ops-"))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        database = stack.enter_context(own(services.postgres))
        broker = stack.enter_context(own(services.rabbitmq))
        made = Operated(folder, database, broker, stack.enter_context(start_erp()))
        made.write_programs()
        stack.callback(made.stop)
        yield made
