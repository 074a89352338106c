"""Runs a server until it is told to end: both protocols in one loop, and every query that was taken is answered."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgepack.errors import ConfigError, ToolchainError
from edgepack.serve.connections import make_protocol
from edgepack.serve.grpc import make_server
from edgepack.serve.http import make_app
from edgepack.serve.metrics import Metrics
from edgepack.serve.models import Models
from edgepack.serve.queries import Limits, Served

if TYPE_CHECKING:
    from edgepack.specs.run import RunOptions

_GRACE_S = 30.0
_LOOK_S = 0.01
_MOST_CONNECTIONS = 256
_MOST_HEAD_BYTES = 64 << 10


@dataclass(frozen=True)
class Address:
    """Where to listen; a port of 0 is one that is free, ``grpc_port`` None no gRPC."""

    host: str = "127.0.0.1"
    port: int = 8000
    grpc_port: int | None = 8001


@dataclass(frozen=True)
class Listening:
    """Where a server listens, and what it says of its models."""

    http: str
    grpc: str | None
    models: tuple[str, ...]


def serve(
    served: Iterable[Served],
    address: Address,
    limits: Limits,
    options: RunOptions | None = None,
    started: Callable[[Listening], None] = lambda _: None,
) -> None:
    """Answer queries until SIGTERM or SIGINT; ``started`` is called when they are taken.

    Raises what loading a bundle raises, ``ConfigError`` for an address that cannot be listened on and
    ``ToolchainError`` where the packages of the extra ``serve`` are not installed.
    """
    metrics = Metrics()
    with _listening(address) as http, Models(served, limits, options, metrics) as models:
        asyncio.run(_run(models, http, address, limits, metrics, started))


async def _run(
    models: Models,
    http: socket.socket,
    address: Address,
    limits: Limits,
    metrics: Metrics,
    started: Callable[[Listening], None],
) -> None:
    end = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end.set)
    web = _web_server(make_app(models, limits, metrics))
    rpc, rpc_port = None, 0
    if address.grpc_port is not None:
        rpc, rpc_port = make_server(models, limits, metrics, f"{_bracketed(address.host)}:{address.grpc_port}")
        await rpc.start()
    serving = asyncio.create_task(web.serve([http]))
    ended = asyncio.create_task(end.wait())
    while not web.started and not serving.done():
        await asyncio.sleep(_LOOK_S)
    said = [line for name in models.names() for line in models.get(name).describe()]
    host = _bracketed(address.host)
    started(Listening(f"http://{host}:{http.getsockname()[1]}", f"{host}:{rpc_port}" if rpc else None, tuple(said)))
    await asyncio.wait((serving, ended), return_when=asyncio.FIRST_COMPLETED)
    models.drain()
    web.should_exit = True
    await asyncio.gather(serving, rpc.stop(_GRACE_S) if rpc else asyncio.sleep(0))
    ended.cancel()


def _web_server(app: Any) -> Any:
    try:
        import uvicorn
    except ImportError as error:
        raise ToolchainError(f"edgepack serve cannot run here: {error}", hint="pip install 'edgepack[serve]'") from None

    class Server(uvicorn.Server):  # type: ignore[misc]
        """Leaves signals to the loop, which ends both protocols."""

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    return Server(
        uvicorn.Config(
            app,
            loop="asyncio",
            http=make_protocol(_MOST_CONNECTIONS),
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=_MOST_CONNECTIONS,
            timeout_graceful_shutdown=int(_GRACE_S),
            h11_max_incomplete_event_size=_MOST_HEAD_BYTES,
        )
    )


@contextlib.contextmanager
def _listening(address: Address) -> Iterator[socket.socket]:
    """Bind before models are loaded, so that an address that is taken is said at once."""
    try:
        (family, kind, protocol, _, place), *_ = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        made = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError(f"--host {address.host}: {error.strerror}", hint="give an address of this machine") from None
    with made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind(place)
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {address.host}:{address.port}: {error.strerror}",
                hint="give another --port or --host",
            ) from None
        yield made


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
