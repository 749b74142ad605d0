"""The harness of the faults sends nothing any more to the address of a host that is gone."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from faults.gateway import Gateway
from faults.inventory import Lab
from faults.load import CHAT, Load
from faults.machine import CommandError, Machine
from faults.presence import Presence
from faults.stage import Stage
from faults.watch import SpoolWatch

PATIENCE = 10.0


def soon(condition: Callable[[], object]) -> bool:
    """Wait until something is true."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


class Silent:
    """A server on loopback that takes calls and never answers."""

    def __init__(self) -> None:
        self.opened = 0
        self.open = 0
        self.url = ""
        self._loop = asyncio.new_event_loop()
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        assert started.wait(PATIENCE)

    def _run(self, started: threading.Event) -> None:
        async def serve() -> None:
            server = await asyncio.start_server(self._take, "127.0.0.1", 0)
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            self._stopping = asyncio.Event()
            started.set()
            await self._stopping.wait()
            server.close()

        self._loop.run_until_complete(serve())
        self._loop.close()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        self.open += 1
        try:
            await reader.read(-1)
        finally:
            self.open -= 1
            writer.close()

    def close(self) -> None:
        assert soon(lambda: self.open == 0)
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(PATIENCE)


@pytest.fixture
def silent() -> Iterator[Silent]:
    server = Silent()
    yield server
    server.close()


class Here(Machine):
    """A host that is this machine; what keeps watch over it is a process that a test can end."""

    def __init__(self, name: str = "here") -> None:
        Machine.__init__(self, "podman", name, "127.0.0.1")

    def _enter(self, *command: str) -> list[str]:
        return list(command)


class GatewayHere(Here, Gateway):
    """A gateway whose spool is always empty."""

    def __init__(self) -> None:
        Here.__init__(self, "gateway")
        self.stopped_services = False

    def talk(self, name: str, *arguments: str, user: str = "root") -> Any:
        return self.hold()

    def ledger(self) -> Any:
        return None

    def stop(self, services: Any = ()) -> None:
        self.stopped_services = True


def end(presence: Presence) -> None:
    """What becomes of `podman exec` when its container is gone."""
    presence._held._process.kill()


def lose(stage: Stage, name: str, silent: Silent) -> None:
    """A host goes under load, which then ends."""
    assert soon(lambda: silent.open > 3)
    end(next(one for one in stage._presences if one._name == name))
    assert soon(lambda: silent.open == 0), "the load goes on"


def test_a_host_that_goes_is_noticed() -> None:
    gone: list[str] = []
    presence = Presence(Here(), gone.append)
    end(presence)
    assert soon(lambda: gone == ["here"])
    presence.close()


def test_a_watch_that_ends_is_no_host_that_goes() -> None:
    gone: list[str] = []
    presence = Presence(Here(), gone.append)
    presence.close()
    assert gone == []


def test_no_call_is_begun_or_kept_up_after_the_load_was_broken_off(silent: Silent) -> None:
    load = Load(silent.url, "key", "test-", rate=100)
    load.start()
    assert soon(lambda: silent.open > 3)
    load.break_off()
    assert soon(lambda: silent.open == 0), "calls under way are given up"
    begun = silent.opened
    load.send(CHAT)
    time.sleep(0.2)
    load.stop()
    assert silent.opened == begun


@pytest.mark.parametrize("name", ["gateway", "database", "upstream"])
def test_load_ends_with_any_of_the_hosts(silent: Silent, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("faults.stage.Machine", lambda *_: Here("upstream"))
    addresses = dict.fromkeys(("litellm", "postgresql", "upstream"), "127.0.0.1")
    lab = Lab(
        podman="podman",
        containers=addresses,
        addresses=addresses,
        gateway_url=silent.url,
        gateway_tls=False,
        upstream_url="http://127.0.0.1:9",
        master_key="key",
        database="",
        database_user="",
        database_port=0,
    )
    gateway = GatewayHere()
    stage = Stage("test", "test-", lab, gateway, Here("database"))  # type: ignore[arg-type]
    try:
        with pytest.raises(CommandError, match=f"host {name} is gone"), stage.load(before=0.1, after=0, rate=100):
            lose(stage, name, silent)
        begun = silent.opened
        assert gateway.stopped_services == (name != "gateway")
        with pytest.raises(CommandError, match=f"host {name} is gone"):
            stage._seen_by_provider([])
        with pytest.raises(CommandError, match=f"host {name} is gone"), stage.load():
            pass
        assert silent.opened == begun
    finally:
        stage.close()


def test_a_watch_on_the_spool_that_has_ended_waits_for_nothing() -> None:
    watch = SpoolWatch(GatewayHere())
    watch._watcher._process.kill()
    with pytest.raises(CommandError, match="nobody looks"):
        watch.wait_until_empty(PATIENCE)
    watch.close()
