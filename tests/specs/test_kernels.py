"""What a search says of a whole model: sums over its measured kernels, each as often as it is called."""

from __future__ import annotations

from pathlib import Path

from edgepack.specs.kernels import KernelSearch, TunedKernel

KERNELS = (
    TunedKernel("a", 2, "new", measured=True, default_ns=100.0, ratio=0.5),
    TunedKernel("b", 1, "known", measured=True, default_ns=10.0),
    TunedKernel("c", 5, "new", measured=False, default_ns=1000.0),
)


def test_sums_are_of_what_is_measured_as_often_as_it_is_called() -> None:
    found = KernelSearch(KERNELS, 1, 0, complete=False, cpu="x", records=Path("r"))
    assert (found.default_ns, found.tuned_ns) == (210.0, 110.0)
    assert (found.count("new"), found.count("known"), found.count("transferred")) == (2, 1, 0)
