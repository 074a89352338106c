"""What ``from edgepack import ...`` gives to programs and notebooks: the same stages as the command line."""

from __future__ import annotations

import contextlib
import dataclasses
import numbers
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast, overload

from edgepack.base import documents
from edgepack.base.documents import suggestion
from edgepack.base.run_options import out_of_bounds
from edgepack.errors import ConfigError
from edgepack.execution.events import Events
from edgepack.runtime.load import LoadedModel
from edgepack.runtime.load import load as load_bundle
from edgepack.runtime.watch import WatchedModel
from edgepack.specs.build import BuildResult
from edgepack.specs.run import RunOptions

_LISTS = ("targets", "precisions", "embed", "measure_on")
_PATHS = ("data", "eval", "recipe", "out")
_FUNCTION = "a function is named by its file: write 'file.py:function'"
_HINTS = {
    "data": f"save arrays with numpy.savez and give the path of the .npz; {_FUNCTION}",
    "eval": f"save arrays with numpy.savez and give the path of the .npz; {_FUNCTION}",
    "metric": _FUNCTION,
    "shapes": "write shapes={'input': 'Nx3x224x224'}; a letter is a free size",
    "max_drop": "write a fraction: 0.01 is one percentage point",
}


def build(
    model: Any,
    *,
    targets: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    precisions: str | Sequence[str] | None = None,
    data: str | os.PathLike[str] | None = None,
    store: str | os.PathLike[str] | None = None,
    events: Events | None = None,
    **settings: Any,
) -> BuildResult:
    """Build bundles of a model and return one row for each target and precision.

    ``model`` is a path (``.onnx``, ``.pt2``), a reference (``"file.py:make"``), a ``torch.nn.Module``, or
    ``BuildSettings``. ``targets`` and ``precisions`` are one name or several, in a list or separated by commas; a
    target is an id or the path of a profile. ``data`` is a folder of pictures, a ``.npz`` or a reference; int8 needs
    it. ``settings`` are the other fields of ``BuildSettings``. ``store`` is the folder in which the outputs of stages
    are kept. Progress is shown on a terminal and in a notebook, unless ``events`` takes it.

    A module is exported to ONNX in this process, to ``NAME.onnx`` in the folder of the bundles, and compared with
    itself. A target that fails is a row with its reason. Raises ``EdgepackError``: ``ConfigError`` for arguments that
    cannot be meant, ``ModelError`` or ``DataError`` when nothing can be built at all.
    """
    from edgepack.execution.open_store import open_store
    from edgepack.pipeline.build import build as run
    from edgepack.pipeline.settings import BuildSettings

    given = {"targets": targets, "precisions": precisions, "data": data, **settings}
    changes = _known({key: value for key, value in given.items() if value is not None}, BuildSettings)
    if events is not None and not callable(getattr(events, "begin", None)):
        raise ConfigError(f"events must have the methods of Events, not {_kind(events)}", hint="leave events out")
    opened = open_store(_text("store", store) if store is not None else None)
    if isinstance(model, BuildSettings):
        asked = _checked({**vars(model), **changes}, BuildSettings)
    elif _is_torch_module(model):
        asked = _export(model, _checked({"model": "", **changes}, BuildSettings))
    else:
        asked = _checked({"model": model, **changes}, BuildSettings)
    with _shown(events) as display:
        return run(asked, opened, display)


@overload
def load(
    bundle: str | os.PathLike[str],
    options: RunOptions | None = None,
    *,
    batch: int = 1,
    allow_native: bool | None = None,
    watch: Literal[False] = False,
) -> LoadedModel: ...
@overload
def load(
    bundle: str | os.PathLike[str],
    options: RunOptions | None = None,
    *,
    batch: int = 1,
    allow_native: bool | None = None,
    watch: Literal[True],
) -> WatchedModel: ...
def load(
    bundle: str | os.PathLike[str],
    options: RunOptions | None = None,
    *,
    batch: int = 1,
    allow_native: bool | None = None,
    watch: bool = False,
) -> LoadedModel | WatchedModel:
    """Return a bundle, checked and in its engine, as a context manager.

    ``with load("net.edgepack") as model: outputs = model.infer({"input": array})`` gives arrays by name.
    ``options`` say how the engine runs it; without them, what ``edgepack tune`` found on this device, else the engine's
    defaults. ``batch`` is how many samples most calls will have. ``allow_native`` says whether machine code in the
    bundle may run; where it is None, this device's settings do, or else only what was built here runs. With ``watch``
    the model follows its file: when an installation switches to another version, so do the calls that come after, and
    none is lost. Raises ``EdgepackError`` when the bundle is damaged, or this machine cannot or may not run it.
    """
    _check_run(options, batch)
    if watch:
        return WatchedModel(Path(_text("bundle", bundle)), options, batch=batch, allow_native=allow_native)
    return load_bundle(Path(_text("bundle", bundle)), options, batch=batch, allow_native=allow_native)


def _known(changes: dict[str, Any], kind: type[Any]) -> dict[str, Any]:
    names = {field.name for field in dataclasses.fields(kind)} - {"model"}
    for key in changes:
        if key not in names:
            raise ConfigError(f"build() has no setting {key!r}", hint=suggestion(key, names))
    return changes


