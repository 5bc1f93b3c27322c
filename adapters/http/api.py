"""The HTTP API, version 1: live twins for the OMS, and a way in for those without a broker."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import dropwhile
from typing import Annotated, Any, Protocol
from urllib.parse import unquote

from fastapi import APIRouter, Depends, FastAPI, Query, Request
from fastapi.responses import Response
from pydantic_core import to_json
from starlette.types import ASGIApp

from adapters.http import audit, changes, health, hosts, letters, problems, reconciliations
from adapters.http.changes import NUMBER_MAX
from adapters.http.erps import ErpDesk, erp_routes
from adapters.http.keys import Keys
from adapters.http.limits import Limits
from adapters.http.live import LiveTwins
from adapters.http.problems import Problem
from adapters.http.reconciliations import Reconciling
from canonical.envelope import (
    BATCH,
    BATCH_BYTES_MAX,
    BODY_BYTES_MAX,
    HEADER_PREFIX,
    Event,
    check_not_ahead,
    check_places,
    from_attributes,
    parse,
    parse_batch,
)
from canonical.errors import RejectedMessage
from canonical.identity import Kind, TwinRef, order, shipment, stock, twin_ref
from canonical.translation import Connection, Inbound, Translate
from twins.core.gaps import Gap, Watch
from twins.core.inquiry import Moment, Outcome
from twins.ports import (
    Audit,
    DeadLetters,
    Feed,
    GapStore,
    Intake,
    Letter,
    LetterFilter,
    Publication,
    Publisher,
    Rejected,
    Told,
    TwinFilter,
    TwinRow,
    TwinStore,
    Verdict,
)

PAGE_DEFAULT, PAGE_MAX = 50, 500
HISTORY_DEFAULT, HISTORY_MAX = 500, 5_000
NUMBERED_LETTERS_MAX = 1_000
"""Dead letters that are looked through for the numbers that are missing."""
EXAMPLE = "2026-03-02T18:00:00Z"
JSON = "application/json"

Verify = Callable[[bytes, str, str], bool]
"""Body, signature header, secret → whether the signature is right."""


class Reads(Protocol):
    async def read(self, aspect: Any, ref: TwinRef) -> tuple[int, bytes] | None: ...

    async def news(
        self, aspect: Any, ref: TwinRef, known: int | None, patience_s: float
    ) -> tuple[int, bytes] | None: ...


class Inquiries(Protocol):
    """Questions about how a twin came about, what it was, and what it would be."""

    async def believed(self, ref: TwinRef, moment: Moment) -> dict[str, Any] | None: ...

    async def postings(self, ref: TwinRef, moment: Moment) -> dict[str, Any] | None: ...

    async def history(self, ref: TwinRef, moment: Moment) -> list[Told]: ...

    async def explain(self, ref: TwinRef, moment: Moment | None = None) -> dict[str, Any] | None: ...

    async def what_if(self, events: Sequence[Event]) -> list[Outcome]: ...


@dataclass(frozen=True, slots=True)
class Service:
    """What the API stands on."""

    intake: Intake
    publisher: Publisher
    publishes_later: bool
    """True with a broker: what is posted is safe, but not yet in the twins (202)."""
    reads: Reads
    store: TwinStore
    gaps: GapStore
    inquiry: Inquiries
    translators: Mapping[str, Translate]
    signatures: Mapping[str, tuple[str, Verify]]
    refusals: Mapping[str, Callable[[Inbound, Connection], bytes | None]]
    """Adapter → the reply that its format has for a refused message, such as an X12 997."""
    connection: Callable[[str, str], Connection]
    audit: Audit
    reconciling: Reconciling
    dead_letters: DeadLetters
    letter_desk: letters.Desk
    api_keys: Mapping[str, str]
    """Key → the name of whoever holds it."""
    webhook_secrets: Mapping[str, str]
    metrics: Callable[[], Awaitable[tuple[bytes, str]]]
    erps: ErpDesk
    hosts: hosts.HostDesk
    feed: Feed
    latest: Callable[[], datetime]
    """The latest moment that an event may be dated by now."""
    body_bytes_max: int = BATCH_BYTES_MAX
    checks: Mapping[str, health.Check] = field(default_factory=dict)
    """What must answer before this process calls itself ready."""


def build_api(service: Service) -> ASGIApp:
    """The application. Every path but health, metrics and signed webhooks asks for an API key."""
    api = FastAPI(
        title="twinsync",
        version="1",
        summary="Live twins of orders, stock and shipments",
        docs_url="/docs",
        openapi_url="/openapi.json",
    )
    problems.install(api)
    keys = Keys(service.api_keys)
    api.add_middleware(Limits, body_bytes_max=service.body_bytes_max)
    api.include_router(health.routes(service.checks, service.metrics))
    api.include_router(_webhooks(service, keys))
    for router in (
        _twins(service),
        _lists(service),
        _events(service),
        audit.routes(service.audit),
        letters.routes(service.dead_letters, service.letter_desk),
        reconciliations.routes(service.reconciling),
        erp_routes(service.erps),
        hosts.routes(service.hosts),
        changes.routes(service.feed),
    ):
        api.include_router(router, dependencies=[Depends(keys)])
    read, news = (partial(ask, "document") for ask in (service.reads.read, service.reads.news))
    return LiveTwins(api, read=read, news=news, keys=keys)


# --- one twin --------------------------------------------------------------------------------------------


def _twins(service: Service) -> APIRouter:
    router = APIRouter(tags=["twins"])
    paths: list[tuple[str, Callable[..., TwinRef]]] = [
        ("/v1/orders/{order_id}", lambda order_id: order(order_id)),
        ("/v1/shipments/{shipment_id}", lambda shipment_id: shipment(shipment_id)),
        ("/v1/stock/{sku}/{location}", lambda sku, location: stock(sku, location)),
        ("/v1/twins/{kind}/{key:path}", lambda kind, key: twin_ref(f"{kind}/{key}")),
    ]
    for path, ref_of in paths:
        router.add_api_route(path + "/explain", _explainer(service, ref_of), methods=["GET"])
        router.add_api_route(path + "/postings", _reader(service, ref_of, "postings"), methods=["GET"])
        router.add_api_route(path + "/history", _historian(service, ref_of), methods=["GET"])
        router.add_api_route(path, _reader(service, ref_of, "document"), methods=["GET"])
    return router


def _ref(request: Request, ref_of: Callable[..., TwinRef]) -> TwinRef:
    """Raises: RejectedMessage for what can be no twin's name."""
    return twin_ref(str(ref_of(**request.path_params)))


