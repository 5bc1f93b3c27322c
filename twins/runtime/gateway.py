"""The way out: one gateway an ERP instance, telling it each command once, in an order that it can take."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from itertools import chain
from random import random
from time import monotonic
from typing import Any

import structlog

from canonical.envelope import Event
from canonical.errors import REASON_LENGTH_MAX, Fenced, TransientFailure, readable
from canonical.facts.base import Fact
from canonical.facts.erp import PostingAnnulled, PostingConfirmed, PostingRejected
from canonical.identity import TwinRef
from canonical.postings import Action
from twins.core.breaker import Circuit
from twins.core.dispatch import Dispatch, QueuedCommand, Statuses, decide, in_turn, reversed_first
from twins.core.ledger import Status
from twins.outage import Outage, is_cancelled
from twins.ports import (
    Answer,
    Clock,
    CommandQueue,
    Confirmed,
    ErpConnector,
    Refused,
    Rejected,
    Taken,
    Verdict,
)
from twins.runtime.line import ErpLine, Pace, Withheld

_log = structlog.get_logger()

Reply = Callable[[Sequence[Event]], Awaitable[Sequence[Verdict]]]
ClosedThrough = Callable[[str], Awaitable[date | None]]
IsPaused = Callable[[], Awaitable[bool]]

SETTLE_WITHIN_S = 1.0
"""How long answers are waited for to be committed: others go on while a host is away."""
UNHEARD_MAX = 500
"""What twins of one host are told at once; while so much waits, the ERP is told nothing more for them."""
UNHEARD_REST_S = 30.0
"""Until a twin is told once more that a command was annulled, where it could not be told."""
AHEAD = 4
"""Commands that are marked as sent for each slot: a slot that comes free has its next command at once."""
_OPEN = {Action.POST: Status.QUEUED, Action.REVERSE: Status.REVERSING}
_CIRCUITS = tuple(Circuit)


@dataclass(slots=True)
class GatewayCounts:
    """Totals since the gateway started."""

    confirmed: int = 0
    rejected: int = 0
    annulled: int = 0
    retried: int = 0
    withheld: int = 0
    """Commands that the open circuit kept from being told."""
    paused: int = 0
    waiting: int = 0
    """Commands of the window that wait for another document."""
    flying: int = 0
    """Commands that are marked as sent, and have no answer that is committed."""
    resting: int = 0
    """Commands that are not taken up again yet."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of telling a command: an answer, or the trouble there was."""

    one: QueuedCommand
    answer: Answer | None = None
    trouble: str | None = None


@dataclass(frozen=True, slots=True)
class _Word:
    """An event for the twin that owns a posting; once it is committed, these commands are finished."""

    event: Event
    numbers: tuple[int, ...]
    outcome: _Outcome | None
    """None: they were annulled."""


