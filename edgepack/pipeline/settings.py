"""The settings of a build: one frozen value from options or from ``edgepack.toml``, resolved before work starts."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from edgepack.base import documents
from edgepack.base.missing import nothing_at
from edgepack.base.user_functions import is_callable_reference
from edgepack.calibrate.observers import check_observer, check_percentile_goes_with
from edgepack.engines.targets import expand_targets
from edgepack.errors import ConfigError
from edgepack.export import is_named, name_of
from edgepack.remote.ssh import check_host
from edgepack.specs.source import SourceOptions
from edgepack.specs.types import Effort, Observer, Part, Precision, Wanted
from edgepack.verify.metrics import find_metric, has_own_unit

AS_IS: Wanted = "as-is"
_MAX_TOML_BYTES = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


# The balanced SQNR below which int8 is poor by default; docs/quantization.md shows what it was chosen from.
LEAST_SQNR_DB = 10.0
_ANY = 1e12


@dataclass(frozen=True)
class BuildSettings:
    """All settings of ``build``; the keys of ``edgepack.toml``.

    ``precisions`` "as-is" keeps the integers of a model that came quantized, and goes alone; ``requantize`` takes the
    float model out of one, which every precision is then made from. ``task`` is a name of ``tasks.TASKS``, or that and
    a decoder as ``object-detection:yolo``; without it the recipe's. ``samples`` None takes the recipe's number, or as
    many as there are. ``skip_bad`` is how many samples may be left out because they or their labels are broken.
    ``max_drop`` is a fraction (0.01 is one percentage point). ``min_sqnr`` is the least balanced SQNR in dB of an int8
    row that is not poor, and ``allow_poor`` lets a build with poor rows succeed. ``effort`` is how much work the
    corrections of ``method`` auto may do. ``max_change`` is the largest fraction of fp32's answers (classes, boxes,
    pixels; the task says which) that may change. ``strict`` makes errors of warnings about the calibration samples and
    of precisions that a target does not offer. ``measure_on`` are hosts for ssh on which rows are measured whose
    device they are. ``tune_minutes`` is for the kernels of each TVM row. ``shapes`` maps an input's name to its shape,
    as ``"1x3x224x224"``; a letter is a dynamic axis, a first ``*`` a length. ``constants`` fixes inputs to values.
    ``embed`` is what of the task is computed in the engine's own graph. ``gallery`` puts samples whose answer changed
    into the report. The last six are for models that are not ONNX files: see ``specs/source.py``.
    """

    model: str
    targets: tuple[str, ...] = ("host-onnxruntime",)
    precisions: tuple[Wanted, ...] = ("fp32",)
    requantize: bool = False
    name: str | None = None
    version: str = "1"
    data: str | None = None
    eval: str | None = None
    recipe: str | None = None
    task: str | None = None
    samples: int | None = None
    eval_samples: int | None = None
    skip_bad: int = 0
    observer: Observer | None = None
    percentile: float | None = None
    method: Literal["auto", "plain"] = "auto"
    effort: Effort = "medium"
    metric: str | None = None
    max_drop: float | None = None
    min_sqnr: float = LEAST_SQNR_DB
    max_change: float | None = None
    allow_poor: bool = False
    strict: bool = False
    seed: int = 0
    out: str | None = None
    shapes: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)
    embed: tuple[Part, ...] = ()
    gallery: bool = False
    compile_limit_s: float = 600.0
    tune_minutes: float = 0.0
    duration_s: float = 2.0
    benchmark: bool = True
    measure_on: tuple[str, ...] = ()
    python: str | None = None
    trust_code: bool = False
    download: bool = False
    module: str | None = None
    weights: str | None = None
    signature: str | None = None

    @property
    def source(self) -> SourceOptions:
        """What is allowed for the reading of the model, and what completes it."""
        return SourceOptions(self.python, self.trust_code, self.download, self.module, self.weights, self.signature)


def read_settings(path: Path) -> BuildSettings:
    """Read ``edgepack.toml``; paths in it are relative to its folder. Raises ``ConfigError``."""
    return settings_of(read_toml(path), str(path), path.parent)


def read_toml(path: Path) -> dict[str, Any]:
    """Return the tables of a file of settings. Raises ``ConfigError``."""
    if not path.is_file():
        message, hint = nothing_at(path, "write one with 'edgepack init'")
        raise ConfigError(message, hint=hint)
    if path.stat().st_size > _MAX_TOML_BYTES:
        raise ConfigError(f"{path} is larger than 1 MiB: not an edgepack.toml")
    try:
        return documents.parse_toml(path.read_text(encoding="utf-8"))
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError are such
        raise ConfigError(f"{path}: not valid TOML: {error}", hint="correct that line") from None


def settings_of(data: Mapping[str, Any], where: str, folder: Path) -> BuildSettings:
    """Return the settings in a table whose paths are relative to ``folder``. Raises ``ConfigError``."""
    settings: BuildSettings = documents.decode(BuildSettings, data, where)
    if settings.observer is not None:
        check_observer(settings.observer, where)
    return _rebase(settings, folder)


def _rebase(settings: BuildSettings, folder: Path) -> BuildSettings:
    def place(value: str | None) -> str | None:
        if value is None or folder == Path():
            return value
        if is_callable_reference(value):
            module, _, name = value.rpartition(":")
            return f"{folder / module}:{name}" if module.endswith(".py") else value
        return str(folder / value)

    def data_file(value: str) -> str:
        looks_like_a_path = value.endswith(".toml")
        return str(folder / value) if looks_like_a_path else value

    return dataclasses.replace(
        settings,
        model=settings.model if is_named(settings.model) else place(settings.model) or settings.model,
        python=place(settings.python) if settings.python and "/" in settings.python else settings.python,
        module=place(settings.module),
        weights=place(settings.weights),
        data=place(settings.data),
        eval=place(settings.eval),
        out=place(settings.out),
        recipe=data_file(settings.recipe) if settings.recipe else None,
        targets=tuple(data_file(t) for t in settings.targets),
        metric=place(settings.metric) if is_callable_reference(settings.metric or "") else settings.metric,
    )


def check_settings(settings: BuildSettings) -> BuildSettings:
    """Return the settings with their name filled in. What cannot be meant is refused.

    Raises ``ConfigError`` with what to write instead.
    """
    if not settings.targets:
        raise ConfigError("no target given", hint="add --target host-onnxruntime; 'edgepack targets' lists them")
    settings = dataclasses.replace(settings, targets=expand_targets(settings.targets))
    for kind, values in (
        ("target", settings.targets),
        ("precision", settings.precisions),
        ("part of --embed", settings.embed),
    ):
        twice = {v for v in values if values.count(v) > 1}
        if twice:
            raise ConfigError(f"the {kind} {sorted(twice)[0]!r} was given twice", hint="give it once")
    _check_as_is(settings)
    if "int8" in settings.precisions and settings.data is None:
        raise ConfigError(
            "int8 needs samples to calibrate with",
            hint="add --data with a folder of pictures, a .npz or module:callable",
        )
    _check_numbers(settings)
    _check_metric(settings)
    for host in settings.measure_on:
        check_host(host)
    name = settings.name or _name_of(settings.model)
    if not _NAME.fullmatch(name):
        raise ConfigError(f"the name {name!r} is not allowed", hint="use letters, digits, '.', '_' and '-'")
    if not _NAME.fullmatch(settings.version):
        raise ConfigError(f"the version {settings.version!r} is not allowed", hint="use letters, digits, '.', '_', '-'")
    return dataclasses.replace(settings, name=name)


def _check_as_is(settings: BuildSettings) -> None:
    """Refuse what goes with neither a model that is kept as it came nor one that is made float again."""
    if AS_IS not in settings.precisions:
        return
    if len(settings.precisions) > 1:
        others = ", ".join(name for name in settings.precisions if name != AS_IS)
        raise ConfigError(
            f"--precision as-is keeps the integers that a model came with, so it has no {others}",
            hint=f"build as-is by itself; --requantize with --precision {others} makes those, under another --name",
        )
    if settings.requantize:
        raise ConfigError("--precision as-is and --requantize contradict each other", hint="give one of the two")


def executed(wanted: Wanted) -> Precision:
    """Return the precision of the bundles that are built."""
    return "int8" if wanted == "as-is" else wanted


def _check_numbers(settings: BuildSettings) -> None:
    bounds: tuple[tuple[str, Any, float, float], ...] = (
        ("samples", settings.samples, 1, 10_000_000),
        ("eval-samples", settings.eval_samples, 1, 10_000_000),
        ("skip-bad", settings.skip_bad, 0, 10_000_000),
        ("percentile", settings.percentile, 50.0, 100.0),
        ("max-drop", settings.max_drop, 0.0, _most_drop(settings)),
        ("min-sqnr", settings.min_sqnr, -200.0, 200.0),
        ("max-change", settings.max_change, 0.0, 1.0),
        ("compile-limit", settings.compile_limit_s, 1.0, 86_400.0),
        ("tune-minutes", settings.tune_minutes, 0.0, 1440.0),
        ("duration", settings.duration_s, 0.05, 3600.0),
        ("seed", settings.seed, 0, 2**32 - 1),
    )
    for name, value, low, high in bounds:
        if value is not None and not low <= value <= high:
            whole = isinstance(value, int)
            hint = f"give a value from {low:d} to {high:d}" if whole else f"give a value from {low:g} to {high:g}"
            if name == "max-drop" and value > 1:
                hint += (
                    f"; it is a fraction: {value:g} percentage points is {value / 100:g}, or {value:g}pt as an option"
                )
            raise ConfigError(f"--{name} {value if whole else format(value, 'g')} is out of range", hint=hint)
    if settings.observer is not None:
        check_observer(settings.observer)
        if settings.percentile is not None:
            check_percentile_goes_with(settings.observer)


def _most_drop(settings: BuildSettings) -> float:
    """Return the largest drop that can be meant: 1 of a metric that is a fraction, any of one in a unit of its own.

    The metric that a recipe's task comes with is known later: ``check_max_drop`` asks again.
    """
    if settings.metric is None:
        return 1.0 if settings.recipe is None and settings.task is None else _ANY
    return _ANY if has_own_unit(settings.metric) else 1.0


def check_max_drop(max_drop: float | None, metric: str) -> None:
    """Raise ``ConfigError`` for a drop that no metric which is a fraction can have."""
    if max_drop is not None and max_drop > 1 and not has_own_unit(metric):
        raise ConfigError(
            f"--max-drop {max_drop:g} is out of range for {metric}",
            hint=f"it is a fraction: {max_drop:g} percentage points is {max_drop / 100:g}, or {max_drop:g}pt",
        )


def _check_metric(settings: BuildSettings) -> None:
    metric = settings.metric
    found = find_metric(metric) if metric is not None else None
    if found is not None and not found.has_drop and settings.max_drop is not None:
        unit = f", which is in {found.unit}" if found.unit else ""
        raise ConfigError(f"--max-drop does not apply to {metric}{unit}", hint="use --metric agreement or top1")
    if metric is not None and settings.data is None and settings.eval is None:
        raise ConfigError(f"--metric {metric} needs samples", hint="add --eval or --data")
    if settings.max_drop is not None and settings.data is None and settings.eval is None:
        raise ConfigError("--max-drop needs samples to measure on", hint="add --eval or --data")


def _name_of(model: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name_of(model)).strip("-._") or "model"


def parse_shape(name: str, text: str) -> tuple[int | str, ...]:
    """Return ``"Nx3x224x224"`` as ``("N", 3, 224, 224)``; a first axis ``*`` is a length. Raises ``ConfigError``."""
    result: list[int | str] = []
    for part in re.split(r"[x,]", text.strip()):
        if re.fullmatch(r"[0-9]{1,9}", part) and int(part) > 0:
            result.append(int(part))
        elif re.fullmatch(r"[A-Za-z_][A-Za-z_0-9]*" if result else r"[*]|[*]?[A-Za-z_][A-Za-z_0-9]*", part):
            result.append(part)
        else:
            raise ConfigError(f"--shape {name}={text}: {part!r} is not a size", hint="for example input=Nx3x224x224")
    return tuple(result)
