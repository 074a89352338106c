"""A process that holds one loaded bundle and measures it in blocks when asked, so that several can take turns.

Requests come as JSON lines on standard input, answers go as JSON lines to the pipe whose number is the only argument.
The end of the input is the end of the process, so a parent that dies leaves nothing running.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.base import documents
from edgepack.benchmark.machine.usage import Usage, usage
from edgepack.benchmark.measure.loop import Warmup
from edgepack.benchmark.measure.summary import Subject
from edgepack.errors import EdgepackError
from edgepack.specs.result import Memory, Scenario
from edgepack.specs.run import RunOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgepack.benchmark.measure.loop import Timed
    from edgepack.benchmark.measure.session import Session

_PATIENCE_NS = 50_000_000  # an engine that is told to spin for ever must not stop the others
_LOOK_NS = 2_000_000
_LOOKS = 2
_AT_REST = 0.25  # of a core: looking itself takes a few per cent, a thread that spins takes all


@dataclass(frozen=True)
class Open:
    """Load this bundle and warm it up. Each query is prolonged by ``spin_ns``: a slow-down known to tests."""

    bundle: Path
    scenario: Scenario
    options: RunOptions
    spin_ns: int = 0


@dataclass(frozen=True)
class Opened:
    """The bundle is loaded and warm, for which this process took what is ``used``."""

    subject: Subject
    warmup: Warmup
    used: Usage
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Block:
    """Measure for this long and this many queries, after untimed ones that warm the caches again.

    ``maximum_ns`` ends a block that is too slow for its queries.
    """

    minimum_ns: int
    minimum_queries: int
    maximum_ns: int
    refresh_ns: int = 5_000_000


@dataclass(frozen=True)
class Measured:
    """Latencies in the order of issue; what this process took in the block, and at rest before it.

    What its threads took until they were at rest counts with the block.
    ``refreshed`` are the untimed queries at its begin, which cost energy too.
    """

    latencies_ns: tuple[int, ...]
    duration_ns: int
    used: Usage
    at_rest: Usage
    refreshed: int = 0


@dataclass(frozen=True)
class Closing:
    """Say what memory was used; the process then waits for the end of its input."""

    close: bool = True


@dataclass(frozen=True)
class Closed:
    """Memory of loading and of all blocks."""

    memory: Memory | None


REQUESTS: Mapping[str, Any] = {"open": Open, "block": Block, "close": Closing}
ANSWERS: Mapping[str, Any] = {"open": Opened, "block": Measured, "close": Closed}


class Holder:
    """The loaded bundle of this process; answers requests one after another."""

    def __init__(self) -> None:
        self._session: Session | None = None
        self._issued = 0
        self._used = Usage()

    def answer(self, request: Open | Block | Closing) -> Opened | Measured | Closed:
        """Do what the request says and return the answer to it."""
        if isinstance(request, Open):
            return self._open(request)
        assert self._session is not None, "a bundle is opened first"
        if isinstance(request, Block):
            return self._block(self._session, request)
        return self._close(self._session)

    def rest(self) -> None:
        """Mark that what this process takes from here on it takes at rest."""
        self._used = usage()

    def _open(self, request: Open) -> Opened:
        from edgepack.benchmark.measure import session

        opened = session.open_session(request.bundle, request.scenario, request.options)
        if request.spin_ns:
            opened = session.prolonged(opened, request.spin_ns)
        self._session = opened
        # What loading left behind need not be searched for garbage at the begin of each block, which takes as long.
        gc.collect()
        gc.freeze()
        warmup = session.warm_up(opened, request.scenario)
        self._issued = warmup.queries
        settle()
        return Opened(opened.subject, warmup, usage(), opened.notes)

    def _block(self, loaded: Session, request: Block) -> Measured:
        began = usage()
        untimed = self._run(loaded, request.refresh_ns, 1, request.maximum_ns)
        timed = self._run(loaded, request.minimum_ns, request.minimum_queries, request.maximum_ns)
        settle()
        took = usage() - began
        latencies = tuple(timed.latencies.tolist())
        return Measured(latencies, timed.duration_ns, took, began - self._used, len(untimed.latencies))

    def _run(self, loaded: Session, minimum_ns: int, queries: int, maximum_ns: int) -> Timed:
        from edgepack.benchmark.measure import session

        timed = session.measure(loaded, minimum_ns, minimum_queries=queries, maximum_ns=maximum_ns, first=self._issued)
        self._issued += len(timed.latencies)
        return timed

    def _close(self, loaded: Session) -> Closed:
        from edgepack.benchmark.measure import session

        memory = session.used_memory(loaded.resident)
        loaded.close()
        return Closed(memory)


def settle(
    cpu_ns: Callable[[], int] = time.process_time_ns,
    clock: Callable[[], int] = time.perf_counter_ns,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Wait until the threads of this process are at rest, and return whether they are; at most 50 ms.

    An engine's threads spin for a while after a query (ONNX Runtime's for about 13 ms), and whoever is measured next
    would share the cores with them for as long.
    """
    end, quiet = clock() + _PATIENCE_NS, 0
    while quiet < _LOOKS and clock() < end:
        began, took = clock(), cpu_ns()
        sleep(_LOOK_NS / 1e9)
        quiet = quiet + 1 if cpu_ns() - took < _AT_REST * (clock() - began) else 0
    return quiet == _LOOKS


def serve(channel: int) -> None:
    """Answer requests until the input ends. An error is an answer too, and the last one."""
    holder = Holder()
    with os.fdopen(channel, "wb", buffering=0) as out:
        for line in sys.stdin.buffer:
            message = _reply(holder, json.loads(line))
            out.write(json.dumps(message).encode() + b"\n")
            holder.rest()
            if "error" in message:
                break
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # engines' own threads and destructors must not turn an answer into a crash


def _reply(holder: Holder, message: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        kind = message["kind"]
        request = documents.decode(REQUESTS[kind], message["request"], kind)
        return {"answer": documents.encode(holder.answer(request))}
    except EdgepackError as error:
        traceback.print_exc()
        return {"error": {"kind": type(error).__name__, "message": error.message, "hint": error.hint}}
    except Exception as error:
        traceback.print_exc()
        return {"error": {"kind": type(error).__name__, "message": str(error)[:2000], "hint": ""}}


if __name__ == "__main__":
    serve(int(sys.argv[1]))
