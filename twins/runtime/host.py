"""A host: the actor in which twins live. A plain class; Ray appears in `twins.runtime.cluster` alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import chain, takewhile
from time import monotonic, monotonic_ns
from typing import Any

import structlog
from pydantic_core import to_json

from canonical.envelope import Event, check_not_ahead, check_places, parse
from canonical.errors import Elsewhere, Fenced, Moving, RejectedMessage, TransientFailure
from canonical.identity import TwinRef
from twins.core.batch import Batch, Effects
from twins.core.contributions import Contribution
from twins.core.history import Arrival
from twins.core.placement import UNPLACED, Placement, is_dedicated
from twins.core.portions import Portions
from twins.core.rules import Policy
from twins.core.twin import Snapshot, Twin
from twins.outage import Outage
from twins.ports import Archived, Clock, Closed, Fault, Publication, Rejected, Taken, TwinStore, Verdict
from twins.runtime.gathering import Call, Gathering, answer
from twins.runtime.known import Known, digest
from twins.runtime.stamps import RENEW_S, TRUST_S, Board
from twins.runtime.turn import Turn

_log = structlog.get_logger()

DUE_LIMIT = 500
"""Deadlines looked at in one sweep."""
ARCHIVE_AT_ONCE = 25
"""Closed twins looked at in one turn: events wait while they are archived, about a millisecond for each."""
ARCHIVE_TURNS = 8
"""In one sweep."""
CROWD = 25
"""Others that one twin answers in a batch: ten milliseconds or so, until it is committed."""
CROWD_SHARE = 0.25
"""Of a host's time that telling a crowd may take while others come."""
RAISED_AT_ONCE = 10
"""Twins whose passed deadlines are logged before others have their turn: a tenth of a millisecond a line."""
AHEAD = 300
"""Changed twins that wait for a commit to begin, after which no more is folded ahead of it: they are written
together, and what comes next waits for that."""
LINGER_S, LINGER_TWINS = 0.05, 60
"""How long, and up to how many changed twins, what may wait lingers for a commit that others make it share: a
commit of its own would keep theirs waiting, and costs as much as writing some twenty twins."""
GIVES_WAY_LOOK_S = 0.005
"""How often a portion that waits looks whether others are late still."""
WAITING_MAX = 256
"""Who asks for news while so many wait for some is answered at once: others' calls are to find a place."""
DRAINED_S = 15.0
_TAKEN: Mapping[Arrival, Verdict] = {arrival: Taken(arrival) for arrival in Arrival}
"""One object for each: an answer to five hundred messages is pickled as one."""
_DUPLICATE = _TAKEN[Arrival.DUPLICATE]


class Aspect(StrEnum):
    """What a reader wants to know of a twin."""

    DOCUMENT = "document"
    POSTINGS = "postings"


@dataclass(frozen=True, slots=True)
class Residency:
    """How long and how many twins stay in memory."""

    twins_max: int = 100_000
    idle_s: float = 900.0


@dataclass(slots=True)
class HostCounts:
    """Totals since the host started."""

    events: int = 0
    duplicates: int = 0
    late: int = 0
    conflicts: int = 0
    elsewhere: int = 0
    rejected: int = 0
    batches: int = 0
    commits: int = 0
    commands: int = 0
    reversals: int = 0
    activations: int = 0
    passivations: int = 0
    deadlines: int = 0
    archived_twins: int = 0
    archived_events: int = 0
    archived_bytes: int = 0
    commit_s: float = 0.0
    fold_s: float = 0.0


@dataclass(slots=True)
class _Resident(Twin):
    """A twin in memory, what readers see of it, and when it was last of use."""

    shown: Snapshot | None = None
    """As it was last committed; None: it has only just been loaded."""
    used: float = 0.0
    encoded: dict[Aspect, bytes] | None = None
    """JSON of what is shown."""

    def show(self, snapshot: Snapshot, now: float) -> None:
        self.shown, self.used, self.encoded = snapshot, now, None

    def told(self, aspect: Aspect) -> tuple[int, bytes] | None:
        """Version and JSON of what is shown, made once a version however often it is read."""
        if self.shown is None or not self.shown.exists:
            return None
        self.encoded = self.encoded or {}
        if aspect not in self.encoded:
            self.encoded[aspect] = _encoded(self.shown, aspect)
        return self.shown.version, self.encoded[aspect]


@dataclass(frozen=True, slots=True, eq=False)
class _Folded:
    """A batch that is folded and not yet committed."""

    calls: list[Call]
    residents: dict[TwinRef, _Resident]
    """The memory it was folded into, which is given up where a commit fails."""
    effects: Effects
    letters: list[Contribution]
    placement: Placement
    arrivals: list[Arrival]
    shown: dict[TwinRef, Snapshot]
    """What readers will see of it once it is committed."""
    seconds: float
    may_wait: bool
    committed: asyncio.Future[None]

    @property
    def alone(self) -> bool:
        return self.calls[0].alone


