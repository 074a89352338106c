"""Loads a bundle: checks it and this host, chooses a payload whose engine is here, hands the files to the engine."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.base.shapes import show_shape
from edgepack.base.versions import is_older
from edgepack.bundle.archive import Bundle, open_checked, read_member
from edgepack.bundle.manifest import TASK_FOLDER
from edgepack.bundle.payloads import is_native
from edgepack.device.host import host_facts, saturates
from edgepack.engines import ENGINES, REFERENCE, Sharing, device_builder, get_backend
from edgepack.engines.common.inputs import check_feeds
from edgepack.engines.common.threads import any_thread, refuse_pickling
from edgepack.errors import CompileError, ConfigError, DataError, EdgepackError, ToolchainError
from edgepack.runtime.cache import Unpacked, unpack
from edgepack.runtime.mapped import dropped_pages
from edgepack.runtime.native import may_run_native, refusal
from edgepack.runtime.tuning import Tuning, device_facts, find_tuning
from edgepack.specs.bundle import Manifest, Payload
from edgepack.specs.model import CompiledModel, TensorSpec
from edgepack.specs.run import RunOptions
from edgepack.specs.target import Host
from edgepack.specs.task import Task
from edgepack.specs.types import Array, Progress, no_progress
from edgepack.tasks import PICTURE_CLASSES, TENSORS, Making
from edgepack.trust.policy import Admission, admit

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from edgepack.engines import Runner
    from edgepack.specs.answer import Answer

RECORD = "install.json"  # what stands beside an installed bundle
ID_DIGITS = 16  # of the manifest's digest, in the name of an installed version's folder
PLANS = "plans"  # the folder beside an installed bundle in which the device's own engines are kept


@dataclass(frozen=True, repr=False)
class LoadedModel:
    """A bundle in its engine; a context manager.

    ``infer`` is the engine's runner's own bound method where the engine takes calls of several threads, else that of
    ``engines.common.threads``; it takes and returns arrays by name, and the memory of an output may be reused by the
    next call in the same thread. ``skipped`` says why payloads that the
    manifest prefers were passed over, ``chosen`` why this one was taken where there was a choice; ``options`` are those
    that it was loaded with.
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
    chosen: str = ""

    def __repr__(self) -> str:
        about, parts = self.manifest, (self.inputs, self.outputs)
        taken, given = (", ".join(f"{s.name} {s.dtype} {show_shape(s.shape)}" for s in specs) for specs in parts)
        return f"<LoadedModel {about.name} {about.version} {about.precision} on {self.backend}; {taken} -> {given}>"

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

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what readers of the answers must know: which engines were passed over, why, and what runs instead."""
        engine = self.backend if self.device == "CPU" else f"{self.backend} {self.device}"
        instead = (f"run by {engine} instead",) if self.skipped else ()
        return (*(f"not used: {reason}" for reason in self.skipped), *instead, *filter(None, (self.chosen,)))

    @property
    def making(self) -> Making:
        """Return how a thing becomes the model's inputs."""
        return Making(task_of(self.manifest), self.inputs, self.manifest.preprocessing, self.task_file)

    def task_file(self, name: str) -> bytes:
        """Return a file that came with the bundle's task. Raises ``DataError`` where there is none."""
        if TASK_FOLDER + name not in {entry.path for entry in self.manifest.files}:
            raise DataError(
                f"{self.bundle.path} was built without {name}, so it takes arrays only",
                hint=f"build it again with {name} beside the data, or named in [task.input] of the recipe",
            )
        return read_member(self.bundle, TASK_FOLDER + name)

    def predict(self, thing: Any) -> Answer:
        """Return what the model answers to one thing, in the terms of its task: boxes, classes, ...

        ``thing`` is a path, an image of Pillow or an array, as a picture uint8 [height, width, 3] in the order R, G, B;
        of a task about texts, the text. Of a bundle that says no task, classes for one that takes pictures and gives a
        score for each, else the outputs. Raises ``DataError`` for what the task does not take.
        """
        from edgepack.tasks import TASKS, answer, prepare

        making = self.making
        stream = TASKS.get(making.task.kind).stream
        if stream is not None and not isinstance(thing, Mapping):
            outputs, frame = stream(self.infer, thing, making)
            return answer(making.task, outputs, frame)
        prepared = prepare(thing, making)
        check_feeds(prepared.feeds, self.inputs)
        outputs = self.infer(prepared.feeds)
        return answer(making.task, {spec.name: outputs[spec.name] for spec in self.outputs}, prepared.frame)

    def another(self) -> Runner:
        """Return a runner of the same loaded model for another thread. Raises ``ConfigError`` where there is none."""
        if not isinstance(self._runner, Sharing):
            raise ConfigError(
                f"{self.backend} runs one inference at a time in a process", hint="leave the streams at their default"
            )
        return any_thread(self._runner.another())

    def close(self) -> None:
        """Free the engine's memory, when the calls of other threads are done, and let the unpacked files go."""
        self._runner.close()
        self._files.release()

    __reduce__ = refuse_pickling

    def __enter__(self) -> LoadedModel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def load(
    bundle: Bundle | Path,
    options: RunOptions | None = None,
    progress: Progress = no_progress,
    *,
    batch: int = 1,
    only: Payload | None = None,
    allow_native: bool | None = None,
    policy: bool = True,
) -> LoadedModel:
    """Check ``bundle`` whole and load the first payload in its order of preference that this host can run.

    Without ``options`` it is loaded with what ``edgepack tune`` found for it on this device, else with the engine's
    defaults, which ``RunOptions()`` asks for. A payload whose engine refuses the files gives way to the next one, with
    the reason. Where the engine is built on the device, this is when: ``progress`` reports how far it is, and what was
    built is kept in the folder ``plans`` beside the bundle when there is one, else in the user's cache. ``batch`` says
    how many samples most calls will have: an engine that is faster for one batch is loaded for it, unless ``options``
    say which. Native code runs when ``allow_native`` says so, or where that is None this device's settings do or it was
    built here (see ``native.py``); else it is passed over. ``only`` is the one payload to try. The policy of this
    device is obeyed before anything else is done with the bundle; ``policy`` is False for one that this process has
    just made itself.

    Raises ``BundleError``, ``IntegrityError`` or ``TrustError`` when it is not to be trusted, ``ConfigError`` when its
    tuning is not or when it holds nothing but native code that may not run,
    ``ToolchainError`` when this host lacks what it needs, ``CompileError`` when the engine refuses the files.
    """
    path = bundle.path if isinstance(bundle, Bundle) else Path(bundle)
    with open_checked(path) as (file, checked):
        manifest, host = checked.manifest, host_facts()
        passed_over: list[EdgepackError] = []
        native = runs_native(checked, allow_native, policy=policy)
        for payload, versions in _usable(manifest, host, options, passed_over, native, only):
            chosen = tuned_options(checked, payload, versions) if options is None else options
            own, note = _own_options(manifest, payload, host, chosen, batch)
            files = unpack(checked, payload, file)
            try:
                runner, reason = _open(_compiled(manifest, payload, files, versions, path), own, progress)
            except CompileError as error:
                files.release()
                passed_over.append(error)
                continue
            except BaseException:
                files.release()
                raise
            skipped = tuple(error.message for error in passed_over)
            device = own.device or payload.device
            why = "; ".join(filter(None, (reason, note)))
            return LoadedModel(checked, payload, device, versions, skipped, runner.infer, runner, files, own, why)
    raise _none_left(passed_over)


