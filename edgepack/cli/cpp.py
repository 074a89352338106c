"""``edgepack export-library``: what a C or C++ program needs to open bundles and run them."""

from __future__ import annotations

from pathlib import Path

import click

from edgepack.cli.options import echo_json, options
from edgepack.engines.common.linking import ARCHITECTURES, DEFAULT_GLIBC


@click.command("export-library")
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="Folder for include, lib and bin.")
@click.option("--arch", type=click.Choice(ARCHITECTURES), help="Processor of the device  [default: this machine's]")
@click.option("--glibc", metavar="VERSION", help=f"Oldest glibc that it must run on  [default: {DEFAULT_GLIBC}]")
@click.option("--source", is_flag=True, help="Also write the source, for another compiler.")
@options("json")
def export_library(out: Path, arch: str | None, glibc: str | None, source: bool, as_json: bool) -> None:
    """Build libedgepack: the C and C++ library that checks, runs and verifies bundles without Python.

    For Linux on any processor, by the compiler in the package ziglang. The first build for a processor takes a minute
    or two, because it also builds the C++ standard library.
    """
    from edgepack.cpp.library import PROGRAM
    from edgepack.cpp.library import export_library as run
    from edgepack.device.host import host_facts

    made = run(out, arch or host_facts().arch, glibc, source=source)
    if as_json:
        echo_json(made)
        return
    click.echo(f"wrote {out}: libedgepack for {made.arch}")
    click.echo(f"  cc -I{out}/include main.c -L{out}/lib -ledgepack")
    click.echo(f"  {out}/bin/{PROGRAM} verify BUNDLE")


COMMANDS = (export_library,)
