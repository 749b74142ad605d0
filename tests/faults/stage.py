"""What a fault plays on: the hosts, the load, and the count at its end."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from faults.count import Evidence, Result, count
from faults.database import Database
from faults.gateway import Gateway, Ledger
from faults.inventory import Lab
from faults.load import CALLS_A_SECOND, MIX, Call, Load, Recipe
from faults.machine import CommandError, Machine
from faults.presence import Presence
from faults.watch import SpoolWatch

BEFORE, AFTER = 4.0, 4.0
"""Seconds of load before a fault and after it."""

DRAIN_PATIENCE = 90.0
CLOCK_MARGIN = 2 * 3600.0
"""Seconds before its begin from which rows are looked for: one fault sets a clock back."""


class Stage:
    """One fault's run: break something within ``load()``, say when it is ``over()``, then ``settle()``."""

    def __init__(
        self, fault: str, prefix: str, lab: Lab, gateway: Gateway, database: Database, *, is_short: bool = False
    ) -> None:
        self.prefix = prefix
        self.is_short = is_short
        self.lab = lab
        self.gateway = gateway
        self.database = database
        self.began = time.time()
        self.ledger_begins_anew = False
        self.result: Result | None = None
        self.traffic: Load | None = None
        self._fault = fault
        self.notes: list[str] = []
        self.problems: list[str] = []
        self._over: float | None = None
        self._before: Ledger | None = None
        self._upstream = Machine(lab.podman, lab.containers["upstream"], lab.addresses["upstream"])
        self._gone: str | None = None
        self._watch = SpoolWatch(gateway)
        self._presences = [Presence(machine, self._lose) for machine in (gateway, database, self._upstream)]

    def close(self) -> None:
        """Let go of the hosts."""
        for presence in self._presences:
            presence.close()
        self._watch.close()

    @contextmanager
    def load(
        self,
        before: float = BEFORE,
        after: float = AFTER,
        rate: float = CALLS_A_SECOND,
        mix: tuple[Recipe, ...] = MIX,
    ) -> Iterator[Load]:
        """Calls come in: for some seconds before the block, through it, and for some seconds after it.

        In a short run half as many, for a machine that has other things to do.
        The ledger is asked in between, too: it balances at any moment.
        """
        self._before = self.gateway.ledger()
        self.expect_hosts()
        rate = rate / 2 if self.is_short else rate
        self.traffic = Load(self.lab.gateway_url, self.lab.master_key, self.prefix, rate, mix, tls=self.lab.gateway_tls)
        self.traffic.start()
        try:
            time.sleep(before)
            self.expect_hosts()
            yield self.traffic
            self.expect_hosts()
            if self._over is None:
                self.over()
            end = time.monotonic() + after
            self.expect(self.gateway.ledger().balanced, "the ledger does not balance under load")
            time.sleep(max(0.0, end - time.monotonic()))
        finally:
            self.traffic.stop()

    def over(self) -> None:
        """The fault ends now: from here on the time to recover is taken."""
        self._over = time.time()

    def wait_until_drained(self, patience: float = DRAIN_PATIENCE) -> bool:
        """Wait until the spool is empty."""
        return self._watch.wait_until_empty(patience)

    def settle(self, patience: float = DRAIN_PATIENCE) -> Result:
        """Wait until the spool is empty, then count; may be called again after more has been done."""
        assert self.traffic is not None
        assert self._before is not None
        assert self._over is not None
        self.expect_hosts()
        if not self.wait_until_drained(patience):
            self.problem(f"the spool was not empty {patience:.0f} s after the load")
        since = self.began - CLOCK_MARGIN
        rows = self.database.rows(self.prefix, since)
        stored = {row.marker for row in rows}
        result = count(
            self._fault,
            Evidence(
                calls=self.traffic.calls,
                rows=rows,
                orphans=self.database.orphans(since),
                set_aside=self.gateway.set_aside(),
                provider_saw=self._seen_by_provider(
                    [call for call in self.traffic.calls if call.status is None and call.marker not in stored]
                ),
                before=self._before,
                after=self.gateway.ledger(),
                ledger_began_anew=self.ledger_begins_anew,
            ),
        )
        recovered = self._watch.recovered_at(self._over)
        result.recovered_s = None if recovered is None else round(recovered - self._over, 1)
        self.result = result
        return result

    def note(self, text: str) -> None:
        """Something a reader of the result should know."""
        self.notes.append(text)

    def problem(self, text: str) -> None:
        """Something that must not be: the run fails."""
        self.problems.append(text)

    def expect(self, condition: bool, otherwise: str) -> None:
        """A condition that must hold."""
        if not condition:
            self.problem(otherwise)

    def most_waiting(self) -> int:
        """The most exchanges that waited in the spool at once."""
        return self._watch.most_waiting()

    def expect_hosts(self) -> None:
        """CommandError where a host is gone: nothing may be sent to its address any more."""
        if self._gone:
            raise CommandError(f"the host {self._gone} is gone")

    def _lose(self, container: str) -> None:
        """A host is gone: neither the load nor the gateway's services, where they are left, may go on sending."""
        self._gone = self._gone or container
        if self.traffic is not None:
            self.traffic.break_off()
        if container != self.gateway.container:
            self.gateway.stop()

    def _seen_by_provider(self, calls: list[Call]) -> set[str]:
        self.expect_hosts()
        with httpx.Client(base_url=self.lab.upstream_url, trust_env=False, timeout=10) as client:
            answers = {call.marker: client.get("/_calls", params={"marker": call.marker}) for call in calls}
        return {marker for marker, answer in answers.items() if answer.json()["count"] > 0}
