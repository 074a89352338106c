"""What ``tune`` tries: an engine's run options with the values that make sense on this many cores.

A search begins with single changes of the engine's defaults; those that help are then combined.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgepack.engines import RunSpace, engine_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from edgepack.runtime.tuning import TunedFor
    from edgepack.specs.run import Change

_BATCHES = (2, 4, 8, 16, 32)


def changes(
    backend: str, cores: int, scenario: TunedFor, *, free_batch: bool, isa: Collection[str] = ()
) -> tuple[Change, ...]:
    """Return the single changes of an engine's defaults to try, those first that help most often.

    ``free_batch`` says that the model takes several samples at once; ``isa`` is what the processor has beyond the
    ordinary. An engine that is not known has its threads.
    """
    tried = _all_changes(backend, cores, scenario, free_batch=free_batch)
    return tuple(change for change in tried if change[0] != "amx" or "amx_int8" in isa)


def _all_changes(backend: str, cores: int, scenario: TunedFor, *, free_batch: bool) -> tuple[Change, ...]:
    engine = engine_of(backend)
    space = engine.run_options if engine else RunSpace()
    # The batch that is measured, or any: what the engine's default is not.
    fixed = [("fixed_batch", 0 if engine and engine.fixes_batch else 1)] if free_batch else []
    threads = [("threads", n) for n in sorted({1, *_halves(cores), cores}, reverse=True)]
    if scenario == "SingleStream":
        return (*fixed, *threads, *space.common, *space.latency)
    streams = [("streams", n) for n in sorted({2, cores, 2 * cores})]
    batches = [("batch", n) for n in _BATCHES] if free_batch else []
    return (*streams, *batches, *fixed, *threads, *space.throughput, *space.common)


def _halves(cores: int) -> tuple[int, ...]:
    return tuple(cores >> i for i in range(1, cores.bit_length()) if cores >> i > 1)
