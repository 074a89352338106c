"""The source frameworks: which models each reads, and how it makes ONNX of them, one module each.

To add one, add a module with a ``Framework`` and a line to ``FRAMEWORKS``, which nothing else names; an installed
package adds its own by an entry point in the group ``edgepack.frameworks``. One that would clash with what runs here
has a ``Worker``: a program for a Python of its own, and the lock that this is made from.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from edgepack.base.extensions import Table
from edgepack.base.files import scratch_folder
from edgepack.base.missing import nothing_at
from edgepack.base.stage import always, stage
from edgepack.base.user_functions import functions_in, is_callable_reference, look_for
from edgepack.errors import ConfigError, ModelError
from edgepack.export.foreign import look_inside
from edgepack.export.kinds import KINDS, kind_of, lie, unknown
from edgepack.export.user_code import told_to
from edgepack.export.worker import Worker, convert
from edgepack.specs.data import SampleSet
from edgepack.specs.model import OnnxModel, TensorSpec
from edgepack.specs.source import SourceOptions
from edgepack.specs.types import Progress, UserSource, no_progress

_LIKELY = (".onnx", ".pt2", ".pt", ".keras", ".tflite")  # suffixes that are left out of a model's name
_MOST_NAMED = 6  # functions of a file, offered where none was named


class FindInputs(Protocol):
    """``Framework.find_inputs``."""

    def __call__(
        self, source: str, samples: SampleSet | None, shapes: Mapping[str, tuple[int | str, ...]], /
    ) -> tuple[TensorSpec, ...]:
        """Return the inputs that the exported model will have, without exporting it. Raises as ``Export``."""
        ...


class Export(Protocol):
    """``Framework.export``."""

    def __call__(
        self, source: str, samples: SampleSet | None, shapes: Mapping[str, tuple[int | str, ...]], out: Path, /
    ) -> OnnxModel:
        """Write ``out/model.onnx`` and return it. Raises ``ModelError``, ``ConfigError`` or ``ToolchainError``."""
        ...


@dataclass(frozen=True)
class Framework:
    """One source framework.

    ``title`` is what a user gives, in words. It takes files by their ``suffixes``, in lower case, and what has the
    ``form`` of its models otherwise: a folder, an address, a callable. ``prepares`` says, without reading the model,
    that it tells how pictures are prepared for it. ``advice`` says what to do instead with files of
    other suffixes, by suffix. ``uses_samples`` says that samples give inputs their shapes, and that the export is
    compared on them. ``note`` tells of a model that it made what a user should know of how. One with a ``worker`` needs
    no functions of its own.
    """

    title: str
    find_inputs: FindInputs | None = None
    export: Export | None = None
    suffixes: tuple[str, ...] = ()
    form: Callable[[str], bool] | None = None
    advice: Mapping[str, str] = field(default_factory=dict)
    uses_samples: bool = True
    note: Callable[[OnnxModel], str | None] | None = None
    worker: Worker | None = None
    prepares: Callable[[str], bool] | None = None

    def takes(self, source: str) -> bool:
        """Say whether ``source`` is one of its models, by how it is written."""
        return Path(source).suffix.lower() in self.suffixes or (self.form is not None and self.form(source))


# In the order in which they are asked; those of other packages come last.
FRAMEWORKS: Table[Framework] = Table(
    "source framework",
    "edgepack.frameworks",
    {
        "onnx": "edgepack.export.onnx_file:FRAMEWORK",
        "torch_program": "edgepack.export.torch_program:FRAMEWORK",
        "keras2": "edgepack.export.keras2_file:FRAMEWORK",
        "keras": "edgepack.export.keras_file:FRAMEWORK",
        "tflite": "edgepack.export.tflite:FRAMEWORK",
        "saved_model": "edgepack.export.saved_model:FRAMEWORK",
        "hugging_face": "edgepack.export.hugging_face:FRAMEWORK",
        "timm": "edgepack.export.timm_model:FRAMEWORK",
        "fastai": "edgepack.export.fastai_learner:FRAMEWORK",
        "flax": "edgepack.export.flax_model:FRAMEWORK",
        "torch_file": "edgepack.export.torch_file:FRAMEWORK",
        "sklearn": "edgepack.export.sklearn_pipeline:FRAMEWORK",
        "torch_module": "edgepack.export.torch_module:FRAMEWORK",
    },
    Framework,
)


def _worker_files(source: str, *_others: object) -> tuple[Path, ...]:
    """Return what the output of a worker depends on besides the modules that are imported here."""
    framework = find_framework(source)
    worker = framework.worker if framework is not None else None
    return (worker.path.parent, worker.path) if worker is not None else ()


# What stands before the colon of a name that is no place: the framework that knows it.
NAMES = ("timm", "keras", "hf")
ARCHIVES = (".tar.gz", ".tar.xz", ".tar.bz2", ".tgz", ".tar", ".zip")


@stage("export", tracks=always, depends=_worker_files)
def export(
    source: UserSource,
    samples: SampleSet | None,
    shapes: Mapping[str, tuple[int | str, ...]],
    options: SourceOptions,
    out: Path,
    progress: Progress = no_progress,
) -> OnnxModel:
    """Return the model named by ``source`` as a checked ONNX model in the folder ``out``.

    A torch module is exported with the names of its forward's arguments and a free batch, and compared in ONNX Runtime
    with the module on ``samples`` (seeded random inputs without them). ``shapes`` gives inputs' shapes, with strings
    for free dimensions; it is not used for files, whose shapes are their own. A model of a framework that runs in a
    Python of its own is compared with that framework's answers, and ``out/meta.json`` has what it told. Raises
    ``ModelError`` when the model cannot be used, ``ConfigError`` when its inputs are not known.
    """
    framework = _framework(source)
    if framework.worker is not None:
        return convert(framework.worker, source, shapes, options, out, progress)
    assert framework.export is not None, "a framework has a worker or functions"
    with told_to(progress):
        return framework.export(source, samples, shapes, out)


def find_inputs(
    source: str,
    samples: SampleSet | None,
    shapes: Mapping[str, tuple[int | str, ...]],
    options: SourceOptions | None = None,
) -> tuple[TensorSpec, ...]:
    """Return the inputs that ``export`` with the same arguments will give the model."""
    framework = _framework(source)
    if framework.worker is not None:
        with scratch_folder() as folder:
            return convert(framework.worker, source, shapes, options or SourceOptions(), folder, no_progress).inputs
    assert framework.find_inputs is not None, "a framework has a worker or functions"
    return framework.find_inputs(source, samples, shapes)


def find_framework(source: str) -> Framework | None:
    """Return the framework that takes ``source``; None where there is none."""
    return next((framework for _, framework in FRAMEWORKS.all() if framework.takes(source)), None)


def prepares_pictures(source: str) -> bool:
    """Say whether a model's own source tells how its pictures are prepared, so that no recipe is needed."""
    framework = find_framework(source)
    return framework is not None and framework.prepares is not None and framework.prepares(source)


