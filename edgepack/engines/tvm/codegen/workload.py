"""What one kernel computes, as a value: what a tile is chosen for, and what measured tiles are kept under."""

from __future__ import annotations

import dataclasses
import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from edgepack.engines.tvm.codegen import intrinsics
from edgepack.engines.tvm.codegen import tile as blocking
from edgepack.engines.tvm.codegen.tile import Blocking
from edgepack.engines.tvm.codegen.window import PRODUCTS, TERMS, Window, patches

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgepack.engines.tvm.codegen.machine import Machine

Kind = Literal["flat", "window", "depthwise", "batched", "winograd"]
Origin = Literal["rule", "tuned", "transferred"]
# Cycles of putting a vector of a patch's inputs, and of its outputs, together; bytes a cycle of weights from memory.
_PATCH_IN, _PATCH_OUT, _FAR_BYTES = 80, 80, 4
_PATCHES_RATIO = 0.9
# Of the second-level cache. On a Xeon with 2 MiB, seven products of 0.1 to 0.53 MB of input took 0.61 to 0.98 of the
# time in this order, and one of 0.8 MB 1.04.
_INPUT_SHARE = 3
_PICTURES = ("window", "winograd")
_MOST_VECTORS = 8
_MOST_ROWS = 32


@dataclass(frozen=True)
class Workload:
    """One convolution or product: ``batch`` x ``height`` x ``width`` output positions of ``outputs`` channels.

    Each sum has ``inputs`` terms at every place of the kernel (of its own group). ``flat``: a convolution of one
    position, or a product with weights, all positions in ``width``; ``batched``: ``batch`` products of two activations;
    ``winograd``: a convolution of 3x3 by patches (``winograd.py``), whose tiles are of patches, not of positions.
    ``types`` are those of the activations, the weights and the sums; ``safe``: int8 weights of which no two neighbours
    exceed 16 bits together with activations (``dot.PAIR_LIMIT``).
    """

    kind: Kind
    types: tuple[str, str, str]
    batch: int
    height: int
    width: int
    inputs: int
    outputs: int
    kernel: tuple[int, int] = (1, 1)
    strides: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    channels_first: bool = False
    safe: bool = False

    @property
    def terms(self) -> int:
        """How many products one sum, or one patch, has."""
        return self.inputs * (PRODUCTS if self.kind == "winograd" else self.kernel[0] * self.kernel[1])

    @property
    def grid(self) -> tuple[int, int]:
        """The rows and columns that tiles are parts of: output positions, or patches."""
        if self.kind == "winograd":
            return patches(self.height), patches(self.width)
        return self.height, self.width

    @property
    def products(self) -> int:
        """How many products there are in all."""
        return self.batch * math.prod(self.grid) * self.outputs * self.terms

    @property
    def window(self) -> Window:
        """The attributes of the convolution."""
        return Window(self.kernel, self.strides, self.padding, self.dilation, self.groups)

    @property
    def integer(self) -> bool:
        """Whether the weights are int8 while they are multiplied."""
        return self.types[1] == "int8"


@dataclass(frozen=True)
class Choice:
    """The tile of a kernel and who chose it."""

    tile: Blocking
    origin: Origin = "rule"


Choose: TypeAlias = "Callable[[Workload], Choice]"


def by_rule(machine: Machine) -> Choose:
    """Return the choice by the rule of ``tile.py``, from the machine and the sizes alone."""
    return lambda workload: Choice(rule(workload, machine))