Nudge = Callable[[], Awaitable[None]]
Post = Callable[[Sequence[Contribution]], Awaitable[None]]


class TwinHost:
    """Takes batches for its twins, one after the other: those that the placement names it for. All calls that
    wait by then are one batch.

    Nothing is shown to a reader, handed to another host or acknowledged before it is committed. While one
    batch is being committed the next are folded on top of it, to be committed together, and only if it was.
    Where it learns of another placement it forgets the twins that are another's, and goes by the new one.
    """

    def __init__(
        self,
        name: str,
        store: TwinStore,
        clock: Clock,
        policy: Policy,
        *,
        placement: Placement = UNPLACED,
        residency: Residency | None = None,
        ahead_max: timedelta | None = None,
        on_commands: Nudge | None = None,
        post: Post | None = None,
        archive_after: timedelta | None = None,
        board: Board | None = None,
        latency_target: timedelta | None = None,
        boards: bool | None = None,
        crowd: int = CROWD,
    ) -> None:
        """*placement* holds until the store has been asked.

        *ahead_max*: how far ahead of our clock a message may be dated, None: as far as it likes.

        *on_commands* wakes the gateway; *post* carries mail to other hosts. *archive_after*: how long a
        closed twin must have rested before its events are archived; None: never. *board* tells readers on
        this machine what has changed. *latency_target*: how soon what may not wait is to be committed,
        whatever else comes; None: as `Portions` has it. *boards*: whether other hosts have a board, None: as
        this one has. *crowd*: others of this host that one twin answers at once; the rest hear it by mail,
        so many at a time.
        """
        self.name = name
        self.counts = HostCounts()
        self._store = store
        self._clock = clock
        self._policy = policy
        self._placement = placement
        self._is_placed = False
        """It has asked the store where twins live."""
        self._residency = residency or Residency()
        self._ahead_max = ahead_max
        self._on_commands = on_commands
        self._post = post
        self._archive_after = archive_after
        self._board = board
        self._known = Known()
        if board is not None:
            board.go_by(placement.version)
        self._boards = board is not None if boards is None else boards
        self._placement_before: Placement | None = placement
        """None: any twin may have been another's."""
        self._trusted_elsewhere_until = 0.0
        """Until then, readers may trust boards of hosts that had these twins."""
        self._archived_up_to: Closed | None = None
        """Where the last look ended, unless it came to the end."""
        self._swept_up_to: Contribution | None = None
        """The same for mail."""
        self._epoch = 0
        self._unsure: set[TwinRef] = set()
        """Twins of commits that failed, of which it is not known whether the database goes on with them."""
        self._turn = Turn()
        self._gathering = Gathering(self._turn, self._begin)
        self._portions = Portions() if latency_target is None else Portions(latency_target.total_seconds())
        self._uncommitted: list[_Folded] = []
        """In the order in which they were folded."""
        self._underway = 0
        """How many of these are being committed: the first."""
        self._committing: asyncio.Task[None] | None = None
        self._hurries = False
        """Of what is not being committed yet, something is not to linger."""
        self._lingering: asyncio.TimerHandle | None = None
        self._twins: dict[TwinRef, _Resident] = {}
        """Those that were idle longest come first."""
        self._drained_until = 0.0
        self._errands: set[asyncio.Task[None]] = set()
        self._crowd = crowd
        self._waiting: dict[TwinRef, set[asyncio.Future[None]]] = {}
        """Who waits for news of a twin."""
        self._telling: asyncio.Task[None] | None = None
        """Mail of its own on its way to a crowd."""

    # --- taking

    async def take(self, messages: Sequence[Publication], *, may_wait: bool = False) -> list[Verdict]:
        """Commit a batch of messages. Shape: one verdict a message, in order.

        *may_wait*: all else goes first, and in between: they are folded portion by portion.
        Raises: TransientFailure where the database is away; Fenced where a newer incarnation has taken over.
        """
        if not may_wait:
            return await self._take_at_once(messages)
        portions: list[asyncio.Task[list[Verdict]]] = []
        first = 0
        while first < len(messages) and not any(map(_has_failed, portions)):
            await self._give_way()
            size, had_turn = self._portions.size(len(messages) - first, monotonic()), asyncio.Event()
            portion = self._take_portion(messages[first : first + size], had_turn)
            portions.append(asyncio.create_task(portion))
            first += size
            await had_turn.wait()
        return list(chain.from_iterable(await asyncio.gather(*portions)))

    async def _take_at_once(self, messages: Sequence[Publication]) -> list[Verdict]:
        began = monotonic()
        self._portions.others_begin(began)
        try:
            return await self._take_messages(messages)
        finally:
            self._portions.others_end(began, monotonic(), len(messages))

    async def _give_way(self) -> None:
        since = monotonic()
        while self._portions.gives_way(monotonic(), since):  # noqa: ASYNC110 - it is a matter of time
            await asyncio.sleep(GIVES_WAY_LOOK_S)

    async def _take_portion(self, messages: Sequence[Publication], had_turn: asyncio.Event) -> list[Verdict]:
        try:
            return await self._take_messages(messages, had_turn)
        finally:
            had_turn.set()

    async def _take_messages(
        self, messages: Sequence[Publication], had_turn: asyncio.Event | None = None
    ) -> list[Verdict]:
        """*had_turn*: they may wait, and it is set once they are folded."""
        digests = [digest(message) for message in messages]
        latest = None if self._ahead_max is None else self._clock.now() + self._ahead_max
        parsed = [
            _DUPLICATE if known in self._known else _parsed(message, latest)
            for message, known in zip(messages, digests, strict=True)
        ]
        events = [one for one in parsed if isinstance(one, Event)]
        arrivals = iter(await self._take(events, had_turn, messages=len(messages)))
        verdicts = [next(arrivals) if isinstance(one, Event) else one for one in parsed]
        self._known.add(one for one, verdict in zip(digests, verdicts, strict=True) if _is_taken(verdict))
        self.counts.duplicates += sum(one is _DUPLICATE for one in parsed)
        self.counts.rejected += sum(isinstance(one, Rejected) for one in parsed)
        return verdicts

    async def take_events(self, events: Sequence[Event]) -> list[Verdict]:
        """The same for events that are parsed already, such as an ERP's replies."""
        return list(await self._take(list(events)))

    async def absorb(self, contributions: Sequence[Contribution]) -> None:
        """Take in what twins of other hosts maintain here. Raises: Elsewhere, having taken none of it."""
        if contributions:
            await self._hear(contributions)

    async def _hear(self, letters: Sequence[Contribution], *, may_wait: bool = False) -> None:
        """After some failed by our fault: take in the others. What is not taken in stays in the mail."""
        try:
            await self._gathering.take((), letters, may_wait=may_wait)
        except (TransientFailure, Fenced):
            raise
        except Exception:  # noqa: BLE001 - top of the loop
            _log.exception("mail_failed", host=self.name, letters=len(letters), target=str(letters[0].target))
            if len(letters) > 1:
                middle = len(letters) // 2
                await self._hear(letters[:middle], may_wait=may_wait)
                await self._hear(letters[middle:], may_wait=may_wait)

    async def _take(
        self, events: list[Event], had_turn: asyncio.Event | None = None, *, messages: int = 0
    ) -> list[Verdict]:
        if not events:
            return []
        try:
            arrivals = await self._gathering.take(events, had_turn=had_turn, messages=messages)
            return [_TAKEN[arrival] for arrival in arrivals]
        except (TransientFailure, Fenced):
            raise
        except Exception:  # noqa: BLE001 - top of the loop
            _log.exception("batch_failed", host=self.name, events=len(events))
            return [await self._take_alone(event) for event in events]

    async def _take_alone(self, event: Event) -> Verdict:
        """After a batch failed by our fault: keep the others, put the culprit among the dead letters."""
        try:
            (arrival,) = await self._gathering.take([event], alone=True)
            return _TAKEN[arrival]
        except (TransientFailure, Fenced):
            raise
        except Exception as error:  # noqa: BLE001 - top of the loop
            _log.exception("event_failed", host=self.name, event_id=event.event_id, twin=str(event.subject))
            return Rejected(f"twinsync failed on it: {error!r}", fault=Fault.TWINSYNC)

    async def drain(self) -> None:
        """Returns when all that was taken is committed. From then on it takes nothing and raises Moving.

        But for a while only: whoever meant to move it may have died.
        """
        await asyncio.sleep(0)  # who has called by now is in the queue before this
        async with self._turn.mine():
            await self._rest()
            self._drained_until = monotonic() + DRAINED_S
            if self._board is not None:
                self._board.distrust()

    @property
    def _is_drained(self) -> bool:
        return monotonic() < self._drained_until

    async def _begin(self, calls: list[Call], may_wait: bool) -> Awaitable[None] | None:
        """Fold what is asked, to be committed with whatever else is folded by then."""
        if self._is_drained:
            raise Moving(f"{self.name} is moving to another node")
        await self._claim()
        calls = await self._surely_admitted(calls)
        if not calls:
            return None
        folded = await self._fold(calls, may_wait=may_wait)
        if folded.residents is not self._twins:
            raise self._given_up(folded)
        self._uncommitted.append(folded)
        self._passivate()
        if self._may_linger(folded):
            self._linger()
        else:
            self._hasten()
        while self._ahead > AHEAD:
            await asyncio.wait([self._uncommitted[0].committed])
        return folded.committed

    async def _surely_admitted(self, calls: list[Call]) -> list[Call]:
        """A commit that is under way may fail while it is asked who is admitted."""
        while True:
            await self._make_sure()
            calls = await self._admitted(calls)
            if not self._unsure:
                return calls

    async def _admitted(self, calls: list[Call]) -> list[Call]:
        """Those that are of this host alone. The others are told where their twins live."""
        if self._are_mine(ref for call in calls for ref in call.refs()):
            return calls
        await self._look()
        admitted: list[Call] = []
        for call in calls:
            if self._are_mine(call.refs()):
                admitted.append(call)
            else:
                self.counts.elsewhere += 1
                call.failed(Elsewhere(self._placement))
        return admitted

    async def _fold(self, calls: list[Call], *, may_wait: bool) -> _Folded:
        started, placement = monotonic(), self._placement
        events = [event for call in calls for event in call.events]
        letters = [letter for call in calls for letter in call.letters]
        if events and not may_wait:
            self._portions.others_came(started, len(events))
        residents = self._twins
        batch = Batch(residents, lambda ref: placement.host_of(ref) == self.name, self._crowd)
        loaded: set[TwinRef] = set()
        try:
            batch.deliver(events, letters)
            loaded.update(batch.missing())
            await self._activate(residents, loaded)
            loaded |= await self._complete(residents, events)
            while True:
                if missing := batch.missing():
                    loaded.update(missing)
                    await self._activate(residents, missing)
                if not batch.step():
                    break
                await asyncio.sleep(0)  # whoever only reads need not wait for all of it
            effects = batch.finish()
        except BaseException:
            await self._rest()
            self._forget()
            raise
        unchanged = {ref: residents[ref].snapshot() for ref in loaded if ref not in effects.touched}
        shown = unchanged | effects.touched
        return _Folded(
            calls,
            residents,
            effects,
            letters,
            placement,
            batch.arrivals,
            shown,
            monotonic() - started,
            may_wait,
            asyncio.get_running_loop().create_future(),
        )

    async def _complete(self, residents: dict[TwinRef, _Resident], events: list[Event]) -> set[TwinRef]:
        """Give twins that a checkpoint restored their whole history, where an event needs it.

        One that sorts before the checkpoint does, and one that may be known without being in memory.
        """
        wanted: set[TwinRef] = set()
        strange: list[Event] = []
        for event in events:
            twin = residents[event.subject]
            if twin.needs_whole_history(event):
                wanted.add(event.subject)
            elif twin.may_have_forgotten(event):
                strange.append(event)
        if strange:
            wanted |= await self._store.known(strange)
        if wanted:
            await self._rest()
            await self._activate(residents, wanted, whole=True)
        return wanted

    @property
    def _ahead(self) -> int:
        """Changed twins of batches whose commit has not begun."""
        return sum(len(one.effects.touched) for one in self._uncommitted[self._underway :])

    async def _rest(self) -> None:
        """Wait until all that is folded is committed, or given up."""
        while self._uncommitted or self._committing is not None:
            await asyncio.wait([self._hasten()])

    def _may_linger(self, folded: _Folded) -> bool:
        is_of_messages = folded.may_wait and not folded.letters
        return is_of_messages and self._ahead <= LINGER_TWINS and not self._portions.is_quiet(monotonic())

    def _linger(self) -> None:
        if self._committing is None and self._lingering is None:
            self._lingering = asyncio.get_running_loop().call_later(LINGER_S, self._hasten)

    def _hasten(self) -> asyncio.Task[None]:
        """Commit what is folded by now, once what is being committed is."""
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
        self._hurries = True
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit_all())
        return self._committing

    async def _commit_all(self) -> None:
        try:
            while self._uncommitted and self._hurries:
                group = self._next_group()
                self._underway = len(group)
                self._hurries = len(group) < len(self._uncommitted)
                await self._commit(group)
        finally:
            self._committing = None
            if self._uncommitted:
                self._linger()

    def _next_group(self) -> list[_Folded]:
        if self._uncommitted[0].alone:
            return [self._uncommitted[0]]
        return list(takewhile(lambda folded: not folded.alone, self._uncommitted))

    async def _commit(self, group: list[_Folded]) -> None:
        """Batches that were folded one upon the other, as one transaction."""
        started = monotonic()
        effects, letters = _together(group)
        try:
            if effects.touched or letters:
                await self._until_distrusted(effects.touched)
                started = monotonic()
                await self._store.commit(self.name, self._epoch, effects, letters, group[0].placement)
            self._changed(effects)
            self._committed(group, effects, monotonic() - started)
        except Elsewhere as elsewhere:
            self.counts.elsewhere += 1
            self._adopt(elsewhere.placement)
            self._not_committed(group, effects, elsewhere)
        except Exception as error:  # noqa: BLE001 - whoever called is told
            self._unsure |= effects.touched.keys()
            self._forget()
            self._not_committed(group, effects, error)
        except BaseException:
            self._unsure |= effects.touched.keys()
            self._forget()
            self._not_committed(group, effects, TransientFailure("the host has been stopped"))
            raise

    def _changed(self, effects: Effects) -> None:
        if self._board is not None:
            self._board.changed(effects.touched)

    def _committed(self, group: list[_Folded], effects: Effects, commit_s: float) -> None:
        shown: dict[TwinRef, Snapshot] = {}
        changed = sum(len(folded.effects.touched) for folded in group)
        for folded in group:
            share = len(folded.effects.touched) / max(1, changed)
            self._count(folded, commit_s * share)
            shown |= folded.shown
        self._uncommitted, self._underway = self._uncommitted[len(group) :], 0
        self.counts.commits += 1
        self._show(shown)
        self._wake(self._waiting.keys() & effects.touched.keys())
        if not self._turn.locked():
            self._passivate()
        self._errand(effects.mail.values(), bool(effects.commands))
        for folded in group:
            answer(folded.calls, folded.arrivals)
            folded.committed.set_result(None)

    def _not_committed(self, group: list[_Folded], effects: Effects, error: Exception) -> None:
        """Whatever was folded upon these is given up with them. They may have been committed all the same."""
        self._changed(effects)
        self._drop(effects.touched)
        upon = [folded for folded in self._uncommitted if folded not in group]
        self._uncommitted, self._underway = [], 0
        for folded in group:
            folded.committed.set_exception(error)
        for folded in upon:
            folded.committed.set_exception(self._given_up(folded))

    def _given_up(self, folded: _Folded) -> TransientFailure:
        """Why a batch that was folded upon one that failed is not committed."""
        self._drop(folded.effects.touched)
        if self._placement is not folded.placement:
            return Elsewhere(self._placement)
        return TransientFailure("the batch that this one was folded upon was not committed")

    def _forget(self) -> None:
        """What is in memory may be ahead of what is committed; storage knows better."""
        self._twins = {}
        self._wake(self._waiting)

    async def _claim(self) -> None:
        if not self._epoch:
            epoch = await self._store.claim(self.name)
            await self._look()
            if epoch > 1:  # readers may trust its predecessor's board
                self._inherit(None)
            self._epoch = epoch
            _log.info("host_started", host=self.name, epoch=self._epoch)

    async def _activate(
        self, residents: dict[TwinRef, _Resident], refs: Collection[TwinRef], *, whole: bool = False
    ) -> None:
        if not refs:
            return
        for ref, stored in (await self._store.load(refs, whole=whole)).items():
            twin, known = _Resident.restore(ref, self._policy, stored), residents.get(ref)
            if known is not None:  # its readers go on seeing what they saw
                twin.shown, twin.used, twin.encoded = known.shown, known.used, known.encoded
            residents[ref] = twin
        self.counts.activations += len(refs)

    async def _make_sure(self) -> None:
        """Wait for what may still be committed: it holds this host's row until it has ended.

        What was folded upon the state before would leave out what it adds.
        """
        if not self._unsure:
            return
        try:
            await self._store.commit(self.name, self._epoch, Effects(), (), self._placement)
        except Elsewhere as elsewhere:
            self._adopt(elsewhere.placement)
        if self._board is not None:
            self._board.changed(self._unsure)
        self._wake(self._waiting.keys() & self._unsure)
        self._unsure = set()

    def _count(self, folded: _Folded, commit_s: float) -> None:
        counts, effects, arrivals = self.counts, folded.effects, folded.arrivals
        counts.batches += 1
        counts.events += len(effects.events)
        counts.duplicates += arrivals.count(Arrival.DUPLICATE)
        counts.late += arrivals.count(Arrival.LATE)
        counts.conflicts += arrivals.count(Arrival.CONFLICT)
        counts.commands += len(effects.commands)
        counts.reversals += sum(command.action == "reverse" for _, command in effects.commands)
        counts.fold_s += folded.seconds
        counts.commit_s += commit_s
        if folded.may_wait and (messages := sum(call.messages for call in folded.calls)):
            self._portions.took(messages, folded.seconds + commit_s)

    def _errand(self, mail: Collection[Contribution], commands: bool) -> None:
        """Tell others, without making this batch wait; mail that is not delivered now is swept later."""
        if commands and self._on_commands is not None:
            self._run_errand(self._on_commands())
        mine, others = self._by_owner(mail)
        if mine:
            self._tell(mine)
        if others and self._post is not None:
            self._run_errand(self._post(others))

    def _by_owner(self, mail: Iterable[Contribution]) -> tuple[list[Contribution], list[Contribution]]:
        """For twins of this host, and for those of others."""
        mine: list[Contribution] = []
        others: list[Contribution] = []
        for letter in mail:
            (mine if self._is_mine(letter.target) else others).append(letter)
        return mine, others

    def _tell(self, letters: Sequence[Contribution]) -> None:
        """One crowd after the other, since a second answer may overtake the first."""
        before = self._telling

        async def tell() -> None:
            if before is not None:
                await asyncio.wait([before])
            for first in range(0, len(letters), self._crowd):
                started = monotonic()
                await self._hear(letters[first : first + self._crowd], may_wait=True)
                if not self._portions.is_quiet(monotonic()):
                    await asyncio.sleep((monotonic() - started) * (1 / CROWD_SHARE - 1))

        self._telling = self._run_errand(tell())

    def _run_errand(self, errand: Awaitable[None]) -> asyncio.Task[None]:
        async def quietly() -> None:
            try:
                await errand
            except (TransientFailure, Fenced) as error:
                _log.warning("errand_failed", host=self.name, reason=str(error))

        task = asyncio.create_task(quietly())
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)
        return task

    # --- placement

    def _is_mine(self, ref: TwinRef) -> bool:
        return self._placement.host_of(ref) == self.name

    def _are_mine(self, refs: Iterable[TwinRef]) -> bool:
        return all(map(self._is_mine, refs))

    def _check_mine(self, refs: Iterable[TwinRef]) -> None:
        if not self._are_mine(refs):
            self.counts.elsewhere += 1
            raise Elsewhere(self._placement)

    async def goes_by(self) -> Placement:
        """Where it believes twins to live, without asking anybody."""
        return self._placement

    async def look(self) -> Placement:
        """Go by the placement that holds. Answers it. Raises: TransientFailure."""
        found = await self._store.placement()
        self._is_placed = True
        if found.version > self._placement.version:
            async with self._turn.mine():
                await self._go_by(found)
        return self._placement

    async def _look(self) -> None:
        """The same in its turn."""
        found = await self._store.placement()
        self._is_placed = True
        await self._go_by(found)

    async def _go_by(self, found: Placement) -> None:
        if found.version > self._placement.version:
            await self._rest()
        if found.version > self._placement.version:  # what was being committed may have told it
            self._adopt(found)

    def _adopt(self, placement: Placement) -> None:
        """Nothing is being committed, or what is has failed.

        Where it missed a version, a twin of its own may have been another's meanwhile.
        """
        before, self._placement = self._placement, placement
        self._wake(self._waiting)
        if self._board is not None:
            self._board.go_by(placement.version)
        if placement.version == before.version + 1:
            self._twins = {ref: twin for ref, twin in self._twins.items() if self._is_mine(ref)}
            self._inherit(before)
        else:
            self._forget()
            self._inherit(None)
        _log.info("host_placed", host=self.name, version=placement.version, residents=len(self._twins))

    def _inherit(self, before: Placement | None) -> None:
        if self._boards:
            still_waits = monotonic() < self._trusted_elsewhere_until
            self._placement_before = None if still_waits else before
            self._trusted_elsewhere_until = monotonic() + TRUST_S

    async def _until_distrusted(self, refs: Iterable[TwinRef]) -> None:
        """Show nothing new of a twin while readers may trust the board of a host that had it before."""
        wait_s = self._trusted_elsewhere_until - monotonic()
        if wait_s > 0 and any(map(self._had_a_board, refs)):
            await asyncio.sleep(wait_s)

    def _had_a_board(self, ref: TwinRef) -> bool:
        if ref.kind in self._placement.dedicated:
            return False
        if self._placement_before is None:
            return True
        owner = self._placement_before.host_of(ref)
        return owner != self.name and not is_dedicated(owner)

    # --- residency

    def _show(self, snapshots: Mapping[TwinRef, Snapshot]) -> None:
        now = monotonic()
        for ref, snapshot in snapshots.items():
            if (twin := self._twins.pop(ref, None)) is not None:
                twin.show(snapshot, now)
                self._twins[ref] = twin

    def _passivate(self) -> None:
        """Drop the twins that were idle longest, while too many or too idle; storage has them.

        But none whose last change is not committed yet.
        """
        now, residency = monotonic(), self._residency
        too_many = len(self._twins) - residency.twins_max
        dropped: list[TwinRef] = []
        for ref, oldest in self._twins.items():
            if len(dropped) >= too_many and now - oldest.used <= residency.idle_s:
                break
            if not any(ref in folded.shown for folded in self._uncommitted):
                dropped.append(ref)
        self._drop(dropped)
        self.counts.passivations += len(dropped)

    def _drop(self, refs: Iterable[TwinRef]) -> None:
        for ref in refs:
            self._twins.pop(ref, None)

    def _shown(self, refs: Iterable[TwinRef]) -> dict[TwinRef, _Resident]:
        found = ((ref, self._twins.get(ref)) for ref in refs)
        return {ref: twin for ref, twin in found if twin is not None and twin.shown is not None}

    # --- reading

    async def read(self, aspect: Aspect, refs: Sequence[TwinRef]) -> list[tuple[int, bytes] | None]:
        """Version and JSON of each twin; None for one that nobody has heard of. Committed states only.

        Whoever asks for one until somebody tells of it keeps no batch waiting. Raises: Elsewhere for a twin
        of another host; TransientFailure.
        """
        if not self._is_placed or not self._are_mine(refs):
            await self.look()
            self._check_mine(refs)
        if self._may_change_unseen:
            return await self.look_up(aspect, refs)
        known = self._shown(refs)
        absent = [ref for ref in refs if ref not in known]
        if absent and (self._turn.locked() or self._uncommitted):
            absent = await self._heard_of(absent)
        if absent:
            async with self._turn.mine():
                await self._rest()
                self._check_mine(refs)
                if self._may_change_unseen:
                    return await self.look_up(aspect, refs)
                still = set(absent) - self._shown(absent).keys()
                if still:
                    await self._activate(self._twins, still)
                    self._show({ref: self._twins[ref].snapshot() for ref in still})
                known |= self._shown(absent)
                self._forget_unheard_of(still)
                self._passivate()
        return [known[ref].told(aspect) if ref in known else None for ref in refs]

    @property
    def _may_change_unseen(self) -> bool:
        """By another incarnation, or by a commit that seemed to fail: nothing is kept of what is read."""
        return not self._epoch or bool(self._unsure)

    async def news(
        self, aspect: Aspect, ref: TwinRef, known: int | None, patience_s: float
    ) -> tuple[int, bytes] | None:
        """What `read` says of it, as soon as it is of another version than *known*; the same once patience is
        gone, or where too many wait already.
        """
        until = monotonic() + patience_s
        while True:
            changed = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(ref, set()).add(changed)
            try:
                (answer,) = await self.read(aspect, [ref])
                left = until - monotonic()
                if left <= 0 or self._waiting_count > WAITING_MAX or is_news(answer, known):
                    return answer
                await asyncio.wait([changed], timeout=left)
            finally:
                self._waiting[ref].discard(changed)
                if not self._waiting[ref]:
                    del self._waiting[ref]

    @property
    def _waiting_count(self) -> int:
        return sum(map(len, self._waiting.values()))

    def _wake(self, refs: Iterable[TwinRef]) -> None:
        for ref in refs:
            for changed in self._waiting[ref]:
                if not changed.done():
                    changed.set_result(None)

    async def _heard_of(self, refs: Collection[TwinRef]) -> list[TwinRef]:
        """Those of which something is committed."""
        return [ref for ref, stored in (await self._store.load(refs)).items() if stored.version]

    async def look_up(self, aspect: Aspect, refs: Sequence[TwinRef]) -> list[tuple[int, bytes] | None]:
        """The same from storage, whoever's they are; nothing is kept."""
        found = await self._store.load(refs)
        twins = (Twin.restore(ref, self._policy, found[ref]).snapshot() for ref in refs)
        return [(twin.version, _encoded(twin, aspect)) if twin.exists else None for twin in twins]

    def _forget_unheard_of(self, refs: Collection[TwinRef]) -> None:
        self._drop(ref for ref, twin in self._shown(refs).items() if twin.shown and not twin.shown.exists)

    async def run_board(self) -> None:
        """Keep the board trusted while this host holds its epoch, until cancelled."""
        assert self._board is not None
        while True:
            await asyncio.sleep(RENEW_S)
            if not self._epoch or self._is_drained:
                continue
            since_ns = monotonic_ns()
            try:
                version = await self._store.assert_epoch(self.name, self._epoch)
                if version != self._placement.version:
                    await self.look()
                    continue
            except TransientFailure:
                continue
            except Fenced:
                return
            if not self._is_drained:
                self._board.trust(since_ns)

    def resident_twins(self) -> int:
        return len(self._twins)

    # --- timers

    async def sweep(self) -> int:
        """Raise what is overdue, resend mail, drop idle twins. Answers how many deadlines had passed.

        Raises: Fenced: one that came back after it was replaced must not go on showing what it remembers.
        """
        if self._epoch:
            await self._store.assert_epoch(self.name, self._epoch)
        await self.look()
        now = self._clock.now()
        overdue = [row.ref for row in await self._store.due(now, DUE_LIMIT) if self._is_mine(row.ref)]
        if overdue:
            await self._raise(overdue, now)
        if self._archive_after is not None:
            for _ in range(ARCHIVE_TURNS):
                if not await self._archive(now - self._archive_after):
                    break
        async with self._turn.mine():
            await self._rest()
            await self._make_sure()
            self._passivate()
        try:
            await self.look_around()
        except BaseException:
            with suppress(TransientFailure):
                await self._sweep_mail()
            raise
        await self._sweep_mail()  # last: whoever is away must keep this host from nothing
        return len(overdue)

    async def look_around(self) -> None:
        """What else is to be done in each sweep."""

    async def _sweep_mail(self) -> None:
        """Some of what waits at a time, going round: what cannot be delivered hides nothing."""
        letters = await self._store.mail(DUE_LIMIT, self._swept_up_to)
        self._swept_up_to = letters[-1] if len(letters) == DUE_LIMIT else None
        mine, others = self._by_owner(letters)
        if mine and (self._telling is None or self._telling.done()):
            self._tell(mine)
        if others and self._post is not None:
            await self._post(others)

    async def _archive(self, before: datetime) -> bool:
        """A few of the twins that closed longest ago. What is in memory of them stays as it is.

        Answers whether there may be more.
        """
        closed = await self._store.closed(before, self._archived_up_to, ARCHIVE_AT_ONCE)
        self._archived_up_to = closed[-1] if len(closed) == ARCHIVE_AT_ONCE else None
        if mine := [one.ref for one in closed if self._is_mine(one.ref)]:
            async with self._turn.mine():
                await self._claim()
                await self._rest()
                self._count_archived(await self._store.archive(self.name, self._epoch, mine, self._placement))
        return self._archived_up_to is not None

    def _count_archived(self, archived: Archived) -> None:
        self.counts.archived_twins += archived.twins
        self.counts.archived_events += archived.events
        self.counts.archived_bytes += archived.bytes

    async def _raise(self, refs: Sequence[TwinRef], now: datetime) -> None:
        """An overdue finding is logged and counted once; it stays among the twin's findings."""
        async with self._turn.mine():
            await self._claim()
            await self._rest()
            await self._make_sure()
        raised: list[TwinRef] = []
        for first in range(0, len(refs), RAISED_AT_ONCE):
            some = refs[first : first + RAISED_AT_ONCE]
            await self.read(Aspect.DOCUMENT, some)
            raised += self._log_overdue(some, now)
            await asyncio.sleep(0)
        await self._store.raised(raised, now)

    def _log_overdue(self, refs: Iterable[TwinRef], now: datetime) -> Iterable[TwinRef]:
        """Answers those that it has looked at."""
        shown = self._shown(refs)
        for ref, twin in shown.items():
            for finding in twin.shown.findings if twin.shown else ():
                if finding.due is not None and finding.due <= now:
                    self.counts.deadlines += 1
                    _log.warning("deadline_passed", twin=str(ref), code=finding.code, text=finding.text)
        return shown

    async def run_timers(self, every: timedelta) -> None:
        """Sweep until cancelled. Raises: Fenced."""
        outage = Outage("sweep", host=self.name)
        while True:
            await asyncio.sleep(every.total_seconds())
            try:
                await self.sweep()
                outage.ended()
            except TransientFailure as error:
                outage.failed(error)
            except Fenced:
                self._forget()
                raise
            except Exception:  # noqa: BLE001 - top of the loop
                _log.exception("sweep_broke", host=self.name)


