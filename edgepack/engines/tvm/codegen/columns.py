"""Depthwise convolutions of bytes by the instruction that multiplies four bytes of each channel at once.

Each sum has one channel's terms alone, so that four neighbours in memory are of four sums. Here four rows of a picture
are put in order first, a row of the output at a time: the bytes of one channel and column, below each other, in one
int32. A window of 3x3 then takes three instructions for a vector of sums in place of nine multiply-adds and as many
conversions; the row that is put in order stays in the first cache. Rows that the window does not have weigh zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.engines.tvm.codegen import threads
from edgepack.engines.tvm.codegen.compute import annotation
from edgepack.engines.tvm.codegen.steps import cycles, extent, inline_behind, lanes_of, registers, whole
from edgepack.engines.tvm.codegen.window import TERMS, Window

if TYPE_CHECKING:
    from edgepack.engines.tvm.codegen.compute import Build, Kernel, Tensor
    from edgepack.engines.tvm.codegen.machine import Machine
    from edgepack.engines.tvm.codegen.workload import Choice
    from edgepack.specs.types import Array


def pack(weights: Array) -> Array:
    """Return [kernel height / 4, kernel width, channel, 4] of weights [channel, kernel height, kernel width, 1]."""
    channels, high, wide, _ = weights.shape
    fours = -(-high // TERMS)
    padded = np.zeros((channels, fours * TERMS, wide), weights.dtype)
    padded[:, :high] = weights[..., 0]
    return np.ascontiguousarray(padded.reshape(channels, fours, TERMS, wide).transpose(1, 3, 0, 2))


def convolution(choice: Choice, window: Window, instruction: str) -> Build:
    """Return a depthwise convolution without padding: bytes [n, h, w, c], weights as packed -> int32 [n, oh, ow, c]."""
    from tvm import te, tirx

    tile = choice.tile

    def build(x: Tensor, w: Tensor) -> Tensor:
        batch, height, width, channels = (int(size) for size in x.shape)
        high, wide = window.output(height, width)
        full_wide = -(-wide // tile.width) * tile.width
        fours = int(w.shape[0])

        def word(b: Any, y: Any, four: Any, z: Any, c: Any) -> Any:
            def of(first: int) -> Any:
                total: Any = None
                for place in range(min(TERMS, window.kernel[0] - first)):
                    row = y * window.strides[0] + (first + place) * window.dilation[0]
                    # As uint8: the sign of an int8 would reach into the bytes above it.
                    byte = x[b, row, z, c].astype("uint8").astype("int32") << (8 * place)
                    total = byte if total is None else total | byte
                return total

            value = of((fours - 1) * TERMS)
            for number in range(fours - 2, -1, -1):
                value = tirx.if_then_else(four == number, of(number * TERMS), value)
            return value

        ordered = te.compute((batch, high, fours, width, channels), word, name="ordered")
        four, j = te.reduce_axis((0, fours), "four"), te.reduce_axis((0, window.kernel[1]), "j")
        # The number of a byte is of 64 bits, as sizes are, or the word would be widened to be shifted by it.
        byte = te.reduce_axis((0, tirx.const(TERMS, "int64")), "byte")

        def term(b: Any, y: Any, z: Any, c: Any) -> Any:
            z = te.min(z, wide - 1) if full_wide != wide else z
            given = ordered[b, y, four, z * window.strides[1] + j * window.dilation[1], c]
            given = (given >> (byte * 8).astype("int32")).astype(x.dtype).astype("int32")
            return given * w[four, j, c, byte].astype("int32")

        sums = te.compute(
            (batch, high, full_wide, channels),
            lambda *index: te.sum(term(*index), axis=[four, j, byte]),
            name="sums",
            attrs=annotation("columns", choice, instruction),
        )
        return te.compute((batch, high, wide, channels), lambda *index: sums[index], name="result")

    return build


def by_columns(sch: Any, sums: Any, kernel: Kernel, machine: Machine) -> None:
    """Put the rows of one row of the output in order, then compute that row's tiles, channels outside."""
    tile, last = kernel.tile, inline_behind(sch, sums)
    (ordered,) = sch.get_producers(sums)
    b, y, z, n = sch.get_loops(last)
    z_outer, z_inner = sch.split(z, [None, tile.width])
    columns, vectors, lanes = sch.split(n, [None, tile.vectors, tile.lanes])
    sch.reorder(b, y, columns, z_outer, z_inner, vectors, lanes)
    divided = threads.pays(cycles(sch, sums, last, tile, TERMS), machine)
    sch.compute_at(sums, z_outer, preserve_unit_loops=True)
    sch.set_scope(sums, 0, "local")
    sch.compute_at(ordered, y, preserve_unit_loops=True)
    *_, four, column, channel = sch.get_loops(ordered)
    sch.unroll(four)
    along = sch.fuse(column, channel)
    sch.vectorize(sch.split(along, [None, lanes_of(extent(sch, along) or 1, machine)])[1])
    if divided:
        threads.divide(sch, [b, y], machine)
    registers(sch, sums, kernel.instruction, tile)
    for loop in (z_inner, vectors):
        sch.unroll(loop)
    if whole(sch, last, tile):
        sch.vectorize(lanes)
