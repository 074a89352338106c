"""Writes ``edgepack.toml`` from answers, and prints the equivalent command."""

from __future__ import annotations

import shlex
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from edgepack.base.files import write_text
from edgepack.base.text import printable
from edgepack.cli.options import SeveralOf, given
from edgepack.cli.show import terminal
from edgepack.data.recipes import list_recipes, load_recipe
from edgepack.errors import ConfigError, DataError, EdgepackError
from edgepack.export import is_onnx, prepares_pictures, require_source, sources_in_words
from edgepack.pipeline.command_line import build_command, changed
from edgepack.pipeline.plan import resolve
from edgepack.pipeline.present import refuse_code_of
from edgepack.pipeline.settings import BuildSettings
from edgepack.specs.types import Wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edgepack.data.suggest import Suggestion


def write_settings(path: Path, words: dict[str, Any], *, ask: bool, force: bool) -> None:
    """Write the settings file. Raises ``ConfigError`` when it exists, or when the settings contradict each other."""
    if path.exists() and not force:
        raise ConfigError(f"{path} already exists", hint="edit it, or overwrite it with --force")
    found = given(words)
    if ask:
        with _answered():
            found = _ask(found)
    if "model" not in found:
        raise ConfigError("no model given", hint=f"add --model with {sources_in_words()}")
    suggested = None
    if _needs_recipe(found):
        with _answered():
            chosen, suggested = _choose_recipe(found, ask=ask)
        found |= {"recipe": chosen} if chosen is not None else {}
    if ask:
        with _answered():
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
    run = "edgepack build" if path == Path("edgepack.toml") else shlex.join(("edgepack", "build", str(path)))
    said = f"wrote {path}, which is equivalent to:\n  {command}\nrun it with:\n  {run}"
    if (why := _refused(settings)) is not None:
        said += f"\nbut {why}: if you trust where it comes from, write 'trust_code = true' in {path}"
    elif (lacking := _lacking(settings)) is not None:
        said += f"\nbut {lacking}"
    click.echo(printable(said), err=True)


def _lacking(settings: BuildSettings) -> str | None:
    """Return why a build would not find the model; it may be put there later."""
    try:
        require_source(settings.model)
    except EdgepackError as error:
        return f"{error.message}: {error.hint}"
    return None


def _refused(settings: BuildSettings) -> str | None:
    """Return why a build would not read the model that is there: that would run code."""
    try:
        refuse_code_of(settings)
    except ConfigError as error:
        return error.message
    except EdgepackError:  # it may be written later
        pass
    return None


def _ask(found: dict[str, Any]) -> dict[str, Any]:
    from edgepack.engines.targets import list_targets

    answers = dict(found)
    if "model" not in answers:
        words = f"Trained model ({sources_in_words()})"
        answers["model"] = click.prompt(words, err=True, value_proc=_checked(require_source))
    if "targets" not in answers:
        click.echo("Targets: " + ", ".join(t.id for t in list_targets()), err=True)
        answers["targets"] = _words(
            click.prompt("Targets", default="host-onnxruntime", err=True, value_proc=_checked(_look_for_targets))
        )
    if "data" not in answers:
        words = "Calibration samples (folder, COCO's JSON, data.yaml, .csv, .npz, file.py:callable; empty for none)"
        checked = _checked(_look_for_samples)
        text = click.prompt(words, default="", show_default=False, err=True, value_proc=checked)
        if text:
            answers["data"] = text
    return answers


@contextmanager
def _answered() -> Iterator[None]:
    """Say what to do where nobody is there to answer: Click takes the end of stdin for an interrupt."""
    try:
        yield
    except click.Abort:
        if terminal.is_terminal(sys.stdin):
            raise
        hint = "run it on a terminal, or add --yes with --model, --data and whatever else you know"
        raise ConfigError("init asks questions, and there is no terminal to answer them", hint=hint) from None


def _checked(check: Callable[[str], object]) -> Callable[[str], str]:
    """Return what Click calls with an answer: it asks again where ``check`` raises ``EdgepackError``."""

    def answer(text: str) -> str:
        try:
            check(text)
        except EdgepackError as error:
            raise click.UsageError(f"{error.message}; {error.hint}") from error
        return text

    return answer


def _words(text: str) -> tuple[str, ...]:
    """Return words with spaces or commas between."""
    return tuple(text.replace(",", " ").split())


def _look_for_targets(text: str) -> None:
    from edgepack.engines.targets import expand_targets, load_target

    for name in expand_targets(_words(text)):
        load_target(name)


def _look_for_samples(text: str) -> None:
    from edgepack.data.samples import kind_of

    if text:
        kind_of(text, None)


def _look_for_recipe(text: str) -> None:
    if text:
        load_recipe(text)


def _look_for_precisions(text: str) -> None:
    SeveralOf(get_args(Wanted)).convert(",".join(_words(text)), None, None)


def _needs_recipe(words: dict[str, Any]) -> bool:
    """Say whether samples are things that a recipe makes inputs of; arrays are fed as they are."""
    from edgepack.data.samples import kind_of

    if "data" not in words or Path(words.get("recipe", "")).suffix == ".toml":
        return False
    try:
        return kind_of(words["data"], None) not in ("npz", "callable")
    except DataError:  # what it is, the build will say
        return False


def _choose_recipe(words: dict[str, Any], *, ask: bool) -> tuple[str | None, Suggestion | None]:
    """Return the recipe for samples, and the suggestion that it is where it must be changed for the model.

    It is the one that was given, that fits model and samples best, or that is asked for; None where nobody is asked and
    nothing fits.
    """
    given_one: str | None = words.get("recipe")
    if given_one is None and prepares_pictures(words["model"]):
        click.echo("Preprocessing: as the model's own source states it", err=True)
        return None, None
    found = _suggested(words["model"], ask=ask)
    if given_one is not None:
        same = [one for one in found if one.recipe == given_one and one.change]
        return given_one, same[0] if same else None
    found = _suited(found, words["data"])
    for one in found:
        changed = f"; {one.change}" if one.change else ""
        click.echo(printable(f"recipe {one.recipe}, {one.sure}: {one.why}{changed}"), err=True)
    chosen = _chosen(found, ask=ask)
    return chosen, next((one for one in found if one.recipe == chosen and one.change), None)


def _suited(found: tuple[Suggestion, ...], data: str) -> tuple[Suggestion, ...]:
    """Return the suggestions that read the labels of the samples; say where none of them does."""
    from edgepack.pipeline.suggest import suited

    left = suited(found, data)
    if found and not left:
        names = ", ".join(one.recipe for one in found)
        click.echo(printable(f"no recipe that fits the model ({names}) reads the labels of {data}"), err=True)
    return left


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
    usual = found[0].recipe if found else ""  # none is taken for a model of which nothing is known
    if not ask:
        return usual or None
    click.echo("Recipes: " + ", ".join(list_recipes()), err=True)
    words = "Preprocessing recipe" if found else "Preprocessing recipe (empty for none)"
    checked = _checked(_look_for_recipe)
    return click.prompt(words, default=usual, show_default=bool(found), err=True, value_proc=checked) or None


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
        text = click.prompt("Precisions", default=default, err=True, value_proc=_checked(_look_for_precisions))
        answers["precisions"] = _words(text)
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