@functools.lru_cache(maxsize=4096)
def rule(workload: Workload, machine: Machine) -> Blocking:
    """Return the tile that a count of instructions says is best."""
    outputs = workload.outputs // workload.groups
    if workload.kind == "depthwise":
        return blocking.depthwise(workload.width, workload.outputs, machine)
    (height, width), terms, item_bytes = workload.grid, workload.terms, 4
    if _by_fmlal(workload, machine):
        tile = blocking.choose(height, width, outputs, terms, _doubled(machine), item_bytes=2)
        if tile.lanes == intrinsics.FMLAL_LANES:
            return tile
    if workload.integer:
        terms, item_bytes = -(-terms // TERMS), TERMS
    whole = workload.kind == "batched" or workload.groups > 1
    tile = blocking.choose(height, width, outputs, terms, machine, item_bytes=item_bytes, whole=whole)
    vectors = tile.vectors
    if workload.kind == "batched" and outputs % tile.channels:
        vectors = 1
    while workload.groups > 1 and outputs % (vectors * tile.lanes) and vectors > 1:
        vectors -= 1
    outer = tile.weights_outer or _input_stays(workload, tile, terms * item_bytes, machine)
    return Blocking(tile.height, tile.width, vectors, tile.lanes, outer)


def _input_stays(workload: Workload, tile: Blocking, position_bytes: int, machine: Machine) -> bool:
    """Say whether the input of a product lies in the second-level cache while its tiles of weights go by, once each.

    A single tile of weights stays anyway, and rows of the input are then asked for ahead (``prefetch.py``).
    """
    if workload.kind != "flat" or workload.outputs <= tile.channels:
        return False
    return workload.width * position_bytes <= machine.l2_share_bytes // _INPUT_SHARE


def by_patches(workload: Workload, machine: Machine) -> Workload:
    """Return a convolution as one by patches where that takes less time by a count of cycles, else as it is."""
    changed = dataclasses.replace(workload, kind="winograd")
    possible = workload.kind == "window" and workload.window.patchable and not workload.channels_first
    if not possible or workload.types != ("float32",) * 3 or workload.inputs < machine.lanes():
        return workload
    around = math.prod(changed.grid) * (workload.inputs * _PATCH_IN + workload.outputs * _PATCH_OUT) / machine.lanes()
    faster = _cycles(changed, machine) + around < _PATCHES_RATIO * _cycles(workload, machine)
    return changed if faster else workload


def _cycles(workload: Workload, machine: Machine) -> float:
    """Return the cycles of the sums, and of weights that come from beyond the second-level cache."""
    sums = blocking.cycles(rule(workload, machine), *workload.grid, workload.outputs, workload.terms)
    weights_bytes = 4 * workload.terms * workload.outputs
    return workload.batch * sums + (weights_bytes / _FAR_BYTES if weights_bytes > machine.l2_bytes else 0)


def _by_fmlal(workload: Workload, machine: Machine) -> bool:
    """Say whether float16 is multiplied by FMLAL, which works on two registers of sums at once."""
    kinds = workload.kind in ("flat", "window") and workload.groups == 1
    return kinds and workload.types[1] == "float16" and machine.has_fmlal


def _doubled(machine: Machine) -> Machine:
    """Return the machine as FMLAL sees it: half as many registers, twice as wide."""
    return dataclasses.replace(machine, vector_bits=2 * machine.vector_bits, registers=machine.registers // 2)


def instruction(workload: Workload, tile: Blocking, machine: Machine) -> intrinsics.Dot | str | None:
    """Return the instruction for four products of bytes, or FMLAL; None where the sums are plain multiply-adds."""
    if _by_fmlal(workload, machine) and tile.lanes == intrinsics.FMLAL_LANES:
        return intrinsics.FMLAL
    if not workload.integer or workload.inputs % TERMS or workload.kind in ("depthwise", "batched"):
        return None
    return intrinsics.dot_for(machine, tile.lanes, safe=workload.safe)


def fits(tile: Blocking, workload: Workload, machine: Machine) -> bool:
    """Say whether a kernel with this tile can be made, and whether its sums stay in registers."""
    high, wide, vectors, lanes = tile.height, tile.width, tile.vectors, tile.lanes
    of = _doubled(machine) if _by_fmlal(workload, machine) and lanes == intrinsics.FMLAL_LANES else machine
    if min(high, wide, vectors) < 1 or high * wide > _MOST_ROWS or vectors > _MOST_VECTORS:
        return False
    height, width = workload.grid
    if lanes not in (4, 8, 16) or lanes > of.lanes() or high > height or wide > width:
        return False
    if high > 1 and (workload.kind not in _PICTURES or wide != width):
        return False
    each, kernel = workload.outputs // workload.groups, workload.kernel
    sums = high * wide * vectors
    if workload.kind == "depthwise":
        return workload.outputs % tile.channels == 0 and sums + vectors + kernel[1] <= of.registers
    if (workload.kind == "batched" or workload.groups > 1) and each % tile.channels:
        return False
    if tile.channels >= each + lanes and vectors > 1:
        return False  # a whole vector of nothing
    best = instruction(workload, rule(workload, machine), machine)
    if best is not None and instruction(workload, tile, machine) is None:
        return False
    return sums + vectors + 1 <= of.registers


def tiles(workload: Workload, machine: Machine) -> tuple[Blocking, ...]:
    """Return every tile worth trying, without the ones that compute much outside the output, in a fixed order."""
    found = []
    for lanes in (16, 8, 4):
        for vectors in range(1, _MOST_VECTORS + 1):
            for high, wide in _rows(workload):
                for outer in (False, True):
                    tile = Blocking(high, wide, vectors, lanes, outer)
                    if fits(tile, workload, machine) and _waste(tile, workload) <= _MOST_WASTE:
                        found.append(tile)
    return tuple(found)


_MOST_WASTE = 1.34


def _rows(workload: Workload) -> list[tuple[int, int]]:
    height, width = workload.grid
    rows = [(1, wide) for wide in range(1, min(width, _MOST_ROWS) + 1)]
    if workload.kind in _PICTURES and width < _MOST_ROWS:
        rows += [(high, width) for high in range(2, min(height, _MOST_ROWS // width) + 1)]
    return rows


def _waste(tile: Blocking, workload: Workload) -> float:
    """Return how many times the sums that are needed are computed, against the fewest that vectors allow."""
    each = workload.outputs // workload.groups
    height, width = workload.grid
    rows = -(-height // tile.height) * tile.height * -(-width // tile.width) * tile.width
    channels = -(-each // tile.channels) * tile.channels
    return rows * channels / (height * width * max(each, tile.lanes))
