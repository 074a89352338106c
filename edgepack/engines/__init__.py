"""The engines: one folder and one line of ``ENGINES`` each. Nothing outside this package names an engine.

An engine's folder has ``facts.py`` with the record ``ENGINE``. Another package adds an engine by an entry point in the
group ``edgepack.engines`` that names such a record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, cast, runtime_checkable

from edgepack.base.documents import suggestion
from edgepack.base.extensions import Table, load_reference
from edgepack.errors import ConfigError, ToolchainError
from edgepack.specs.run import Change

if TYPE_CHECKING:
    from pathlib import Path

    from edgepack.engines.int8 import EngineTable
    from edgepack.execution.events import Events
    from edgepack.specs.kernels import KernelRecords, KernelSearch, WholeModel
    from edgepack.specs.model import CompiledModel, Diagnostic, OnnxModel
    from edgepack.specs.run import RunOptions
    from edgepack.specs.target import Target
    from edgepack.specs.types import Array, Precision, Progress


IntegerInputs: TypeAlias = Literal["", "dequantized", "rounded"]


@dataclass(frozen=True)
class RunSpace:
    """What ``tune`` tries of an engine beside its threads, streams and batches; what helps most often comes first.

    ``common``: always. ``latency``: after those, for SingleStream. ``throughput``: before those, for Offline.
    """

    common: tuple[Change, ...] = ()
    latency: tuple[Change, ...] = ()
    throughput: tuple[Change, ...] = ()


@dataclass(frozen=True)
class Engine:
    """What is known of an engine before it is imported.

    A reference is text, ``module`` or ``module:name``, imported where it is used; empty where there is no such thing.

    The engine as a Python package:
    ``backend``: reference to the module with the functions of ``Backend``.
    ``package`` is what is imported, ``distributions`` are what may bring it, ``extra`` is the one of edgepack that
    installs it; without one, ``install`` is the command.

    Its bundles:
    ``self_contained``: they carry the engine; a device needs nothing installed and has the versions of the build.
    ``built_on_device``: a device builds the engine of what is shipped; ``backend`` has the functions of
    ``DeviceBuilder`` besides.
    ``portable``: suffixes of entries that it compiles when it loads them, so that they run wherever the engine does.
    ``oldest``: reference to ``(CompiledModel) -> Mapping[str, str] | None``, the oldest version of each package that
    reads the files; None for the release that wrote them.
    ``companions``: reference to ``(Payload) -> tuple[Payload, ...]``, ways for other engines to run the same files.
    ``functions``: reference to a module with ``FUNCTIONS``, the name of a file that lists the functions of machine
    code, and ``read_functions(bytes) -> Mapping[str, str]``.

    Building:
    ``int8``: what it computes in int8; None for an engine whose int8 models cannot be made.
    ``judges``: it compiles about as fast as it loads, so that corrections of int8 models are judged on it.
    ``fixed_shapes``: it compiles for shapes that are known, all but the batch: --shape says them.
    ``kernels``: reference to a module that tunes its kernels for 'edgepack tune --target': a ``KernelTuner``.
    ``carried``: reference to ``(Target) -> Mapping[str, str]``, the sha256 by name of the user's own files that are put
    beside what it compiles: where they change, a model is compiled again.
    ``pixels`` and ``suppression``: since which of its versions it reads uint8 inputs, and has NonMaxSuppression; "0" is
    any, empty none. ``integer_inputs``: how an int8 layer gets such an input as its integers: "dequantized" of a
    DequantizeLinear of the input; "rounded", of a QuantizeLinear that has something to round; "" not known.
    ``proxy``: reference to a module with ``proxy_version()`` and ``check_by_proxy(OnnxModel)``, which check for it on
    a machine that it does not run on.

    Running:
    ``fixes_batch``: a free batch costs it time: it is loaded for one, 1 unless told, and again when another one comes.
    ``on_cpu``: it computes on CPUs.
    ``run_options``: what ``tune`` tries.
    ``peaks``: reference to a module with ``versions`` and ``trials``, as ``profiling.peaks`` asks for them.
    ``same_kernels``: packages whose kernels are the same, so that they need not be tried when these were.
    ``layers``: reference to a module with ``profile`` and, unless it runs ONNX files, ``asked_of`` and ``macs_of``.
    ``unrounded``: reference to ``(CompiledModel) -> int``, how many sums it computes without rounding before what the
    model rounds.
    ``probe``: reference to ``() -> Probe`` for the doctor; else a small model is compiled and run.
    ``triton``: the backend of Triton Inference Server that runs its files.
    ``works_without``: what can be done where the engine cannot run, in words for the doctor.

    Profiles:
    ``host``: reference to ``(Host) -> Target``, the profile of this machine; raises ``ConfigError`` where it has none.
    Else it is made from the CPU's facts.
    ``precisions``: reference to ``(Host) -> tuple[Precision, ...]``, what its CPU kernels compute in.
    ``reads_caches``: its code depends on the CPU's caches.
    ``defaults``: of a profile's sections, where they are other than those of ``Target``.
    ``refuses``: reference to ``(Target) -> Diagnostic | None``, why it takes no model at all for a profile.
    ``check_profile``: reference to ``(Target, where) -> None``, which raises ``ConfigError``.
    ``has_device``: reference to ``(Target, Host, root) -> bool``: is the profile's accelerator here?
    """

    title: str
    backend: str
    package: str = ""
    distributions: tuple[str, ...] = ()
    extra: str = ""
    install: str = ""
    self_contained: bool = False
    built_on_device: bool = False
    portable: tuple[str, ...] = ()
    oldest: str = ""
    companions: str = ""
    functions: str = ""
    int8: EngineTable | None = None
    judges: bool = False
    fixed_shapes: bool = False
    kernels: str = ""
    proxy: str = ""
    carried: str = ""
    pixels: str = ""
    suppression: str = ""
    integer_inputs: IntegerInputs = ""
    fixes_batch: bool = False
    on_cpu: bool = True
    run_options: RunSpace = RunSpace()
    peaks: str = ""
    same_kernels: tuple[str, ...] = ()
    layers: str = ""
    unrounded: str = ""
    probe: str = ""
    triton: str = ""
    works_without: str = ""
    host: str = ""
    precisions: str = ""
    reads_caches: bool = False
    defaults: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    refuses: str = ""
    check_profile: str = ""
    has_device: str = "edgepack.device.host:has_accelerator"

    @property
    def install_command(self) -> str:
        """Return the command that installs it."""
        return f"pip install 'edgepack[{self.extra}]'" if self.extra else self.install


ENGINES: Table[Engine] = Table(
    "engine",
    "edgepack.engines",
    {
        "onnxruntime": "edgepack.engines.onnxruntime.facts:ENGINE",
        "openvino": "edgepack.engines.openvino.facts:ENGINE",
        "tvm": "edgepack.engines.tvm.facts:ENGINE",
        "tensorrt": "edgepack.engines.tensorrt.facts:ENGINE",
    },
)
# It computes what all others are compared with: golden vectors, and the outputs of the fp32 model.
REFERENCE = "onnxruntime"


class Runner(Protocol):
    """A loaded model. ``infer`` is all that is ever timed.

    One thread calls it at a time (``engines.common.threads`` sees to it), unless it has ``any_thread = True``; then it
    also has ``abandon``, called in a process that was forked, after which it refuses every call.
    """

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
    """What the module offers that drives an engine (``Engine.backend``)."""

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

    def recipe_file(self) -> str:
        """Return the name of the shipped file by which the device builds its engine."""
        ...

    def kept_engine(self, folder: Path, place: Path | None) -> KeptEngine | None:
        """Add to ``folder``, which has the recipe, the engine that this device built and kept; None without one.

        ``place`` is where it keeps them; None is the user's cache.
        """
        ...


class KernelTuner(Protocol):
    """What a module offers that tunes kernels of edgepack's own (``Engine.kernels``)."""

    def can_measure_here(self, target: Target) -> bool:
        """Say whether kernels for a target can be timed on this host."""
        ...

    def tune_model(
        self,
        model: OnnxModel,
        target: Target,
        precision: Precision,
        budget_ns: int,
        seed: int,
        log: Path,
        events: Events,
        board: str | None = None,
    ) -> KernelSearch:
        """Measure the kernels of a model for ``budget_ns``, on ``board`` or else on this host, and keep what is found.

        Raises ``CompileError`` where nothing can be tuned, ``ConfigError`` or ``ToolchainError`` where the board is not
        the target's or cannot be reached.
        """
        ...

    def measure_whole(
        self, model: OnnxModel, target: Target, precision: Precision, log: Path, progress: Progress, /
    ) -> WholeModel:
        """Return what the records of a target bring to a model that this host can run."""
        ...

    def known_kernels(self, target: Target, merge: Path | None, export: Path | None, /) -> KernelRecords:
        """Return what is known for a target, after taking over the records of ``merge``; write all to ``export``.

        Raises ``ConfigError`` when a file is no such file, damaged, or for another processor.
        """
        ...

    def tuned_digest(self, target: Target) -> str | None:
        """Return the sha256 of what was measured of kernels on the target, None where nothing was."""
        ...


