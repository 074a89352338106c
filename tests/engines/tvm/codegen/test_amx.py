"""Groups of tiles: every term is multiplied once, and the groups are chosen and packed as the sizes need."""

from __future__ import annotations

import numpy as np
import pytest

from edgepack.engines.tvm.codegen import amx
from edgepack.engines.tvm.codegen.amx import Tiles
from edgepack.engines.tvm.codegen.window import Window


def window(kernel: tuple[int, int], dilation: int = 1) -> Window:
    return Window(kernel, (1, 1), (0, 0, 0, 0), (dilation, dilation), 1)


@pytest.mark.parametrize(
    ("line_bytes", "chunks", "chunk_bytes"),
    [(4, 1, 4), (64, 1, 64), (68, 2, 36), (96, 2, 48), (132, 3, 44), (192, 3, 64)],
)
def test_a_line_comes_in_few_equal_chunks(line_bytes: int, chunks: int, chunk_bytes: int) -> None:
    assert amx.chunks_of(line_bytes) == (chunks, chunk_bytes)


def test_a_line_is_a_row_of_the_kernel_unless_its_places_lie_apart() -> None:
    assert amx.lines_of(window((3, 5)), 8) == (3, 40)
    assert amx.lines_of(window((3, 5), dilation=2), 8) == (15, 8)


@pytest.mark.parametrize(("lines", "line_bytes", "outputs"), [(1, 64, 32), (3, 68, 20), (2, 132, 7)])
def test_packed_weights_multiply_each_term_once(lines: int, line_bytes: int, outputs: int) -> None:
    tiles = Tiles(1, 2, 8, 2, lines, line_bytes, *amx.chunks_of(line_bytes), line_bytes)
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (lines, line_bytes))
    weights = random.integers(-128, 128, (outputs, lines, 1, line_bytes)).astype(np.int8)
    packed = amx.pack(weights, tiles).astype(np.int64)
    sums = np.zeros((packed.shape[0], tiles.channels), np.int64)
    for line in range(lines):
        for number, start in enumerate(tiles.starts()):
            fours = x[line, start : start + tiles.chunk_bytes].reshape(-1, 4)
            sums += np.einsum("fb,gfcb->gc", fours, packed[:, line * tiles.chunks + number])
    wanted = np.einsum("lk,olk->o", x, weights[:, :, 0].astype(np.int64))
    np.testing.assert_array_equal(sums.reshape(-1)[:outputs], wanted)
    assert not sums.reshape(-1)[outputs:].any()


@pytest.mark.parametrize("grid", [(1, 1), (1, 49), (7, 7), (56, 56), (3, 200)])
@pytest.mark.parametrize("outputs", [5, 16, 24, 512])
def test_a_chosen_group_fits_the_registers_and_the_picture(grid: tuple[int, int], outputs: int) -> None:
    tiles = amx.choose(3, 192, 64, grid, outputs)
    assert tiles.registers <= 8
    assert 1 <= tiles.rows <= 16
    assert tiles.positions <= grid[1]
    assert tiles.high <= grid[0]
    assert tiles.vectors <= -(-outputs // 16)


def test_a_large_picture_is_computed_two_tiles_by_two() -> None:
    tiles = amx.choose(1, 256, 256, (1, 3136), 64)
    assert (tiles.activations, tiles.rows, tiles.vectors) == (2, 16, 2)