AsOf = Annotated[
    datetime | None,
    Query(description="what had happened by then, with an offset from UTC", examples=[EXAMPLE]),
]
KnownAt = Annotated[
    datetime | None, Query(description="what had been told to us by then, with an offset from UTC")
]


def _moment(as_of: datetime | None, known_at: datetime | None) -> Moment | None:
    for name, told in (("as_of", as_of), ("known_at", known_at)):
        if told is not None and told.tzinfo is None:
            raise Problem(422, "Message refused", f"{told.isoformat()} has no offset from UTC", field=name)
    return None if as_of is None and known_at is None else Moment(as_of, known_at)


def _reader(
    service: Service, ref_of: Callable[..., TwinRef], aspect: str
) -> Callable[..., Awaitable[Response]]:
    asked = {"document": service.inquiry.believed, "postings": service.inquiry.postings}[aspect]

    async def read(request: Request, as_of: AsOf = None, known_at: KnownAt = None) -> Response:
        """As it is, or was believed to be. The live twin comes with an ETag; `Prefer: wait=5` waits so many
        seconds, five at most, until somebody tells of it or, with `If-None-Match`, until it has changed.
        """
        ref, moment = _ref(request, ref_of), _moment(as_of, known_at)
        if moment is not None:
            believed = await asked(ref, moment)
            if believed is None:
                raise _unknown(ref, " by then")
            return _json(believed)
        answer = await service.reads.read(aspect, ref)
        if answer is None:
            raise _unknown(ref)
        version, body = answer
        tag = f'"{version}"'
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers={"ETag": tag})
        return Response(body, headers={"ETag": tag}, media_type=JSON)

    return read