@dataclass(frozen=True)
class KeptEngine:
    """An engine that a device built, as files to pack: the folder they get in a bundle, the payload's entry and key."""

    folder: str
    entry: str
    files: tuple[str, ...]
    key: Mapping[str, str]


def engine_of(name: str) -> Engine | None:
    """Return an engine's record; None for one that this edgepack does not have."""
    return ENGINES.get(name) if name in ENGINES else None


def is_built_on_device(name: str) -> bool:
    """Say whether a device builds the engine ``name`` of what is shipped; no for one that this edgepack lacks."""
    engine = engine_of(name)
    return engine is not None and engine.built_on_device


def get_backend(name: str) -> Backend:
    """Return the module that drives the engine ``name``; the engine itself is imported by its functions.

    Raises ``ConfigError`` for an unknown name, ``ToolchainError`` when another package's module cannot be imported.
    """
    if name not in ENGINES:
        raise ConfigError(f"unknown backend {name!r}", hint=suggestion(name, ENGINES.names()))
    return cast("Backend", part_of(name, ENGINES.get(name).backend))


def kernel_tuner(name: str) -> KernelTuner | None:
    """Return what tunes the kernels of the engine ``name``; None for one whose kernels are not edgepack's own."""
    reference = ENGINES.get(name).kernels
    return cast("KernelTuner", part_of(name, reference)) if reference else None


def device_builder(name: str) -> DeviceBuilder | None:
    """Return the backend ``name`` as what builds engines on the device; None for those that need no building."""
    return cast("DeviceBuilder", get_backend(name)) if is_built_on_device(name) else None


def part_of(name: str, reference: str) -> Any:
    """Return what the record of the engine ``name`` refers to.

    Raises ``ToolchainError`` when it is another package's and cannot be imported.
    """
    try:
        return load_reference(reference)
    except Exception as error:  # untrusted code: whatever it raises
        if name in ENGINES.own:
            raise
        raise ToolchainError(
            f"{reference} of the engine {name!r} cannot be imported: {type(error).__name__}: {error}",
            hint=f"update or remove the package that brings {name!r}",
        ) from error
