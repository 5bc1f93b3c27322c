"""RabbitMQ by TLS, as hosted ones want it: all is as in the clear, and whom nobody vouches for is refused."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme
import uvloop

from adapters.amqp.consumer import AmqpConsumer
from adapters.amqp.link import Patience
from adapters.amqp.publisher import AmqpPublisher
from adapters.amqp.topology import Names, clear_away
from canonical.errors import TransientFailure
from ops.local import free_port
from tests import services
from tests.contracts.test_delivery import Intake, Letters
from tests.live.servers import own, rabbitmqctl
from tests.services import Server
from tests.stories import placed
from twins.ports import Publication

pytestmark = pytest.mark.live

HOST = "127.0.0.1"
PATIENCE = Patience(connect_s=5, publish_s=20, heartbeat_s=7)
BOUNDED_S = 30.0
"""Far more than anything here may take, and far less than forever."""
LARGE_BYTES = 300_000
"""In three frames, of 131,072 bytes at most, which TLS cuts into records of 16,384."""


@dataclass(frozen=True, slots=True)
class Secured:
    """A broker with a port for TLS beside the one of its own address."""

    broker: Server
    port: int
    authorities: Path
    """Who vouches for its certificate, which is for `HOST` alone."""

    def url(self, trusted: Path, host: str = HOST) -> str:
        return f"amqps://guest:guest@{host}:{self.port}/?cafile={trusted}"


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder, port = tmp_path_factory.mktemp("tls"), free_port()
    authority = trustme.CA()
    authorities = vouching(authority, folder)
    held, config = folder / "held.pem", folder / "advanced.config"
    authority.issue_cert(HOST).private_key_and_cert_chain_pem.write_to_path(held)
    options = f'[{{certfile,"{held}"}},{{keyfile,"{held}"}}]'
    config.write_text(f'[{{rabbit,[{{ssl_listeners,[{{"{HOST}",{port}}}]}},{{ssl_options,{options}}}]}}].')
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RABBITMQ_ADVANCED_CONFIG_FILE", str(config))
        with own(services.rabbitmq) as broker:
            yield Secured(broker, port, authorities)


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def runner(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner]:
    """Each loop does TLS by itself. Ray runs actors with uvloop."""
    with asyncio.Runner(loop_factory=request.param) as opened:
        yield opened


def test_messages_come_by_tls_each_once_and_whole(runner: asyncio.Runner, secured: Secured) -> None:
    """And the heartbeat is as set, though the address has words on TLS."""
    intake, messages = Intake(), [*orders(300), large(), *orders(300, "LATER")]
    agreed = runner.run(passed(secured, messages, intake))
    assert sorted(one.body for one in intake.taken) == sorted(one.body for one in messages)
    assert agreed == ["true", str(PATIENCE.heartbeat_s)] * 2


async def passed(secured: Secured, messages: list[Publication], intake: Intake) -> list[str]:
    """Answers what the broker says of the publisher's connection and the consumer's: TLS, heartbeat."""
    url, prefix = secured.url(secured.authorities), f"test-{os.urandom(4).hex()}"
    publisher = AmqpPublisher(url, prefix=prefix, patience=PATIENCE)
    consumer = consumer_of(url, intake, prefix)
    await consumer.start()
    await publisher.publish(messages)
    async with asyncio.timeout(BOUNDED_S):
        while len(intake.taken) < len(messages):
            await asyncio.sleep(0.05)
    asked = "list_connections", "ssl", "timeout", "--no-table-headers"
    agreed = await asyncio.to_thread(rabbitmqctl, secured.broker, *asked)
    await publisher.close()
    await consumer.stop()
    await clear_away(secured.broker.url, Names(prefix))
    return agreed.split()


def test_a_certificate_that_nobody_vouches_for_is_refused_and_the_reason_told(
    runner: asyncio.Runner, secured: Secured, tmp_path: Path
) -> None:
    others = secured.url(vouching(trustme.CA(), tmp_path))
    nobody = others.partition("?")[0]
    for url in (others, nobody):
        runner.run(refused(url, "certificate verify failed"))


def test_a_certificate_for_another_host_is_refused_and_the_reason_told(
    runner: asyncio.Runner, secured: Secured
) -> None:
    url = secured.url(secured.authorities, host="localhost")
    runner.run(refused(url, "certificate is not valid for 'localhost'"))


def test_a_file_that_is_not_there_is_named(runner: asyncio.Runner, secured: Secured, tmp_path: Path) -> None:
    absent = tmp_path / "absent.pem"
    runner.run(refused(secured.url(absent), f"no such file: cafile {absent}"))


def test_a_broker_without_tls_is_not_told_the_password_instead(
    runner: asyncio.Runner, secured: Secured
) -> None:
    runner.run(refused(secured.broker.url.replace("amqp:", "amqps:"), "WRONG_VERSION_NUMBER"))


async def refused(url: str, reason: str) -> None:
    """To those who publish and to those who consume, and soon."""
    publisher, consumer = AmqpPublisher(url, patience=PATIENCE), consumer_of(url, Intake(), "test")
    async with asyncio.timeout(BOUNDED_S):
        with pytest.raises(TransientFailure, match=reason):
            await publisher.publish(orders(1))
        with pytest.raises(TransientFailure, match=reason):
            await consumer.start()


def vouching(authority: trustme.CA, folder: Path) -> Path:
    authorities = folder / "authorities.pem"
    authority.cert_pem.write_to_path(authorities)
    return authorities


def consumer_of(url: str, intake: Intake, prefix: str) -> AmqpConsumer:
    return AmqpConsumer(url, intake, Letters(), prefix=prefix, patience=PATIENCE)  # type: ignore[arg-type]


def orders(many: int, name: str = "SO") -> list[Publication]:
    return [Publication(placed(order=f"{name}-{number}").structured()) for number in range(many)]


def large() -> Publication:
    """No part of it is like another."""
    noise = os.urandom(LARGE_BYTES // 2).hex().encode()
    return Publication(b'{"noise":"%s",' % noise + placed(order="LARGE").structured()[1:])