def _explainer(service: Service, ref_of: Callable[..., TwinRef]) -> Callable[..., Awaitable[Response]]:
    async def explain(request: Request, as_of: AsOf = None, known_at: KnownAt = None) -> Response:
        """Why the state is what it is, from whom, what it waits for, and what late events changed."""
        ref = _ref(request, ref_of)
        answer = await service.inquiry.explain(ref, _moment(as_of, known_at))
        if answer is None:
            raise _unknown(ref)
        return _json(answer)

    return explain


def _historian(service: Service, ref_of: Callable[..., TwinRef]) -> Callable[..., Awaitable[Response]]:
    async def history(
        request: Request,
        as_of: AsOf = None,
        known_at: KnownAt = None,
        cursor: Annotated[int, Query(ge=0, le=NUMBER_MAX, description="next_cursor of the page before")] = 0,
        limit: Annotated[int, Query(ge=1, le=HISTORY_MAX)] = HISTORY_DEFAULT,
    ) -> Response:
        """Every event that was told, in the order in which they came; late ones last."""
        ref, moment = _ref(request, ref_of), _moment(as_of, known_at)
        if moment is None:
            told = await service.store.history(ref, after=cursor, limit=limit + 1)
        else:
            told = [one for one in await service.inquiry.history(ref, moment) if one.number > cursor]
        if not told and not cursor and await service.reads.read("document", ref) is None:
            raise _unknown(ref)
        more = told[limit - 1].number if len(told) > limit else None
        return _json({"twin": str(ref), "events": [_told(one) for one in told[:limit]], "next_cursor": more})

    return history


def _unknown(ref: TwinRef, when: str = "") -> Problem:
    return Problem(404, "No such twin", f"nobody has told anything of {ref}{when}", twin=str(ref))


def _told(one: Told) -> dict[str, Any]:
    event = one.event
    return {
        **event.attributes(),
        "data": event.fact.ADAPTER.dump_python(event.fact, mode="json", exclude_defaults=True),
        "arrival": one.arrival.value,
        "recorded_at": one.recorded_at,
    }


# --- lists -----------------------------------------------------------------------------------------------

_LISTS = {"orders": Kind.ORDER, "stock": Kind.STOCK, "shipments": Kind.SHIPMENT}


def _lists(service: Service) -> APIRouter:
    router = APIRouter(tags=["lists"])
    for name, kind in _LISTS.items():
        router.add_api_route(f"/v1/{name}", _lister(service, kind), methods=["GET"])
    router.add_api_route("/v1/exceptions", _exceptions(service), methods=["GET"])
    router.add_api_route("/v1/gaps", _gaps(service), methods=["GET"])
    return router


def _lister(service: Service, kind: Kind) -> Callable[..., Awaitable[Response]]:
    async def page(
        status: str | None = None,
        customer_id: str | None = None,
        sku: str | None = None,
        location: str | None = None,
        finding: Annotated[
            str | None, Query(description="code of a finding, such as dispatch-missing")
        ] = None,
        cursor: Annotated[str | None, Query(description="next_cursor of the page before")] = None,
        limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT,
    ) -> Response:
        wanted = TwinFilter(kind, status, customer_id, sku, location, finding, cursor)
        return _page(await service.store.rows(wanted, limit + 1), limit)

    return page


def _page(found: Sequence[TwinRow], limit: int) -> Response:
    """*found*: one more than the limit where there are more."""
    more = str(found[limit - 1].ref) if len(found) > limit else None
    return _json({"twins": [_row(row) for row in found[:limit]], "next_cursor": more})


