"""A Ray of its own for the live tests, gone afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.local import local_ray, ray_home


@pytest.fixture(scope="session")
def on_ray() -> Iterator[None]:
    with ray_home(Path(".build/ray")) as home, local_ray(home):
        yield