def is_named(source: str) -> bool:
    """Say whether ``source`` names an architecture or a model on a hub, as timm:resnet18 does, and no place here."""
    return source.partition(":")[0] in NAMES and not Path(source).exists()


def require_source(source: str) -> None:
    """Raise ``ModelError`` or ``ConfigError`` unless ``source`` is there and of a kind that is read, by what can be
    seen without loading it.
    """
    framework = _framework(source)
    if is_named(source):
        return
    if is_callable_reference(source) and not Path(source).exists():
        look_for(source)
    elif framework.worker is None and not Path(source).exists():
        raise _no_model(source)


def is_onnx(path: Path) -> bool:
    """Say whether a file is an ONNX file, by its name."""
    return FRAMEWORKS.get("onnx").takes(str(path))


def refuse_other_kinds(path: Path) -> None:
    """Raise ``ModelError`` where a file or folder is surely another framework's, by its contents."""
    kind = kind_of(str(path))
    if kind not in (None, "onnx"):
        hint = f"make one with 'edgepack export {shlex.quote(str(path))} -o model.onnx'"
        raise ModelError(f"{path} is {KINDS[kind][0]}, not an ONNX file", hint=hint)


def require_onnx(path: Path) -> None:
    """Raise ``ModelError`` unless a file is an ONNX file, by its name."""
    refuse_other_kinds(path)
    if not is_onnx(path):
        raise ModelError(f"{path} is not an ONNX file", hint="make one with 'edgepack export MODEL -o model.onnx'")


def name_of(source: str) -> str:
    """Return what to call a model: its file's name without the suffix, or the module that a callable stands in."""
    if is_named(source):
        return source.partition(":")[2].rpartition("/")[2]
    if Path(source).is_dir():
        return Path(source).resolve().name
    if (archive := next((s for s in ARCHIVES if source.lower().endswith(s)), None)) is not None:
        return Path(source).name[: -len(archive)]
    place = source.rpartition(":")[0] if is_callable_reference(source) else source
    suffixes = {".py", *(suffix for _, framework in FRAMEWORKS.all() for suffix in framework.suffixes)}
    return Path(place).stem if Path(place).suffix.lower() in suffixes else place


def sources_in_words() -> str:
    """Return what models may be given as, in words."""
    *titles, last = dict.fromkeys(framework.title for _, framework in FRAMEWORKS.all())  # two read .keras
    return f"{', '.join(titles)} or {last}"


def _framework(source: str) -> Framework:
    if "://" in source:
        local = source.removeprefix("file://")
        hint = "fetch the file first, and give its path" if local == source else f"give the path alone: {local}"
        raise ModelError(f"{source} is an address, not a file", hint=hint)
    if (found := lie(source)) is not None:
        raise ModelError(
            f"{source} is {found[0]}, judging by its contents", hint=f"rename it to {Path(source).stem}{found[1]}"
        )
    framework, path = find_framework(source), Path(source)
    if path.exists() and not (path.is_file() or path.is_dir()):  # reading a pipe would wait, reading a device not end
        raise ModelError(f"{source} is neither a file nor a folder", hint="save the model to a file")
    if framework is not None and (framework.worker is None or path.exists() or is_named(source)):
        if framework.worker is not None and (what := unknown(source)) is not None:
            raise ModelError(
                f"{source} is not {what}, judging by its contents", hint="it may be cut short: copy or save it again"
            )
        return framework
    suffix = path.suffix.lower()
    advice = {key: text for _, framework in FRAMEWORKS.all() for key, text in framework.advice.items()}
    if (foreign := look_inside(source)) is not None:
        raise ModelError(f"{source} is {foreign.what}", hint=foreign.hint)
    if path.is_dir():
        raise ModelError(f"{source} is a folder, not a model", hint="give the .onnx file inside it")
    if not path.exists():
        raise _no_model(source)
    if suffix in advice:
        named = ", ".join(f"{source}:{name}" for name in functions_in(path)[:_MOST_NAMED]) if suffix == ".py" else ""
        hint = f"{advice[suffix]}: {named}" if named else advice[suffix]
        raise ConfigError(f"{source} is not a model that edgepack reads", hint=hint)
    raise ConfigError(f"{source} is not a model that edgepack reads", hint=f"give {sources_in_words()}")


def _no_model(source: str) -> ModelError:
    message, hint = nothing_at(source, "check the path of the model", what="model", suffixes=_LIKELY)
    return ModelError(message, hint=hint)
