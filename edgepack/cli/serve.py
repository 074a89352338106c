"""``edgepack serve | unpack``: answers other processes, and lays bundles out for servers that do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgepack.cli.duration import DURATION, SIZE
from edgepack.cli.options import OneOf, echo_json, options

if TYPE_CHECKING:
    from edgepack.serve.queries import Served
    from edgepack.serve.server import Listening

_PORT = click.IntRange(0, 65_535)


@click.command()
@click.argument("bundles", metavar="[NAME=]BUNDLE...", nargs=-1, required=True)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on; 0.0.0.0 means all addresses of this machine.",
)
@click.option("--port", type=_PORT, default=8000, show_default=True, help="Port for HTTP; 0 picks a free one.")
@click.option("--grpc-port", type=_PORT, default=8001, show_default=True, help="Port for gRPC; 0 picks a free one.")
@click.option("--grpc/--no-grpc", default=True, show_default=True, help="Also serve gRPC.")
@click.option(
    "--max-batch", type=click.IntRange(1, 1024), default=8, show_default=True,
    help="Largest batch to run at once, for models whose samples do not affect each other.",
)  # fmt: skip
@click.option(
    "--max-delay", type=DURATION, help="How long a query waits for others to share its batch  [default: not at all]"
)
@click.option(
    "--queue",
    type=click.IntRange(1, 100_000),
    default=64,
    show_default=True,
    help="Largest number of waiting queries of each model.",
)
@click.option(
    "--max-wait", type=DURATION, default="1s", show_default=True,
    help="Refuse a query whose answer would take longer than this, waiting and running together.",
)  # fmt: skip
@click.option(
    "--workers", type=click.IntRange(1, 256), default=1, show_default=True,
    help="Inferences of one model at the same time.",
)  # fmt: skip
@click.option("--max-request", type=SIZE, default="32MB", show_default=True, help="Largest size of a request.")
@options("threads", "allow_native", "json")
def serve(
    bundles: tuple[str, ...],
    host: str,
    port: int,
    grpc_port: int,
    grpc: bool,
    max_batch: int,
    max_delay: int | None,
    queue: int,
    max_wait: int,
    workers: int,
    max_request: int,
    threads: int | None,
    as_json: bool,
) -> None:
    """Serve bundles over the Open Inference Protocol (KServe v2) until SIGTERM.

    Each bundle is a model, by its name or as NAME=BUNDLE. An installed bundle (device/current/NAME.edgepack) is
    followed: the next version takes over without losing a query.
    """
    from edgepack.serve.queries import Limits
    from edgepack.serve.server import Address
    from edgepack.serve.server import serve as run
    from edgepack.specs.run import RunOptions

    limits = Limits(max_batch, (max_delay or 0) / 1e9, queue, max_wait / 1e9, workers, max_request)
    address = Address(host, port, grpc_port if grpc else None)
    run_options = None if threads is None else RunOptions(threads=threads)

    def started(found: Listening) -> None:
        echo_json(found) if as_json else _show(found)

    run(map(_served, bundles), address, limits, run_options, started)


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="New folder to write.")
@click.option(
    "--layout", type=OneOf(("triton", "kserve")), default="triton", show_default=True, help="For which server."
)
@click.option(
    "--max-batch", type=click.IntRange(1, 1024), default=8, show_default=True,
    help="Largest batch to run at once, where the batch is free.",
)  # fmt: skip
@click.option("--image", help="With kserve: reference of the image that will be made of the folder.")
@options("json")
def unpack(bundle: Path, out: Path, layout: Any, max_batch: int, image: str | None, as_json: bool) -> None:
    """Write a model repository of a bundle for Triton or KServe.

    Writes the model with its config.pbtxt, for KServe also a Dockerfile and an InferenceService.
    """
    from edgepack.cli.show.console import make_console
    from edgepack.cli.show.layout import safe
    from edgepack.serve.repository import unpack as run

    found = run(bundle, out, layout, max_batch, image)
    if as_json:
        echo_json(found)
    console = make_console(as_json)
    console.print(safe(f"wrote {found.folder}: {found.model} for {found.engine}"))
    for note in found.notes:
        console.print(safe(f"  {note}"))


def _served(text: str) -> Served:
    from edgepack.serve.queries import Served

    name, equals, path = text.partition("=")
    if equals and not os.path.exists(text):  # noqa: PTH110 (a name need not be a path)
        return Served(path, name)
    return Served(text)


def _show(found: Listening) -> None:
    from edgepack.cli.show.console import make_console
    from edgepack.cli.show.layout import safe

    console = make_console()
    for line in found.models:
        console.print(safe(line))
    rpc = f" and gRPC at {found.grpc}" if found.grpc else ""
    console.print(safe(f"answering at {found.http}{rpc}"))


COMMANDS = (serve, unpack)
