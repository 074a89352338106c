"""The packages that bundles are built with."""

from __future__ import annotations

from edgepack.base.versions import installed_version
from edgepack.engines import ENGINES

_BUILDERS = ("numpy", "onnx", "onnxscript", "onnxslim", "pillow", "scipy", "torch")


def tool_versions() -> dict[str, str]:
    """Return the installed versions of the packages that a bundle may have been built with, engines' among them."""
    engines = (name for _, engine in ENGINES.all() for name in engine.distributions)
    found = {name: installed_version(name) for name in (*_BUILDERS, *engines)}
    return {name: text for name, text in sorted(found.items()) if text is not None}
