"""The arithmetic of convolutions and products as tensor expressions, laid out for the schedules of ``schedules.py``.

Activations are channels last. Weights are packed at compile time so that one micro-kernel reads them in order:
[tile of output channels, kernel height, kernel width, input channel, channel in the tile], zeros where the last tile
is not full. The block that sums carries a ``Kernel`` in the annotation ``KERNEL``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from edgepack.engines.tvm.codegen.borders import INSIDE, inside
from edgepack.engines.tvm.codegen.window import EIGHT, TERMS, Window

if TYPE_CHECKING:
    from edgepack.engines.tvm.codegen.tile import Blocking
    from edgepack.engines.tvm.codegen.workload import Choice, Origin
    from edgepack.specs.types import Array

KERNEL = "edgepack.kernel"
Tensor: TypeAlias = Any  # tvm.te.Tensor
Build: TypeAlias = Callable[..., Tensor]
Kind: TypeAlias = Literal[
    "flat", "window", "depthwise", "columns", "batched", "matrix", "activations", "winograd", "tiles"
]


@dataclass(frozen=True)
class Kernel:
    """The kind of kernel that a block sums, its tile, who chose that, and the tensor intrinsic that it is for."""

    kind: Kind
    tile: Blocking
    origin: Origin
    instruction: str | None


def annotation(kind: Kind, choice: Choice, instruction: str | None = None) -> dict[str, dict[str, str | int]]:
    """Return the annotation of a block that sums: a map, of which ``kernel_of`` makes a ``Kernel`` again."""
    said = {"kind": kind, "origin": choice.origin, **dataclasses.asdict(choice.tile)}
    return {KERNEL: said if instruction is None else {**said, "instruction": instruction}}


def kernel_of(annotation: Mapping[str, Any]) -> Kernel:
    """Return what the annotation ``KERNEL`` of a block that sums says."""
    from edgepack.engines.tvm.codegen.tile import Blocking

    said = dict(annotation.items())
    tile = Blocking(**{field.name: said.pop(field.name) for field in dataclasses.fields(Blocking)})
    return Kernel(said["kind"], tile, said["origin"], said.get("instruction"))


def pack_eights(weights: Array, channels: int) -> Array:
    """Return [tile, kernel height * kernel width * input / 8, channel, 8] of weights [output, ..., input]."""
    outputs = weights.shape[0]
    tiles = -(-outputs // channels)
    padded = np.zeros((tiles * channels, weights[0].size // EIGHT, EIGHT), weights.dtype)
    padded[:outputs] = weights.reshape(outputs, -1, EIGHT)
    return np.ascontiguousarray(np.moveaxis(padded.reshape(tiles, channels, -1, EIGHT), 1, 2))


def pack_weights(weights: Array, channels: int, *, fours: bool = False) -> Array:
    """Return [tile, kernel height, kernel width, input, channel] of weights [output, height, width, input].

    With ``fours`` the input channels come in fours: [tile, kernel height, kernel width, input / 4, channel, 4].
    """
    outputs, *rest = weights.shape
    tiles = -(-outputs // channels)
    padded = np.zeros((tiles * channels, *rest), weights.dtype)
    padded[:outputs] = weights
    if fours:
        padded = padded.reshape(tiles, channels, *rest[:-1], rest[-1] // TERMS, TERMS)
        return np.ascontiguousarray(np.moveaxis(padded, 1, -2))
    return np.ascontiguousarray(np.moveaxis(padded.reshape(tiles, channels, *rest), 1, -1))


def pad(x: Tensor, window: Window, value: float = 0, *, channels_first: bool = False) -> Tensor:
    """Return ``x`` [n, h, w, c], or [n, c, h, w], with the window's padding around it, or itself when there is none."""
    from tvm import tirx, topi

    top, left, bottom, right = window.padding
    if not any(window.padding):
        return x
    before, after = (0, top, left, 0), (0, bottom, right, 0)
    if channels_first:
        before, after = (0, 0, top, left), (0, 0, bottom, right)
    return topi.nn.pad(x, before, after, tirx.const(value, x.dtype), name="pad")


