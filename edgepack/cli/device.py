"""``edgepack install | status | rollback | adopt``: the bundles installed on a device."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgepack.cli.duration import DURATION
from edgepack.cli.options import echo_json, on_board, options

if TYPE_CHECKING:
    from collections.abc import Iterable

_root = click.option(
    "--root",
    type=click.Path(path_type=Path),
    required=True,
    help="Installation folder: versions, engines and the link 'current'.",
)
_bundle = click.argument("bundle", type=click.Path(path_type=Path))


@click.command()
@_bundle
@_root
@click.option(
    "--wait", type=DURATION, default=None, help="Wait this long for another installation  [default: not at all]"
)
@click.option("--health", help="Shell command that must succeed within --window, or the previous version is restored.")
@click.option("--window", type=DURATION, default="60s", show_default=True, help="With --health: how long it may take.")
@click.option("--again", is_flag=True, help="Retry a bundle that failed here twice.")
@options("threads", "allow_native", "json")
def install(
    bundle: Path,
    root: Path,
    wait: int | None,
    health: str | None,
    window: int,
    again: bool,
    threads: int | None,
    as_json: bool,
) -> None:
    """Install a bundle on this device and activate it.

    Checks the bundle, copies it below --root, builds its engine, verifies it with its golden vectors, and only then
    switches 'current' to it. A failure leaves the active version as it is.
    """
    from edgepack.cli.show.console import make_console
    from edgepack.cli.show.progress import Bar
    from edgepack.runtime.describe import describe_record
    from edgepack.runtime.install import Health
    from edgepack.runtime.install import install as run
    from edgepack.specs.run import RunOptions

    check = Health(health, window / 1e9) if health is not None else None
    with Bar(make_console(), "install") as bar:
        record = run(bundle, root, RunOptions(threads=threads), bar, (wait or 0) / 1e9, check, again=again)
    _answer(record, describe_record(record), as_json)


@click.command()
@_root
@on_board
@options("json")
def status(root: Path, on: str | None, python: str, as_json: bool) -> None:
    """Show the active version and how it was verified.

    Exit code 5 when its files are damaged.
    """
    from edgepack.runtime.describe import describe_status
    from edgepack.runtime.root import status as run

    if on is None:
        found = run(root)
    else:
        from edgepack.remote.deploy import remote_status
        from edgepack.remote.ssh import Board

        found = remote_status(Board(on, python), str(root))
    _answer(found, describe_status(found), as_json)
    if found.problem is not None:
        raise click.exceptions.Exit(5)


@click.command()
@_root
@on_board
@options("json")
def rollback(root: Path, on: str | None, python: str, as_json: bool) -> None:
    """Switch back to the previously active version."""
    from edgepack.runtime.describe import describe_record
    from edgepack.runtime.install import rollback as run

    if on is None:
        record = run(root)
    else:
        from edgepack.remote.deploy import remote_rollback
        from edgepack.remote.ssh import Board

        record = remote_rollback(Board(on, python), str(root))
    _answer(record, describe_record(record), as_json)


@click.command()
@_root
@options("json")
def recover(root: Path, as_json: bool) -> None:
    """Return to the previous version if a trial was cut off; meant to run at boot.

    Leaves a version that 'install --health' activated and that has not passed its check since, as after a power cut.
    """
    from edgepack.runtime.describe import describe_record
    from edgepack.runtime.install import recover as run

    found = run(root)
    _answer(found, describe_record(found) if found is not None else ("no active version",), as_json)


@click.command()
@_bundle
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="Bundle to write.")
@options("json")
def adopt(bundle: Path, out: Path, as_json: bool) -> None:
    """Pack the TensorRT engine built here into a bundle for identical devices."""
    from edgepack.cli.show.console import make_console
    from edgepack.cli.show.progress import Bar
    from edgepack.runtime.adopt import adopt as run

    with Bar(make_console(), "adopt") as bar:
        payload = run(bundle, out, bar)
    fits = ", ".join(f"{name} {value}" for name, value in sorted(payload.key.items()))
    _answer(payload, (f"wrote {out}: its engine fits {fits}",), as_json)


@click.command()
@click.option("--sha256", required=True, help="Digest of the file.")
@click.option("--size", type=int, required=True, help="Size of the file in bytes.")
@options("json")
def receive(sha256: str, size: int, as_json: bool) -> None:  # noqa: ARG001 (what is asked for is JSON anyway)
    """Receive a file on stdin, resuming where it was cut off; 'deploy' calls this on the other machine."""
    import sys

    from edgepack.runtime.receive import receive as run

    echo_json(run(sha256, size, sys.stdin.buffer, sys.stdout))


def _answer(value: object, lines: Iterable[str], as_json: bool) -> None:
    """Print what was asked for on stdout: as JSON, and then in words on stderr, or in words."""
    from edgepack.cli.show.console import make_console
    from edgepack.cli.show.layout import safe

    if as_json:
        echo_json(value)
    console = make_console(as_json)
    for line in lines:
        console.print(safe(line))


COMMANDS = (install, status, rollback, recover, adopt, receive)
