"""Tries TVM for the doctor."""

from __future__ import annotations

import dataclasses

from edgepack.engines.common.probe import Probe, probe_backend


def probe() -> Probe:
    """Compile a model with TVM, link it with Zig, and run it on TVM's runtime."""
    from edgepack.engines.common.linking import ARCHITECTURES

    found = probe_backend("tvm")
    return dataclasses.replace(found, words=f"links for {', '.join(ARCHITECTURES)}; {found.words}")
