"""``check --proxy``: parses and builds with the PyPI package tensorrt-rtx, which needs no GPU and no driver.

It is another product than the TensorRT of a Jetson, with the same ONNX parser and the calls of TensorRT 11; it builds
for desktop GPUs (SM 8.6 and 8.9, say) and refuses a Jetson's. So what passes here is likely, not certain, to pass on
the device: a result is a proxy's and is called one. It segfaults on some misuse, so it runs in a child process, and a
crash is one diagnostic more.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepack.base.files import scratch_folder
from edgepack.base.versions import installed_version
from edgepack.engines.common.installed import import_engine
from edgepack.engines.common.proxy import ProxyBuild, ProxyReport
from edgepack.engines.tensorrt.recipe import InputShapes
from edgepack.engines.tensorrt.shapes import input_shapes
from edgepack.errors import ChildError, CompileError, EdgepackError, ToolchainError
from edgepack.execution import child
from edgepack.specs.model import Diagnostic, OnnxModel

PACKAGE = "tensorrt-rtx"
MODULE = "tensorrt_rtx"
SMS = ("8.6", "8.9")
_LIMIT_S = 300.0
_MOST_MESSAGES = 20


@dataclass(frozen=True)
class _Built:
    """What the child process returns: messages of the parser and builder, and the builds that came through."""

    builds: tuple[ProxyBuild, ...]
    messages: tuple[Diagnostic, ...]


def proxy_version() -> str:
    """Return the version of tensorrt-rtx, not importing it. Raises ``ToolchainError`` when it is not installed."""
    version = installed_version("tensorrt-rtx")
    if version is None:
        raise ToolchainError(
            "tensorrt-rtx, which replaces TensorRT on machines without a GPU, is not installed",
            hint="pip install 'edgepack[proxy]' (91 MB)",
        )
    return version


def check_by_proxy(model: OnnxModel, sms: tuple[str, ...] = SMS) -> ProxyReport:
    """Parse and build ``model`` for each SM in a child process.

    Raises ``ToolchainError`` when tensorrt-rtx is not installed; everything that it says of the model is in the report.
    """
    version = proxy_version()
    shapes = input_shapes(model.inputs)
    with scratch_folder("edgepack-proxy-") as folder:
        log = folder / "proxy.log"
        try:
            built = child.call(build_by_proxy, model.path.absolute(), shapes, sms, limit_s=_LIMIT_S, log=log)
        except ChildError as error:
            words = error.log.strip().splitlines()
            reason = f"tensorrt-rtx {error.message}" + (f"; its last output: {words[-1][:300]}" if words else "")
            found = Diagnostic("error", reason, hint="it may be a bug of the proxy only: try the model on the device")
            return ProxyReport(version, (), (found,), PACKAGE)
        except ToolchainError:
            raise
        except EdgepackError as error:
            return ProxyReport(version, (), (Diagnostic("error", error.message, hint=error.hint),), PACKAGE)
    return ProxyReport(version, built.builds, built.messages, PACKAGE)


# --- in the child process ---------------------------------------------------------------------------------------------


def build_by_proxy(path: Path, shapes: tuple[InputShapes, ...], sms: tuple[str, ...]) -> _Built:
    """Parse the file and build it for each SM; messages of errors become diagnostics."""
    trt = import_engine("tensorrt-rtx", "proxy", MODULE)
    logger = _logger(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(path)):
        return _Built((), _parser_errors(parser, logger))
    builds = []
    for sm in sms:
        config = builder.create_builder_config()
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{sm.replace('.', '')}"), 0)
        profile = builder.create_optimization_profile()
        for entry in shapes:
            profile.set_shape(entry.name, entry.minimum, entry.optimum, entry.maximum)
        config.add_optimization_profile(profile)
        begun = time.perf_counter()
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            words = "; ".join(logger.errors[:3]) or "it gave no reason"
            raise CompileError(f"tensorrt-rtx did not build for SM {sm}: {words}"[:1000])
        builds.append(ProxyBuild(sm, plan.nbytes, round(time.perf_counter() - begun, 3)))
    return _Built(tuple(builds), ())


def _logger(trt: Any) -> Any:
    """Return a logger that keeps the engine's errors; the class must be made after the engine's import."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(" ".join(message.split())[:400])

    return Logger()


def _parser_errors(parser: Any, logger: Any) -> tuple[Diagnostic, ...]:
    found = []
    for index in range(min(parser.num_errors, _MOST_MESSAGES)):
        error = parser.get_error(index)
        words = " ".join(str(error.desc()).split())
        if words in ("", "false"):  # what it says of an operator that it does not know
            words = f"it does not know {error.node_operator() or 'the operator'}"
        found.append(Diagnostic("error", f"tensorrt-rtx refuses it: {words}"[:600], error.node_name() or None))
    if not found:
        words = "; ".join(logger.errors[:3]) or "the parser gave no reason"
        found.append(Diagnostic("error", f"tensorrt-rtx cannot parse it: {words}"[:600]))
    return tuple(found)
