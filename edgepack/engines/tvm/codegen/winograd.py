"""Convolutions of 3x3 with 16 products in place of 36: Winograd's minimal filtering, F(2x2, 3x3).

For each 2x2 outputs and the 4x4 inputs d that they read, with weights g (Lavin and Gray, "Fast Algorithms for
Convolutional Neural Networks", 2016, equations 5 to 8):

    Y = A'T [ (G g GT) * (B'T d B) ] A       summed over input channels between the brackets

G g GT is computed once, in float64. B and A hold 0, 1 and -1 alone, so that what is lost is the rounding of a few more
additions, and each output depends on its own nine inputs alone: NaN goes where it goes in the plain sum. An infinity
becomes NaN, because it is subtracted from itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.engines.tvm.codegen.compute import annotation, pad
from edgepack.engines.tvm.codegen.window import PATCH, PATCH_INPUTS, PRODUCTS, Window, patches

if TYPE_CHECKING:
    from edgepack.engines.tvm.codegen.compute import Build, Tensor
    from edgepack.engines.tvm.codegen.workload import Choice
    from edgepack.specs.types import Array

_G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])


def pack(weights: Array, channels: int) -> Array:
    """Return G g GT as [tile, product, input, channel in the tile] of weights [output, 3, 3, input]."""
    outputs, _, _, inputs = weights.shape
    made = np.einsum("ai,oijk,bj->abko", _G, weights.astype(np.float64), _G).astype(np.float32)
    tiles = -(-outputs // channels)
    padded = np.zeros((PRODUCTS, inputs, tiles * channels), np.float32)
    padded[..., :outputs] = made.reshape(PRODUCTS, inputs, outputs)
    return np.ascontiguousarray(np.moveaxis(padded.reshape(PRODUCTS, inputs, tiles, channels), 2, 0))


def convolution(choice: Choice, window: Window, outputs: int) -> Build:
    """Return a convolution of 3x3 with strides of one: [n, h, w, c] with weights of ``pack`` -> [n, oh, ow, outputs].

    The input's patches are [product, n, patch row, patch column, c].
    """
    from tvm import te

    tile = choice.tile

    def build(x: Tensor, w: Tensor) -> Tensor:
        batch, height, width, inputs = (int(size) for size in x.shape)
        high, wide = window.output(height, width)
        rows, columns = patches(high), patches(wide)
        full_rows, full_columns = -(-rows // tile.height) * tile.height, -(-columns // tile.width) * tile.width
        tiles, channels = int(w.shape[0]), int(w.shape[3])
        padded = pad(x, _covering(window, high, wide))

        def transformed(p: Any, b: Any, y: Any, z: Any, k: Any) -> Any:
            def side(row: Any) -> Any:
                return _difference(p % PATCH_INPUTS, lambda column: padded[b, y * PATCH + row, z * PATCH + column, k])

            return _difference(p // PATCH_INPUTS, side)

        patched = te.compute((PRODUCTS, batch, rows, columns, inputs), transformed, name="patched")
        k = te.reduce_axis((0, inputs), "k")

        def total(p: Any, b: Any, y: Any, z: Any, n: Any) -> Any:
            y = te.min(y, rows - 1) if full_rows != rows else y
            z = te.min(z, columns - 1) if full_columns != columns else z
            return te.sum(patched[p, b, y, z, k] * w[n // channels, p, k, n % channels], axis=k)

        sums = te.compute(
            (PRODUCTS, batch, full_rows, full_columns, tiles * channels),
            total,
            name="sums",
            attrs=annotation("winograd", choice),
        )

        def result(b: Any, y: Any, z: Any, n: Any) -> Any:
            def side(row: int) -> Any:
                return _total(z % PATCH, lambda column: sums[row * PATCH_INPUTS + column, b, y // PATCH, z // PATCH, n])

            return _total(y % PATCH, side)

        return te.compute((batch, high, wide, outputs), result, name="result")

    return build


def _covering(window: Window, high: int, wide: int) -> Window:
    """Return the window with padding up to the end of the last patches."""
    top, left, bottom, right = window.padding
    more = (top, left, bottom + high % PATCH, right + wide % PATCH)
    return Window(window.kernel, window.strides, more, window.dilation, window.groups)


def _difference(place: Any, of: Any) -> Any:
    """Return row ``place`` of B'T times a vector: d0 - d2, d1 + d2, d2 - d1, d1 - d3."""
    from tvm import tirx

    first = tirx.Select(place == 0, 0, tirx.Select(place == 2, 2, 1))
    second = tirx.Select(place < 2, 2, tirx.Select(place == 2, 1, 3))
    one, other = of(first), of(second)
    return tirx.Select(place == 1, one + other, one - other)


def _total(place: Any, of: Any) -> Any:
    """Return row ``place`` of A'T times a vector: m0 + m1 + m2, m1 - m2 - m3."""
    from tvm import tirx

    return tirx.Select(place == 0, of(0) + of(1) + of(2), of(1) - of(2) - of(3))
