"""The way out: one gateway an ERP instance, telling it each command once, in an order that it can take."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import structlog

from canonical.envelope import Event
from canonical.errors import Fenced, TransientFailure
from canonical.facts.base import Fact
from canonical.facts.erp import PostingAnnulled, PostingConfirmed, PostingRejected
from canonical.postings import Action
from twins.core.dispatch import Dispatch, QueuedCommand, decide, reversed_first
from twins.outage import Outage
from twins.ports import Answer, Clock, CommandQueue, Confirmed, ErpConnector, Refused

_log = structlog.get_logger()

Reply = Callable[[Sequence[Event]], Awaitable[None]]
ClosedThrough = Callable[[str], Awaitable[date | None]]


@dataclass(slots=True)
class GatewayCounts:
    """Totals since the gateway started."""

    told: int = 0
    confirmed: int = 0
    rejected: int = 0
    annulled: int = 0
    looked_up: int = 0
    unanswered: int = 0
    """Time-outs and failures after which it is not known whether the ERP took the command."""
    waiting: int = 0
    queued: int = 0


class Gateway:
    def __init__(
        self,
        erp: str,
        queue: CommandQueue,
        connector: ErpConnector,
        clock: Clock,
        reply: Reply,
        *,
        concurrency: int = 16,
        window: int = 2_000,
        closed_through: ClosedThrough | None = None,
    ) -> None:
        """*reply* commits the ERP's answers with the twins that own the postings.

        *closed_through* tells the last closed day of a company's books.
        """
        self.erp = erp
        self.counts = GatewayCounts()
        self._queue = queue
        self._connector = connector
        self._clock = clock
        self._reply = reply
        self._slots = asyncio.Semaphore(concurrency)
        self._window = window
        self._closed_through = closed_through
        self._awake = asyncio.Event()
        self._name = f"gateway-{erp}"
        self._epoch = 0
        self._asked: set[int] = set()
        """Commands that were taken without an answer: it will come as an event."""

    async def nudge(self) -> None:
        self._awake.set()

    async def run(self, poll: timedelta = timedelta(milliseconds=500)) -> None:
        """Work until cancelled; *poll*: how long to sleep when nobody nudges.

        Raises: Fenced where a newer incarnation has taken over.
        """
        outage = Outage("gateway", erp=self.erp)
        while True:
            self._awake.clear()
            try:
                done = await self.work()
                outage.ended()
            except TransientFailure as error:
                outage.failed(error)
                done = 0
            except Fenced:
                raise
            except Exception:  # noqa: BLE001 - top of the loop
                _log.exception("gateway_broke", erp=self.erp)
                done = 0
            if not done:
                try:
                    await asyncio.wait_for(self._awake.wait(), poll.total_seconds())
                except TimeoutError:
                    continue

    async def work(self) -> int:
        """One round over the queue. Answers how many commands it finished. Raises: Fenced."""
        if not self._epoch:
            self._epoch = await self._queue.claim(self._name)
        queue = await self._queue.queued(self.erp, self._window)
        await self._forget_answered(queue)
        decided = decide(queue, await self._statuses(queue)) if queue else Dispatch()
        self.counts.queued, self.counts.waiting = len(queue), len(decided.wait)
        finished = await self._annul(decided)
        finished += await self._send([one for one in decided.send if one.number not in self._asked])
        return finished

    async def _statuses(self, queue: Sequence[QueuedCommand]):  # type: ignore[no-untyped-def]
        keys = {one.command.key for one in queue}
        keys |= {key for one in queue for key in one.command.posting.requires}
        statuses = await self._queue.statuses(keys)
        for one in queue:
            prefix = reversed_first(one.command)
            if prefix is not None:
                statuses |= await self._queue.under(prefix)
        return statuses

    async def _annul(self, decided: Dispatch) -> int:
        pairs = decided.annul
        replies = [_reply(self, post, _annulled(post), "annulled") for post, _ in pairs]
        dropped = [one.number for one in decided.drop]
        if replies:
            await self._reply(replies)
        done = [one.number for pair in pairs for one in pair] + dropped
        if done:
            await self._queue.finished(self._name, self._epoch, done)
        self.counts.annulled += len(pairs)
        return len(done)

    async def _send(self, commands: Sequence[QueuedCommand]) -> int:
        """Tell the ERP; the mark that they may have reached it is durable before the first is told."""
        if not commands:
            return 0
        await self._queue.sending(self._name, self._epoch, [one.number for one in commands])
        answers = await asyncio.gather(*(self._tell(one) for one in commands))
        known = [(one, answer) for one, answer in zip(commands, answers, strict=True) if answer is not None]
        if not known:
            return 0
        await self._reply([self._answer(one, answer) for one, answer in known])
        await self._queue.finished(self._name, self._epoch, [one.number for one, _ in known])
        return len(known)

    async def _tell(self, one: QueuedCommand) -> Answer | None:
        """An answer, or None where it will come later, or another round must ask again."""
        async with self._slots:
            try:
                if one.sent:
                    self.counts.looked_up += 1
                    found = await self._connector.look_up(one.command.idempotency_key)
                    if found is not None:
                        return found
                self.counts.told += 1
                answer = await self._connector.tell(one.command, posting_date=await self._posting_date(one))
            except TransientFailure as error:
                self.counts.unanswered += 1
                _log.info("erp_unanswered", erp=self.erp, key=one.command.key, reason=str(error))
                return None
        if answer is None:
            self._asked.add(one.number)
        return answer

    async def _posting_date(self, one: QueuedCommand) -> date | None:
        """The first open day, where the event's own day is closed; None: the event's own day."""
        if self._closed_through is None:
            return None
        closed = await self._closed_through(one.command.posting.company)
        if closed is None or one.command.posting.event_date > closed:
            return None
        return closed + timedelta(days=1)

    def _answer(self, one: QueuedCommand, answer: Answer) -> Event:
        command = one.command
        common = {"posting_key": command.key, "version": command.version, "action": command.action.value}
        fact: Fact
        match answer:
            case Confirmed(document=document):
                self.counts.confirmed += 1
                fact, outcome = PostingConfirmed(document=document, **common), "confirmed"
            case Refused(reason=reason):
                self.counts.rejected += 1
                fact, outcome = PostingRejected(reason=reason, **common), "rejected"
        return _reply(self, one, fact, outcome)

    async def _forget_answered(self, queue: Sequence[QueuedCommand]) -> None:
        """Finish commands whose answers came as events."""
        asked = [one for one in queue if one.number in self._asked]
        if not asked:
            return
        statuses = await self._queue.statuses({one.command.key for one in asked})
        open_status = {Action.POST: ("queued",), Action.REVERSE: ("reversing",)}
        done = [
            one.number
            for one in asked
            if statuses[one.command.key, one.command.version] not in open_status[one.command.action]
        ]
        await self._queue.finished(self._name, self._epoch, done)
        self._asked -= set(done)


def _annulled(post: QueuedCommand) -> PostingAnnulled:
    return PostingAnnulled(posting_key=post.command.key, version=post.command.version)


def _reply(gateway: Gateway, one: QueuedCommand, fact: Fact, outcome: str) -> Event:
    return Event(
        source=f"/erp/{gateway.erp}",
        id=f"{one.command.idempotency_key}/{outcome}",
        subject=one.owner,
        time=gateway._clock.now(),
        fact=fact,
    )
