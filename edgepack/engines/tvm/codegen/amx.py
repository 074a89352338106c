"""Convolutions and products of bytes by AMX: a tile register holds 16 rows of 64 bytes.

TDPBUSD adds to a tile of sums int32 [16, 16] the products of activations uint8 [16, 64] with weights int8 [16, 16, 4],
exactly (Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2). A group of tiles is summed in
registers over all terms, stored once, and finished by what follows.

What one position reads of a row of the kernel lies together in memory, so that tiles of activations are loaded from
where they are: positions at the distance of a stride, terms in chunks of up to 64 bytes. Where the last chunk, or the
last group of positions, would pass the end, it begins earlier and repeats some, with weights of zero or equal results.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.engines.tvm.codegen.compute import as_positions
from edgepack.engines.tvm.codegen.window import TERMS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgepack.engines.tvm.codegen.compute import Build, Tensor
    from edgepack.engines.tvm.codegen.window import Window
    from edgepack.specs.types import Array

TILES = "edgepack.tiles"
JOINED = "joined"
INSTRUCTION = "edgepack.tdpbusd"
RULE = "tiles tdpbusd"
LANES = 16  # sums of a row of a tile
_ROWS = 16  # of a tile
_CHUNK_BYTES = 64  # of a row of a tile
_REGISTERS = 8
_MOST_ACTIVATIONS = _MOST_VECTORS = 3  # tiles of activations, and of weights, in a group
# Cycles of one TDPBUSD with few rows; with more it takes one for each row of the factor that has more of them. Measured
# on a Xeon of the Sapphire Rapids kind, as are 16 cycles for storing a tile.
_PRODUCT_CYCLES = 9.5
_LATENCY_CYCLES = 52  # until the next product can be added to the same tile (Intel's optimization reference manual)


@dataclass(frozen=True)
class Tiles:
    """A group of tiles: ``high`` x ``wide`` of ``rows`` positions, by ``vectors`` of 16 channels.

    A position reads ``lines`` rows of the kernel of ``line_bytes`` bytes each, in ``chunks`` of ``chunk_bytes``. The
    next position of a tile is ``step_bytes`` further on.
    """

    high: int
    wide: int
    rows: int
    vectors: int
    lines: int
    line_bytes: int
    chunks: int
    chunk_bytes: int
    step_bytes: int

    @property
    def positions(self) -> int:
        """Positions of a row of tiles."""
        return self.wide * self.rows

    @property
    def channels(self) -> int:
        """Output channels of a group."""
        return self.vectors * LANES

    @property
    def activations(self) -> int:
        """Tiles of activations."""
        return self.high * self.wide

    @property
    def registers(self) -> int:
        """Tile registers of a group: its sums, activations and weights."""
        return self.activations * self.vectors + self.activations + self.vectors

    def starts(self) -> list[int]:
        """Return where in a line each chunk begins."""
        return [min(n * self.chunk_bytes, self.line_bytes - self.chunk_bytes) for n in range(self.chunks)]


def chunks_of(line_bytes: int) -> tuple[int, int]:
    """Return how many chunks a line comes in and how long they are."""
    chunks = -(-line_bytes // _CHUNK_BYTES)
    return chunks, -(-line_bytes // (TERMS * chunks)) * TERMS


def lines_of(window: Window, inputs: int) -> tuple[int, int]:
    """Return how many lines a position reads and their bytes: rows of the kernel, or with dilation its places."""
    high, wide = window.kernel
    return (high, wide * inputs) if window.dilation[1] == 1 else (high * wide, inputs)


def pack(weights: Array, tiles: Tiles) -> Array:
    """Return [group, line * chunk, chunk_bytes / 4, channel, 4] of weights [output, height, width, input].

    Terms that a chunk repeats of the one before are zero.
    """
    outputs = weights.shape[0]
    groups = -(-outputs // tiles.channels)
    lines = np.zeros((groups * tiles.channels, tiles.lines, tiles.line_bytes), np.int8)
    lines[:outputs] = weights.reshape(outputs, tiles.lines, tiles.line_bytes)
    packed = np.zeros((groups * tiles.channels, tiles.lines, tiles.chunks, tiles.chunk_bytes), np.int8)
    for number, start in enumerate(tiles.starts()):
        packed[:, :, number] = lines[:, :, start : start + tiles.chunk_bytes]
        packed[:, :, number, : number * tiles.chunk_bytes - start] = 0
    packed = packed.reshape(groups, tiles.channels, tiles.lines * tiles.chunks, tiles.chunk_bytes // TERMS, TERMS)
    return np.ascontiguousarray(packed.transpose(0, 2, 3, 1, 4))


def annotation(tiles: Tiles) -> dict[str, dict[str, int]]:
    """Return the annotation of a block that sums by groups of tiles."""
    return {TILES: dataclasses.asdict(tiles)}


def tiles_of(annotation: Mapping[str, Any]) -> Tiles:
    """Return what the annotation ``TILES`` says."""
    return Tiles(**{name: int(value) for name, value in annotation.items()})


def _terms(tiles: Tiles) -> tuple[Any, Any, Any]:
    from tvm import te

    return (
        te.reduce_axis((0, tiles.lines * tiles.chunks), "chunk"),
        te.reduce_axis((0, tiles.chunk_bytes // TERMS), "four"),
        te.reduce_axis((0, TERMS), "byte"),
    )


def _begin(number: Any, size: int, full: int) -> Any:
    """Return where the group of this number begins, of ``size`` places among ``full``; the last one ends with them."""
    from tvm import te

    return number * size if full % size == 0 else te.min(number * size, full - size)


def _within(place: Any, size: int, full: int) -> tuple[Any, Any]:
    """Return the group that a place is taken from, and where it is there."""
    group = place // size
    return group, place - _begin(group, size, full)


def flat(tiles: Tiles, outputs: int, attrs: Mapping[str, Any]) -> Build:
    """Return a convolution of one position, or a product: [..., k] with weights of ``pack`` -> [..., outputs]."""
    from tvm import te

    def build(x: Tensor, w: Tensor) -> Tensor:
        *lead, _ = (int(size) for size in x.shape)
        positions, rows = math.prod(lead), tiles.positions
        chunk, four, byte = _terms(tiles)

        def total(m: Any, n: Any, row: Any, channel: Any) -> Any:
            index = place(_begin(m, rows, positions) + row, lead)
            k = start(chunk, tiles) + four * TERMS + byte
            value = x[(*index, k)].astype("int32") * w[n, chunk, four, channel, byte].astype("int32")
            return te.sum(value, axis=[chunk, four, byte])

        sums = te.compute(
            (-(-positions // rows), int(w.shape[0]), rows, tiles.channels), total, name="sums", attrs=attrs
        )

        def joined(m: Any, n: Any) -> Any:
            group, row = _within(m, rows, positions)
            return sums[group, n // tiles.channels, row, n % tiles.channels]

        # A stage of its own: TVM makes one number of a position's index in ``result`` only where nothing divides it.
        flattened = te.compute((positions, outputs), joined, name=JOINED)

        return as_positions(flattened, lead, outputs)

    return build


def place(position: Any, lead: list[int]) -> tuple[Any, ...]:
    """Return the index of a position in the dimensions ``lead``."""
    index = []
    for size in reversed(lead[1:]):
        index.append(position % size)
        position = position // size
    return (position, *reversed(index)) if lead else ()


def start(chunk: Any, tiles: Tiles) -> Any:
    """Return where in its line a chunk begins, for the number of one among all lines'."""
    number = chunk % tiles.chunks if tiles.lines > 1 else chunk
    return _begin(number, tiles.chunk_bytes, tiles.line_bytes)


