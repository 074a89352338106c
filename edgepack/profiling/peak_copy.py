"""Trials of plain copies by the C library, each thread its own part; numpy lets other threads run meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.engines.common.peak import Trial

if TYPE_CHECKING:
    from edgepack.specs.types import Precision

_REPEAT_BYTES = 8 << 20  # small sets are copied several times a call, so that starting threads does not count


def versions(_known: Mapping[str, str]) -> Mapping[str, str]:
    """Return numpy's version."""
    return {"numpy": np.__version__}


def trials(_precisions: Sequence[Precision], threads: int, sets: Sequence[int]) -> Iterator[Trial]:
    """Yield a trial for each working set, half of which is read and half of which is written."""
    with ThreadPoolExecutor(threads) as pool:
        for size in sets:
            part = max(size // (8 * threads), 1)
            pairs = [(np.ones(part, np.float32), np.empty(part, np.float32)) for _ in range(threads)]
            times = max(1, _REPEAT_BYTES // size)
            yield Trial(
                f"copy of {size >> 11} KiB",
                8 * part * threads * times,
                _copies(pool, pairs, times),
                working_set_bytes=size,
            )


def _copies(pool: ThreadPoolExecutor, pairs: Sequence[tuple[Any, Any]], times: int) -> Any:
    def copy(pair: tuple[Any, Any]) -> None:
        for _ in range(times):
            np.copyto(pair[1], pair[0])

    return lambda: list(pool.map(copy, pairs))
