"""Writes ``edgepack.toml`` from answers, and prints the equivalent command."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from edgepack.base.files import write_text
from edgepack.base.text import printable
from edgepack.cli.options import given
from edgepack.errors import ConfigError
from edgepack.export import prepares_pictures, sources_in_words
from edgepack.pipeline.command_line import build_command, changed
from edgepack.pipeline.plan import resolve
from edgepack.pipeline.settings import BuildSettings


def write_settings(path: Path, words: dict[str, Any], *, ask: bool, force: bool) -> None:
    """Write the settings file. Raises ``ConfigError`` when it exists, or when the settings contradict each other."""
    if path.exists() and not force:
        raise ConfigError(f"{path} already exists", hint="edit it, or overwrite it with --force")
    found = given(words)
    if ask:
        found = _ask(found)
    if "model" not in found:
        raise ConfigError("no model given", hint=f"add --model with {sources_in_words()}")
    found.setdefault("targets", ("host-onnxruntime",))
    found.setdefault("precisions", ("fp32", "int8") if "data" in found else ("fp32",))
    if "eval_data" in found:
        found["eval"] = found.pop("eval_data")
    settings = BuildSettings(**found)
    resolve(settings)
    write_text(path, _toml(settings))
    command = shlex.join(build_command(settings))
    said = f"wrote {path}, which is equivalent to:\n  {command}\nrun it with:\n  edgepack build"
    click.echo(printable(said), err=True)


def _ask(found: dict[str, Any]) -> dict[str, Any]:
    from edgepack.data.recipes import list_recipes
    from edgepack.engines.targets import list_targets

    answers = dict(found)
    if "model" not in answers:
        answers["model"] = click.prompt(f"Trained model ({sources_in_words()})", err=True)
    if "targets" not in answers:
        click.echo("Targets: " + ", ".join(t.id for t in list_targets()), err=True)
        words = click.prompt("Targets, separated by spaces", default="host-onnxruntime", err=True)
        answers["targets"] = tuple(words.split())
    if "data" not in answers:
        text = click.prompt("Calibration samples (folder of pictures, .npz, file.py:callable; empty for none)",
                            default="", show_default=False, err=True)  # fmt: skip
        if text:
            answers["data"] = text
    if "data" in answers and "recipe" not in answers and Path(answers["data"]).is_dir():
        if prepares_pictures(answers["model"]):
            click.echo("Preprocessing: as the model's own source states it", err=True)
            return _ask_precisions(answers)
        click.echo("Recipes: " + ", ".join(list_recipes()), err=True)
        answers["recipe"] = click.prompt("Preprocessing recipe", default="imagenet", err=True)
    return _ask_precisions(answers)


def _ask_precisions(answers: dict[str, Any]) -> dict[str, Any]:
    if "precisions" not in answers:
        default = "fp32 int8" if "data" in answers else "fp32"
        answers["precisions"] = tuple(click.prompt("Precisions", default=default, err=True).split())
    return answers


def _toml(settings: BuildSettings) -> str:
    lines = [
        "# Built by 'edgepack build' in this folder; every key is described in docs/settings.md and by\n"
        "# 'edgepack schema settings'."
    ]
    for key, value in changed(settings).items():
        lines.append(f"{key} = {_literal(value)}")
    return "\n".join(lines) + "\n"


def _literal(value: Any) -> str:
    import json

    if isinstance(value, tuple):
        return "[" + ", ".join(_literal(v) for v in value) + "]"
    # A JSON string is a TOML basic string.
    return json.dumps(value, ensure_ascii=False)
