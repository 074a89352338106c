"""The settings of a build: one frozen value from options or from ``edgepack.toml``, resolved before work starts."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from edgepack.base import documents
from edgepack.base.documents import suggestion
from edgepack.base.user_functions import is_callable_reference
from edgepack.errors import ConfigError
from edgepack.specs import Observer, Precision

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "bf16", "int8")
METRICS = ("top1", "top5", "agreement", "sqnr", "cosine")
_MAX_TOML_BYTES = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class BuildSettings:
    """All settings of ``build``; the keys of ``edgepack.toml``.

    ``samples`` None takes the recipe's number, or as many as there are. ``max_drop`` is a fraction (0.01 is one
    percentage point). ``strict`` makes warnings about the calibration samples errors. ``tune_minutes`` is
    for the kernels of each TVM row. ``shapes`` maps an input's name
    to its shape, as ``"1x3x224x224"``; a letter is a dynamic axis.
    """

    model: str
    targets: tuple[str, ...] = ("host-onnxruntime",)
    precisions: tuple[Precision, ...] = ("fp32",)
    name: str | None = None
    version: str = "1"
    data: str | None = None
    eval: str | None = None
    recipe: str | None = None
    samples: int | None = None
    eval_samples: int | None = None
    observer: Observer | None = None
    percentile: float | None = None
    method: Literal["auto", "plain"] = "auto"
    metric: str | None = None
    max_drop: float | None = None
    strict: bool = False
    seed: int = 0
    out: str | None = None
    shapes: Mapping[str, str] = field(default_factory=dict)
    compile_limit_s: float = 600.0
    tune_minutes: float = 0.0
    duration_s: float = 2.0
    benchmark: bool = True


def read_settings(path: Path) -> BuildSettings:
    """Read ``edgepack.toml``; paths in it are relative to its folder. Raises ``ConfigError``."""
    import tomllib

    if not path.is_file():
        raise ConfigError(f"there is no file {path}", hint="write one with 'edgepack init'")
    if path.stat().st_size > _MAX_TOML_BYTES:
        raise ConfigError(f"{path} is larger than 1 MiB: not an edgepack.toml")
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}", hint="correct that line") from None
    settings = documents.decode(BuildSettings, data, str(path))
    assert isinstance(settings, BuildSettings)
    return _rebase(settings, path.parent)


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
        model=place(settings.model) or settings.model,
        data=place(settings.data),
        eval=place(settings.eval),
        out=place(settings.out),
        recipe=data_file(settings.recipe) if settings.recipe else None,
        targets=tuple(data_file(t) for t in settings.targets),
        metric=place(settings.metric) if settings.metric and settings.metric not in METRICS else settings.metric,
    )


def check_settings(settings: BuildSettings) -> BuildSettings:
    """Refuse what cannot be meant, before any work starts; returns the settings with their name and folder filled in.

    Raises ``ConfigError`` with what to write instead.
    """
    if not settings.targets:
        raise ConfigError("no target given", hint="add --target host-onnxruntime; 'edgepack targets' lists them")
    for kind, values in (("target", settings.targets), ("precision", settings.precisions)):
        twice = {v for v in values if values.count(v) > 1}
        if twice:
            raise ConfigError(f"the {kind} {sorted(twice)[0]!r} was given twice", hint="give it once")
    if "int8" in settings.precisions and settings.data is None:
        raise ConfigError(
            "int8 needs samples to calibrate with",
            hint="add --data with a folder of pictures, a .npz or module:callable",
        )
    if settings.strict and settings.data is None:
        raise ConfigError("--strict needs calibration samples to check", hint="add --data, or leave --strict out")
    _check_numbers(settings)
    _check_metric(settings)
    name = settings.name or _name_of(settings.model)
    if not _NAME.fullmatch(name):
        raise ConfigError(f"the name {name!r} is not allowed", hint="use letters, digits, '.', '_' and '-'")
    if not _NAME.fullmatch(settings.version):
        raise ConfigError(f"the version {settings.version!r} is not allowed", hint="use letters, digits, '.', '_', '-'")
    return dataclasses.replace(settings, name=name, out=settings.out or f"artifacts/{name}")


def _check_numbers(settings: BuildSettings) -> None:
    bounds: tuple[tuple[str, Any, float, float], ...] = (
        ("samples", settings.samples, 1, 10_000_000),
        ("eval-samples", settings.eval_samples, 1, 10_000_000),
        ("percentile", settings.percentile, 50.0, 100.0),
        ("max-drop", settings.max_drop, 0.0, 1.0),
        ("compile-limit", settings.compile_limit_s, 1.0, 86_400.0),
        ("tune-minutes", settings.tune_minutes, 0.0, 1440.0),
        ("duration", settings.duration_s, 0.05, 3600.0),
        ("seed", settings.seed, 0, 2**32 - 1),
    )
    for name, value, low, high in bounds:
        if value is not None and not low <= value <= high:
            hint = f"give a value from {low:g} to {high:g}"
            if name == "max-drop" and value > 1:
                hint += f"; it is a fraction: {value:g} percentage points is {value / 100:g}"
            raise ConfigError(f"--{name} {value:g} is out of range", hint=hint)
    if settings.percentile is not None and settings.observer not in (None, "percentile"):
        raise ConfigError(
            f"--percentile cannot be used with --observer {settings.observer}", hint="use --observer percentile"
        )


def _check_metric(settings: BuildSettings) -> None:
    metric = settings.metric
    if metric is not None and metric not in METRICS and not is_callable_reference(metric):
        raise ConfigError(f"unknown metric {metric!r}", hint=suggestion(metric, METRICS) + "; or module:function")
    if metric == "sqnr" and settings.max_drop is not None:
        raise ConfigError("--max-drop does not apply to sqnr, which is in dB", hint="use --metric agreement or top1")
    if metric is not None and settings.data is None and settings.eval is None:
        raise ConfigError(f"--metric {metric} needs samples", hint="add --eval or --data")
    if settings.max_drop is not None and settings.data is None and settings.eval is None:
        raise ConfigError("--max-drop needs samples to measure on", hint="add --eval or --data")


def _name_of(model: str) -> str:
    place = model.rpartition(":")[0] if is_callable_reference(model) else model
    stem = Path(place).stem if place.endswith((".py", ".onnx", ".pt2")) else place
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._") or "model"


def parse_shape(name: str, text: str) -> tuple[int | str, ...]:
    """Return ``"Nx3x224x224"`` as ``("N", 3, 224, 224)``. Raises ``ConfigError``."""
    result: list[int | str] = []
    for part in re.split(r"[x,]", text.strip()):
        if re.fullmatch(r"[0-9]{1,9}", part) and int(part) > 0:
            result.append(int(part))
        elif re.fullmatch(r"[A-Za-z_][A-Za-z_0-9]*", part):
            result.append(part)
        else:
            raise ConfigError(f"--shape {name}={text}: {part!r} is not a size", hint="for example input=Nx3x224x224")
    return tuple(result)