def _sum(
    axes: list[Any], x: Callable[[Any], Any], w: Callable[..., Any], inputs: int, sums: str, *, fours: bool
) -> Any:
    """Return the sum, of type ``sums``, of ``x(input)`` times ``w(input)``, or ``w(four, byte)``, over all inputs."""
    from tvm import te

    if not fours:
        k = te.reduce_axis((0, inputs), "k")
        return te.sum(_cast(x(k), sums) * _cast(w(k), sums), axis=[*axes, k])
    four, byte = te.reduce_axis((0, inputs // TERMS), "four"), te.reduce_axis((0, TERMS), "byte")
    return te.sum(_cast(x(four * TERMS + byte), sums) * _cast(w(four, byte), sums), axis=[*axes, four, byte])


def _cast(value: Any, dtype: str) -> Any:
    return value if str(value.dtype) == dtype else value.astype(dtype)


def _place(m: Any, lead: list[int], full: int) -> tuple[Any, ...]:
    """Return the index in dimensions ``lead`` of the ``m``-th of ``full`` positions; past the end it is the last."""
    from tvm import te

    positions = math.prod(lead)
    m = te.min(m, positions - 1) if full != positions else m
    index = []
    for size in reversed(lead):
        index.append(m % size)
        m = m // size
    return tuple(reversed(index))


def as_positions(sums: Tensor, lead: list[int], outputs: int) -> Tensor:
    """Return sums [position, channel] as [*lead, outputs]."""
    from tvm import te

    def result(*index: Any) -> Any:
        m: Any = 0
        for i, size in zip(index[:-1], lead, strict=True):
            m = m * size + i
        return sums[m, index[-1]]

    return te.compute((*lead, outputs), result, name="result")


def pointwise(choice: Choice, outputs: int, sums_type: str = "float32", instruction: str | None = None) -> Build:
    """Return a convolution of one position, or a product: [..., k] with [tiles, k, channels] -> [..., outputs].

    All positions are one dimension, so that a tile may run over the ends of rows.
    """
    from tvm import te

    tile = choice.tile

    def build(x: Tensor, w: Tensor) -> Tensor:
        *lead, terms = (int(size) for size in x.shape)
        positions = int(np.prod(lead))
        rows, channels = tile.width, tile.channels
        full = -(-positions // rows) * rows
        fours = len(w.shape) == 4

        sums = te.compute(
            (full, int(w.shape[0]) * channels),
            lambda m, n: _sum(
                [],
                lambda k: x[(*_place(m, lead, full), k)],
                lambda k, *byte: w[(n // channels, k, n % channels, *byte)],
                terms,
                sums_type,
                fours=fours,
            ),
            name="sums",
            attrs=annotation("flat", choice, instruction),
        )

        return as_positions(sums, lead, outputs)

    return build


def convolution(
    choice: Choice, window: Window, outputs: int, sums_type: str = "float32", instruction: str | None = None,
    *, channels_first: bool = False,
) -> Build:  # fmt: skip
    """Return a direct convolution: [n, h, w, c] with packed weights -> [n, oh, ow, outputs].

    With groups, a tile's channels are all of one group. ``channels_first``: the input,
    not the output, is [n, c, h, w].
    """
    from tvm import te

    tile = choice.tile

    def build(x: Tensor, w: Tensor) -> Tensor:
        batch, *sizes = (int(size) for size in x.shape)
        high, wide = window.output(*(sizes[1:] if channels_first else sizes[:2]))
        tiles, kernel_high, kernel_wide, inputs, channels, *four = (int(size) for size in w.shape)
        inputs *= math.prod(four)
        full_high, full_wide = -(-high // tile.height) * tile.height, -(-wide // tile.width) * tile.width
        padded = pad(x, window, channels_first=channels_first)
        tiles_a_group = tiles // window.groups
        i = te.reduce_axis((0, kernel_high), "i")
        j = te.reduce_axis((0, kernel_wide), "j")

        def total(b: Any, y: Any, z: Any, n: Any) -> Any:
            y = te.min(y, high - 1) if full_high != high else y
            z = te.min(z, wide - 1) if full_wide != wide else z
            row = y * window.strides[0] + i * window.dilation[0]
            column = z * window.strides[1] + j * window.dilation[1]
            first = n // (channels * tiles_a_group) * inputs if window.groups > 1 else 0

            def value(k: Any) -> Any:
                return padded[(b, first + k, row, column) if channels_first else (b, row, column, first + k)]

            def weight(k: Any, *byte: Any) -> Any:
                return w[(n // channels, i, j, k, n % channels, *byte)]

            return _sum([i, j], value, weight, inputs, sums_type, fours=bool(four))

        sums = te.compute(
            (batch, full_high, full_wide, tiles * channels),
            total,
            name="sums",
            attrs=annotation("window", choice, instruction),
        )
        return te.compute((batch, high, wide, outputs), lambda *index: sums[index], name="result")

    return build


def batched_bytes(choice: Choice, instruction: str) -> Build:
    """Return ``batched`` of bytes with int8, in int32: [..., m, k] with [..., k, n], k a multiple of four.

    The second factor is put in order first: four bytes of each column in one int32, tile by tile.
    """
    from tvm import te, tirx

    tile = choice.tile

    def build(a: Tensor, b: Tensor) -> Tensor:
        *lead, rows, terms = (int(size) for size in a.shape)
        columns, channels = int(b.shape[-1]), tile.channels
        full_rows, tiles = -(-rows // tile.width) * tile.width, -(-columns // channels)

        def word(*index: Any) -> Any:
            *outer, t, four, c = index
            n = t * channels + c
            n = te.min(n, columns - 1) if tiles * channels != columns else n
            total = b[(*outer, four * TERMS + TERMS - 1, n)].astype("int32")
            for byte in range(TERMS - 2, -1, -1):
                total = (total << 8) | (b[(*outer, four * TERMS + byte, n)].astype("int32") & 255)
            return total

        ordered = te.compute((*lead, tiles, terms // TERMS, channels), word, name="ordered")
        # The number of a byte is of 64 bits, as sizes are, or the word would be widened to be shifted by it.
        four, byte = (
            te.reduce_axis((0, terms // TERMS), "four"),
            te.reduce_axis((0, tirx.const(TERMS, "int64")), "byte"),
        )

        def term(*index: Any) -> Any:
            *outer, m, n = index
            m = te.min(m, rows - 1) if full_rows != rows else m
            second = (ordered[(*outer, n // channels, four, n % channels)] >> (byte * 8).astype("int32")).astype("int8")
            return a[(*outer, m, four * TERMS + byte)].astype("int32") * second.astype("int32")

        sums = te.compute(
            (*lead, full_rows, tiles * channels),
            lambda *index: te.sum(term(*index), axis=[four, byte]),
            name="sums",
            attrs=annotation("activations", choice, instruction),
        )
        return te.compute((*lead, rows, columns), lambda *index: sums[index], name="result")

    return build


def matrix(choice: Choice, window: Window, outputs: int, instruction: str) -> Build:
    """Return a convolution, or a product, of bytes by SMMLA: [n, h, w, k], or [..., k] -> [..., outputs].

    Positions are one dimension and come in twos. What each of them multiplies is put in order first, eight bytes of
    one and eight of the next; weights are [tiles, kernel height * kernel width * k / 8, channels, 8].
    """
    from tvm import te

    tile = choice.tile

    def build(x: Tensor, w: Tensor) -> Tensor:
        *lead, inputs = (int(size) for size in x.shape)
        if not window.pointwise:
            lead = [lead[0], *window.output(lead[1], lead[2])]
        positions, rows, channels = int(np.prod(lead)), tile.width, tile.channels
        pairs = -(-positions // rows) * rows // 2
        eights = inputs // EIGHT

        def value(pair: Any, chunk: Any, one: Any, byte: Any) -> Any:
            index = _place(pair * 2 + one, lead, 2 * pairs)
            if window.pointwise:
                return x[(*index, chunk * EIGHT + byte)]
            place = chunk // eights
            b, y, z = index
            row = y * window.strides[0] + place // window.kernel[1] * window.dilation[0]
            column = z * window.strides[1] + place % window.kernel[1] * window.dilation[1]
            return x[b, row, column, chunk % eights * EIGHT + byte]

        ordered = te.compute((pairs, int(w.shape[1]), 2, EIGHT), value, name="ordered")
        chunk, byte = te.reduce_axis((0, int(w.shape[1])), "chunk"), te.reduce_axis((0, EIGHT), "byte")
        sums = te.compute(
            (2 * pairs, int(w.shape[0]) * channels),
            lambda m, n: te.sum(
                _cast(ordered[m // 2, chunk, m % 2, byte], "int32")
                * _cast(w[n // channels, chunk, n % channels, byte], "int32"),
                axis=[chunk, byte],
            ),
            name="sums",
            attrs=annotation("matrix", choice, instruction),
        )

        return as_positions(sums, lead, outputs)

    return build


def depthwise(choice: Choice, window: Window) -> Build:
    """Return a depthwise convolution: [n, h, w, c] with weights [kernel height, kernel width, c] -> [n, oh, ow, c]."""
    from tvm import te

    tile = choice.tile

    def build(x: Tensor, w: Tensor) -> Tensor:
        batch, height, width, channels = (int(size) for size in x.shape)
        high, wide = window.output(height, width)
        full_wide = -(-wide // tile.width) * tile.width
        padded = pad(x, window)
        i = te.reduce_axis((0, window.kernel[0]), "i")
        j = te.reduce_axis((0, window.kernel[1]), "j")

        def term(b: Any, y: Any, z: Any, c: Any) -> Any:
            z = te.min(z, wide - 1) if full_wide != wide else z
            row = y * window.strides[0] + i * window.dilation[0]
            column = z * window.strides[1] + j * window.dilation[1]
            return _cast(padded[b, row, column, c], "float32") * _cast(w[i, j, c], "float32")

        sums = te.compute(
            (batch, high, full_wide, channels),
            lambda b, y, z, c: te.sum(term(b, y, z, c), axis=[i, j]),
            name="sums",
            attrs={**annotation("depthwise", choice), INSIDE: inside(tile, window, width, wide)},
        )
        return te.compute((batch, high, wide, channels), lambda *index: sums[index], name="result")

    return build


def batched(choice: Choice) -> Build:
    """Return a product of two activations: [..., m, k] with [..., k, n] -> [..., m, n], leading dimensions alike."""
    from tvm import te

    tile = choice.tile

    def build(a: Tensor, b: Tensor) -> Tensor:
        *lead, rows, terms = (int(size) for size in a.shape)
        columns = int(b.shape[-1])
        full_rows = -(-rows // tile.width) * tile.width
        k = te.reduce_axis((0, terms), "k")

        def term(*index: Any) -> Any:
            *outer, m, n = index
            m = te.min(m, rows - 1) if full_rows != rows else m
            return _cast(a[(*outer, m, k)], "float32") * _cast(b[(*outer, k, n)], "float32")

        sums = te.compute(
            (*lead, full_rows, columns),
            lambda *index: te.sum(term(*index), axis=k),
            name="sums",
            attrs=annotation("batched", choice),
        )
        return te.compute((*lead, rows, columns), lambda *index: sums[index], name="result")

    return build
