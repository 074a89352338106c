"""The ``edgepack build`` command that settings stand for: what makes a bundle again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from edgepack.pipeline.settings import BuildSettings

_NAMES = {
    "targets": "--target",
    "precisions": "--precision",
    "shapes": "--shape",
    "constants": "--set",
    "compile_limit_s": "--compile-limit",
    "duration_s": "--duration",
}


def build_command(settings: BuildSettings) -> tuple[str, ...]:
    """Return the words of the command; settings that are the default are left out."""
    words = ["edgepack", "build", settings.model]
    for key, value in changed(settings).items():
        if key != "model":
            words += _option(key, value)
    return tuple(words)


def changed(settings: BuildSettings) -> dict[str, Any]:
    """Return the settings that are not the default; model, targets and precisions always, and first."""
    default = BuildSettings(model="")
    always = {"model": settings.model, "targets": settings.targets, "precisions": settings.precisions}
    others = {k: v for k, v in vars(settings).items() if k not in always and v != getattr(default, k)}
    return {**always, **others}


def _option(key: str, value: Any) -> Iterator[str]:
    name = _NAMES.get(key, "--" + key.replace("_", "-"))
    if isinstance(value, bool):
        yield name if value else name.replace("--", "--no-", 1)
    elif isinstance(value, dict):
        for part, item in value.items():
            yield from (name, f"{part}={item}" if part else str(item))
    else:
        for item in value if isinstance(value, tuple) else (value,):
            yield from (name, f"{item:g}" if isinstance(item, float) else str(item))
