"""``edgepack deploy``: bundles on other machines, over ssh."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgepack.cli.duration import DURATION
from edgepack.cli.options import echo_json, options

if TYPE_CHECKING:
    from edgepack.remote.deploy import Deployed


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("host", metavar="USER@HOST|FLEET.toml")
@click.option("--root", default="edgepack", show_default=True, help="Installation folder there.")
@click.option("--python", default="python3", show_default=True, help="The Python there.")
@click.option("--bootstrap", is_flag=True, help="First install edgepack, numpy and the bundle's engine there.")
@click.option("--again", is_flag=True, help="Install it even if it is already active there, or failed there twice.")
@click.option(
    "--health", help="Shell command there that must succeed within --window, or the previous version is restored."
)
@click.option("--window", type=DURATION, default="60s", show_default=True, help="With --health: how long it may take.")
@click.option("--dry-run", is_flag=True, help="With a fleet: query the boards and change nothing.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="With a fleet: folder for deploy.json and results.")
@options("allow_native", "json")
def deploy(
    bundle: Path,
    host: str,
    root: str,
    python: str,
    bootstrap: bool,
    again: bool,
    health: str | None,
    window: int,
    dry_run: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Send a bundle to another machine over ssh and install it there; to many by FLEET.toml, wave by wave.

    The machine needs sshd and Python. Host keys are checked, and a transfer that is cut off resumes. The active
    version stays if the bundle does not arrive complete or computes wrong values there.
    """
    if host.endswith(".toml"):
        _deploy_fleet(bundle, Path(host), out, dry_run=dry_run, as_json=as_json)
        return
    from edgepack.cli.show.console import make_console
    from edgepack.cli.show.layout import safe
    from edgepack.cli.show.progress import Bar
    from edgepack.remote.deploy import deploy as run
    from edgepack.remote.ssh import Board
    from edgepack.runtime.install import Health

    if dry_run or out is not None:
        raise click.UsageError("--dry-run and --out are for a fleet: give a FLEET.toml")
    check = Health(health, window / 1e9) if health is not None else None
    board = Board(host, python)
    with Bar(make_console(), "deploy") as bar:
        if bootstrap:
            from edgepack.remote.bootstrap import bring

            bring(board, bundle, bar)
        found = run(bundle, board, root, allow_native=_allowed(), again=again, health=check, progress=bar)
    if as_json:
        echo_json(found)
    console = make_console(as_json)
    for line in _lines(found):
        console.print(safe(line))


def _deploy_fleet(bundle: Path, path: Path, out: Path | None, *, dry_run: bool, as_json: bool) -> None:
    """Deploy to all boards of a fleet, show a table, and end with the highest exit code of a board."""
    _refuse_single_options(path)
    from edgepack.cli.measure import write_reports
    from edgepack.cli.show.console import make_console
    from edgepack.cli.show.fleet import show_fleet
    from edgepack.cli.show.layout import safe
    from edgepack.cli.show.progress import Bar
    from edgepack.remote.fleet import deploy_fleet, read_fleet

    fleet = read_fleet(path)
    fleet = dataclasses.replace(fleet, allow_native=fleet.allow_native or _allowed())
    with Bar(make_console(), "deploy") as bar:
        found = deploy_fleet(bundle, fleet, out, dry_run=dry_run, progress=bar)
    if as_json:
        echo_json(found)
    console = make_console(as_json)
    show_fleet(console, found)
    if out is not None and found.results and not dry_run:
        write_reports((out,), (out / "report.html",), None, ())
        console.remark(f"wrote {safe(out / 'report.html')}")
    if found.exit_code:
        raise click.exceptions.Exit(found.exit_code)


def _refuse_single_options(path: Path) -> None:
    """Refuse options that say what a fleet's file says for all of its boards."""
    context = click.get_current_context()
    for name in ("root", "python", "bootstrap", "again", "health", "window"):
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{name} is for one machine; a fleet's settings are in {path}")


def _allowed() -> bool:
    import os

    from edgepack.runtime.native import VARIABLE

    return os.environ.get(VARIABLE) == "1"


def _lines(found: Deployed) -> list[str]:
    from edgepack.runtime.describe import describe_record

    cuts = f", the link was cut {found.cuts} times" if found.cuts else ""
    did = "had it in use already" if found.already else f"{found.sent_bytes / 1e6:.1f} MB sent{cuts}"
    note = [f"  note: {found.note}"] if found.note else []
    return [f"{found.host}: {did}", *describe_record(found.record), *note]


COMMANDS = (deploy,)
