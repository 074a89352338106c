"""How the loops of a convolution by patches (``winograd.py``) are arranged.

For a band of patch rows: the input's patches are put together once; then, for one tile's width of output channels at a
time and a block of patches, the sums of all 16 products, and from these the outputs. A product's weights stay in the
first cache while the tiles of the block go by.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgepack.engines.tvm.codegen import threads
from edgepack.engines.tvm.codegen.steps import SPATIAL, cycles, extent, inline_behind, lanes_of, registers, whole
from edgepack.engines.tvm.codegen.window import PATCH, PRODUCTS

if TYPE_CHECKING:
    from edgepack.engines.tvm.codegen.compute import Kernel
    from edgepack.engines.tvm.codegen.machine import Machine
    from edgepack.engines.tvm.codegen.tile import Blocking

_ITEM_BYTES = 4
# Shares of the second-level cache: of a band's patches beside weights that stay there too, or that go by once for each
# band; and of a block's sums.
_BAND_SHARE, _BAND_SHARE_OUTER, _BLOCK_SHARE = 4, 2, 16


@dataclass(frozen=True)
class Parts:
    """How many bands of patch rows there are; the patch ``rows`` and ``columns`` of a block."""

    bands: int
    rows: int
    columns: int


def by_patches(sch: Any, sums: Any, kernel: Kernel, machine: Machine) -> None:
    """Arrange the function of a convolution by patches."""
    tile = kernel.tile
    last = inline_behind(sch, sums)
    (patched,) = sch.get_producers(sums)
    pads = sch.get_producers(patched)
    divided = threads.pays(cycles(sch, sums, last, tile, 1), machine)
    b, y, z, n = sch.get_loops(last)
    parts = _parts(sch, sums, patched, tile, machine, divided=divided)
    band, y_block, y_patch, row = sch.split(y, [parts.bands, None, parts.rows, PATCH])
    z_block, z_patch, column = sch.split(z, [None, parts.columns, PATCH])
    columns, vectors, lanes = sch.split(n, [None, tile.vectors, tile.lanes])
    outer = [b, band]
    if divided:
        outer, columns = threads.columns_apart(sch, outer, columns, machine)
    sch.reorder(*outer, columns, y_block, z_block, y_patch, z_patch, vectors, row, column, lanes)
    _sums(sch, sums, z_block, tile)
    _patches(sch, patched, outer[-1], machine)
    for block_of_pad in pads:
        sch.compute_at(block_of_pad, outer[-1], preserve_unit_loops=True)
        _vectorize_last(sch, block_of_pad, machine)
    if divided:
        threads.divide(sch, outer, machine)  # not once the start of the sums is a block of its own
    registers(sch, sums, None, tile)
    for loop in (vectors, row, column):
        sch.unroll(loop)
    if whole(sch, last, tile):
        sch.vectorize(lanes)


def _parts(sch: Any, sums: Any, patched: Any, tile: Blocking, machine: Machine, *, divided: bool) -> Parts:
    """Return the parts that fit into the shares of the second-level cache, in whole tiles."""
    _, _, rows, columns, _ = (int(v.dom.extent) for v in sch.get(sums).iter_vars if int(v.iter_type) == SPATIAL)
    tile_rows, tile_columns = rows // tile.height, columns // tile.width
    patch_bytes = PRODUCTS * _ITEM_BYTES * int(sch.get(patched).iter_vars[-1].dom.extent)
    share = machine.l2_share_bytes // (_BAND_SHARE_OUTER if tile.weights_outer else _BAND_SHARE)
    most = share // (patch_bytes * tile.height * columns)
    band = _divisor(tile_rows, most)
    if divided and not tile.weights_outer:  # else each thread has channels of its own
        evenly = [n for n in range(1, most + 1) if tile_rows % n == 0 and threads.even(tile_rows // n, machine)]
        band = max(evenly, default=band)
    block = machine.l2_share_bytes // _BLOCK_SHARE // (PRODUCTS * _ITEM_BYTES * tile.channels)
    wide = _divisor(tile_columns, block // (tile.height * tile.width))
    high = _divisor(band, block // (tile.height * tile.width * wide))
    return Parts(tile_rows // band, high * tile.height, wide * tile.width)


def _divisor(count: int, most: int) -> int:
    """Return the largest divisor of ``count`` that is at most ``most``, or 1."""
    return next(n for n in range(max(min(count, most), 1), 0, -1) if count % n == 0)


def _sums(sch: Any, sums: Any, block: Any, tile: Blocking) -> None:
    """Compute a block's sums product by product, each tile in registers."""
    stored = sch.cache_write(sums, 0, "local")
    sch.compute_at(stored, block, preserve_unit_loops=True)
    product, batch, y, z, n = sch.get_loops(stored)[-5:]
    rows, row = sch.split(y, [None, tile.height])
    columns, column = sch.split(z, [None, tile.width])
    vector, lanes = sch.split(n, [None, tile.lanes])
    sch.reorder(product, batch, rows, columns, row, column, vector, lanes)
    sch.compute_at(sums, columns, preserve_unit_loops=True)
    for loop in (row, column, vector):
        sch.unroll(loop)
    sch.vectorize(lanes)


def _patches(sch: Any, patched: Any, band: Any, machine: Machine) -> None:
    """Put a band's patches together: all products of one vector of channels at once, from values read once."""
    sch.compute_at(patched, band, preserve_unit_loops=True)
    product, batch, y, z, k = sch.get_loops(patched)[-5:]
    channels, lanes = sch.split(k, [None, lanes_of(extent(sch, k) or 1, machine)])
    sch.reorder(batch, y, z, channels, product, lanes)
    sch.unroll(product)
    sch.vectorize(lanes)


def _vectorize_last(sch: Any, block: Any, machine: Machine) -> None:
    *_, last = sch.get_loops(block)
    width = lanes_of(extent(sch, last) or 1, machine)
    if width > 1:
        sch.vectorize(sch.split(last, [None, width])[1])
