"""torch's kernels, where no engine has the same ones."""

from __future__ import annotations

import pytest

from edgepack.engines import ENGINES
from edgepack.errors import ToolchainError
from edgepack.profiling import peak_torch
from edgepack.profiling.peak_torch import trials, versions

pytest.importorskip("torch", reason="torch is not installed: pip install 'edgepack[torch]'")

SAME = next(name for name in ENGINES.own if "torch" in ENGINES.get(name).same_kernels)
OTHER = next(name for name in ENGINES.own if "torch" not in ENGINES.get(name).same_kernels)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peak_torch, "_SQUARES", (16, 24))


def test_what_another_engine_measured_is_not_measured_again() -> None:
    with pytest.raises(ToolchainError, match="has the same kernels"):
        versions({OTHER: "1", SAME: "2"})
    assert set(versions({OTHER: "1", "unknown": "2"})) == {"torch"}


def test_every_float_precision_has_products() -> None:
    found = list(trials(("fp32", "bf16", "int8"), 1, ()))
    assert [(trial.precision, trial.amount) for trial in found] == [
        (precision, 2 * size**3) for precision in ("fp32", "bf16") for size in (16, 24)
    ]
    assert [str(trial.call().dtype) for trial in found] == ["torch.float32"] * 2 + ["torch.bfloat16"] * 2


def test_a_working_set_is_read_once_a_call() -> None:
    (trial,) = trials((), 1, (64 << 10,))
    assert (trial.working_set_bytes, trial.amount) == (64 << 10, 64 << 10)
    assert trial.call().shape == (16, 1)
