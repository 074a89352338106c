"""How large the tile is that one micro-kernel computes in registers, chosen from the machine and the sizes alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgepack.engines.tvm.codegen.machine import Machine

# Cycles in which a fused multiply-add's result is not there yet, times two that start in each cycle: fewer independent
# sums than this leave the units idle (4 x 2 on Intel's and Arm's cores of this decade, from their optimization guides;
# one more, as no core fills every slot).
_SUMS_IN_FLIGHT = 9
# Cycles that one step of the loop over terms costs beside its multiply-adds and loads. With this and the 9 above the
# count ranks the tiles of 15 kernels of MobileNetV2 as they were measured on a Xeon with AVX-512 ('edgepack tune').
_STEP_CYCLES = 0.5
_NARROWEST_BITS = 128  # every architecture here has vectors of this width inside its wider ones
_MOST_ROWS = 32
_MOST_DEPTHWISE_ROWS = 8


@dataclass(frozen=True)
class Blocking:
    """A tile of ``height`` x ``width`` output positions and ``vectors`` x ``lanes`` output channels.

    ``weights_outer``: the weights of one tile's channels stay in cache while all positions go by, not the reverse.
    """

    height: int
    width: int
    vectors: int
    lanes: int
    weights_outer: bool

    @property
    def channels(self) -> int:
        """Output channels of one tile."""
        return self.vectors * self.lanes


def lanes_for(channels: int, machine: Machine) -> int:
    """Return the most lanes that divide ``channels``, or the narrowest vector's where none does."""
    narrowest = _NARROWEST_BITS // 32
    lanes = machine.lanes()
    while lanes > narrowest and channels % lanes:
        lanes //= 2
    return lanes


def choose(
    height: int, width: int, channels: int, terms: int, machine: Machine, item_bytes: int = 4, *, whole: bool = False
) -> Blocking:
    """Return the tile for ``height`` x ``width`` positions and ``channels``, each a sum of ``terms`` products.

    The best has the least time by a count of instructions: multiply-adds and loads at two a cycle each, what lies
    outside the output included. Sums, one tile row of weights and one broadcast value leave a register. Vectors
    may be wider than what divides ``channels``, unless these must be ``whole``.
    """
    dividing = lanes_for(channels, machine)
    best, best_time = Blocking(1, 1, 1, dividing, False), float("inf")
    for lanes in dict.fromkeys((dividing, dividing if whole else machine.lanes())):
        for vectors in range(1, 7):
            if vectors > 1 and vectors * lanes >= channels + lanes:
                continue
            for rows_high, rows_wide in _tiles(height, width):
                if rows_high * rows_wide * vectors + vectors + 1 >= machine.registers:
                    continue  # with every register taken, LLVM spills some: a quarter slower with AVX2
                tile = Blocking(rows_high, rows_wide, vectors, lanes, False)
                time = cycles(tile, height, width, channels, terms)
                if time < best_time:
                    best, best_time = tile, time
    # Either the weights go by once for every row of tiles, or the positions once for every column of tiles.
    outer = terms * channels * item_bytes > machine.l2_bytes // 2 or channels >= 4 * height * width
    return Blocking(best.height, best.width, best.vectors, best.lanes, outer)


def pairs(positions: int, channels: int, terms: int, machine: Machine) -> Blocking:
    """Return the tile of SMMLA, which multiplies two positions by two channels: positions come in twos.

    ``terms`` are the eights of products in a sum, each of one byte by one byte.
    """
    lanes = _NARROWEST_BITS // 32
    best, best_time = Blocking(1, 2, 1, lanes, False), float("inf")
    for vectors in range(1, 7):
        tile_channels = vectors * lanes
        if vectors > 1 and tile_channels >= channels + tile_channels // vectors:
            continue
        for rows in range(2, _MOST_ROWS, 2):
            sums = rows * vectors  # registers: each holds two positions by two channels
            if sums + rows // 2 + 1 > machine.registers:
                continue
            tiles = -(-positions // rows) * -(-channels // tile_channels)
            cycles = max(sums / 2, (rows / 2 + tile_channels / 2) / 2, _SUMS_IN_FLIGHT / 2)
            time = tiles * (cycles * terms + sums)
            if time < best_time:
                best, best_time = Blocking(1, rows, vectors, lanes, False), time
    outer = terms * 8 * channels > machine.l2_bytes // 2 or channels >= 4 * positions
    return Blocking(1, best.width, best.vectors, best.lanes, outer)


def cycles(tile: Blocking, height: int, width: int, channels: int, terms: int) -> float:
    """Return the cycles that all sums take, by a count of instructions: two multiply-adds or loads in each."""
    rows, sums = tile.height * tile.width, tile.height * tile.width * tile.vectors
    tiles = -(-height // tile.height) * -(-width // tile.width) * -(-channels // tile.channels)
    each = _step(rows, tile.vectors)
    # Each sum is finished and stored once: a vector at a time, or value by value where the last one is not full.
    return tiles * (each * terms + sums * (1 if channels % tile.lanes == 0 else tile.lanes))


def _step(rows: int, vectors: int) -> float:
    """Return the cycles of one term of every sum of a tile."""
    return max(rows * vectors / 2, (rows + vectors) / 2, _SUMS_IN_FLIGHT / 2) + _STEP_CYCLES


def _tiles(height: int, width: int) -> list[tuple[int, int]]:
    """Return the tiles to try: parts of one row, and several whole rows where a row is short."""
    found = [(1, part) for part in range(1, min(width, _MOST_ROWS) + 1)]
    if width < _MOST_ROWS:
        found += [(rows, width) for rows in range(2, min(height, _MOST_ROWS // width) + 1)]
    return found


def depthwise(width: int, channels: int, machine: Machine) -> Blocking:
    """Return the tile of a depthwise convolution of any window: positions of a row, by the same count as ``choose``.

    The window's weights come from cache with each of its places: keeping them in registers is not worth fewer sums.
    """
    lanes = lanes_for(channels, machine)
    rows = min(range(1, min(width, _MOST_DEPTHWISE_ROWS) + 1), key=lambda n: -(-width // n) * _step(n, 1))
    return Blocking(1, rows, 1, lanes, False)
