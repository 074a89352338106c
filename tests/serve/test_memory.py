"""The memory of queries: it ends, comes back, and is waited for."""

from __future__ import annotations

import asyncio

import pytest

from edgepack.serve.memory import Memory
from edgepack.serve.queries import BusyError


def test_four_of_the_largest_fit_and_what_was_held_is_free_again() -> None:
    memory = Memory(10)
    with memory.hold() as more:
        more(40)
        with pytest.raises(BusyError), memory.hold() as other:
            other(1)
        more(-5)
        with memory.hold() as other:
            other(5)
    with memory.hold() as more:
        more(40)


def test_an_error_gives_back_what_was_held() -> None:
    memory = Memory(10)

    def fail() -> None:
        with memory.hold() as more:
            more(40)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    with memory.hold() as more:
        more(40)


def test_room_comes_when_another_ends_and_busy_is_said_where_none_does() -> None:
    async def waited() -> list[bool]:
        memory = Memory(10)
        with memory.hold() as more:
            more(31)
            with pytest.raises(BusyError):
                await memory.room(0.01)
            seen = [memory.is_wanted]
            waiting = asyncio.create_task(memory.room(60))
            await asyncio.sleep(0)
            seen.append(memory.is_wanted)
        await waiting
        return [*seen, memory.is_wanted]

    assert asyncio.run(waited()) == [False, True, False]
