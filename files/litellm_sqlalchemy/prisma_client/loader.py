"""Answers to find_unique that are asked for at the same moment, from one statement.

Like Prisma's own client: what several tasks ask in one turn of the event loop, for the same key of the same model,
is one query.
"""

import asyncio
from typing import Any

from sqlalchemy import any_, select
from sqlalchemy.dialects.postgresql import ARRAY

from litellm_sqlalchemy.prisma_client.connections import Pool, Row
from litellm_sqlalchemy.prisma_client.statements import Binder, Slot, Statement
from litellm_sqlalchemy.prisma_client.tables import Model

# More keys than this are split: a statement that runs for long would hold up all who wait for it.
MAX_KEYS = 1000


def loader(pool: Pool, model: Model, name: str) -> "Loader":
    """The loader of a model by one of its fields, on a pool."""
    found = pool.loaders.get((model.name, name))
    if found is None:
        found = pool.loaders[model.name, name] = Loader(pool, model, name)
    return found


class Loader:
    """Loads rows of a model by one of its fields."""

    def __init__(self, session: Pool, model: Model, name: str) -> None:
        self._session = session
        self._model = model
        self._scalar = model.scalars[name]
        self._position = list(model.scalars).index(name)
        self._waiting: dict[Any, asyncio.Future[Row | None]] = {}
        self._one = self._statement(several=False)
        self._several = self._statement(several=True)
        self._tasks: set[asyncio.Task[None]] = set()

    def _statement(self, *, several: bool) -> Statement:
        binder = Binder()
        column = self._model.column(self._scalar.name)
        if several:
            condition = column == any_(binder.bind(Slot(0), ARRAY(self._scalar.item_type), list))
        else:
            condition = column == binder.bind(Slot(0), self._scalar.item_type, lambda value: value)
        return binder.compile(select(*self._model.columns()).where(condition))

    async def row(self, value: Any) -> Row | None:
        """The row whose field has this value. Raises DataError for a value of the wrong type."""
        key = self._scalar.encode(value)
        future = self._waiting.get(key)
        if future is None:
            loop = asyncio.get_running_loop()
            if not self._waiting:
                loop.call_soon(self._start)
            future = self._waiting[key] = loop.create_future()
        # One who gives up waiting must not take the answer from the others.
        return await asyncio.shield(future)

    def _start(self) -> None:
        waiting, self._waiting = self._waiting, {}
        keys = list(waiting)
        for start in range(0, len(keys), MAX_KEYS):
            part = {key: waiting[key] for key in keys[start : start + MAX_KEYS]}
            task = asyncio.get_running_loop().create_task(self._load(part))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _load(self, waiting: dict[Any, asyncio.Future[Row | None]]) -> None:
        keys = list(waiting)
        try:
            if len(keys) == 1:
                rows = await self._session.rows(self._one, keys, self._model)
            else:
                rows = await self._session.rows(self._several, [keys], self._model)
        except BaseException as error:
            for future in waiting.values():
                if not future.done():
                    future.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return
        by_key = {row[self._position]: row for row in rows}
        for key, future in waiting.items():
            if not future.done():
                future.set_result(by_key.get(key))
