"""``edgepack doctor | targets | recipes | schema``: this machine and this installation."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import click

from edgepack.cli.builder import require_builder
from edgepack.cli.names import NamesGroup, refuse_command
from edgepack.cli.options import OneOf, SizeType, complete_file, complete_recipe, complete_target, echo_json, options
from edgepack.cli.show import terminal

_DOCUMENTS = (
    *("build", "job", "lint", "manifest", "policy", "ranges", "recipe", "result", "settings", "statistics", "target"),
    "tuning",
)


@click.command()
@click.option(
    "--benchmark",
    "measuring",
    is_flag=True,
    help="Show what disturbs measurements on this machine; exit code 1 where one made now would not count.",
)
@options("json")
def doctor(measuring: bool, as_json: bool) -> None:
    """Show what this machine can build and run, and what to install."""
    if measuring:
        _doctor_benchmark(as_json)
        return
    from edgepack.cli.show.console import make_console
    from edgepack.cli.show.tables import show_doctor
    from edgepack.device.host import host_facts
    from edgepack.engines.doctor import diagnose

    host, reports = host_facts(), diagnose()
    if as_json:
        echo_json({"host": host, "engines": reports})
    show_doctor(make_console(as_json), host, reports)


def _doctor_benchmark(as_json: bool) -> None:
    from edgepack.benchmark.machine.advice import doctor_benchmark
    from edgepack.cli.show.console import make_console
    from edgepack.cli.show.tables import show_diagnostics

    found = doctor_benchmark()
    if as_json:
        echo_json(found)
    show_diagnostics(make_console(as_json), found)
    if any(item.severity == "error" for item in found):
        raise click.exceptions.Exit(1)


@click.group(cls=NamesGroup, invoke_without_command=True)
@options("json")
@click.pass_context
def targets(context: click.Context, as_json: bool) -> None:
    """List the device profiles, or show one."""
    if context.invoked_subcommand is None:
        context.invoke(list_targets_, as_json=as_json)


@targets.command("list")
@options("json")
def list_targets_(as_json: bool) -> None:
    """List the device profiles."""
    from edgepack.cli.show.console import make_console
    from edgepack.cli.show.tables import show_targets
    from edgepack.engines.targets import list_targets

    found = list_targets()
    if as_json:
        echo_json(found)
    else:
        show_targets(make_console(), found)


@targets.command()
@click.argument("target", shell_complete=complete_target)
@options("json")
def show(target: str, as_json: bool) -> None:
    """Show one profile with the source of every value.

    TARGET is an id or a .toml file.
    """
    from edgepack.cli.show.console import make_console
    from edgepack.cli.show.tables import show_target
    from edgepack.engines.targets import load_target

    found = load_target(target)
    if as_json:
        echo_json(found)
    else:
        show_target(make_console(), found)


@click.group(cls=NamesGroup, invoke_without_command=True)
@options("json")
@click.pass_context
def recipes(context: click.Context, as_json: bool) -> None:
    """List the preprocessing and calibration recipes, show one, or start your own."""
    if context.invoked_subcommand is None:
        context.invoke(list_recipes_, as_json=as_json)


@recipes.command("list")
@options("json")
def list_recipes_(as_json: bool) -> None:
    """List the preprocessing and calibration recipes."""
    from edgepack.cli.show.console import make_console
    from edgepack.cli.show.tables import show_recipes
    from edgepack.data.recipes import list_recipes, load_recipe

    found = tuple(load_recipe(name) for name in list_recipes())
    if as_json:
        echo_json(found)
    else:
        show_recipes(make_console(), found)


@recipes.command("show")
@click.argument("recipe", shell_complete=complete_recipe)
@options("json")
def show_recipe_(recipe: str, as_json: bool) -> None:
    """Show one recipe with the source of its values.

    RECIPE is a name or a .toml file.
    """
    from edgepack.cli.show.console import make_console
    from edgepack.cli.show.tables import show_recipe
    from edgepack.data.recipes import load_recipe

    found = load_recipe(recipe)
    if as_json:
        echo_json(found)
    else:
        show_recipe(make_console(), found)


@recipes.command("suggest")
@click.argument("model", type=click.Path(path_type=Path), shell_complete=complete_file)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the first suggestion to this .toml file, adapted to the model's input size and the class names that "
    "its exporter noted.",
)
@click.option("--recipe", shell_complete=complete_recipe, help="Suggested recipe to use instead of the first.")
@click.option(
    "-d",
    "--data",
    help="Samples; only recipes that can read their labels are suggested. Labelled pictures tell whether the first "
    "one's preprocessing fits, and name the classes.",
)
@click.option("--size", type=SizeType(), help="Height and width for a model that takes pictures of any size.")
@options("json")
def suggest_(
    model: Path,
    out: Path | None,
    recipe: str | None,
    data: str | None,
    size: tuple[int, int] | None,
    as_json: bool,
) -> None:
    """Suggest a recipe for an ONNX file, with the reason and how certain it is.

    Looks at names, shapes and what the exporter noted; only labelled samples can show whether the numbers are right.
    A model of any size is run with likely ones, and the first that works is proposed.
    """
    require_builder("edgepack recipes suggest")
    from edgepack.cli.show.console import make_console
    from edgepack.cli.show.tables import show_suggestions
    from edgepack.pipeline.suggest import named, suggest_recipes, suited, told_by, write_suggested

    found = suggest_recipes(model, size)
    if data is not None:
        found = suited(found, data)
    if recipe is not None:
        found = (named(found, recipe),)
    if data is not None:
        found = told_by(model, found, data)
    if out is not None:
        write_suggested(out, found)
    if as_json:
        echo_json(found)
    else:
        show_suggestions(make_console(), found, str(model), out)


@recipes.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--from", "like", default="imagenet", show_default=True, shell_complete=complete_recipe, help="Recipe to copy."
)
@click.option("--size", type=SizeType(), help="Height and width of the pictures it produces.")
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
def new(file: Path, like: str, size: tuple[int, int] | None, force: bool) -> None:
    """Copy a recipe to FILE, a .toml file of your own to edit."""
    from edgepack.cli.show.console import make_console
    from edgepack.cli.show.layout import safe
    from edgepack.data.recipes import write_recipe

    write_recipe(file, like, force=force, size=size)
    console = make_console()
    console.print(f"wrote {safe(file)}")
    console.remark(f"edit it, then use it with --recipe {safe(file)}; 'edgepack schema recipe' describes every key")


@click.command()
@click.argument("document", type=OneOf(_DOCUMENTS), metavar="DOCUMENT")
@options("json")
def schema(document: str, as_json: bool) -> None:  # noqa: ARG001 (it is JSON anyway)
    """Print the JSON Schema of a document that edgepack reads or writes.

    DOCUMENT is build, lint, manifest, policy, ranges, recipe, result, settings, target or tuning.
    """
    import json

    from edgepack.cli.json_schema import schema_of

    click.echo(json.dumps(schema_of(document), indent=2))


@click.command("list")
@click.argument(
    "kind",
    type=OneOf(("targets", "recipes", "tasks", "decoders", "precisions", "observers", "metrics")),
    metavar="[KIND]",
    required=False,
)
@options("json")
def list_(kind: str | None, as_json: bool) -> None:
    """List the names that options take.

    KIND is targets, recipes, tasks, decoders, precisions, observers or metrics: only those, one per line, for programs.
    """
    from edgepack.cli.listing import names_by_kind

    found = names_by_kind()
    if as_json:
        echo_json(found if kind is None else found[kind])
    elif kind is not None:
        terminal.say("\n".join(found[kind]))
    else:
        width = terminal.columns(sys.stdout)
        for title, names in found.items():
            line = f"{title}: {' '.join(names)}"
            terminal.say(line if width is None else _filled(line, width))


def _filled(line: str, width: int) -> str:
    """Return a line of names, of which none is broken, in as many lines as it takes."""
    return textwrap.fill(line, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


@click.command("help")
@click.argument("names", metavar="[COMMAND]...", nargs=-1)
@click.pass_context
def help_(context: click.Context, names: tuple[str, ...]) -> None:
    """Show the help of a command, as 'edgepack COMMAND --help' does."""
    shown = context.parent
    assert shown is not None
    for name in names:
        group = shown.command
        found = group.get_command(shown, name) if isinstance(group, click.Group) else None
        if found is None:
            known = group.list_commands(shown) if isinstance(group, click.Group) else ()
            refuse_command(name, known, shown.command_path)
        shown = click.Context(found, info_name=name, parent=shown)
    terminal.say(shown.get_help())


COMMANDS = (doctor, targets, recipes, list_, schema, help_)
