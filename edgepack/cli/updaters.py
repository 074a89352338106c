"""``edgepack export-updater``: bundles by a device's own updater."""

from __future__ import annotations

from pathlib import Path

import click

from edgepack.cli.duration import DURATION
from edgepack.cli.options import OneOf, echo_json, options
from edgepack.updaters import UPDATERS


@click.command("export-updater")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--kind", type=OneOf(tuple(UPDATERS)), required=True, help="Updater to write for.")
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="New folder to write.")
@click.option("--root", default="/var/lib/edgepack", show_default=True, help="Installation folder on the devices.")
@click.option(
    "--health", default="", help="Shell command there that must succeed, or the previous version is restored."
)
@click.option("--window", type=DURATION, default="60s", show_default=True, help="With --health: how long it may take.")
@options("json")
def export_updater(
    bundle: Path, kind: str, out: Path, root: str, health: str, window: int, as_json: bool
) -> None:  # fmt: skip
    """Write the files with which Mender, RAUC, systemd-sysext or Debian packages deliver a bundle to devices.

    The updater transfers the file; 'edgepack install' on the device checks, verifies and activates it.
    """
    from edgepack.cli.show.console import make_console
    from edgepack.cli.show.layout import safe
    from edgepack.updaters.export import export_updater as run

    found = run(bundle, kind, out, root=root, health=health, window_s=window / 1e9)
    if as_json:
        echo_json(found)
    console = make_console(as_json)
    console.print(safe(f"wrote {found.folder}: {', '.join(found.files)}"))
    for line in found.next:
        console.print(safe(f"  {line}"))


COMMANDS = (export_updater,)
