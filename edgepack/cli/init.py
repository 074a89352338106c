"""Writes ``edgepack.toml`` from answers, and prints the equivalent command."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgepack.base.files import write_text
from edgepack.base.text import printable
from edgepack.cli.options import given
from edgepack.data.recipes import list_recipes
from edgepack.errors import ConfigError
from edgepack.export import is_onnx, prepares_pictures, sources_in_words
from edgepack.pipeline.command_line import build_command, changed
from edgepack.pipeline.plan import resolve
from edgepack.pipeline.settings import BuildSettings

if TYPE_CHECKING:
    from edgepack.data.suggest import Suggestion


def write_settings(path: Path, words: dict[str, Any], *, ask: bool, force: bool) -> None:
    """Write the settings file. Raises ``ConfigError`` when it exists, or when the settings contradict each other."""
    if path.exists() and not force:
        raise ConfigError(f"{path} already exists", hint="edit it, or overwrite it with --force")
    found = given(words)
    if ask:
        found = _ask(found)
    if "model" not in found:
        raise ConfigError("no model given", hint=f"add --model with {sources_in_words()}")
    suggested = None
    if _needs_recipe(found):
        chosen, suggested = _choose_recipe(found["model"], ask=ask)
        found |= {"recipe": chosen} if chosen is not None else {}
    if ask:
        found = _ask_precisions(found)
    found.setdefault("targets", ("host-onnxruntime",))
    found.setdefault("precisions", ("fp32", "int8") if "data" in found else ("fp32",))
    if "eval_data" in found:
        found["eval"] = found.pop("eval_data")
    settings = BuildSettings(**found)
    resolve(settings)
    if suggested is not None:
        settings = replace(settings, recipe=_write_recipe(suggested, settings.model, path, force=force))
    write_text(path, _toml(settings))
    command = shlex.join(build_command(settings))
    said = f"wrote {path}, which is equivalent to:\n  {command}\nrun it with:\n  edgepack build"
    click.echo(printable(said), err=True)


def _ask(found: dict[str, Any]) -> dict[str, Any]:
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
    return answers


def _needs_recipe(words: dict[str, Any]) -> bool:
    return "data" in words and "recipe" not in words and Path(words["data"]).is_dir()


def _choose_recipe(model: str, *, ask: bool) -> tuple[str | None, Suggestion | None]:
    """Return the recipe for a folder of samples, and the suggestion that it is where it must be changed for the model.

    It is the one that fits the model best, or that is asked for; None where nobody is asked and nothing fits.
    """
    if prepares_pictures(model):
        click.echo("Preprocessing: as the model's own source states it", err=True)
        return None, None
    found = _suggested(model, ask=ask)
    for one in found:
        changed = f"; {one.change}" if one.change else ""
        click.echo(printable(f"recipe {one.recipe}, {one.sure}: {one.why}{changed}"), err=True)
    chosen = _chosen(found, ask=ask)
    changes = found and chosen == found[0].recipe and found[0].change
    return chosen, found[0] if changes else None


def _suggested(model: str, *, ask: bool) -> tuple[Suggestion, ...]:
    """Return the recipes that fit a .onnx file that is there, for the size that the user wants of a model of any."""
    if not Path(model).is_file() or not is_onnx(Path(model)):
        return ()
    from edgepack.cli.options import SizeType
    from edgepack.pipeline.suggest import suggest_recipes

    found = suggest_recipes(Path(model))
    proposed = found[0].proposed if found else None
    if proposed is None or not ask:
        return found
    usual = "x".join(map(str, proposed))
    size = click.prompt("Height x width of the model's input, which is free", default=usual, type=SizeType(), err=True)
    return found if size == proposed else suggest_recipes(Path(model), size)


def _chosen(found: tuple[Suggestion, ...], *, ask: bool) -> str | None:
    """Return the name of the recipe to take; None where nobody is asked and nothing fits."""
    usual = found[0].recipe if found else "imagenet"
    if not ask:
        return usual if found else None
    click.echo("Recipes: " + ", ".join(list_recipes()), err=True)
    return str(click.prompt("Preprocessing recipe", default=usual, err=True))


def _write_recipe(suggested: Suggestion, model: str, settings: Path, *, force: bool) -> str:
    """Write a suggested recipe, changed for the model, beside the settings; return where it is."""
    from edgepack.pipeline.suggest import write_suggested

    path = settings.parent / f"{Path(model).stem}-recipe.toml"
    write_suggested(path, (suggested,), force=force)
    click.echo(printable(f"wrote {path}, {suggested.recipe} for this model"), err=True)
    return str(path)


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
