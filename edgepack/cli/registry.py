"""``edgepack push | pull``: bundles in OCI registries and on sticks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgepack.cli.options import echo_json, options

if TYPE_CHECKING:
    from edgepack.registry.transfer import Moved


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("reference")
@click.option(
    "--mount-from", "repositories", multiple=True, metavar="NAME",
    help="Another repository of the registry whose layers need not be sent again. Repeatable.",
)  # fmt: skip
@options("json")
def push(bundle: Path, reference: str, repositories: tuple[str, ...], as_json: bool) -> None:
    """Store a bundle in an OCI registry, or in a folder.

    REFERENCE is HOST/NAME:TAG, or oci:FOLDER:TAG for an OCI layout folder. Credentials are Docker's.
    """
    from edgepack.cli.show.console import make_console
    from edgepack.cli.show.progress import Bar
    from edgepack.registry.reference import parse
    from edgepack.registry.transfer import push as run

    with Bar(make_console(), "push") as bar:
        found = run(bundle, parse(reference), progress=bar, repositories=repositories)
    _answer(found, f"pushed {found.bundle} to {found.reference}", as_json)


@click.command()
@click.argument("reference")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Bundle to write.")
@click.option(
    "--to", "folder", help="OCI layout folder to fill instead, as oci:FOLDER:TAG, for a machine without a network."
)
@click.option(
    "--mirror", "mirrors", multiple=True, metavar="HOST[/PREFIX]", envvar="EDGEPACK_MIRRORS",
    help="Registry to ask for layers first. Repeatable; or $EDGEPACK_MIRRORS, separated by spaces.",
)  # fmt: skip
@options("json")
@click.pass_context
def pull(
    context: click.Context, reference: str, out: Path | None, folder: str | None, mirrors: tuple[str, ...],
    as_json: bool,
) -> None:  # fmt: skip
    """Fetch a bundle from an OCI registry, or from a folder.

    Every byte is checked against its digest, and a transfer that is cut off resumes. Mirrors are asked by digest
    only: which bundle a tag names is for the registry itself to say. A folder has no mirrors.
    """
    from edgepack.cli.show.console import make_console
    from edgepack.cli.show.progress import Bar
    from edgepack.registry.reference import Folder, parse
    from edgepack.registry.transfer import pull as run

    if (out is None) == (folder is None):
        raise click.UsageError("give --out or --to")
    to = parse(folder) if folder is not None else None
    if to is not None and not isinstance(to, Folder):
        raise click.UsageError("--to is a folder, as oci:usb:1.0")
    source = parse(reference)
    if isinstance(source, Folder) and context.get_parameter_source("mirrors") is click.core.ParameterSource.ENVIRONMENT:
        mirrors = ()  # they are set for whatever is pulled, and say nothing of a folder
    with Bar(make_console(), "pull") as bar:
        found = run(source, out, to, progress=bar, mirrors=mirrors)
    _answer(found, f"pulled {found.reference} to {found.bundle}", as_json)


def _answer(found: Moved, text: str, as_json: bool) -> None:
    from edgepack.cli.show.console import make_console
    from edgepack.cli.show.format import size
    from edgepack.cli.show.layout import safe

    if as_json:
        echo_json(found)
    moved = f"{size(found.moved_bytes)} of {size(found.size_bytes)} moved, manifest {found.digest}"
    make_console(as_json).print(safe(f"{text}: {moved}"))


COMMANDS = (push, pull)
