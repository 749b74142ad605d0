"""Records that are hard to store, or hard to tell apart."""

import time

from faults.load import MODEL, Recipe
from faults.registry import fault
from faults.stage import Stage

CONSTRAINT = "faults_refuse"
FORBIDDEN = "refuse this row"
REFUSED_CALLS = 5
CALLS_WITH_ONE_ID = 1000
CALLS_A_SECOND = 30


def _chat(content: str = "", more: str = "") -> bytes:
    message = f'{{"role": "user", "content": "[[marker={{marker}}]] {content}"}}'
    return f'{{"model": "{MODEL}", "messages": [{message}]{more}}}'.encode("utf-8", "surrogateescape")


def _nested(depth: int) -> str:
    return ', "metadata": {"deep": ' + "[" * depth + "]" * depth + "}"


POISON = {
    "NUL in the prompt": _chat("before\\u0000after"),
    "NUL in a field's name": _chat(more=', "metadata": {"a\\u0000b": 1}'),
    "lone surrogates": _chat("\\ud800 and \\udfff"),
    "bytes that are not UTF-8": _chat("\udcff\udcfe"),
    "the last character": _chat("\U0010ffff \ufffe"),
    "NaN": _chat(more=', "metadata": {"n": NaN, "i": [Infinity, -Infinity]}'),
    "NaN as the temperature": _chat(more=', "temperature": NaN'),
    "a number of 400 digits": _chat(more=', "seed": ' + "9" * 400),
    "a number of 5,000 digits": _chat(more=', "seed": ' + "9" * 5000),
    "1e999": _chat(more=', "metadata": {"n": 1e999, "m": 1e-999}'),
    "nested 150 deep": _chat(more=_nested(150)),
    "nested 300 deep": _chat(more=_nested(300)),
    "nested 5,000 deep": _chat(more=_nested(5_000)),
    "nested 200,000 deep": _chat(more=_nested(200_000)),
    "10 MB": _chat("ten megabytes " * 750_000),
    "10 MB of escapes": _chat("\\u0000" * 1_700_000),
    "a list": b'["{marker}"]',
    "a string": b'"{marker}"',
    "no JSON": b'{"model": "lab-chat", "messages": [{"role": "user", "content": "{marker}',
    "nothing": b"",
    "a model of 100 KB": b'{"model": "' + b"m" * 100_000 + b'", "messages": [{"role": "user", "content": "{marker}"}]}',
    "a field twice": _chat(more=', "model": "lab-chat", "user": "a", "user": "b"'),
}


@fault("poison-records")
def poison_records(stage: Stage) -> None:
    """What clients send is stored or set aside with a reason, never in the way of others, and can be replayed."""
    with stage.load() as load:
        stage.database.sql(
            f"ALTER TABLE requests ADD CONSTRAINT {CONSTRAINT}"
            f" CHECK (payload::text NOT LIKE '%{FORBIDDEN}%') NOT VALID;"
        )
        try:
            for kind, body in POISON.items():
                load.send(Recipe(kind, expected=(), body=body, names_itself=True))
                time.sleep(0.2)
            for _ in range(REFUSED_CALLS):
                load.send(Recipe("refused by PostgreSQL", body=_chat(FORBIDDEN)))
                time.sleep(0.2)
            time.sleep(3)
            aside = stage.gateway.set_aside()
        finally:
            stage.database.sql(f"ALTER TABLE requests DROP CONSTRAINT {CONSTRAINT};")
        stage.over()
    first = stage.settle()
    stage.expect(first.stored == first.accepted - REFUSED_CALLS, "others were held up by what PostgreSQL refused")
    stage.expect(
        len(aside) == REFUSED_CALLS and all(CONSTRAINT in reason for reason in aside.values()),
        f"set aside with the reason: {list(aside.values())}",
    )
    stage.note(f"{len(POISON)} poisonous bodies; {stage.gateway.run('litellm-db replay')}")
    stage.settle()
    stage.expect(not stage.gateway.set_aside(), "the replay left something aside")


@fault("one-id-for-1000-calls")
def one_id(stage: Stage) -> None:
    """A client chooses the id of its calls, and always the same: a thousand calls are a thousand rows."""
    recipe = Recipe("one id", body=_chat("short"), call_id=f"{stage.prefix}the-same")
    with stage.load(before=0, after=0, mix=()) as load:
        for _ in range(CALLS_WITH_ONE_ID):
            load.send(recipe)
            time.sleep(1 / CALLS_A_SECOND)
    result = stage.settle()
    stage.expect(result.stored == CALLS_WITH_ONE_ID, f"{result.stored} of {CALLS_WITH_ONE_ID} calls are rows")
