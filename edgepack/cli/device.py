"""``edgepack install | status | rollback | adopt``: a device's bundles and the engines that it built of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgepack.cli.options import echo_json, options

if TYPE_CHECKING:
    from collections.abc import Iterable

_root = click.option(
    "--root", type=click.Path(path_type=Path), required=True, help="Where versions, engines and the link 'current' are."
)
_bundle = click.argument("bundle", type=click.Path(path_type=Path))


@click.command()
@_bundle
@_root
@options("threads", "json")
def install(bundle: Path, root: Path, threads: int | None, as_json: bool) -> None:
    """Check BUNDLE, copy it below --root, build its engine, prove it by its golden vectors, and put it in use."""
    from edgepack.cli.show.console import make_console
    from edgepack.cli.show.progress import Bar
    from edgepack.runtime.install import describe_record
    from edgepack.runtime.install import install as run
    from edgepack.specs import RunOptions

    with Bar(make_console(), "install") as bar:
        record = run(bundle, root, RunOptions(threads=threads), bar)
    if as_json:
        echo_json(record)
    _say(describe_record(record))


@click.command()
@_root
@options("json")
def status(root: Path, as_json: bool) -> None:
    """Say which version is in use below --root, and on what it was proved; exit code 5 when it is damaged."""
    from edgepack.runtime.install import describe_status
    from edgepack.runtime.install import status as run

    found = run(root)
    if as_json:
        echo_json(found)
    _say(describe_status(found))
    if found.problem is not None:
        raise click.exceptions.Exit(5)


@click.command()
@_root
@options("json")
def rollback(root: Path, as_json: bool) -> None:
    """Put the version that was in use before the present one in use again."""
    from edgepack.runtime.install import describe_record
    from edgepack.runtime.install import rollback as run

    record = run(root)
    if as_json:
        echo_json(record)
    _say(describe_record(record))


@click.command()
@_bundle
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="The bundle to write.")
@options("json")
def adopt(bundle: Path, out: Path, as_json: bool) -> None:
    """Pack the TensorRT engine that this device built of BUNDLE into a bundle for twins of this device."""
    from edgepack.cli.show.console import make_console
    from edgepack.cli.show.progress import Bar
    from edgepack.runtime.adopt import adopt as run

    with Bar(make_console(), "adopt") as bar:
        payload = run(bundle, out, bar)
    if as_json:
        echo_json(payload)
    fits = ", ".join(f"{name} {value}" for name, value in sorted(payload.key.items()))
    click.echo(f"wrote {out}: its engine fits {fits}", err=True)


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line, err=True)


COMMANDS = (install, status, rollback, adopt)
