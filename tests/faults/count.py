"""What became of the calls of a fault: a comparison of what clients, provider, tables and ledger say. Pure."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from faults.database import Row
from faults.gateway import Ledger
from faults.load import Call


@dataclass(slots=True)
class Result:
    """One line of the report. ``problems`` are what makes the run fail, ``notes`` what a reader should know."""

    fault: str
    accepted: int = 0
    stored: int = 0
    lost: int = 0
    duplicated: int = 0
    orphaned: int = 0
    client_errors: int = 0
    recovered_s: float | None = None
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was seen of a fault's calls. ``provider_saw``: markers of unanswered calls that reached the provider."""

    calls: Sequence[Call]
    rows: Sequence[Row]
    orphans: int
    set_aside: Collection[str]
    provider_saw: Collection[str]
    before: Ledger
    after: Ledger
    ledger_began_anew: bool = False


def count(fault: str, seen: Evidence) -> Result:
    """Count, and name every contradiction."""
    rows = Counter(row.marker for row in seen.rows)
    # What was refused for want of room is not logged, which is the point of refusing it.
    answered = [call for call in seen.calls if call.status is not None and not call.request_log_full]
    unanswered = [call for call in seen.calls if call.status is None]
    reached = [call for call in unanswered if call.marker in seen.provider_saw]
    accepted = {call.marker for call in answered + reached} | {call.marker for call in seen.calls if rows[call.marker]}
    aside = {call.marker for call in seen.calls if {call.marker, call.call_id} & set(seen.set_aside)}
    missing = accepted - set(rows) - aside
    dropped = 0 if seen.ledger_began_anew else seen.after.dropped - seen.before.dropped
    unlogged = 0 if seen.ledger_began_anew else seen.after.unlogged_refusals - seen.before.unlogged_refusals

    result = Result(
        fault,
        accepted=len(accepted),
        stored=len(rows),
        # What still waits in the spool is late, and a problem of its own, but not lost.
        lost=max(0, len(missing) - dropped - unlogged - seen.after.spooled),
        duplicated=sum(number - 1 for number in rows.values()),
        orphaned=seen.orphans,
        client_errors=sum(not call.succeeded for call in seen.calls),
    )
    if result.lost:
        result.problems.append(f"lost: {_some(missing)}")
    if result.duplicated:
        result.problems.append(f"stored more than once: {_some(m for m, number in rows.items() if number > 1)}")
    if result.orphaned:
        result.problems.append(f"{result.orphaned} rows have no counterpart")
    if dropped or unlogged:
        result.notes.append(f"{dropped} dropped, counted")
        if len(missing) != dropped + unlogged + seen.after.spooled:
            result.problems.append(f"{len(missing)} calls have no row; {dropped} + {unlogged} are counted as dropped")
    _look_at_ledger(result, seen, dropped)
    _look_at_rows(result, seen)
    return result


def _look_at_ledger(result: Result, seen: Evidence, dropped: int) -> None:
    before, after = seen.before, seen.after
    if not after.balanced:
        result.problems.append(f"the ledger does not balance: {after}")
    if seen.ledger_began_anew:
        return
    accepted, stored = after.accepted - before.accepted, after.stored - before.stored
    elsewhere = after.set_aside - before.set_aside + after.spooled - before.spooled
    if accepted != len(seen.rows) + elsewhere + dropped:
        result.problems.append(
            f"the ledger says {accepted} accepted; there are {len(seen.rows)} rows, {elsewhere} exchanges elsewhere"
            f" and {dropped} dropped"
        )
    if stored != len(seen.rows):
        result.problems.append(f"the ledger says {stored} stored; there are {len(seen.rows)} rows")


def _look_at_rows(result: Result, seen: Evidence) -> None:
    calls = {call.marker: call for call in seen.calls}
    interrupted = [row.marker for row in seen.rows if row.outcome == "interrupted"]
    if interrupted:
        had = sum(calls[marker].complete for marker in interrupted if marker in calls)
        result.notes.append(f"{len(interrupted)} interrupted, {had} of which the client had in full")
    without_cost = sum(row.outcome == "success" and not row.has_cost for row in seen.rows)
    if without_cost:
        result.notes.append(f"{without_cost} answered calls are stored without their cost")
    differs = [
        f"{row.marker}: client {calls[row.marker].status}, row {row.status} {row.outcome}"
        for row in seen.rows
        if row.marker in calls
        and calls[row.marker].complete
        and row.outcome != "interrupted"
        and row.status != calls[row.marker].status
    ]
    if differs:
        result.problems.append(f"rows that say otherwise than the client: {_some(differs)}")
    backwards = [row.marker for row in seen.rows if row.latency_ms is not None and row.latency_ms < 0]
    if backwards:
        result.problems.append(f"rows that end before they begin: {_some(backwards)}")
    errors = Counter(f"{call.error} ({call.kind})" for call in seen.calls if not call.succeeded)
    if errors:
        result.notes.append("clients: " + ", ".join(f"{number} {error}" for error, number in errors.most_common(5)))


def _some(items: Iterable[str]) -> str:
    texts = sorted(items)
    return ", ".join(texts[:4]) + (f" and {len(texts) - 4} more" if len(texts) > 4 else "")
