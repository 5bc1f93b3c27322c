"""Installs Tryton, founds a company in it once, and keeps a snapshot that every test starts from."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from adapters.tryton.models import TrytonSettings
from canonical.postings import Account
from ops.erp.company import CHART, WALK_IN, Founded, found, sample
from ops.erp.rpc import Rpc
from ops.erp.server import TrytonServer, copy_database

LOCK = Path(__file__).with_name("requirements.lock")
MODULES = ("account_invoice", "account_invoice_stock", "account_stock_anglo_saxon")
FOUNDING = "founding"
"""Name of the database in which the company is founded."""

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class TrytonHome:
    """A folder with all that belongs to one Tryton."""

    folder: Path = Path(".build/erp")

    @property
    def programs(self) -> Path:
        return self.folder / "venv" / "bin"

    @property
    def snapshot(self) -> Path:
        return self.folder / "company.sqlite"

    @property
    def made(self) -> bool:
        return self.snapshot.exists() and self._stamp.exists() and self._stamp.read_text() == _recipe()

    def server(self, folder: Path | None = None, **more: int) -> TrytonServer:
        return TrytonServer(self.programs / "trytond", folder or self.folder / "server", **more)

    def make(self, progress: Progress) -> None:
        """Everything, unless it is there already; takes one to two minutes. Raises: CalledProcessError."""
        if self.made:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        progress("installing Tryton into a virtual environment of its own")
        self._install()
        server = self.server(self.folder / FOUNDING)
        progress("making an empty database")
        password = self._make_database(server)
        server.start(FOUNDING)
        try:
            progress("founding a company: chart, fiscal years, warehouses, goods, parties")
            with Rpc(server.url(FOUNDING), "admin", password) as rpc:
                company = found(rpc, sample(datetime.now(UTC).date()))
            copy_database(server.databases / f"{FOUNDING}.sqlite", self.snapshot)
        finally:
            server.stop()
        self._company.write_text(json.dumps({"company": company.company, "key": company.key}))
        self._stamp.write_text(_recipe())

    def open(self, server: TrytonServer, database: str) -> TrytonSettings:
        """A fresh copy of the company, and how it is reached."""
        server.databases.mkdir(parents=True, exist_ok=True)
        copy_database(self.snapshot, server.databases / f"{database}.sqlite")
        company = Founded(**json.loads(self._company.read_text()))
        return settings(server.url(database), company)

    @property
    def _company(self) -> Path:
        return self.folder / "company.json"

    @property
    def _stamp(self) -> Path:
        return self.folder / "recipe"

    def _install(self) -> None:
        if not (self.programs / "python").exists():
            _run(sys.executable, "-m", "venv", self.folder / "venv")
        pip = (self.programs / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        _run(*pip, "--require-hashes", "-r", LOCK)

    def _make_database(self, server: TrytonServer) -> str:
        """Answers the password of its administrator, which nobody needs once the company is founded."""
        server.configure()
        for leftover in server.databases.glob(f"{FOUNDING}.sqlite*"):
            leftover.unlink()
        (server.databases / f"{FOUNDING}.sqlite").touch()
        password, file = secrets.token_urlsafe(16), server.folder / "password"
        file.touch(mode=0o600)
        file.write_text(password)
        admin = (self.programs / "trytond-admin", "-c", server.configuration, "-d", FOUNDING)
        wanted = ("--email", "nobody@example.org", "--activate-dependencies", "-u", *MODULES)
        _run(*admin, *wanted, TRYTONPASSFILE=str(file))
        return password


def settings(url: str, company: Founded) -> TrytonSettings:
    accounts: Mapping[Account, str] = {role: code for role, (code, _, _) in CHART.items()}
    return TrytonSettings(
        url=url, key=company.key, accounts=accounts, companies={"main": company.company}, walk_in=WALK_IN
    )


def _recipe() -> str:
    """Changes with whatever the snapshot was made from."""
    return hashlib.sha256(LOCK.read_bytes() + LOCK.with_name("company.py").read_bytes()).hexdigest()


def _run(*command: object, **environment: str) -> None:
    subprocess.run([str(part) for part in command], check=True, env={**os.environ, **environment})
