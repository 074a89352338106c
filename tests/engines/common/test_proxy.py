"""What may be said of a model that a proxy took."""

from __future__ import annotations

import pytest

from edgepack.engines.common.proxy import ProxyBuild, ProxyReport
from edgepack.specs.model import Diagnostic

BUILDS = (ProxyBuild("8.7", 1000, 1.5), ProxyBuild("10.0", 2000, 2.5))


@pytest.mark.parametrize(
    ("builds", "diagnostics", "summary"),
    [
        (BUILDS, (), "checked with rtx 1.2 for SM 8.7 and 10.0 (proxy)"),
        (BUILDS[:1], (Diagnostic("warning", "slow"),), "checked with rtx 1.2 for SM 8.7 (proxy)"),
        ((), (Diagnostic("error", "no"),), "refused by rtx 1.2 (proxy)"),
        (BUILDS, (Diagnostic("note", "x"), Diagnostic("error", "no")), "refused by rtx 1.2 (proxy)"),
    ],
)
def test_a_summary_says_that_it_was_a_proxy(
    builds: tuple[ProxyBuild, ...], diagnostics: tuple[Diagnostic, ...], summary: str
) -> None:
    assert ProxyReport("1.2", builds, diagnostics, "rtx").summary == summary
