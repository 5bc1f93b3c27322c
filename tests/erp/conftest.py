"""What the tests against Tryton share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.erp.installation import TrytonHome
from ops.local import local_ray, ray_home
from tests.erp.premises import books, connector, tryton, tryton_home, tryton_server

__all__ = ["books", "connector", "tryton", "tryton_home", "tryton_server"]


@pytest.fixture(scope="session")
def on_ray(tryton_home: TrytonHome) -> Iterator[None]:
    """Not where there is no Tryton: the other live tests have a Ray of their own."""
    with ray_home(Path(".build/ray")) as home, local_ray(home):
        yield
