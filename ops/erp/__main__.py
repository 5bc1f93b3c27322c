"""``python -m ops.erp start | stop``: a Tryton to look at, and to let twinsync post to."""

from __future__ import annotations

import json

import typer
from rich.console import Console

from adapters.tryton.models import TrytonSettings
from ops.erp.installation import TrytonHome

DATABASE = "erp"
console = Console(highlight=False)
application = typer.Typer(add_completion=False, help=__doc__)


@application.command()
def start() -> None:
    """Install, found the company and start the server, as far as that has not been done."""
    home = TrytonHome()
    home.make(lambda step: console.print(f"tryton: {step}"))
    stop()
    server = home.server()
    settings = home.open(server, DATABASE)
    server.start(DATABASE)
    (server.folder / "pid").write_text(str(server.pid))
    console.print(f"tryton: process {server.pid} answers at {server.url(DATABASE)}; to post to it:")
    chosen = f"TWINSYNC_ERP_CONNECTOR=tryton TWINSYNC_TRYTON='{_shown(settings)}'"
    console.print(f"export {chosen}", soft_wrap=True)


@application.command()
def stop() -> None:
    """End the server that ``start`` started; its database stays."""
    server = TrytonHome().server()
    pid = server.folder / "pid"
    if pid.exists():
        server.pid = int(pid.read_text())
        server.stop()
        pid.unlink()
        console.print("tryton: stopped")


def _shown(settings: TrytonSettings) -> str:
    """As the environment takes it, for the one ERP instance that there is unless more are named."""
    told = settings.model_dump(mode="json", exclude_defaults=True)
    return json.dumps({"main": told | {"key": settings.key.get_secret_value()}})


if __name__ == "__main__":
    application()
