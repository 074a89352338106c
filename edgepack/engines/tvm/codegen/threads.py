"""Whether the loops of a function are divided among threads, and which of them: decided by a count of cycles."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgepack.engines.tvm.codegen.machine import Machine

# What handing work to a worker that looks for it, and waiting for its end, costs the caller: 0.7 to 0.9 us for
# TVMBackendParallelLaunch of TVM 0.27 with two threads on a Xeon (medians of 3000 calls, at real-time priority).
LAUNCH_CYCLES = 2500
# Loops of fewer launches stay on one thread, because what they read and write has to come from the other cores, too. On
# that host two threads took 0.62 of one's time for convolutions of 25 us (28 launches), 1.0 for some of 7 to 11 us, and
# 1.5 for some of 6 us.
_FEWEST_LAUNCHES = 16
# The longest part of the work may be this many times the mean before the next loop is divided too.
_EVEN = 1.1
# Cycles of a vector that is loaded and stored, most of the time from the second-level cache.
_MOVE_CYCLES = 4
_END_CYCLES = 4  # of a vector of finished sums: bias, bounds, and the store
_CALL_OPERATIONS = 10  # of a polynomial or a division in place of an exp, sqrt or round

_PARTS = ("a", "b", "value", "body", "true_value", "false_value")  # of expressions, by tvm.tirx.expr
_NOT_COUNTED = ("int64", "bool")  # indices, and comparisons beside what they choose


def pays(cycles: float, machine: Machine) -> bool:
    """Say whether loops of this many cycles are worth a launch."""
    return machine.threads > 1 and cycles >= _FEWEST_LAUNCHES * LAUNCH_CYCLES


def kernel_cycles(sizes: Sequence[int], outputs: int, lanes: int, a_step: int) -> float:
    """Return the cycles of sums with ``sizes`` iterations: two multiply-adds of ``lanes`` sums and ``a_step`` products.

    ``outputs`` are the sums that are finished and stored.
    """
    return math.prod(sizes) / (2 * lanes * a_step) + finishing_cycles(outputs, lanes)


def finishing_cycles(outputs: int, lanes: int) -> float:
    """Return the cycles of finishing and storing so many sums, in vectors of ``lanes``."""
    return outputs / lanes * _END_CYCLES


def moving_cycles(operations: int, vectors: int) -> float:
    """Return the cycles of loops that load, compute so many operations and store, ``vectors`` times."""
    return vectors * (_MOVE_CYCLES + operations / 2)


def operations(store: Any) -> int:
    """Return how many operations a store, or an expression, computes for one element; indices do not count."""
    call = hasattr(store, "args")
    own = _CALL_OPERATIONS if call else int(hasattr(store, "a") and _type_of(store) not in _NOT_COUNTED)
    parts = list(store.args) if call else [getattr(store, name) for name in _PARTS if hasattr(store, name)]
    return own + sum(operations(part) for part in parts if not isinstance(part, int | float))


def _type_of(expression: Any) -> str:
    return str(getattr(expression, "dtype", None) or expression.ty.dtype)


def unevenness(parts: int, machine: Machine) -> float:
    """Return the longest share of ``parts`` equal pieces of work over the mean, for the worst count of threads.

    The counts are 2 to all of the machine's: TVM's runtime gives each thread as many neighbouring pieces.
    """
    return max(-(-parts // threads) * threads / parts for threads in range(2, max(machine.threads, 2) + 1))


def even(parts: int, machine: Machine) -> bool:
    """Say whether threads that share so many pieces end at about the same time."""
    return unevenness(parts, machine) <= _EVEN


def shared(sizes: Sequence[int], machine: Machine) -> int:
    """Return how many of the outermost loops, of ``sizes``, are divided as one: the fewest that are even, or best."""
    worst = [unevenness(math.prod(sizes[: count + 1]), machine) for count in range(len(sizes))]
    return next((n for n, value in enumerate(worst) if value <= _EVEN), worst.index(min(worst))) + 1


def divide(sch: Any, loops: Sequence[Any], machine: Machine) -> int:
    """Divide the outermost of ``loops`` among threads; return how many of them are one loop now."""
    count = shared([int(sch.get(loop).extent) for loop in loops], machine)
    sch.parallel(sch.fuse(*loops[:count]) if count > 1 else loops[0])
    return count


def columns_apart(sch: Any, band: list[Any], columns: Any, machine: Machine) -> tuple[list[Any], Any]:
    """Divide the columns of tiles, too, where there are too few bands for all threads: each part pads for itself."""
    bands = math.prod(int(sch.get(loop).extent) for loop in band)
    best = min(
        _parts(int(sch.get(columns).extent), machine),
        key=lambda n: (not even(bands * n, machine), unevenness(bands * n, machine), n),
    )
    if even(bands, machine) or best == 1:
        return band, columns
    part, rest = sch.split(columns, [best, None])
    return [band[0], part, *band[1:]], rest


def each_has_columns(count: int, machine: Machine) -> bool:
    """Say whether ``count`` columns of tiles alone are equal parts for all threads of the machine."""
    return machine.threads > 1 and count % machine.threads == 0


def _parts(count: int, machine: Machine) -> list[int]:
    """Return the numbers of equal parts that ``count`` columns come in, at most one a thread."""
    return [n for n in range(1, machine.threads + 1) if count % n == 0]
