"""``edgepack environments``: the Pythons with other frameworks that were made for reading their models."""

from __future__ import annotations

import click

from edgepack.base.text import printable
from edgepack.cli.names import NamesGroup
from edgepack.cli.options import echo_json, options
from edgepack.cli.show import terminal


@click.group(cls=NamesGroup, invoke_without_command=True)
@options("json")
@click.pass_context
def environments(context: click.Context, as_json: bool) -> None:
    """List or remove the environments created for other frameworks."""
    if context.invoked_subcommand is None:
        context.invoke(list_environments_, as_json=as_json)


@environments.command("list")
@options("json")
def list_environments_(as_json: bool) -> None:
    """List the environments, their sizes and where they are."""
    from edgepack.cli.show.format import size
    from edgepack.export.environments import environments_folder, list_environments

    found = list_environments()
    if as_json:
        echo_json(found)
        return
    lines = [f"{e.name}  {size(e.size_bytes)}{'' if e.ready else '  unfinished'}" for e in found]
    terminal.say(
        printable(
            "\n".join([f"{environments_folder()}: {len(found)} environment{'' if len(found) == 1 else 's'}", *lines])
        )
    )


@environments.command("remove")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@options("json")
def remove(names: tuple[str, ...], as_json: bool) -> None:
    """Remove environments by name, or all of a framework; they are created again when a model needs them.

    NAME is a name from 'edgepack environments list', with or without the part after the hyphen.
    """
    from edgepack.cli.show.format import size
    from edgepack.export.environments import remove_environments

    removed = remove_environments(names)
    freed = sum(environment.size_bytes for environment in removed)
    if as_json:
        echo_json({"removed": [environment.name for environment in removed], "freed_bytes": freed})
    else:
        terminal.say(printable(f"removed {', '.join(e.name for e in removed)}: {size(freed)}"))


COMMANDS = (environments,)
