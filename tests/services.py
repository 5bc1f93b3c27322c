"""RabbitMQ and PostgreSQL for the tests: those that run already, or some of our own, on ports of their own.

    python -m tests.services run -- COMMAND …

starts what is missing, runs the command with TWINSYNC_TEST_AMQP_URL and TWINSYNC_TEST_POSTGRES_URL set, and
stops what it started. The standard library alone, so that it runs before anything is installed.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

AMQP = "TWINSYNC_TEST_AMQP_URL"
POSTGRES = "TWINSYNC_TEST_POSTGRES_URL"
START_S = 90.0
STOP_S = 20.0

_RABBITMQ_SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
_POLICY = Path("/usr/sbin/policy-rc.d")


class Unavailable(Exception):
    """A service can neither be reached, started nor installed; the text says why and what to do."""


def main(arguments: list[str]) -> int:
    if arguments[:2] != ["run", "--"] or len(arguments) < 3:
        print("usage: python -m tests.services run -- COMMAND …", file=sys.stderr)  # noqa: T201
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(_folder())
        for variable, name, start in ((AMQP, "RabbitMQ", rabbitmq), (POSTGRES, "PostgreSQL", postgres)):
            _provide(stack, variable, name, start, folder)
        return subprocess.run(arguments[2:], check=False).returncode


def _provide(
    stack: contextlib.ExitStack,
    variable: str,
    name: str,
    start: Callable[[Path], contextlib.AbstractContextManager[Server]],
    folder: Path,
) -> None:
    told = os.environ.get(variable)
    if told and _answers(urlsplit(told).hostname or "127.0.0.1", urlsplit(told).port or 0):
        _say(f"{name}: using the one that {variable} names")
        return
    try:
        os.environ[variable] = stack.enter_context(start(folder)).url
        _say(f"{name}: started for this run")
    except Unavailable as unavailable:
        os.environ.pop(variable, None)
        _say(f"{name}: NOT TESTED. {unavailable}. Or set {variable} to one that runs, and run again.")


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A folder inside the checkout, or where others may not enter the checkout, a temporary one."""
    build = Path(__file__).resolve().parents[1] / ".build"
    build.mkdir(exist_ok=True)
    outside = any(not parent.stat().st_mode & 0o001 for parent in build.parents)
    made = Path(tempfile.mkdtemp(prefix="services-", dir=None if outside else build))
    made.chmod(0o755)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


class Server:
    """A server of our own, which can be killed and started again where it was, with what it had stored."""

    def __init__(
        self, url: str, spawn: Callable[[], subprocess.Popen[bytes]], ready: Callable[[], bool], log: Path
    ) -> None:
        self.url = url
        self._spawn = spawn
        self._ready = ready
        self._log = log
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._child is not None
        return self._child.pid

    def runs(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def start(self) -> None:
        """Returns when it answers. Raises: Unavailable."""
        self._child = self._spawn()
        _wait(self._log.parent.name, self._ready, self._child, self._log)

    def kill(self) -> None:
        """SIGKILL to it and all that it has started, as when the power fails."""
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)
            self._child.wait()

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self._child is None or not self.runs():
            return
        self._child.send_signal(how)
        try:
            self._child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()


# --- RabbitMQ --------------------------------------------------------------------------------------------


@contextlib.contextmanager
def rabbitmq(folder: Path, address: str = "127.0.0.1") -> Iterator[Server]:
    """A broker of our own, on the loopback unless told otherwise. Raises: Unavailable."""
    if not _RABBITMQ_SERVER.exists():
        install("rabbitmq-server")
    home = folder / "rabbitmq"
    home.mkdir()
    (home / "enabled_plugins").write_text("[].\n")
    (home / "rabbitmq.conf").write_text("loopback_users = none\ndisk_free_limit.absolute = 50MB\n")
    (home / "env.conf").write_text("")
    port, distribution, mapper = (_free_port() for _ in range(3))
    environment = {
        **os.environ,
        "HOME": str(home),
        "ERL_EPMD_PORT": str(mapper),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": f"twinsync{port}@localhost",
        "RABBITMQ_SCHEDULER_BIND_TYPE": "u",  # threads bound to a core wait for whoever has it
        "RABBITMQ_NODE_IP_ADDRESS": address,
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_MNESIA_BASE": str(home / "data"),
        "RABBITMQ_LOG_BASE": str(home / "log"),
        "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq"),
        "RABBITMQ_CONF_ENV_FILE": str(home / "env.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
    }
    with _child(["epmd", "-port", str(mapper)], environment, home / "epmd.log"):
        _wait("the Erlang port mapper", lambda: _answers("127.0.0.1", mapper))
        log = home / "server.log"
        server = Server(
            f"amqp://guest:guest@{address}:{port}/",
            lambda: _spawned([str(_RABBITMQ_SERVER)], environment, log),
            lambda: _greets(address, port),
            log,
        )
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _greets(address: str, port: int) -> bool:
    """Whether an AMQP 0-9-1 broker answers; the port alone opens before it is ready."""
    try:
        with socket.create_connection((address, port), timeout=1) as connection:
            connection.sendall(b"AMQP\x00\x00\x09\x01")
            return connection.recv(1) == b"\x01"
    except OSError:
        return False