def _kinds_from(after: TwinRef | None) -> Iterable[Kind]:
    return Kind if after is None else dropwhile(lambda kind: kind is not after.kind, Kind)


def _exceptions(service: Service) -> Callable[..., Awaitable[Response]]:
    async def exceptions(
        kind: Annotated[Kind | None, Query(description="of these alone; else of all, orders first")] = None,
        finding: Annotated[
            str | None, Query(description="code of a finding, such as dispatch-missing; otherwise any")
        ] = None,
        cursor: Annotated[str | None, Query(description="next_cursor of the page before")] = None,
        limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT,
    ) -> Response:
        """Twins with something to be looked at, whether its time has passed or not."""
        after = twin_ref(cursor) if cursor is not None else None
        found: list[TwinRow] = []
        for one in _kinds_from(after):
            if kind not in (None, one):
                continue
            since = cursor if after is not None and after.kind is one else None
            wanted = TwinFilter(one, finding=finding or "", after=since)
            found += await service.store.rows(wanted, limit + 1 - len(found))
            if len(found) > limit:
                break
        return _page(found, limit)

    return exceptions


def _gaps(service: Service) -> Callable[..., Awaitable[Response]]:
    async def gaps() -> Response:
        """Numbers that sources have left out, since when, how often they were asked for them.

        Those that were told and refused are named by their dead letters.
        """
        watched = {watch.gap.place: watch for watch in await service.gaps.watches()}
        refused = await service.dead_letters.letters(LetterFilter(numbered=True), NUMBERED_LETTERS_MAX)
        found = await service.gaps.find_gaps()
        return _json({"gaps": [_gap(gap, watched.get(gap.place), refused) for gap in found]})

    return gaps


def _gap(gap: Gap, watch: Watch | None, refused: Sequence[Letter]) -> dict[str, Any]:
    return {
        "source": gap.source,
        "first": gap.first,
        "last": gap.last,
        "missing": gap.missing,
        "since": gap.since,
        "asked_at": watch.asked_at if watch is not None else None,
        "times_asked": watch.times if watch is not None else 0,
        "dead_letters": [
            letter.number
            for letter in refused
            if letter.source == gap.source and gap.first <= (letter.sequence or 0) <= gap.last
        ],
    }


def _row(row: TwinRow) -> dict[str, Any]:
    return {
        "twin": str(row.ref),
        "status": row.status,
        "version": row.version,
        "customer_id": row.customer_id,
        "sku": row.sku,
        "location": row.location,
        "findings": row.findings,
        "changed_at": row.changed_at,
    }


# --- the way in ------------------------------------------------------------------------------------------


def _events(service: Service) -> APIRouter:
    router = APIRouter(tags=["events"])

    @router.post("/v1/events")
    async def post_events(request: Request) -> Response:
        """One CloudEvent (structured or binary) or a batch. Nothing is stored unless all of it is right."""
        return await _publish(service, await _events_in(request))

    @router.post("/v1/twins:simulate")
    async def simulate(request: Request) -> Response:
        """What these events would make of the twins: states, postings and findings. Nothing is stored."""
        outcomes = await service.inquiry.what_if(await _events_in(request))
        return _json({"twins": [_outcome(one) for one in outcomes]})

    return router


async def _events_in(request: Request) -> list[Event]:
    body, content_type = await request.body(), request.headers.get("content-type", "")
    if content_type.startswith(BATCH):
        return [_member(index, one) for index, one in enumerate(parse_batch(body))]
    return [parse(body, _attributes(request), content_type)]


def _attributes(request: Request) -> dict[str, str]:
    """Headers; those of CloudEvents are percent-encoded (HTTP binding 1.0.2, 3.1.3.2)."""
    return {
        name: _plain(name, value) if name.startswith(HEADER_PREFIX) else value
        for name, value in request.headers.items()
    }


def _plain(name: str, value: str) -> str:
    try:
        return unquote(value, errors="strict")
    except UnicodeDecodeError:
        raise RejectedMessage("not UTF-8", field=name.removeprefix(HEADER_PREFIX)) from None


