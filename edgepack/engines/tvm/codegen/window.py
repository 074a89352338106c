"""The geometry that kernels and workloads share."""

from __future__ import annotations

from dataclasses import dataclass

TERMS = 4  # bytes that one instruction multiplies and adds
EIGHT = 8  # bytes of each row of the matrices that SMMLA multiplies
PATCH = 2  # outputs in each direction that a convolution by patches computes at once (``winograd.py``)
PATCH_INPUTS = 4  # inputs in each direction that these read, with a kernel of 3x3
PRODUCTS = PATCH_INPUTS * PATCH_INPUTS  # of one patch and one input channel


def patches(size: int) -> int:
    """Return how many patches cover ``size`` outputs in one direction."""
    return -(-size // PATCH)


@dataclass(frozen=True)
class Window:
    """A two-dimensional convolution: kernel, strides, padding (top, left, bottom, right), dilation, groups."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    padding: tuple[int, int, int, int]
    dilation: tuple[int, int]
    groups: int

    def output(self, height: int, width: int) -> tuple[int, int]:
        """Return the output's height and width."""
        top, left, bottom, right = self.padding
        return (
            (height + top + bottom - self.dilation[0] * (self.kernel[0] - 1) - 1) // self.strides[0] + 1,
            (width + left + right - self.dilation[1] * (self.kernel[1] - 1) - 1) // self.strides[1] + 1,
        )

    @property
    def pointwise(self) -> bool:
        """Whether every output position is a function of the input position of the same number."""
        return self.kernel == (1, 1) and self.strides == (1, 1) and not any(self.padding)

    @property
    def patchable(self) -> bool:
        """Whether patches of outputs can be computed from patches of inputs: 3x3, and every neighbour is next to it."""
        return (self.kernel, self.strides, self.dilation, self.groups) == ((3, 3), (1, 1), (1, 1), 1)