# --- PostgreSQL ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def postgres(folder: Path, max_wal_size: str = "4GB") -> Iterator[Server]:
    """A server of our own on the loopback. Raises: Unavailable.

    *max_wal_size*: logged from one checkpoint to the next, after which each page is logged once in full.
    """
    if _postgres_programs() is None:
        install("postgresql")
    programs = _postgres_programs()
    if programs is None:
        raise Unavailable("the package postgresql installed no initdb")
    home, port = folder / "postgres", _free_port()
    home.mkdir()
    user = _unprivileged(home)
    data = home / "data"
    made = subprocess.run(
        [programs / "initdb", "-D", data, "-U", "twinsync", "-A", "trust", "-E", "UTF8", "--no-sync"],
        capture_output=True,
        text=True,
        check=False,
        user=user,
        cwd=home,
    )
    if made.returncode != 0:
        raise Unavailable(f"initdb failed: {made.stderr.strip()}")
    command = [str(programs / "postgres"), "-D", str(data), "-p", str(port)]
    command += ["-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={home}"]
    command += ["-c", f"max_wal_size={max_wal_size}"]
    log = home / "server.log"
    server = Server(
        f"postgresql+asyncpg://twinsync@127.0.0.1:{port}/postgres",
        lambda: _spawned(command, dict(os.environ), log, user=user),
        lambda: _accepts(programs / "pg_isready", port),
        log,
    )
    server.start()
    try:
        yield server
    finally:
        server.stop(signal.SIGINT)


def _accepts(pg_isready: Path, port: int) -> bool:
    """Whether the server takes connections; while it recovers from a crash the port is open already."""
    asked = [str(pg_isready), "-q", "-h", "127.0.0.1", "-p", str(port)]
    return subprocess.run(asked, check=False).returncode == 0


def _postgres_programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).parent if on_path else None


def _unprivileged(home: Path) -> str | None:
    """PostgreSQL refuses to run as root: give its folder to the user of the package."""
    if os.geteuid() != 0:
        return None
    user = pwd.getpwnam("postgres")
    os.chown(home, user.pw_uid, user.pw_gid)
    return user.pw_name


# --- processes -------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _child(command: list[str], environment: dict[str, str], log: Path) -> Iterator[None]:
    child = _spawned(command, environment, log)
    try:
        yield
    finally:
        child.terminate()
        try:
            child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def _spawned(
    command: list[str], environment: dict[str, str], log: Path, *, user: str | None = None
) -> subprocess.Popen[bytes]:
    """A child in a session of its own, so that an interrupt at the terminal does not reach it before us."""
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            user=user,
            cwd=log.parent,
            start_new_session=True,
        )


def _wait(
    what: str,
    ready: Callable[[], bool],
    child: subprocess.Popen[bytes] | None = None,
    log: Path | None = None,
) -> None:
    deadline = time.monotonic() + START_S
    while not ready():
        ended = child is not None and child.poll() is not None
        if ended or time.monotonic() > deadline:
            said = log.read_text(errors="replace")[-500:] if log is not None else ""
            raise Unavailable(
                f"{what} {'ended' if ended else 'did not answer'} while starting: {said.strip()}"
            )
        time.sleep(0.1)


def install(package: str) -> None:
    """Install a Debian package without letting it start a server of its own. Raises: Unavailable."""
    by_hand = f"install it with 'apt-get install {package}'"
    if shutil.which("apt-get") is None:
        raise Unavailable(f"{package} is not installed, and this is not Debian; install it")
    if os.geteuid() != 0:
        raise Unavailable(f"{package} is not installed; as root, {by_hand}")
    _say(f"installing {package} from Debian's packages")
    with _no_service_starts():
        for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", package]):
            done = subprocess.run(
                ["apt-get", *command],
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
                capture_output=True,
                text=True,
                check=False,
            )
    if done.returncode != 0:
        raise Unavailable(f"{package} could not be installed ({done.stderr.strip()[-300:]}); {by_hand}")


@contextlib.contextmanager
def _no_service_starts() -> Iterator[None]:
    """Debian's packages ask this file whether they may start their services."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _say(what: str) -> None:
    print(f"services: {what}", file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