def _open(compiled: CompiledModel, options: RunOptions, progress: Progress) -> tuple[Runner, str]:
    """Return the runner and, where its engine is built on the device, whether it was built now and why."""
    builder = device_builder(compiled.backend)
    chosen = builder.build_on_device(compiled, progress) if builder is not None else ""
    with dropped_pages(compiled.folder):
        return any_thread(get_backend(compiled.backend).load_model(compiled, options)), chosen


def _own_options(
    manifest: Manifest, payload: Payload, host: Host, options: RunOptions, batch: int
) -> tuple[RunOptions, str]:
    """Return the options for one payload; a GPU's int8 graph is not given to CPU kernels that clip its sums."""
    if batch > 1 and options.fixed_batch is None and ENGINES.get(payload.backend).fixes_batch:
        options = dataclasses.replace(options, fixed_batch=batch)
    if payload.backend != REFERENCE or manifest.payloads[0].backend == REFERENCE:
        return options, ""
    options = dataclasses.replace(options, device="CPU")
    if payload.precision == "int8" and saturates(host):
        note = "int8 kernels of this CPU clip sums at 16 bits, so the graph is computed in float as it is written"
        return dataclasses.replace(options, optimization="off"), note
    return options, ""


def is_installed(bundle: Bundle) -> bool:
    """Say whether a bundle stands where an installation has put it, after it was proved."""
    folder = bundle.path.resolve().parent
    try:
        return folder.name == bundle.manifest_sha256[:ID_DIGITS] and (folder / RECORD).stat().st_size > 0
    except OSError:
        return False