class Gateway:
    """Fills its slots with the next best commands, and commits answers as they come, those of one moment
    together. A command stays in the queue until its answer is committed with the twin that owns it.
    """

    def __init__(
        self,
        erp: str,
        queue: CommandQueue,
        connector: ErpConnector | ErpLine,
        clock: Clock,
        reply: Reply,
        *,
        name: str | None = None,
        pace: Pace | None = None,
        window: int = 500,
        closed_through: ClosedThrough | None = None,
        is_paused: IsPaused | None = None,
        moment: Callable[[], float] = monotonic,
        draw: Callable[[], float] = random,
        inherit_after_s: float = 0.0,
        host_of: Callable[[TwinRef], str] = lambda owner: "",
    ) -> None:
        """*inherit_after_s*: how long the ERP may still be at work on what a predecessor told it. Looked up
        any sooner, a command may not be there yet, and be told a second time.

        *reply* commits the ERP's answers with the twins that own the postings; one verdict each. *host_of*:
        twins that are committed together, so that one host which is away keeps nobody else's waiting.

        *connector* may be a line that another gateway to the same ERP uses too, under another *name*; its
        pace is theirs then. *closed_through* tells the last closed day of a company's books. *moment*:
        seconds on a clock that only goes forward; *draw*: evenly from 0 to 1.
        """
        if not isinstance(connector, ErpLine):
            connector = ErpLine(erp, connector, pace or Pace(), moment)
        self.line, pace = connector, connector.pace
        self.erp = erp
        self.counts = GatewayCounts()
        self._queue = queue
        self._clock = clock
        self._reply = reply
        self._slots = asyncio.Semaphore(pace.concurrency)
        self._capacity = pace.concurrency * AHEAD
        self._backoff = pace.backoff
        self._budget = pace.retries
        self._window = window
        self._closed_through = closed_through
        self._is_paused = is_paused
        self._moment = moment
        self._draw = draw
        self._awake = asyncio.Event()
        self._name = name or gateway_name(erp)
        self._inherit_after_s = inherit_after_s
        self._epoch = 0
        self._claimed_at = 0.0
        self._launched = 0
        self._marked: set[int] = set()
        """Commands that this incarnation has marked as sent; the others that are, a predecessor has told."""
        self._flying: dict[int, asyncio.Task[None]] = {}
        self._outcomes: list[_Outcome] = []
        self._words: list[_Word] = []
        """What the twins are to hear next, or again."""
        self._telling: dict[str, list[_Word]] = {}
        """By host: what its twins are being told."""
        self._settling: dict[str, asyncio.Task[int]] = {}
        self._away: dict[str, Exception] = {}
        """Hosts that have not committed what their twins were told last, and why."""
        self._host_of = host_of
        self._resting: dict[int, float] = {}
        """Commands that failed here → when they may be taken up again."""
        self._asked: set[int] = set()
        """Commands that were taken without an answer: it will come as an event."""

    async def nudge(self) -> None:
        self._awake.set()

    def figures(self) -> dict[str, float]:
        counts = asdict(self.counts) | {"flying": len(self._flying), "resting": len(self._resting)}
        now = {"circuit": _CIRCUITS.index(self.line.circuit), "retries_left": self._budget.left}
        return counts | asdict(self.line.counts) | now

    # --- the loop

    async def run(self, poll: timedelta = timedelta(milliseconds=500)) -> None:
        """Work until cancelled; *poll*: how long to sleep when nobody nudges.

        Raises: Fenced where a newer incarnation has taken over; it tells nothing more then.
        """
        outage = Outage("gateway", erp=self.erp)
        try:
            while True:
                self._awake.clear()
                await self._step_safely(outage)
                with suppress(TimeoutError):
                    async with asyncio.timeout(poll.total_seconds()):
                        await self._awake.wait()
        finally:
            for task in (*self._flying.values(), *self._settling.values()):
                task.cancel()

    async def _step_safely(self, outage: Outage) -> None:
        try:
            await self.step()
            outage.ended()
        except TransientFailure as error:
            outage.failed(error)
        except Fenced:
            raise
        except Exception:  # noqa: BLE001 - top of the loop
            _log.exception("gateway_broke", erp=self.erp)

    async def work(self) -> int:
        """One round: tell what may be told now, wait for all answers and commit them. Raises: Fenced.

        Answers how many commands were finished.
        """
        finished = await self.step()
        if self._flying:
            await asyncio.wait(self._flying.values())
        finished += await self._commit(within_s=None)
        self._check_away()
        return finished

    async def step(self) -> int:
        """Commit the answers that are there, and fill the slots. Answers how many commands were finished.

        Raises: TransientFailure for a host that is away, having done all else.
        """
        if not self._epoch:
            self._epoch = await self._queue.claim(self._name)
            self._claimed_at = self._moment()
        finished = await self._commit()
        self.counts.paused = int(self._is_paused is not None and await self._is_paused())
        if not self.counts.paused and len(self._flying) <= self._capacity // 2:
            finished += await self._fill()
        self._check_away()
        return finished

    def _check_away(self) -> None:
        """Raises: what keeps a host from committing what still waits for it."""
        waits = {self._host_of(word.event.subject) for word in self._unheard()}
        self._away = {host: failure for host, failure in self._away.items() if host in waits}
        for failure in self._away.values():
            raise failure

    # --- which are next

    async def _fill(self) -> int:
        decided = await self._decided()
        finished = await self._annul(decided)
        if finished:
            self._awake.set()
        await self._launch(in_turn(self._free(decided), self._room(), self._launched))
        return finished

    async def _decided(self) -> Dispatch:
        """Look at a window of the queue; at a wider one, where all of it has to wait."""
        limit = self._window
        while True:
            queue = await self._queue.queued(self.erp, limit)
            statuses = await self._statuses(queue)
            decided = decide(await self._unanswered(queue, statuses), statuses)
            self.counts.waiting = len(decided.wait)
            if len(queue) < limit or self._annulled(decided) or decided.drop or self._free(decided):
                return decided
            limit *= 2

    async def _statuses(self, queue: Sequence[QueuedCommand]) -> Statuses:
        keys = {one.command.key for one in queue}
        keys |= {key for one in queue for key in one.command.posting.requires}
        statuses = await self._queue.statuses(keys) if keys else {}
        for prefix in {reversed_first(one.command) for one in queue} - {None}:
            statuses |= await self._queue.under(str(prefix))
        return statuses

    def _free(self, decided: Dispatch) -> list[QueuedCommand]:
        """Those that may be told and are not on their way; no more that failed than may be retried."""
        now = self._moment()
        self._budget = self._budget.passed(now)
        unheard = self._unheard()
        busy = self._flying.keys() | self._asked | _numbers(unheard)
        told = Counter(self._host_of(word.event.subject) for word in unheard)
        settled = now >= self._claimed_at + self._inherit_after_s
        idle = [
            one
            for one in decided.send
            if one.number not in busy
            and (settled or not one.sent or one.number in self._marked)
            and told[self._host_of(one.owner)] < UNHEARD_MAX
        ]
        again = [one for one in idle if self._resting.get(one.number, now + 1) <= now]
        fresh = [one for one in idle if one.number not in self._resting]
        return fresh + again[: int(self._budget.left)]

    def _room(self) -> int:
        free = self._capacity - len(self._flying)
        allowed = self.line.room()
        return free if allowed is None else min(free, max(0, allowed - len(self._flying)))

    async def _unanswered(self, queue: Sequence[QueuedCommand], statuses: Statuses) -> list[QueuedCommand]:
        """The queue without the commands whose answers came as events, which are finished."""
        done = {
            one.number
            for one in queue
            if one.number in self._asked
            and statuses[one.command.key, one.command.version] is not _OPEN[one.command.action]
        }
        if done:
            await self._queue.finished(self._name, self._epoch, done)
            self._asked -= done
        return [one for one in queue if one.number not in done]

    def _annulled(self, decided: Dispatch) -> list[tuple[QueuedCommand, QueuedCommand]]:
        """Pairs of which the twins are to be told now."""
        now, busy = self._moment(), _numbers(self._unheard())
        return [
            (post, reverse)
            for post, reverse in decided.annul
            if post.number not in busy and self._resting.get(post.number, now) <= now
        ]

    def _unheard(self) -> list[_Word]:
        """What no twin has taken in yet."""
        return [*self._words, *chain.from_iterable(self._telling.values())]

    async def _annul(self, decided: Dispatch) -> int:
        for post, reverse in self._annulled(decided):
            event = self._event(post, _annulled(post), "annulled")
            self._words.append(_Word(event, (post.number, reverse.number), None))
            self._awake.set()
        done = [one.number for one in decided.drop]
        if done:
            await self._queue.finished(self._name, self._epoch, done)
        return len(done)

    # --- telling

    async def _launch(self, commands: Sequence[QueuedCommand]) -> None:
        """The mark that they may reach the ERP is durable before the first is told."""
        if not commands:
            return
        numbers = [one.number for one in commands]
        marked = await self._queue.sending(self._name, self._epoch, self.erp, numbers)
        self._marked |= marked
        for one in commands:
            if one.number in marked:
                self._account(one)
                self._flying[one.number] = asyncio.create_task(self._tell(one))

    def _account(self, one: QueuedCommand) -> None:
        self._launched += 1
        if one.number in self._resting:
            self.counts.retried += 1
            self._budget = self._budget.spent() or self._budget
        else:
            self._budget = self._budget.earned()

    async def _tell(self, one: QueuedCommand) -> None:
        try:
            async with self._slots:
                if self.counts.paused:
                    raise Withheld
                date_ = await self._posting_date(one)
                answer = await self.line.ask(one.command, date_, known=one.sent)
        except Withheld:
            self.counts.withheld += 1
            del self._flying[one.number]
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            self._outcomes.append(_Outcome(one, trouble="the connection was given up while it was told"))
        except TransientFailure as error:
            self._outcomes.append(_Outcome(one, trouble=str(error)))
        except Exception as error:  # noqa: BLE001 - top of the task
            _log.exception("erp_connector_broke", erp=self.erp, key=one.command.key)
            self._outcomes.append(_Outcome(one, trouble=repr(error)))
        else:
            self._outcomes.append(_Outcome(one, answer=answer))
        finally:
            self._awake.set()

    async def _posting_date(self, one: QueuedCommand) -> date | None:
        """The first open day, where the event's own day is closed; None: the event's own day."""
        if self._closed_through is None:
            return None
        closed = await self._closed_through(one.command.posting.company)
        if closed is None or one.command.posting.event_date > closed:
            return None
        return closed + timedelta(days=1)

    # --- answers

    async def _commit(self, within_s: float | None = SETTLE_WITHIN_S) -> int:
        """Commit what has come in, together by host; what fails is committed with what comes next."""
        troubled: dict[int, _Outcome] = {}
        while self._outcomes:
            outcome = self._outcomes.pop(0)
            if outcome.answer is not None:
                try:
                    self._hear(outcome, outcome.answer)
                except ValueError as error:  # no fact can say it
                    troubled[outcome.one.number] = _Outcome(outcome.one, trouble=repr(error))
            elif outcome.trouble is not None:
                troubled[outcome.one.number] = outcome
            else:
                self._land(outcome)
        await self._stumble(troubled)
        return await self._settled(within_s)

    def _hear(self, outcome: _Outcome, answer: Answer) -> None:
        """Have the twin told of an answer."""
        self._words.append(_Word(self._answer(outcome.one, answer), (outcome.one.number,), outcome))

    async def _stumble(self, troubled: Mapping[int, _Outcome]) -> None:
        if not troubled:
            return
        reasons = {
            number: readable(outcome.trouble or "", REASON_LENGTH_MAX) for number, outcome in troubled.items()
        }
        try:
            await self._queue.stumbled(self._name, self._epoch, reasons)
        except BaseException:
            self._outcomes += troubled.values()
            raise
        for outcome in troubled.values():
            self._land(outcome)

    async def _settled(self, within_s: float | None) -> int:
        """Have each host commit what its twins are to hear, all at once; how many commands that finished.

        What one that is away does not commit is told it again. Raises: Fenced.
        """
        left: list[_Word] = []
        fresh: dict[str, list[_Word]] = {}
        for word in self._words:
            host = self._host_of(word.event.subject)
            if host in self._settling or len(fresh.get(host, ())) >= UNHEARD_MAX:
                left.append(word)
            else:
                fresh.setdefault(host, []).append(word)
        self._words = left
        self._telling |= fresh
        started = {host: asyncio.create_task(self._settle(host, some)) for host, some in fresh.items()}
        self._settling |= started
        waited = self._settling if within_s is None else started
        if waited:
            await asyncio.wait(waited.values(), timeout=within_s)
        return self._ended()

    def _ended(self) -> int:
        """See to what hosts have settled by now; how many commands that finished. Raises: Fenced."""
        finished = 0
        for host, task in list(self._settling.items()):
            if not task.done():
                continue
            del self._settling[host]
            failure = task.exception()
            if failure is None:
                self._away.pop(host, None)
                finished += task.result()
            elif isinstance(failure, Fenced) or not isinstance(failure, Exception):
                raise failure
            else:
                self._away[host] = failure
        return finished

    async def _settle(self, host: str, words: Sequence[_Word]) -> int:
        try:
            verdicts = await self._reply([word.event for word in words])
            told = list(zip(words, verdicts, strict=True))
            done = [number for word, verdict in told if isinstance(verdict, Taken) for number in word.numbers]
            if done:
                await self._queue.finished(self._name, self._epoch, done)
        except BaseException:
            self._words += words
            for word in words:  # others may be told meanwhile
                self._flying.pop(word.numbers[0], None)
            raise
        finally:
            del self._telling[host]
        self._awake.set()
        for word, verdict in told:
            if isinstance(verdict, Rejected):
                self._not_heard(word, verdict)
            elif word.outcome is None:
                self._resting.pop(word.numbers[0], None)
                self.counts.annulled += 1
            else:
                self._land(word.outcome)
        return len(done)

    def _not_heard(self, word: _Word, verdict: Rejected) -> None:
        """Its twin cannot be told, by our fault: the command stays, and is looked up once more later."""
        _log.error("erp_answer_not_taken", erp=self.erp, key=word.event.id, reason=verdict.reason)
        if word.outcome is None:
            self._resting[word.numbers[0]] = self._moment() + UNHEARD_REST_S
        else:
            trouble = f"answered, and its twin cannot be told: {verdict.reason}"
            self._outcomes.append(_Outcome(word.outcome.one, trouble=trouble))

    def _land(self, outcome: _Outcome) -> None:
        one = outcome.one
        self._flying.pop(one.number, None)
        self._resting.pop(one.number, None)
        if outcome.answer is not None:
            self._marked.discard(one.number)
        match outcome.answer:
            case Confirmed():
                self.counts.confirmed += 1
            case Refused():
                self.counts.rejected += 1
            case None if outcome.trouble is None:
                self._asked.add(one.number)
            case None:
                delay_s = self._backoff.delay_s(one.attempts + 1, self._draw())
                self._resting[one.number] = self._moment() + delay_s
                _log.info("erp_unanswered", erp=self.erp, key=one.command.key, reason=outcome.trouble)

    def _answer(self, one: QueuedCommand, answer: Answer) -> Event:
        command = one.command
        common: dict[str, Any] = {
            "posting_key": command.key,
            "version": command.version,
            "action": command.action.value,
        }
        match answer:
            case Confirmed(document=document):
                number = readable(document, REASON_LENGTH_MAX)
                return self._event(one, PostingConfirmed(document=number, **common), "confirmed")
            case Refused(reason=reason):
                said = readable(" ".join(reason.split()), REASON_LENGTH_MAX)
                refusal = PostingRejected(reason=said, again=command.again, **common)
                return self._event(one, refusal, "rejected")

    def _event(self, one: QueuedCommand, fact: Fact, outcome: str) -> Event:
        return Event(
            source=f"/erp/{self.erp}",
            id=f"{one.command.idempotency_key}/{outcome}",
            subject=one.owner,
            time=self._clock.now(),
            fact=fact,
        )


def _numbers(words: Sequence[_Word]) -> set[int]:
    """Of the commands that they finish."""
    return {number for word in words for number in word.numbers}


def gateway_name(erp: str) -> str:
    """Of the actor, and of who holds its epoch."""
    return f"gateway-{erp}"


def _annulled(post: QueuedCommand) -> PostingAnnulled:
    return PostingAnnulled(posting_key=post.command.key, version=post.command.version)
