"""``models.toml``: many models, each for its targets and precisions, and what differs from row to row."""

from __future__ import annotations

import dataclasses
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from edgepack.base.documents import decode, suggestion
from edgepack.engines.targets import expand_targets, known_names, load_target
from edgepack.errors import ConfigError
from edgepack.pipeline.plan import BuildPlan, resolve
from edgepack.pipeline.settings import BuildSettings, check_settings, executed, read_settings, read_toml, settings_of
from edgepack.specs.types import Effort, Observer, Precision, Wanted

_MOST_ROWS = 100_000
_MOST_WORDS = 20  # of a file's name with spaces


@dataclass(frozen=True)
class Which:
    """Rows, by models' names, targets and precisions; what is left out stands for all."""

    models: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    precisions: tuple[Wanted, ...] = ()


@dataclass(frozen=True)
class Override(Which):
    """Settings that differ for some rows of a model: those that do not change what its rows have in common."""

    observer: Observer | None = None
    percentile: float | None = None
    method: Literal["auto", "plain"] | None = None
    effort: Effort | None = None
    max_drop: float | None = None
    min_sqnr: float | None = None
    max_change: float | None = None
    allow_poor: bool | None = None
    tune_minutes: float | None = None

    @property
    def changes(self) -> dict[str, Any]:
        """The settings that it names."""
        own = [f.name for f in dataclasses.fields(self) if f.name not in Which.__dataclass_fields__]
        return {name: getattr(self, name) for name in own if getattr(self, name) is not None}


@dataclass(frozen=True)
class ModelsFile:
    """``models.toml``. ``defaults`` and each of ``models`` have the keys of ``edgepack.toml``.

    ``exclude`` takes rows away, then ``include`` adds some; of several ``override`` the last one that names a setting
    wins. ``out`` is the folder of the whole: each model has a folder of its name in it.
    """

    models: tuple[Mapping[str, Any], ...]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    exclude: tuple[Which, ...] = ()
    include: tuple[Which, ...] = ()
    override: tuple[Override, ...] = ()
    out: str | None = None


@dataclass(frozen=True)
class Matrix:
    """All that a build of many models makes: a plan for each model, and the folder of the whole."""

    name: str
    out: Path
    plans: tuple[BuildPlan, ...]

    @property
    def size(self) -> int:
        """The number of rows."""
        return sum(len(tuple(plan.rows())) for plan in self.plans)


def is_matrix(paths: Sequence[str]) -> bool:
    """Say whether arguments of ``build`` are many models: several files of settings, or one that has ``models``."""
    if len(paths) != 1:
        return len(paths) > 1
    path = Path(paths[0])
    return path.suffix == ".toml" and path.is_file() and "models" in read_toml(path)


def read_matrix(paths: Sequence[str], changes: Mapping[str, Any] | None = None) -> Matrix:
    """Return what ``models.toml``, or several ``edgepack.toml``, ask for, with settings changed for all models.

    Raises ``ConfigError`` with what to write instead, before any work.
    """
    changes = dict(changes or {})
    out = changes.pop("out", None)
    if "name" in changes:
        raise ConfigError("--name cannot be given to several models", hint="write name = ... in their settings")
    if len(paths) > 1:
        return _several(paths, changes, out)
    path = Path(paths[0])
    file: ModelsFile = decode(ModelsFile, read_toml(path), str(path))
    if not file.models:
        raise ConfigError(f"{path}: models is empty", hint="add a [[models]] table with model = ...")
    folder = Path(out or (path.parent / file.out if file.out else f"artifacts/{path.stem}"))
    models = [_settings(file, number, path, folder, changes) for number in range(len(file.models))]
    _refuse_twice(models, [f"{path}: models: {number}" for number in range(len(models))])
    return _matrix(path.stem, folder, models, file, str(path))


def one(settings: BuildSettings) -> Matrix:
    """Return the matrix of one model, in its own folder."""
    plan = resolve(settings)
    return Matrix(plan.name, plan.out, (plan,))


def _refuse_stray(words: Sequence[str]) -> None:
    """Raise ``ConfigError`` where words that would be models are surely something else."""
    # pathlib raises for a name that is too long, as many words make one
    last = len(words)
    runs = (words[i:end] for i in range(last) for end in range(i + 2, min(i + _MOST_WORDS, last) + 1))
    for run in runs:
        if os.path.exists(name := " ".join(run)):  # noqa: PTH110
            raise ConfigError(
                f"{run[0]} and {run[1]} are taken for two models",
                hint=f"put a name with spaces in quotes: {shlex.quote(name)}",
            )
    for word in words[1:]:
        if os.path.isdir(word) or word.endswith((".npz", ".zip")):  # noqa: PTH112
            hint = f"samples have an option: --data {shlex.quote(word)}"
        elif word in get_args(Precision):
            hint = f"precisions have an option, which takes several with commas between: --precision {word}"
        elif word in known_names():
            hint = f"targets have an option, which takes several with commas between: --target {word}"
        else:
            continue
        raise ConfigError(f"{word} is taken for a second model", hint=hint)


def _several(paths: Sequence[str], changes: dict[str, Any], out: str | None) -> Matrix:
    """Return the matrix of several ``edgepack.toml``; each keeps its own folder where it names one."""
    for path in paths:
        if not path.endswith(".toml"):
            _refuse_stray(paths)
            raise ConfigError(
                f"{path} is not an edgepack.toml; several models are built by files of settings",
                hint="write one for each model with 'edgepack init -o NAME.toml', or one models.toml",
            )
    folder = Path(out or "artifacts/all")
    models = []
    for path in paths:
        settings = check_settings(dataclasses.replace(read_settings(Path(path)), **changes))
        models.append(dataclasses.replace(settings, out=settings.out or str(folder / str(settings.name))))
    _refuse_twice(models, paths)
    return _matrix(folder.name, folder, models, ModelsFile(()), " and ".join(paths))


