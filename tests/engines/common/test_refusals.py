"""What to do about an engine's refusal follows from its cause."""

from __future__ import annotations

import pytest

from edgepack.engines.common.refusals import remedy


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("std::bad_alloc"),
        RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for requested buffer"),
        RuntimeError("CUDA out of memory"),
    ],
)
def test_too_little_memory_is_not_blamed_on_an_operator(error: BaseException) -> None:
    assert "not enough memory" in remedy(error, "replace the operator")


def test_other_causes_keep_their_remedy() -> None:
    assert remedy(RuntimeError("Node x: no kernel"), "replace the operator") == "replace the operator"
