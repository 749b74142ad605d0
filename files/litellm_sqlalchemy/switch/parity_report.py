"""A parity report as plain data, and as a table to read."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from litellm_sqlalchemy.switch.parity import Parity, Sums

_LONGEST_NAME = 24
_ROW = "{:<24}  {:>10}  {:>14}  {:>28}  {}"


def plain(found: Parity) -> dict[str, Any]:
    """The report; every figure as the text of an exact number."""
    return {
        "equal": found.equal,
        "rows_compared": found.rows,
        "rows_missing": found.missing,
        "rows_unexpected": found.unexpected,
        "rows_different": found.different,
        "rows_with_expired_bodies": found.bodies_expired,
        "rows_of_our_gateway": found.of_our_gateway,
        "sums_compared": found.cells,
        "sums_different": [_texts(cell) for cell in found.different_cells],
        "examples": found.examples,
        "total": _sums(found.total),
        "days": {name: _sums(sums) for name, sums in sorted(found.days.items())},
        "models": {name: _sums(sums) for name, sums in sorted(found.models.items())},
        "keys": {name: _sums(sums) for name, sums in sorted(found.keys.items())},
    }


def table(found: Parity) -> str:
    """The report for a terminal: both sides' figures where they differ."""
    lines = []
    for title, rows in (("day", found.days), ("model", found.models), ("key", found.keys)):
        lines += [_ROW.format(title, "calls", "tokens", "cost, US dollars", "").rstrip()]
        for name, sums in sorted(rows.items()):
            shown = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
            lines += _lines(shown or "(none)", sums)
        lines.append("")
    lines += _lines("total", found.total)
    lines += ["", *found.examples]
    lines.append(
        f"{found.rows} rows compared column by column: {found.missing} missing, {found.unexpected} unexpected, "
        f"{found.different} different."
    )
    lines.append(f"{found.cells} sums by day, model and key compared: {len(found.different_cells)} different.")
    if found.of_our_gateway:
        lines.append(f"{found.of_our_gateway} rows are of this gateway's own calls, which the request log has anyway.")
    lines.append("Both sides are equal." if found.equal else "THE TWO SIDES DIFFER.")
    return "\n".join(lines)


def _lines(name: str, sums: Sums) -> list[str]:
    if sums.equal:
        return [_line(name, sums.spend_logs, "equal")]
    return [
        _line(name, sums.spend_logs, "LiteLLM_SpendLogs"),
        _line("", sums.request_log, "requests, responses: DIFFERENT"),
    ]


def _line(name: str, figures: Mapping[str, Decimal], verdict: str) -> str:
    return _ROW.format(name, figures["calls"], figures["total_tokens"], f"{figures['cost']:f}", verdict)


def _sums(sums: Sums) -> dict[str, Any]:
    return {"equal": sums.equal, "spend_logs": _texts(sums.spend_logs), "request_log": _texts(sums.request_log)}


def _texts(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Figures as JSON has them: the cost as text, since a JSON number is a float to many readers."""
    return {name: _texts(value) if isinstance(value, dict) else _number(name, value) for name, value in figures.items()}


def _number(name: str, value: Any) -> Any:
    if not isinstance(value, Decimal):
        return value
    return f"{value:f}" if name == "cost" else int(value)