def runs_native(bundle: Bundle, allowed: bool | None = None, *, policy: bool = True) -> bool:
    """Say whether native code of a checked bundle may run, when the policy of this device takes the bundle at all.

    The settings are read only where there is such code. Raises what ``trust.policy.admit`` and ``may_run_native`` do.
    """
    admission = admit(bundle, new=not is_installed(bundle)) if policy else Admission()
    if admission.native is not None:
        return admission.native
    return any(is_native(payload) for payload in bundle.manifest.payloads) and may_run_native(bundle, allowed)


def _none_left(passed_over: list[EdgepackError]) -> EdgepackError:
    """Return the one error to raise: a refusal by the engine or by us, else everything that the host lacks."""
    refused = [error for error in passed_over if not isinstance(error, ToolchainError)]
    if refused:
        return refused[-1]
    return ToolchainError("; ".join(error.message for error in passed_over), hint=passed_over[0].hint)


def task_of(manifest: Manifest) -> Task:
    """Return a bundle's task with its classes; of one that says none, what its inputs and outputs look like."""
    if manifest.task is not None:
        return dataclasses.replace(manifest.task, classes=manifest.classes)
    shape = manifest.outputs[0].shape
    scores = manifest.preprocessing is not None and len(shape) == 2 and shape[1] != 1
    return Task(PICTURE_CLASSES if scores else TENSORS, classes=manifest.classes if scores else ())


def tuning_here(bundle: Path, scenario: str) -> Tuning | None:
    """Return what ``edgepack tune`` found for a bundle on this device; None when it was not tuned for the scenario.

    Raises what ``load`` raises before it comes to the engine.
    """
    with open_checked(Path(bundle)) as (_file, checked):
        host = host_facts()
        payload, versions, _ = choose_payload(checked.manifest, host, runs_native(checked))
        return find_tuning(checked, payload, device_facts(host, payload, payload.device, versions), scenario)


def tuned_options(bundle: Bundle, payload: Payload, versions: Mapping[str, str]) -> RunOptions:
    """Return the options that were tuned on this device for latency; the engine's defaults when none were."""
    found = find_tuning(bundle, payload, device_facts(host_facts(), payload, payload.device, versions))
    return found.options if found is not None else RunOptions()


def choose_payload(
    manifest: Manifest, host: Host, native: bool = True
) -> tuple[Payload, Mapping[str, str], tuple[str, ...]]:
    """Return the first payload that can run here, its engine's versions, and why those before it cannot.

    ``native`` says whether native code may. Raises ``ToolchainError`` with every reason when none can.
    """
    passed_over: list[EdgepackError] = []
    for payload, versions in _usable(manifest, host, None, passed_over, native):
        return payload, versions, tuple(error.message for error in passed_over)
    raise _none_left(passed_over)


def _usable(
    manifest: Manifest,
    host: Host,
    options: RunOptions | None,
    passed_over: list[EdgepackError],
    native: bool,
    only: Payload | None = None,
) -> Iterator[tuple[Payload, Mapping[str, str]]]:
    """Yield each payload whose engine is here with its versions; add to ``passed_over`` why the others are not.

    Raises ``ToolchainError`` when the machine itself is another one.
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
    for payload in manifest.payloads if only is None else (only,):
        if is_native(payload) and payload.backend in ENGINES and not native:
            passed_over.append(refusal(manifest))
            continue
        try:
            versions = _engine_versions(payload, manifest, options)
            _check_key(payload)
        except ToolchainError as error:
            passed_over.append(error)
        else:
            yield payload, versions


def _check_key(payload: Payload) -> None:
    """Raise ``ToolchainError`` where a payload's engine was built for another device than this one."""
    if not payload.key:
        return
    builder = device_builder(payload.backend)
    here = builder.device_key(payload.key) if builder is not None else {}
    wrong = [f"{name} {value} (here {here.get(name, 'unknown')})" for name, value in sorted(payload.key.items())
             if here.get(name) != value]  # fmt: skip
    if wrong:
        raise ToolchainError(
            f"the packed engine was built for another device: {', '.join(wrong)}", hint="let this device build its own"
        )


def _engine_versions(payload: Payload, manifest: Manifest, options: RunOptions | None) -> Mapping[str, str]:
    if payload.backend not in ENGINES:
        raise ToolchainError(f"this edgepack has no backend {payload.backend!r}", hint="pip install --upgrade edgepack")
    engine = ENGINES.get(payload.backend)
    if options is not None and options.device == "CPU" and not engine.on_cpu:
        raise ToolchainError("the CPU was asked for", hint="leave the device out")
    if engine.self_contained:
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


def _compiled(
    manifest: Manifest, payload: Payload, files: Unpacked, versions: Mapping[str, str], path: Path
) -> CompiledModel:
    plans = path.resolve().parent / PLANS
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
        built=plans if plans.is_dir() else None,
    )
