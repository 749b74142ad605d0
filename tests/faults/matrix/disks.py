"""The gateway's disk is full, under both policies."""

import time

from faults.gateway import SPOOL, STATE, USER
from faults.registry import fault
from faults.scenery import Scenery
from faults.stage import Stage

FULL_SECONDS = 8
DISK_MEGABYTES = 160
FILLER = f"{STATE}/filler"

REFUSE = Scenery(disk_megabytes=DISK_MEGABYTES, settings={"LITELLM_DB_SPOOL_WHEN_FULL": "refuse"})
"""As deployed, the spool leaves 64 MiB free and so gets full before its disk is."""

KEEP_SERVING = Scenery(
    disk_megabytes=DISK_MEGABYTES,
    settings={"LITELLM_DB_SPOOL_WHEN_FULL": "keep-serving", "LITELLM_DB_SPOOL_RESERVE_BYTES": "0"},
)
"""Without that reserve, it is the disk that refuses its writes."""


@fault("gateway-disk-full-refuse", REFUSE)
def refuse(stage: Stage) -> None:
    """Who must not serve what they cannot log get a 503 for their clients: none is served and not logged."""
    with stage.load() as load:
        _fill_for_a_while(stage)
    refused = sum(call.request_log_full for call in load.calls)
    stage.note(f"{refused} refused while there was no room")
    stage.expect(refused > 0, "nothing was refused")
    result = stage.settle()
    stage.expect(result.client_errors == refused, "clients saw other errors than those 503")


@fault("gateway-disk-full-keep-serving", KEEP_SERVING)
def keep_serving(stage: Stage) -> None:
    """Who would rather serve than log lose rows knowingly: each is counted, and no client notices."""
    with stage.load():
        _fill_for_a_while(stage)
    result = stage.settle()
    stage.expect(result.client_errors == 0, "clients saw errors")
    stage.expect(result.accepted > result.stored, "nothing was dropped: the disk was not full")


def _fill_for_a_while(stage: Stage) -> None:
    try:
        stage.gateway.probe("fill.py", SPOOL, FILLER, user=USER)
        time.sleep(FULL_SECONDS)
    finally:
        stage.gateway.run('rm -f "$1"', FILLER)
    stage.over()
