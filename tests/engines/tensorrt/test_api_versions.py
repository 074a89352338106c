"""The table of versions."""

from __future__ import annotations

import pytest

from edgepack.engines.tensorrt.api_versions import SURFACES, surface_of
from edgepack.errors import ToolchainError


def test_the_surfaces_are_in_order_and_found_by_version() -> None:
    assert surface_of("8.5.2.2") is SURFACES[0]
    assert surface_of("10.3.0").max_opset == 20
    assert surface_of("10.13.3.9").max_opset == 24
    assert surface_of("11.4.1").network_flags == ()
    for version in ("8.2.1", "9.1.0", "12.0", "7", "x"):
        with pytest.raises(ToolchainError):
            surface_of(version)
