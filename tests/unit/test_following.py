"""`twinsync follow` goes on where it was, and says why it cannot."""

from __future__ import annotations

from itertools import islice
from typing import Any

import httpx
import pytest
from httpx_sse import ServerSentEvent

import ops.following
from canonical.errors import RejectedMessage, TransientFailure
from ops.following import follow

STREAM = {"content-type": "text/event-stream"}


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops.following, "sleep", lambda seconds: None)


class Service:
    """Answers one request after the other as it was told to, and notes what it was asked."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self._answers = iter(answers)
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        return answer


def changed(number: int) -> httpx.Response:
    body = f"event: change\ndata: {number}\n\n: still here\nid: {number}\n\n"
    return httpx.Response(200, text=body, headers=STREAM)


def heard(service: Service, many: int, **wanted: str) -> list[Any]:
    found = follow("http://twinsync", "key", wanted, httpx.MockTransport(service))
    return [one.data if isinstance(one, ServerSentEvent) else one for one in islice(found, many)]


def test_it_goes_on_where_the_stream_ended() -> None:
    service = Service(changed(1), changed(2), changed(3))
    assert heard(service, 6, kind="order") == ["1", "", "2", "", "3", ""]
    assert [one.headers.get("last-event-id") for one in service.asked] == [None, "1", "2"]
    assert {one.url.params["kind"] for one in service.asked} == {"order"}
    assert {one.headers["authorization"] for one in service.asked} == {"Bearer key"}


@pytest.mark.parametrize(
    "trouble",
    [
        httpx.ConnectError("refused"),
        httpx.Response(503, json={"detail": "database: away"}),
        httpx.Response(429, json={"detail": "64 follow"}),
        httpx.Response(200, text="<html>", headers={"content-type": "text/html"}),
    ],
)
def test_while_twinsync_is_away_it_says_so_and_tries_again(trouble: httpx.Response | Exception) -> None:
    service = Service(changed(1), trouble, changed(2))
    first, _, failure, second, _ = heard(service, 5)
    assert (first, second) == ("1", "2")
    assert isinstance(failure, TransientFailure)
    assert service.asked[-1].headers["last-event-id"] == "1"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (httpx.Response(410, json={"detail": "changes before 12 are not kept"}), "before 12"),
        (httpx.Response(404, text="<html>no such host"), "no such host"),
    ],
)
def test_what_is_refused_is_not_tried_again(answer: httpx.Response, said: str) -> None:
    service = Service(answer)
    with pytest.raises(RejectedMessage, match=said):
        heard(service, 1)
    assert len(service.asked) == 1
