"""``edgepack check``: what a target will refuse of an ONNX file, before anything is built or shipped."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from edgepack.device.profiles import load_target
from edgepack.engines import get_backend
from edgepack.engines.tensorrt.proxy import ProxyReport, check_by_proxy, proxy_version
from edgepack.errors import ConfigError, ModelError
from edgepack.execution import child
from edgepack.graph.load import load_model
from edgepack.specs import Diagnostic, OnnxModel, Target

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
    file that is no model; ``ToolchainError`` when the engine that checks is not installed.
    """
    target = load_target(target_name)
    if proxy:
        if target.backend != "tensorrt":
            raise ConfigError(
                f"--proxy checks for TensorRT, but {target.id} uses {target.backend}", hint="leave --proxy out"
            )
        proxy_version()
    if path.suffix != ".onnx":
        raise ModelError(f"{path} is not an ONNX file", hint="make one with 'edgepack export MODEL -o model.onnx'")
    with tempfile.TemporaryDirectory(prefix="edgepack-check-") as folder:
        log = Path(folder) / "check.log"
        found = child.call(check_loaded, path.absolute(), target, limit_s=_LIMIT_S, log=log)
    answer = check_by_proxy(found.model) if proxy else None
    return CheckReport(path.name, target.id, found.diagnostics, answer)


@dataclass(frozen=True)
class Checked:
    """A loaded model with what its target's backend said of it."""

    model: OnnxModel
    diagnostics: tuple[Diagnostic, ...]


def check_loaded(path: Path, target: Target) -> Checked:
    """Load the file and ask the target's backend."""
    model = load_model(path)
    return Checked(model, tuple(get_backend(target.backend).check(model, target)))
