"""The engines: what a backend module offers, and the dict of them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Protocol, cast, runtime_checkable

from edgepack.base.documents import suggestion
from edgepack.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from edgepack.specs import Array, CompiledModel, Diagnostic, OnnxModel, Precision, Progress, RunOptions, Target


class Runner(Protocol):
    """A loaded model. ``infer`` is all that is ever timed."""

    def infer(self, feeds: Mapping[str, Array], /) -> Mapping[str, Array]:
        """Return the outputs by name. An output's memory may be reused by the next call: copy what must outlive it."""
        ...

    def close(self) -> None:
        """Free the engine's memory; the runner cannot be used afterwards."""
        ...


@runtime_checkable
class Sharing(Protocol):
    """A runner that can be had again, for another thread: the loaded model is shared, its buffers are not."""

    def another(self) -> Runner:
        """Return a runner of the same model that may infer while this one does."""
        ...


class Backend(Protocol):
    """What every module of this package offers."""

    def versions(self) -> Mapping[str, str]:
        """Return the engine's package versions. Raises ``ToolchainError`` with the command that installs it."""
        ...

    def check(self, model: OnnxModel, target: Target) -> list[Diagnostic]:
        """Return what the engine will refuse, and why, before compiling."""
        ...

    def compile_model(self, model: OnnxModel, target: Target, precision: Precision, out: Path) -> CompiledModel:
        """Write the engine's native files into the empty folder ``out``. Raises ``CompileError``."""
        ...

    def load_model(self, compiled: CompiledModel, options: RunOptions) -> Runner:
        """Load compiled files. Raises ``CompileError`` when the engine refuses them."""
        ...


class DeviceBuilder(Protocol):
    """What a backend offers besides, whose engine is built on the device that runs it."""

    def build_on_device(self, compiled: CompiledModel, progress: Progress) -> str:
        """Build what loading needs, unless it was kept; say which, and why. Raises ``CompileError``."""
        ...

    def device_key(self, like: Mapping[str, str]) -> Mapping[str, str]:
        """Return the facts of this device that a built engine fits, by the names of a payload's key ``like``."""
        ...


BACKENDS = {
    "onnxruntime": "edgepack.engines.onnxruntime.engine",
    "openvino": "edgepack.engines.openvino.engine",
    "tensorrt": "edgepack.engines.tensorrt.engine",
    "tvm": "edgepack.engines.tvm.engine",
}
# Their bundles carry the engine: a device needs nothing installed, and has the versions that the bundle was built with.
SELF_CONTAINED = frozenset({"tvm"})
# They compile for shapes that are known, all but the batch: --shape says them.
FIXED_SHAPES = frozenset({"tvm"})
# Their kernels are edgepack's own, so that their tiles can be tuned ('edgepack tune --target').
OWN_KERNELS = frozenset({"tvm"})
# A free batch costs them time: they are loaded for one batch, 1 unless told, and once more when another one comes.
FIXES_BATCH = frozenset({"openvino"})


BUILT_ON_DEVICE = ("tensorrt",)


def device_builder(name: str) -> DeviceBuilder | None:
    """Return the backend ``name`` as what builds engines on the device; None for those that need no building."""
    return cast("DeviceBuilder", importlib.import_module(BACKENDS[name])) if name in BUILT_ON_DEVICE else None


def get_backend(name: str) -> Backend:
    """Return the module that drives the engine ``name``; the engine itself is imported by its functions."""
    if name not in BACKENDS:
        raise ConfigError(f"unknown backend {name!r}", hint=suggestion(name, BACKENDS))
    return cast("Backend", importlib.import_module(BACKENDS[name]))
