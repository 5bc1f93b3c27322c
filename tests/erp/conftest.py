"""What the tests against Tryton share."""

from tests.erp.premises import books, connector, tryton, tryton_home, tryton_server
from tests.live.conftest import on_ray

__all__ = ["books", "connector", "on_ray", "tryton", "tryton_home", "tryton_server"]
