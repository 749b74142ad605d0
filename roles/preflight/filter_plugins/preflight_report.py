"""Turn mistakes into sentences that name the file to edit."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

COMMAND_LINE = "the command line (-e)"
OF_A_HOST = ("address", "ansible_connection", "ansible_host", "ansible_port")
LAST_PART = re.compile(r"(\.[^.\[]*|\[\d+\])$")


def report(
    mistakes: Iterable[tuple[str, str, str]],
    places: Mapping[str, Mapping[str, str]],
    environment: Mapping[str, str],
    secrets: Iterable[str],
    state: str,
) -> str:
    """Return all mistakes as one text that says in what `state` the hosts were left; nothing where there is none."""
    found = sentences(mistakes, places, environment, secrets)
    if not found:
        return ""
    title = f"{len(found)} mistake{'s' if len(found) > 1 else ''} in {environment['folder']}, {state}:"
    return "\n".join([title, *(f"- {sentence}" for sentence in found)])


def sentences(
    mistakes: Iterable[tuple[str, str, str]],
    places: Mapping[str, Mapping[str, str]],
    environment: Mapping[str, str],
    secrets: Iterable[str],
) -> list[str]:
    """Return one sentence for each mistake (host, variable or file, what is wrong), with the file to edit.

    A mistake in a file that several hosts share is reported once. Mistakes without a variable
    already say what to do.
    """
    found = (f"{says} {_edit(host, at, places, environment, secrets)}".strip() for host, at, says in mistakes)
    return list(dict.fromkeys(found))


def _edit(
    host: str,
    at: str,
    places: Mapping[str, Mapping[str, str]],
    environment: Mapping[str, str],
    secrets: Iterable[str],
) -> str:
    if not at:
        return ""
    if at == "hosts.yml" or (at in OF_A_HOST and at not in places.get(host, {})):
        return f"Edit {environment['folder']}/hosts.yml."
    within = at  # the nearest thing around it whose place is known
    while within not in places.get(host, {}) and LAST_PART.search(within):
        within = LAST_PART.sub("", within)
    place = places.get(host, {}).get(within)
    if place is None:
        place = environment["secrets"] if within in secrets else f"{environment['folder']}/group_vars/all/main.yml"
    if place == COMMAND_LINE:
        return f"It comes from {place}, where NAME=VALUE is always text; JSON keeps numbers."
    return f"Edit {place}."


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Any]:
        """Return them by name."""
        return {"preflight_report": report}