def _together(group: Sequence[_Folded]) -> tuple[Effects, list[Contribution]]:
    """Effects and letters of batches that were folded one upon the other."""
    if len(group) == 1:
        return group[0].effects, group[0].letters
    effects = Effects()
    for folded in group:
        effects.add(folded.effects)
    return effects, [letter for folded in group for letter in folded.letters]


def is_news(answer: tuple[int, bytes] | None, known: int | None) -> bool:
    return answer is not None and answer[0] != known


def _has_failed(task: asyncio.Task[Any]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


def _is_taken(verdict: Verdict) -> bool:
    return isinstance(verdict, Taken)


def _parsed(message: Publication, latest: datetime | None) -> Event | Rejected:
    try:
        event = parse(message.body, message.headers, message.content_type)
        if latest is not None:
            check_not_ahead(event, latest)
        check_places(event)
        return event
    except RejectedMessage as rejected:
        return Rejected(rejected.reason, rejected.field)


def _encoded(snapshot: Snapshot, aspect: Aspect) -> bytes:
    return to_json(_aspect(snapshot, aspect))


def _aspect(snapshot: Snapshot, aspect: Aspect) -> Any:
    match aspect:
        case Aspect.DOCUMENT:
            return snapshot.document() | {"version": snapshot.version}
        case Aspect.POSTINGS:
            return snapshot.postings()
