"""AC-1 to AC-7, judged by what the probes found."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from evidence.figures import BAR_MS, OWN_BAR_MS, Raw, with_figures

OK = 200
FIRST_ERROR = 400
OLDEST_POSTGRESQL = 17
SCRAM_SHA_256 = "scram-sha-256"
# Ways into PostgreSQL that send no password at all, or none that is worth stealing.
HARMLESS_METHODS = {SCRAM_SHA_256, "peer", "cert", "reject"}


class Unmet(Exception):  # noqa: N818  not an error: a criterion's outcome
    """Why a criterion is not met, in a sentence."""


def require(condition: object, sentence: str) -> None:
    """Unmet where the condition does not hold."""
    if not condition:
        raise Unmet(sentence)


def printed(result: Raw | None, name: str) -> Raw:
    """The JSON object that a probe printed; {"error": the reason} where there is none."""
    result = result or {}
    try:
        report = json.loads(result.get("stdout") or "")
    except ValueError:
        reason = result.get("stderr") or result.get("msg") or "it was not run"
        return {"error": f"{name}: {reason.strip()}"}
    return report if isinstance(report, dict) else {"error": f"{name}: it printed no object"}


def part(report: Raw, *path: str) -> Any:
    """A part of a probe's report; Unmet with the probe's own reason where it failed."""
    value: Any = report
    for step in (None, *path):
        if step is not None:
            value = value[step]
        if isinstance(value, dict) and value.get("error"):
            raise Unmet(str(value["error"]).strip())
    return value


@dataclass(frozen=True)
class Verdict:
    """What became of a criterion."""

    name: str
    criterion: str
    file: str
    passed: bool
    figure: str


class Evidence:
    """Everything that the probes found, with a method that judges each criterion and returns its figure."""

    def __init__(self, found: Raw) -> None:
        self.inventory: str = found["inventory"]
        self.expected: Raw = found["expected"]
        self.gateways: dict[str, Raw] = {}
        for host, result in found["gateways"].items():
            self.gateways[host] = printed(result, "the look at the gateway")
            self.gateways[host]["ledger"] = printed(found["ledgers"].get(host), "litellm-db ledger")
        self.database = printed(found.get("database"), "the look at the database")
        self.overhead = with_figures(printed(found.get("overhead"), "the measuring"))

    def each_gateway(self, judge: Callable[[str, Raw], str]) -> str:
        """The figures of all gateways, each of which has to pass."""
        figures, unmet = {}, []
        for host, report in self.gateways.items():
            try:
                part(report)
                figures[host] = judge(host, report)
            except Unmet as reason:
                unmet.append(f"{host}: {reason}")
        if unmet:
            raise Unmet("; ".join(unmet))
        return "; ".join(f"{host}: {figure}" for host, figure in figures.items())

    # The criteria

    def service(self) -> str:
        """AC-1."""
        return self.each_gateway(self._service)

    def _service(self, _host: str, report: Raw) -> str:
        for unit in report["units"]:
            shown = unit["properties"]
            state = f"{shown.get('ActiveState')} ({shown.get('SubState')}), {shown.get('UnitFileState')}"
            require(state == "active (running), enabled", f"{shown.get('Id')} is {state}")
        require(part(report, "readiness")["status"] == OK, "the gateway is not ready")
        gateway = report["units"][0]
        memory = gateway["resident_mb"]
        since = gateway["properties"].get("ActiveEnterTimestamp")
        return f"active (running) since {since}" + (f", {memory:.0f} MiB resident" if memory else "")

    def connection(self) -> str:
        """AC-2."""
        sessions = self.each_gateway(self._connection)
        server = part(self.database, "server")
        require(server["verifier"] == "SCRAM-SHA-256", f"the stored password is {server['verifier']}")
        for rule in server["rules"]:
            require(not rule["error"], f"pg_hba.conf, line {rule['line']}: {rule['error']}")
            require(rule["method"] in HARMLESS_METHODS, f"pg_hba.conf, line {rule['line']}, admits by {rule['method']}")
        ways = {rule["method"] for rule in server["rules"] if rule["for_service"]}
        require(ways == {SCRAM_SHA_256}, f"pg_hba.conf admits the service by {', '.join(sorted(ways)) or 'no rule'}")
        require(server["sessions"], "no shipper is connected")
        return f"{sessions}; {server['sessions']} session(s) of the shipper"

    def _connection(self, _host: str, report: Raw) -> str:
        ping = report["ping"]
        require(ping["code"] == 0, f"litellm-db ping: {last_line(ping)}")
        answer = json.loads(ping["out"])
        pool = answer["pool"]
        version = str(answer["server_version"]).split()[0]
        require(int(version.split(".")[0]) >= OLDEST_POSTGRESQL, f"PostgreSQL is {version}")
        require(answer["require_auth"] == SCRAM_SHA_256, f"the service accepts {answer['require_auth'] or 'any'}")
        for name in ("database", "role"):
            require(answer[name] == self.expected[name], f"the service is connected to the {name} {answer[name]}")
        require(pool["size"] == self.expected["pool_size"], f"the pool's size is {pool['size']}")
        require(pool["recycle_seconds"] > 0, "connections are never renewed")
        require(pool["pre_ping"], "connections are used without a pre-ping")
        return (
            f"PostgreSQL {version}, {answer.get('tls') or 'no TLS'}, SCRAM-SHA-256, "
            f"pool {pool['size']} + {pool['max_overflow']}, recycled after {pool['recycle_seconds']} s, pre-ping"
        )

    def chat(self) -> str:
        """AC-3."""
        return self.each_gateway(self._chat)

    def _chat(self, _host: str, report: Raw) -> str:
        call = part(report, "calls")[0]
        part(call)
        require(call["status"] == OK, f"the gateway answers {call['status']}: {shortened(call['response'])}")
        tokens, cost = tokens_of(call), cost_of(call)
        require(tokens, "the answer names no tokens")
        require(cost is not None, "the answer names no cost: LiteLLM knows no price of this model")
        return f"HTTP 200 in {call['latency_ms']} ms, {tokens} tokens, ${cost:f}"

    def requests(self) -> str:
        """AC-4."""
        seen = self.each_gateway(self._requests)
        measured = part(self.database, "pairs", "measured_with_logging")["requests"]
        return seen + self._measured(measured, "requests")

    def _requests(self, _host: str, report: Raw) -> str:
        statuses = []
        for call in part(report, "calls"):
            row = self._row_of(call)
            require(
                row["status_code"] == call["status"],
                f"{call['kind']}: the client saw {call['status']}, the row says {row['status_code']}",
            )
            require(call["kind"] == "chat" or call["status"] >= FIRST_ERROR, f"{call['kind']}: {call['status']}")
            require(row["model"] == call["request"]["model"], f"{call['kind']}: the row's model is {row['model']}")
            statuses.append(f"{call['kind']} {call['status']}")
        return f"{len(statuses)} of {len(statuses)} calls ({', '.join(statuses)})"

    def responses(self) -> str:
        """AC-5."""
        seen = self.each_gateway(self._responses)
        measured = part(self.database, "pairs", "measured_with_logging")["responses"]
        return seen + self._measured(measured, "responses with latency, tokens and cost")

    def _responses(self, _host: str, report: Raw) -> str:
        figure = ""
        for call in part(report, "calls"):
            row = self._row_of(call)
            require(row["has_response"], f"{call['kind']}: there is no row in responses")
            require(row["latency_ms"] is not None and row["latency_ms"] > 0, f"{call['kind']}: the row has no latency")
            if call["kind"] != "chat":
                require(row["outcome"] == "failure", f"{call['kind']}: the outcome is {row['outcome']}")
                continue
            require(row["total_tokens"] == tokens_of(call), f"{row['total_tokens']} tokens, not {tokens_of(call)}")
            cost = cost_of(call)
            require(row["cost"] is not None, "the row has no cost")
            require(Decimal(row["cost"]) == cost, f"the row costs {row['cost']}, the client was told {cost}")
            figure = f"{row['total_tokens']} tokens, {row['latency_ms']:.1f} ms, ${cost:f} as the client saw"
        return f"{figure}; {len(report['calls']) - 1} refused calls with their outcome"

    def _row_of(self, call: Raw) -> Raw:
        part(call)
        rows = [row for row in part(self.database, "pairs", "calls") if row["request_id"] == call["call_id"]]
        require(len(rows) == 1, f"{len(rows)} rows, not 1, for the call {call['call_id']}")
        found: Raw = rows[0]
        return found

    def _measured(self, stored: int, what: str) -> str:
        """How many of the measured calls are stored; those without logging must not be."""
        if "error" in self.overhead:
            return ""
        made = self.overhead["pairs"] + self.overhead["warmup"]
        require(stored == made, f"{stored} {what} of the {made} measured calls")
        unlogged = self.database["pairs"]["measured_without_logging"]
        require(unlogged == 0, f"{unlogged} calls are stored of the gateway that does not log")
        return f"; {stored} of {made} measured calls"

    def matched(self) -> str:
        """AC-6."""
        join = part(self.database, "join")
        require(join["matched"], "there are no rows")
        alone = (join["requests_without_response"], join["responses_without_request"])
        require(alone == (0, 0), f"{alone[0]} requests without a response, {alone[1]} responses without a request")
        counts = f"{join['matched']} of {join['requests']} requests matched ({matched_percent(join)}), no orphans"
        return f"{counts}; {self.each_gateway(self._ledger)}"

    def _ledger(self, _host: str, report: Raw) -> str:
        ledger = part(report, "ledger")
        names = ("accepted", "stored", "spooled", "set_aside", "dropped")
        counts = ", ".join(f"{ledger[name]} {name.replace('_', ' ')}" for name in names)
        require(ledger["balanced"], f"the ledger does not balance: {counts}")
        return f"ledger balanced ({counts})"

    def cost_of_logging(self) -> str:
        """AC-7."""
        overhead = part(self.overhead)
        difference = overhead["difference"]
        low, high = difference["ci95_ms"]
        figure = (
            f"{difference['median_ms']:+.3f} ms a call in the median of {overhead['pairs']} pairs "
            f"(95 % CI {low:+.3f} to {high:+.3f}), {difference['cpu_ms_per_call']:+.2f} ms of processor time; "
            f"our own bar of {OWN_BAR_MS} ms: {'met' if overhead['own_bar_met'] else 'missed'}"
        )
        require(overhead["bar_met"], f"{figure}: not surely below {BAR_MS:g} ms")
        return figure


CRITERIA: tuple[tuple[str, str, str, Callable[[Evidence], str]], ...] = (
    ("AC-1", "The gateway runs as a systemd service", "service_status.txt", Evidence.service),
    (
        "AC-2",
        "PostgreSQL 17 is reached over SCRAM-SHA-256 through an SQLAlchemy pool",
        "gateway_db_connect.log",
        Evidence.connection,
    ),
    ("AC-3", "POST /v1/chat/completions answers 200, with tokens and cost", "chat_call.json", Evidence.chat),
    ("AC-4", "Every API request is in requests", "requests_head.txt", Evidence.requests),
    (
        "AC-5",
        "Every API response is in responses, with tokens, latency and cost",
        "responses_head.txt",
        Evidence.responses,
    ),
    ("AC-6", "Every response belongs to a request, 100 % matched", "join_check.txt", Evidence.matched),
    ("AC-7", f"Logging adds less than {BAR_MS:g} ms to a call", "overhead.json", Evidence.cost_of_logging),
)


def judge(evidence: Evidence) -> list[Verdict]:
    """A verdict on every criterion, whatever became of the others."""
    verdicts = []
    for name, criterion, file, check in CRITERIA:
        try:
            verdict = Verdict(name, criterion, file, True, check(evidence))
        except Unmet as reason:
            verdict = Verdict(name, criterion, file, False, str(reason))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            verdict = Verdict(name, criterion, file, False, f"the probe's report cannot be read: {error!r}")
        verdicts.append(verdict)
    return verdicts


def tokens_of(call: Raw) -> int | None:
    """The tokens that an answer names."""
    response = call["response"]
    usage = response.get("usage") if isinstance(response, dict) else None
    return (usage or {}).get("total_tokens")


def cost_of(call: Raw) -> Decimal | None:
    """What the gateway says that a call cost, in US dollars."""
    try:
        cost = Decimal(call["headers"].get("x-litellm-response-cost", ""))
    except InvalidOperation:
        return None
    return cost if cost.is_finite() else None


def matched_percent(join: Raw) -> str:
    """The share of pairs among all rows of either table; never rounded up to 100 %."""
    every = join["matched"] + join["requests_without_response"] + join["responses_without_request"]
    if join["matched"] == every:
        return "100 %" if every else "no rows"
    return f"{min(100 * join['matched'] / every, 99.9999):.4f} %"


def last_line(command: Raw) -> str:
    """The line of a failed command that says why."""
    said = (command["error"] or command["out"]).strip().splitlines()
    return said[-1] if said else f"exit {command['code']}"


def shortened(value: Any, length: int = 200) -> str:
    """A value as text of one line."""
    text = " ".join(str(value).split())
    return text if len(text) <= length else text[: length - 1] + "…"
