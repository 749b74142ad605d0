"""An administrator's first ten minutes in the admin UI, as the gateway serves it."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from management import Callers, Management, eventually, unique

Shot = Callable[[str], Path]

WORDS = 120_000
"""Of the prompt whose cost has to show: the double counts words as tokens, so it costs more than a cent."""


@pytest.fixture
def signed_in(page: Page, ui_password: str) -> Page:
    """The admin UI after signing in."""
    sign_in(page, ui_password)
    expect(link(page, "Virtual Keys")).to_be_visible()
    return page


def sign_in(page: Page, password: str) -> None:
    page.goto("/ui/")
    page.get_by_placeholder("Enter your username").fill("admin")
    page.get_by_placeholder("Enter your password").fill(password)
    page.get_by_role("button", name="Login", exact=True).click()


def link(page: Page, name: str) -> Locator:
    return page.get_by_role("link", name=name, exact=True)


def test_wrong_password_is_refused(page: Page, shot: Shot) -> None:
    sign_in(page, "not-the-password")
    expect(page.get_by_text(re.compile("Invalid credentials"))).to_be_visible()
    expect(page).to_have_url(re.compile("/ui/login"))
    shot("wrong-password")


def test_team_key_call_logs_and_usage(
    signed_in: Page, admin: Management, callers: Callers, console: list[str], shot: Shot
) -> None:
    page, team, key_alias = signed_in, unique("ui-team"), unique("ui-key")
    shot("1-signed-in")

    link(page, "Teams").click()
    page.get_by_role("button", name="Create Team", exact=True).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_placeholder("Select Models").click()
    page.get_by_role("option", name="lab-chat", exact=True).click()
    dialog.get_by_label("Team Name").fill(team)
    dialog.get_by_role("button", name="Create Team", exact=True).click()
    expect(page.get_by_role("cell", name=team)).to_be_visible()
    shot("2-team")
    assert [found["team_alias"] for found in admin.get("/v2/team/list", team_alias=team)["teams"]] == [team]

    link(page, "Virtual Keys").click()
    page.get_by_test_id("create-key-button").click()
    dialog.get_by_placeholder("Search or select a team").fill(team)
    page.get_by_role("option").filter(has_text=team).click()
    dialog.locator("#key_alias").fill(key_alias)
    dialog.get_by_role("button", name="Create Key", exact=True).click()
    saved = page.get_by_role("dialog").filter(has_text="Save your Key")
    expect(saved).to_be_visible()
    key = re.search(r"sk-[\w-]{16,}", saved.inner_text())
    assert key is not None
    saved.get_by_role("button", name="Close", exact=True).click()
    expect(page.get_by_role("button").filter(has_text=key_alias)).to_be_visible()
    shot("3-key")

    answer = callers.chat(key[0], "word " * WORDS)
    call = answer.json()["id"]
    cost = float(answer.headers["x-litellm-response-cost"])
    assert cost > 0.01
    eventually(lambda: admin.get("/spend/logs", request_id=call), "the call is logged")

    link(page, "Logs").click()
    row = page.get_by_role("row").filter(has_text=key_alias)
    expect(row).to_be_visible()
    expect(row).to_contain_text("Success")
    expect(row).to_contain_text(f"${cost:.6f}")
    expect(row).to_contain_text(team)
    shot("4-logs")
    row.get_by_text(call[:10]).click()
    expect(page.get_by_text("Request ID").last).to_be_visible()
    shot("5-log")
    page.keyboard.press("Escape")

    spent = eventually(
        lambda: admin.get("/key/info", key=key[0])["info"]["spend"], "the spend is with the key", patience=30
    )
    assert spent == pytest.approx(cost, rel=1e-9)
    link(page, "Usage").click()
    top = page.get_by_role("row").filter(has_text=key_alias)
    expect(top).to_contain_text(f"${cost:.2f}")
    top.scroll_into_view_if_needed()
    shot("6-usage")
    assert not [said for said in console if said.startswith("exception")]


def test_page_that_nobody_signed_in_to_asks_for_a_password(page: Page) -> None:
    page.goto("/ui/api-keys/")
    expect(page).to_have_url(re.compile("/ui/login"))
