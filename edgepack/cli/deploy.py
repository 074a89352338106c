"""``edgepack deploy``: bundles on other machines, over ssh."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgepack.cli.options import echo_json, options

if TYPE_CHECKING:
    from edgepack.remote.deploy import Deployed


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("host", metavar="USER@HOST")
@click.option("--root", default="edgepack", show_default=True, help="Installation folder there.")
@click.option("--python", default="python3", show_default=True, help="The Python there.")
@click.option("--bootstrap", is_flag=True, help="Bring edgepack, numpy and the bundle's engine there first.")
@click.option("--again", is_flag=True, help="Install it although it is in use there already.")
@options("allow_native", "json")
def deploy(bundle: Path, host: str, root: str, python: str, bootstrap: bool, again: bool, as_json: bool) -> None:
    """Send a bundle to another machine over ssh and install it there.

    The machine needs sshd and Python. Host keys are checked; a link that is cut goes on where it was. What is in use
    there stays when the bundle does not arrive whole, or computes wrong values there.
    """
    from edgepack.cli.show.console import make_console
    from edgepack.cli.show.layout import safe
    from edgepack.cli.show.progress import Bar
    from edgepack.remote.deploy import deploy as run
    from edgepack.remote.ssh import Board

    board = Board(host, python)
    with Bar(make_console(), "deploy") as bar:
        if bootstrap:
            from edgepack.remote.bootstrap import bring

            bring(board, bundle, bar)
        found = run(bundle, board, root, allow_native=_allowed(), again=again, progress=bar)
    if as_json:
        echo_json(found)
    console = make_console(as_json)
    for line in _lines(found):
        console.print(safe(line))


def _allowed() -> bool:
    import os

    from edgepack.runtime.native import VARIABLE

    return os.environ.get(VARIABLE) == "1"


def _lines(found: Deployed) -> list[str]:
    from edgepack.runtime.install import describe_record

    cuts = f", the link was cut {found.cuts} times" if found.cuts else ""
    did = "had it in use already" if found.already else f"{found.sent_bytes / 1e6:.1f} MB sent{cuts}"
    note = [f"  note: {found.note}"] if found.note else []
    return [f"{found.host}: {did}", *describe_record(found.record), *note]


COMMANDS = (deploy,)