def convolution(tiles: Tiles, window: Window, outputs: int, attrs: Mapping[str, Any]) -> Build:
    """Return a convolution without padding: [n, h, w, c] with weights of ``pack`` -> [n, oh, ow, outputs]."""
    from tvm import te

    def build(x: Tensor, w: Tensor) -> Tensor:
        batch, height, width, inputs = (int(size) for size in x.shape)
        high, wide = window.output(height, width)
        chunk, four, byte = _terms(tiles)

        def total(b: Any, y: Any, z: Any, n: Any, line: Any, column: Any, channel: Any) -> Any:
            row = (_begin(y, tiles.high, high) + line) * window.strides[0]
            first = (_begin(z, tiles.positions, wide) + column) * window.strides[1]
            number, k = chunk // tiles.chunks, start(chunk, tiles) + four * TERMS + byte
            if window.dilation[1] == 1:
                i, j, k = number, k // inputs, k % inputs
            else:
                i, j = number // window.kernel[1], number % window.kernel[1]
            value = x[b, row + i * window.dilation[0], first + j * window.dilation[1], k].astype("int32")
            return te.sum(value * w[n, chunk, four, channel, byte].astype("int32"), axis=[chunk, four, byte])

        groups = (-(-high // tiles.high), -(-wide // tiles.positions), int(w.shape[0]))
        sums = te.compute(
            (batch, *groups, tiles.high, tiles.positions, tiles.channels), total, name="sums", attrs=attrs
        )

        def result(b: Any, y: Any, z: Any, n: Any) -> Any:
            line_group, line = _within(y, tiles.high, high)
            column_group, column = _within(z, tiles.positions, wide)
            return sums[b, line_group, column_group, n // tiles.channels, line, column, n % tiles.channels]

        return te.compute((batch, high, wide, outputs), result, name="result")

    return build


def choose(lines: int, line_bytes: int, step_bytes: int, grid: tuple[int, int], outputs: int) -> Tiles:
    """Return the group of tiles that takes the fewest cycles for a grid of positions and so many channels."""
    height, width = grid
    chunks, chunk_bytes = chunks_of(line_bytes)
    found = [
        Tiles(high, wide, rows, vectors, lines, line_bytes, chunks, chunk_bytes, step_bytes)
        for high in range(1, min(height, _MOST_ACTIVATIONS) + 1)
        for wide in range(1, _MOST_ACTIVATIONS // high + 1)
        for vectors in range(1, min(-(-outputs // LANES), _MOST_VECTORS) + 1)
        for rows in range(min(width // wide, _ROWS), 0, -1)
    ]
    fitting = [tiles for tiles in found if tiles.registers <= _REGISTERS]
    return min(fitting, key=lambda tiles: cycles(tiles, grid, outputs))


def cycles(tiles: Tiles, grid: tuple[int, int], outputs: int) -> float:
    """Return the cycles of all sums of a grid of positions: those of its groups of tiles."""
    height, width = grid
    groups = -(-height // tiles.high) * -(-width // tiles.positions) * -(-outputs // tiles.channels)
    return groups * group_cycles(tiles)


def group_cycles(tiles: Tiles) -> float:
    """Return the cycles of a group of tiles: products or loads, whichever are more, and what stores the sums."""
    sums = tiles.activations * tiles.vectors
    weights_rows = tiles.chunk_bytes // TERMS
    products = sums * max(tiles.rows, weights_rows, _PRODUCT_CYCLES)
    loads = (tiles.activations * tiles.rows + tiles.vectors * weights_rows) / 2
    return tiles.lines * tiles.chunks * max(products, loads, _LATENCY_CYCLES) + sums * (_ROWS + tiles.rows)
