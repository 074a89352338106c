"""Loads a bundle: checks it and this host, chooses a payload whose engine is here, hands the files to the engine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.backends import BACKENDS, SELF_CONTAINED, Sharing, get_backend
from edgepack.bundle.archive import Bundle, open_checked
from edgepack.bundle.requirements import is_older
from edgepack.errors import ConfigError, ToolchainError
from edgepack.host import host_facts
from edgepack.runtime.cache import Unpacked, unpack
from edgepack.runtime.mapped import dropped_pages
from edgepack.runtime.tuning import Tuning, device_facts, find_tuning
from edgepack.specs import Array, CompiledModel, Host, Manifest, Payload, RunOptions, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from edgepack.backends import Runner


@dataclass(frozen=True)
class LoadedModel:
    """A bundle in its engine; a context manager.

    ``infer`` is the engine's runner's own bound method, so that a bundle costs nothing per call; it takes and returns
    arrays by name, and the memory of an output may be reused by the next call. ``skipped`` says why payloads that the
    manifest prefers were passed over; ``options`` are those that it was loaded with.
    """

    bundle: Bundle
    payload: Payload
    device: str
    versions: Mapping[str, str]
    skipped: tuple[str, ...]
    infer: Callable[[Mapping[str, Array]], Mapping[str, Array]]
    _runner: Runner
    _files: Unpacked
    options: RunOptions

    @property
    def manifest(self) -> Manifest:
        """Return the bundle's table of contents."""
        return self.bundle.manifest

    @property
    def backend(self) -> str:
        """Return the name of the backend that runs the model."""
        return self.payload.backend

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Return what ``infer`` takes."""
        return self.bundle.manifest.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Return what ``infer`` returns."""
        return self.bundle.manifest.outputs

    @property
    def folder(self) -> Path:
        """Return where the payload's files are."""
        return self._files.folder

    def another(self) -> Runner:
        """Return a runner of the same loaded model for another thread. Raises ``ConfigError`` where there is none."""
        if not isinstance(self._runner, Sharing):
            raise ConfigError(
                f"{self.backend} runs one inference at a time in a process", hint="leave the streams at their default"
            )
        return self._runner.another()

    def close(self) -> None:
        """Free the engine's memory and let the unpacked files go."""
        self._runner.close()
        self._files.release()

    def __enter__(self) -> LoadedModel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def load(bundle: Bundle | Path, options: RunOptions | None = None) -> LoadedModel:
    """Check ``bundle`` whole and load the first payload in its order of preference that this host can run.

    Without ``options`` it is loaded with what ``edgepack tune`` found for it on this device, else with the engine's
    defaults, which ``RunOptions()`` asks for. Raises ``BundleError`` or ``IntegrityError`` when it is not to be
    trusted, ``ConfigError`` when its tuning is not, ``ToolchainError`` when this host lacks what it needs,
    ``CompileError`` when the engine refuses the files.
    """
    path = bundle.path if isinstance(bundle, Bundle) else Path(bundle)
    with open_checked(path) as (file, checked):
        payload, versions, skipped = choose_payload(checked.manifest, host_facts())
        if options is None:
            options = tuned_options(checked, payload, versions)
        files = unpack(checked, payload, file)
    device = options.device or payload.device
    try:
        with dropped_pages(files.folder):
            compiled = _compiled(checked.manifest, payload, files, versions)
            runner = get_backend(payload.backend).load_model(compiled, options)
    except BaseException:
        files.release()
        raise
    return LoadedModel(checked, payload, device, versions, skipped, runner.infer, runner, files, options)


def tuning_here(bundle: Path, scenario: str) -> Tuning | None:
    """Return what ``edgepack tune`` found for a bundle on this device; None when it was not tuned for the scenario.

    Raises what ``load`` raises before it comes to the engine.
    """
    with open_checked(Path(bundle)) as (_file, checked):
        host = host_facts()
        payload, versions, _ = choose_payload(checked.manifest, host)
        return find_tuning(checked, payload, device_facts(host, payload, payload.device, versions), scenario)


def tuned_options(bundle: Bundle, payload: Payload, versions: Mapping[str, str]) -> RunOptions:
    """Return the options that were tuned on this device for latency; the engine's defaults when none were."""
    found = find_tuning(bundle, payload, device_facts(host_facts(), payload, payload.device, versions))
    return found.options if found is not None else RunOptions()


def choose_payload(manifest: Manifest, host: Host) -> tuple[Payload, Mapping[str, str], tuple[str, ...]]:
    """Return the first payload that can run here, its engine's versions, and why those before it cannot.

    Raises ``ToolchainError`` with every reason when none can.
    """
    needs = manifest.requirements
    if needs.arch and needs.arch != host.arch:
        raise ToolchainError(
            f"{manifest.name} was built for {needs.arch} ({manifest.target}); this machine is {host.arch}",
            hint=f"run it on {manifest.target}, or build a bundle for this machine",
        )
    if missing := [flag for flag in needs.isa if flag not in host.isa]:
        raise ToolchainError(
            f"{manifest.name} needs the instructions {', '.join(missing)} that this CPU ({host.cpu}) does not have",
            hint="build a bundle for this machine: its profile lists the instruction set",
        )
    skipped: list[str] = []
    hints: list[str] = []
    for payload in manifest.payloads:
        try:
            return payload, _engine_versions(payload, manifest), tuple(skipped)
        except ToolchainError as error:
            skipped.append(error.message)
            hints.append(error.hint)
    raise ToolchainError("; ".join(skipped), hint=hints[0])


def _engine_versions(payload: Payload, manifest: Manifest) -> Mapping[str, str]:
    if payload.backend not in BACKENDS:
        raise ToolchainError(f"this edgepack has no backend {payload.backend!r}", hint="pip install --upgrade edgepack")
    if payload.backend in SELF_CONTAINED:
        return {name: version for name, version in manifest.toolchain.items() if payload.backend in name}
    versions = get_backend(payload.backend).versions()
    for package, needed in manifest.requirements.engine.items():
        found = versions.get(package)
        if found is not None and is_older(found, needed):
            raise ToolchainError(
                f"{package} {found} is older than the {needed} that the bundle needs",
                hint=f"pip install --upgrade '{package}>={needed}'",
            )
    return versions


def _compiled(manifest: Manifest, payload: Payload, files: Unpacked, versions: Mapping[str, str]) -> CompiledModel:
    return CompiledModel(
        backend=payload.backend,
        precision=payload.precision,
        folder=files.folder,
        entry=payload.entry,
        files=payload.files,
        inputs=manifest.inputs,
        outputs=manifest.outputs,
        versions=versions,
        device=payload.device,
    )