def _settings(file: ModelsFile, number: int, path: Path, out: Path, changes: Mapping[str, Any]) -> BuildSettings:
    where = f"{path}: models: {number}"
    own = file.models[number]
    for keys, place in ((file.defaults, f"{path}: defaults"), (own, where)):
        for key in ("out", *(("model", "name") if keys is file.defaults else ())):
            if key in keys:
                raise ConfigError(f"{place}: {key} cannot be set here", hint="out = ... of the whole is the first line")
    settings = settings_of({**file.defaults, **own}, where, path.parent)
    try:
        settings = check_settings(dataclasses.replace(settings, **changes))
    except ConfigError as error:
        raise ConfigError(f"{where}: {error.message}", hint=error.hint) from error
    return dataclasses.replace(settings, out=str(out / str(settings.name)))


def _matrix(name: str, out: Path, models: list[BuildSettings], file: ModelsFile, where: str) -> Matrix:
    rows = _Rows(models, where)
    for kind, which in (("exclude", w) for w in file.exclude):
        rows.take(kind, which)
    for which in file.include:
        rows.add(which)
    for override in file.override:
        rows.change(override)
    matrix = Matrix(name, out, tuple(rows.plan(settings) for settings in models))
    if matrix.size > _MOST_ROWS:
        raise ConfigError(f"{where}: {matrix.size} rows", hint=f"at most {_MOST_ROWS} are built at once")
    return matrix


def _refuse_twice(models: Sequence[BuildSettings], places: Sequence[str]) -> None:
    """Raise ``ConfigError`` where two models have one name or one folder; ``places`` says where each is written."""
    names, folders = dict[str, str](), dict[str, str]()
    for settings, place in zip(models, places, strict=True):
        name, folder = str(settings.name), str(settings.out)
        if name in names:
            raise ConfigError(
                f"{names[name]} and {place}: two models are called {name!r}", hint="give one of them a name = ..."
            )
        if folder in folders:
            raise ConfigError(
                f"{folders[folder]} and {place}: two models have the folder {folder}",
                hint="give each its own out = ...",
            )
        names[name] = folders[folder] = place


class _Rows:
    """The rows of all models, as ``{(target, precision): settings that differ}``, while the file is read."""

    def __init__(self, models: list[BuildSettings], where: str) -> None:
        self._models = {str(settings.name): settings for settings in models}
        self._where = where
        self._rows: dict[str, dict[tuple[str, Wanted], dict[str, Any]]] = {
            str(s.name): {(target, precision): {} for target in s.targets for precision in s.precisions} for s in models
        }

    def take(self, kind: str, which: Which) -> None:
        """Take rows away."""
        for model, row in self._found(kind, which):
            del self._rows[model][row]

    def add(self, which: Which) -> None:
        """Add rows: of each model its own targets and precisions where none are named."""
        for model in self._names("include", which):
            own = self._models[model]
            targets = self._targets(which) or own.targets
            for target in targets:
                for precision in which.precisions or own.precisions:
                    self._rows[model].setdefault((target, precision), {})

    def change(self, override: Override) -> None:
        """Set settings for some rows."""
        if not override.changes:
            raise ConfigError(f"{self._where}: an override sets nothing", hint="for example max_drop = 0.02")
        for model, row in self._found("override", override):
            self._rows[model][row].update(override.changes)

    def _found(self, kind: str, which: Which) -> list[tuple[str, tuple[str, Wanted]]]:
        """Return the rows that are meant; none at all is a mistake."""
        targets = self._targets(which)
        found = [
            (model, row)
            for model in self._names(kind, which)
            for row in self._rows[model]
            if (not targets or row[0] in targets) and (not which.precisions or row[1] in which.precisions)
        ]
        if not found:
            raise ConfigError(
                f"{self._where}: no row matches the {kind} of {_in_words(which)}",
                hint="remove it, or correct its models, targets and precisions",
            )
        return found

    def _names(self, kind: str, which: Which) -> tuple[str, ...]:
        for name in which.models:
            if name not in self._models:
                hint = suggestion(name, self._models)
                raise ConfigError(f"{self._where}: {kind}: there is no model {name!r}", hint=hint)
        return which.models or tuple(self._models)

    def _targets(self, which: Which) -> tuple[str, ...]:
        """Return the ids and files that are meant, files as the settings name them."""
        folder = Path(self._where).parent
        return expand_targets([str(folder / name) if name.endswith(".toml") else name for name in which.targets])

    def plan(self, settings: BuildSettings) -> BuildPlan:
        """Return the plan of a model, with a plan for each row that differs."""
        rows = self._rows[str(settings.name)]
        if not rows:
            raise ConfigError(f"{self._where}: no row is left of {settings.name}", hint="remove the model")
        targets = _first_of(target for target, _ in rows)
        precisions = _first_of(precision for _, precision in rows)
        try:
            whole = resolve(dataclasses.replace(settings, targets=targets, precisions=precisions))
            known: dict[str, BuildPlan] = {}
            ids = {name: load_target(name).id for name in targets}
            only = {}
            for (target, precision), changes in rows.items():
                if repr(changes) not in known:
                    known[repr(changes)] = resolve(dataclasses.replace(whole.settings, **changes))
                only[ids[target], executed(precision)] = known[repr(changes)]
        except ConfigError as error:
            raise ConfigError(f"{self._where}: {settings.name}: {error.message}", hint=error.hint) from error
        return dataclasses.replace(whole, only=only)


def _first_of(values: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(values))


def _in_words(which: Which) -> str:
    return ", ".join(name for names in (which.models, which.targets, which.precisions) for name in names) or "all"
