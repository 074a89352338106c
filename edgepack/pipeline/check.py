"""``edgepack check``: what a target will refuse of an ONNX file, before anything is built or shipped."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from edgepack.engines import ENGINES, get_backend, part_of
from edgepack.engines.common.proxy import Proxy, ProxyReport
from edgepack.engines.targets import load_target
from edgepack.errors import ConfigError
from edgepack.execution import child
from edgepack.export import require_onnx
from edgepack.graph.load import load_model
from edgepack.specs.model import Diagnostic, OnnxModel
from edgepack.specs.target import Target

_LIMIT_S = 300.0


@dataclass(frozen=True)
class CheckReport:
    """What was found of a model for a target; ``proxy`` is what tensorrt-rtx said, None when it was not asked."""

    model: str
    target: str
    diagnostics: tuple[Diagnostic, ...]
    proxy: ProxyReport | None = None

    @property
    def passed(self) -> bool:
        """Say whether there is no error, the proxy's included."""
        found = (*self.diagnostics, *(self.proxy.diagnostics if self.proxy else ()))
        return all(diagnostic.severity != "error" for diagnostic in found)


def check_file(path: Path, target_name: str, *, proxy: bool = False) -> CheckReport:
    """Check an ONNX file for a target, in child processes because the file may be hostile.

    Raises ``ConfigError`` for an unknown target, or a proxy asked of one that is not TensorRT's; ``ModelError`` for a
    file that is not a model; ``ToolchainError`` when the engine that checks is not installed.
    """
    target = load_target(target_name)
    stand_in = _proxy_of(target) if proxy else None
    require_onnx(path)
    found = child.call(check_loaded, path.absolute(), target, limit_s=_LIMIT_S)
    answer = stand_in.check_by_proxy(found.model) if stand_in else None
    return CheckReport(path.name, target.id, found.diagnostics, answer)


def _proxy_of(target: Target) -> Proxy:
    """Return what stands in for the target's engine, which must be installed."""
    reference = ENGINES.get(target.backend).proxy
    if not reference:
        titles = " or ".join(engine.title for _, engine in ENGINES.all() if engine.proxy)
        raise ConfigError(
            f"--proxy checks for {titles}, but {target.id} uses {target.backend}", hint="leave --proxy out"
        )
    found = cast("Proxy", part_of(target.backend, reference))
    found.proxy_version()
    return found


@dataclass(frozen=True)
class Checked:
    """A loaded model with what its target's backend said of it."""

    model: OnnxModel
    diagnostics: tuple[Diagnostic, ...]


def check_loaded(path: Path, target: Target) -> Checked:
    """Load the file and ask the target's backend."""
    model = load_model(path)
    return Checked(model, tuple(get_backend(target.backend).check(model, target)))
