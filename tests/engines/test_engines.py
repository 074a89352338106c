"""The table of engines."""

from __future__ import annotations

import pytest

from edgepack.engines import get_backend
from edgepack.errors import ConfigError


def test_an_unknown_backend_is_answered_with_the_near_one() -> None:
    with pytest.raises(ConfigError, match="unknown backend 'onnxrutime'") as caught:
        get_backend("onnxrutime")
    assert caught.value.hint == "did you mean 'onnxruntime'?"