def _checked(given: Mapping[str, Any], kind: type[Any]) -> Any:
    """Return ``kind`` of settings as a program has them. Raises ``ConfigError`` for a value of another kind."""
    found = {}
    for key, value in given.items():
        plain = _argument(key, value)
        hint = _HINTS.get(key)
        try:
            documents.decode(kind, {"model": "", key: plain}, "build()")
        except ConfigError as error:
            raise ConfigError(error.message, hint=hint or error.hint) from None
        found[key] = plain
    return documents.decode(kind, found, "build()")


def _argument(key: str, value: Any) -> Any:
    """Return a setting as ``edgepack.toml`` would have it. Raises ``ConfigError`` for a value of another kind."""
    if key in _LISTS:
        return _names(key, value)
    if key == "model" or (key in _PATHS and value is not None):
        return _text(key, value)
    if key == "shapes":
        return _shapes(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, bool):
        return value
    if isinstance(value, numbers.Integral):  # numpy's too
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    return dict(value) if isinstance(value, Mapping) else value


def _names(key: str, value: Any) -> list[str]:
    """Return one name or several; as on the command line, commas separate names."""
    if isinstance(value, str):
        return [name.strip() for name in value.split(",") if name.strip()]
    if isinstance(value, os.PathLike):
        return [os.fspath(value)]
    if not isinstance(value, Sequence) or not all(isinstance(item, str | os.PathLike) for item in value):
        raise ConfigError(
            f"{key} must be a name or a list of names, not {_kind(value)}", hint=f'write {key}="..." or [...]'
        )
    return [os.fspath(item) for item in value]


def _shapes(value: Any) -> Any:
    """Return shapes by the names of inputs as text; one shape alone is that of the only input."""
    if isinstance(value, str | Sequence):
        value = {"": value}
    if not isinstance(value, Mapping):
        return value
    return {
        name: "x".join(map(str, shape)) if isinstance(shape, Sequence) and not isinstance(shape, str) else shape
        for name, shape in value.items()
    }


def _check_run(options: Any, batch: Any) -> None:
    """Raise ``ConfigError`` for run options that no engine can be given, and for a batch without samples."""
    if not isinstance(batch, numbers.Integral) or int(batch) < 1:
        raise ConfigError(f"batch must be a whole number from 1, not {batch!r}", hint="write batch=1")
    if options is None:
        return
    if not isinstance(options, RunOptions):
        raise ConfigError(f"options must be RunOptions, not {_kind(options)}", hint="write RunOptions(threads=2)")
    documents.decode(RunOptions, dict(vars(options)), "RunOptions")
    for problem in out_of_bounds(options):
        raise ConfigError(f"RunOptions: {problem}", hint="leave the option out")


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str | os.PathLike):
        what = " or a torch.nn.Module" if key == "model" else ""
        hint = _HINTS.get(key) or f'write {key}="..."'
        raise ConfigError(f"{key} must be a path{what}, not {_kind(value)}", hint=hint)
    return os.fspath(cast("os.PathLike[str]", value))


def _kind(value: Any) -> str:
    """Return what a value is, with its article: "an int", "a list", "the class Net", "None"."""
    if value is None or isinstance(value, type):
        return "None" if value is None else f"the class {value.__name__}"
    name = type(value).__name__
    return f"an {name}" if name[0] in "aeiouAEIO" or name == "ndarray" else f"a {name}"


def _is_torch_module(model: Any) -> bool:
    torch = sys.modules.get("torch")  # who has a module has imported torch
    return torch is not None and isinstance(model, torch.nn.Module)


def _export(module: Any, settings: Any) -> Any:
    """Write the module as ONNX into the build's folder and return settings that name the file."""
    from edgepack.data.recipes import load_recipe
    from edgepack.export.torch_module import export_module
    from edgepack.pipeline.plan import chosen_task
    from edgepack.pipeline.settings import parse_shape
    from edgepack.pipeline.stages.export import find_for_export

    name = settings.name or type(module).__name__.lower()
    folder = Path(settings.out or f"artifacts/{name}")
    folder.mkdir(parents=True, exist_ok=True)
    data = settings.data or settings.eval
    samples = None
    if data is not None:
        recipe = load_recipe(settings.recipe) if settings.recipe else None
        task = chosen_task(settings.task, recipe)
        preprocessing = recipe.preprocessing if recipe else None
        samples = find_for_export(data, preprocessing, task, settings.seed, settings.skip_bad, folder)
    shapes = {key: parse_shape(key, text) for key, text in settings.shapes.items()}
    exported = export_module(module, f"the {type(module).__name__}", samples, shapes, folder)
    path = exported.path.replace(folder / f"{name}.onnx")
    return dataclasses.replace(settings, model=str(path), name=name, out=str(folder), shapes={})


@contextlib.contextmanager
def _shown(events: Events | None) -> Iterator[Events | None]:
    """Show the stages where somebody watches: a terminal, or a notebook."""
    if events is not None or not (sys.stderr.isatty() or "ipykernel" in sys.modules):
        yield events
        return
    from edgepack.cli.show.console import make_console
    from edgepack.cli.show.progress import Display

    with Display(make_console()) as display:
        yield display
