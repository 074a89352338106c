"""Integer weights that cannot saturate on x86 without VNNI, and a simulation of the saturating multiply-add.

VPMADDUBSW multiplies unsigned bytes by signed bytes and adds two neighbouring products in int16 with saturation (Intel
Software Developer's Manual, volume 2). An activation is at most 255, so two neighbouring weights of one sign must not
sum to more than 128: 255 * 128 = 32640 <= 32767. One weight alone never saturates: 255 * 127 = 32385.

Which weights are neighbours was measured by giving every pair of weights of a reduction the value 127 and all
activations 255 (ONNX Runtime 1.31.1 and OpenVINO 2026.4.1, CPUID without AVX512 and VNNI; OpenVINO also with
ONEDNN_MAX_CPU_ISA of SSE41, AVX2 and AVX512_CORE):

- ONNX Runtime, and OpenVINO for grouped convolutions, take two after two in the order kernel height, kernel width,
  input channel of the group; so pairs cross from one kernel position to the next when the number of channels is odd.
- OpenVINO pairs the input channels of each kernel position alone: (0, 1), (2, 3), ...
- Matrix products pair along the reduction in both. Signed activations are shifted to unsigned ones and saturate alike.
- Depthwise convolutions do not saturate in either: they multiply in wider integers.

The weights made here keep the limit in both orders (``weight_rows.py``), so that one file is safe in both engines. For
an even number of channels the orders are the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from edgepack.specs.types import Array

# The largest sum of two neighbouring weights of one sign.
PAIR_LIMIT = 128
# With two orders of pairs, a round for the second may undo the first; every round only moves towards zero.
_ROUNDS = 8


def limit_pairs(rounded: Array, real: Array, orders: tuple[Array, ...]) -> None:
    """Move neighbours in ``rounded`` [channels, terms] that exceed the limit towards zero, in place.

    Both give way alike; of an odd excess the larger part is given by the one that lies further outwards of ``real``,
    the unrounded weights in the same unit.
    """
    for _ in range(_ROUNDS):
        changed = [_limit_order(rounded, real, pairs) for pairs in orders]
        if not any(changed):
            break


def _limit_order(rounded: Array, real: Array, pairs: Array) -> bool:
    """Do the work of ``limit_pairs`` for one order; say whether anything had to change."""
    total = rounded[:, pairs[:, 0]] + rounded[:, pairs[:, 1]]
    rows, places = np.nonzero(np.abs(total) > PAIR_LIMIT)
    if not rows.size:
        return False
    one, two, sums = pairs[places, 0], pairs[places, 1], total[rows, places]
    sign, excess = np.sign(sums), np.abs(sums) - PAIR_LIMIT
    first_further = (rounded[rows, one] - real[rows, one]) * sign >= (rounded[rows, two] - real[rows, two]) * sign
    less, more = np.floor(excess / 2), np.ceil(excess / 2)
    rounded[rows, one] -= sign * np.where(first_further, more, less)
    rounded[rows, two] -= sign * np.where(first_further, less, more)
    return True


def simulate_saturating_product(activations: Array, weights: Array, pairs: Array) -> Array:
    """Return what VPMADDUBSW, VPMADDWD and VPADDD make of uint8 [samples, terms] and int8 [channels, terms].

    A simulation, for tests and for estimates on hosts that do not saturate: the products of each pair are added and
    clipped to int16, the rest is added in int32 [samples, channels]. Terms in no pair are added alone.
    """
    limits = np.iinfo(np.int16)
    left, right = activations.astype(np.int32), weights.astype(np.int32)
    alone = np.setdiff1d(np.arange(weights.shape[1]), pairs)
    total = left[:, alone] @ right[:, alone].T
    for one, two in pairs:
        sums = np.outer(left[:, one], right[:, one]) + np.outer(left[:, two], right[:, two])
        total += np.clip(sums, limits.min, limits.max)
    return np.asarray(total, np.int32)
