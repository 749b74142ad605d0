"""Chromium without a screen, on the admin UI of the deployed gateway.

Chromium is Debian's (or the one that CHROMIUM names); Playwright drives it and downloads nothing. A screenshot of
each step is kept in build/browser; where a test fails, one of the last page and what its console said.
"""

import os
import shutil
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from faults.inventory import ROOT, Lab
from faults.machine import Machine
from management import admin, callers, lab

__all__ = ["admin", "callers", "lab"]

ARTEFACTS = ROOT / "build" / "browser"
NAMES = ("chromium", "chromium-browser", "google-chrome")
# No screen and no sandbox (CI runs as root), and nothing that calls its maker.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_MS = 60_000
"""Milliseconds that a page may take to show what is waited for, on a busy machine."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tell the fixtures of a test whether it has failed."""
    report = yield
    if report.when == "call":
        item.stash[FAILED] = report.failed
    return report


FAILED = pytest.StashKey[bool]()


@pytest.fixture(scope="session")
def ui_password(lab: Lab) -> str:
    """What the administrator signs in with, as the gateway itself has it."""
    gateway = Machine(lab.podman, lab.containers["litellm"], lab.addresses["litellm"])
    return gateway.run('. /etc/litellm/litellm.env; printf %s "$UI_PASSWORD"')


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """The browser."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.fail("there is no Chromium: scripts/bootstrap browser installs it, or CHROMIUM names one")
    expect.set_options(timeout=PATIENCE_MS)
    shutil.rmtree(ARTEFACTS, ignore_errors=True)
    ARTEFACTS.mkdir(parents=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def console() -> list[str]:
    """What the page's console has said."""
    return []


@pytest.fixture
def page(chromium: Browser, lab: Lab, console: list[str], request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page of its own, with no cookies; only the gateway may be called from it."""
    context = chromium.new_context(base_url=lab.gateway_url, viewport={"width": 1440, "height": 1000})
    context.set_default_timeout(PATIENCE_MS)
    context.route(lambda url: not url.startswith(lab.gateway_url), lambda route: route.abort())
    opened = context.new_page()

    def said(message: ConsoleMessage) -> None:
        console.append(f"{message.type}: {message.text}")

    opened.on("console", said)
    opened.on("pageerror", lambda error: console.append(f"exception: {error}"))
    yield opened
    if request.node.stash.get(FAILED, False):
        name = request.node.name
        opened.screenshot(path=ARTEFACTS / f"failed-{name}.png", full_page=True)
        (ARTEFACTS / f"failed-{name}.txt").write_text("\n".join([opened.url, *console]), encoding="utf-8")
    context.close()


@pytest.fixture
def shot(page: Page) -> Callable[[str], Path]:
    """Keep a screenshot of the page under a name."""

    def take(name: str) -> Path:
        path = ARTEFACTS / f"{name}.png"
        page.screenshot(path=path)
        return path

    return take