def _outcome(one: Outcome) -> dict[str, Any]:
    return {
        "twin": str(one.ref),
        "status": one.status,
        "changes": [change._asdict() for change in one.changes],
        "findings": list(one.findings),
        "postings": [
            {
                "action": command.action.value,
                "key": command.key,
                "version": command.version,
                "content": command.posting,
            }
            for command in one.commands
        ],
    }


def _member(index: int, attributes: Any) -> Any:
    try:
        event = from_attributes(attributes)
        if (size := len(event.data_json())) > BODY_BYTES_MAX:
            raise RejectedMessage(f"{size} bytes; at most {BODY_BYTES_MAX}", field="data")
        return event
    except RejectedMessage as rejected:
        field = f"{index}.{rejected.field}" if rejected.field else str(index)
        raise RejectedMessage(rejected.reason, field=field) from None


async def _publish(
    service: Service, events: Sequence[Event], replies: Mapping[str, Any] | None = None
) -> Response:
    """*replies* go into the answer."""
    latest = service.latest()
    for event in events:
        check_not_ahead(event, latest)
        check_places(event)
    messages = [Publication(event.structured()) for event in events]
    told = {"accepted": len(messages), **(replies or {})}
    if not messages:
        return _json(told)
    if service.publishes_later:
        await service.publisher.publish(messages)
        return _json(told, 202)
    verdicts = await service.intake.take(messages)
    return _json(told | {"arrivals": [_arrival(one) for one in verdicts]})


def _arrival(verdict: Verdict) -> str:
    if isinstance(verdict, Rejected):
        raise Problem(422, "Message refused", verdict.reason, field=verdict.field)
    return verdict.arrival.value


def _webhooks(service: Service, keys: Keys) -> APIRouter:
    router = APIRouter(tags=["webhooks"])

    @router.post("/v1/webhooks/{adapter}/{connection}")
    async def post_webhook(adapter: str, connection: str, request: Request) -> Response:
        """A partner's payload as it comes. Signed, where a secret is configured; else with an API key."""
        translate = service.translators.get(adapter)
        if translate is None:
            known = ", ".join(sorted(service.translators))
            raise Problem(404, "No such adapter", f"{adapter!r} is not one of {known}")
        body = await request.body()
        secret = service.webhook_secrets.get(f"{adapter}/{connection}")
        if secret is None:
            await keys(
                request, request.headers.get("authorization", ""), request.headers.get("x-api-key", "")
            )
        else:
            _check_signature(service, adapter, request, body, secret)
        inbound, party = Inbound(body, dict(request.headers)), service.connection(adapter, connection)
        try:
            translation = translate(inbound, party)
        except RejectedMessage as rejected:
            raise _refusal(service, adapter, inbound, party, rejected) from None
        replies = {"acknowledgements": [_text(one) for one in translation.acknowledgements]}
        return await _publish(service, translation.events, replies if translation.acknowledgements else {})

    return router


def _refusal(
    service: Service, adapter: str, inbound: Inbound, party: Connection, rejected: RejectedMessage
) -> Problem:
    """The problem document, with the reply in the partner's own format where that has one."""
    acknowledge = service.refusals.get(adapter)
    answer = None if acknowledge is None else acknowledge(inbound, party)
    more = {} if answer is None else {"acknowledgements": [_text(answer)]}
    return Problem(422, "Message refused", rejected.reason, field=rejected.field, **more)


def _text(reply: bytes) -> str:
    return reply.decode("utf-8", "replace")


def _check_signature(service: Service, adapter: str, request: Request, body: bytes, secret: str) -> None:
    header, verify = service.signatures[adapter]
    if not verify(body, request.headers.get(header, ""), secret):
        raise Problem(401, "Signature wrong", f"{header} does not sign this body with the secret we share")


def _json(content: Any, status: int = 200) -> Response:
    return Response(to_json(content), status, media_type=JSON)
