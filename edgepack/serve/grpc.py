"""The Open Inference Protocol over gRPC.

Every call is a message and an answer, but the methods are made as those that take a stream: of such a one gRPC reads
nothing until it is asked to, beyond some 64 KiB, so that messages that come at once do not fill the memory.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from edgepack import __version__
from edgepack.errors import ConfigError, DataError, ToolchainError
from edgepack.serve.http import EXTENSIONS, failure
from edgepack.serve.memory import Memory
from edgepack.serve.messages import METHODS, SERVICE, message, read_query, write_answer
from edgepack.serve.queries import BusyError, Limits

if TYPE_CHECKING:
    from edgepack.serve.metrics import Metrics
    from edgepack.serve.models import Models

_MORE_CALLS = 64  # than may wait: health and metadata, and those that are just refused
_ROOM_S = 5.0  # how long a message waits for memory to be read into
_READ_S = 30.0  # how long a message may take to come,
_WANTED_S = 1.0  # and how long where others wait for the memory
_UNREAD = ("ServerLive", "ServerReady", "ServerMetadata", "RepositoryIndex")  # whose requests say nothing
_PUSHBACK = "grpc-retry-pushback-ms"  # gRPC's own name for Retry-After


def make_server(models: Models, limits: Limits, metrics: Metrics, address: str) -> tuple[Any, int]:
    """Return a server that is not started, and its port. Raises ``ConfigError`` for an address that is taken."""
    try:
        import grpc
        import grpc.aio
    except ImportError as error:
        raise ToolchainError(f"no gRPC here: {error}", hint="pip install 'edgepack[serve]'") from None
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", limits.request_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
            ("grpc.http2.bdp_probe", 0),  # which would let more of a message come before it is read
        ],
        maximum_concurrent_rpcs=limits.queue + limits.workers + _MORE_CALLS,
    )
    calls = _Calls(models, metrics, grpc, Memory(limits.request_bytes))
    handlers = {
        name: grpc.stream_unary_rpc_method_handler(
            calls.of(name),
            request_deserializer=message(f"{name}Request").FromString,
            response_serializer=message(f"{name}Response").SerializeToString,
        )
        for name in METHODS
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    try:
        return server, server.add_insecure_port(address)
    except RuntimeError:
        raise ConfigError(f"gRPC cannot listen on {address}", hint="give another --grpc-port") from None


class _Calls:
    def __init__(self, models: Models, metrics: Metrics, grpc: Any, memory: Memory) -> None:
        self._models, self._metrics, self._grpc, self._memory = models, metrics, grpc, memory

    def of(self, name: str) -> Callable[[Any, Any], Awaitable[Any]]:
        """Return the handler of a method; what it raises becomes gRPC's status."""
        answer = {
            "ServerLive": self._live,
            "ServerReady": self._ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server,
            "ModelMetadata": self._model,
            "ModelInfer": self._infer,
            "RepositoryIndex": self._index,
        }[name]

        async def answered(context: Any) -> tuple[Any, tuple[Any, ...]]:
            try:
                with self._memory.hold() as more:
                    return await answer(None if name in _UNREAD else await self._message(context, more)), ()
            except Exception as error:
                return None, self._refusal(error)

        async def handle(_requests: Any, context: Any) -> Any:
            response, refusal = await answered(context)
            if refusal:  # outside of what holds the message: gRPC keeps this call and all that it sees for a while
                await context.abort(*refusal)
            return response

        return handle

    async def _message(self, context: Any, more: Callable[[int], None]) -> Any:
        """Read the request. Until it is here gRPC does not say how long it is: it is taken for the largest."""
        await self._memory.room(_ROOM_S)
        more(self._memory.largest)
        reading = asyncio.ensure_future(context.read())
        began = time.monotonic()
        try:
            while not (await asyncio.wait({reading}, timeout=_WANTED_S))[0]:
                if self._memory.is_wanted or time.monotonic() - began > _READ_S:
                    raise BusyError("the message did not come in time", retry_s=1.0)
            request = reading.result()
        finally:
            reading.cancel()
        if request is self._grpc.aio.EOF:
            raise DataError("the call has no message")
        more(request.ByteSize() - self._memory.largest)
        return request

    def _refusal(self, error: Exception) -> tuple[Any, str, tuple[tuple[str, str], ...]]:
        """Return the status, the words and the metadata of a call that raised ``error``."""
        code = self._grpc.StatusCode
        status, words, _ = failure(error)
        codes = {400: code.INVALID_ARGUMENT, 404: code.NOT_FOUND, 503: code.RESOURCE_EXHAUSTED}
        after = ((_PUSHBACK, str(int(error.retry_s * 1000))),) if isinstance(error, BusyError) else ()
        words = words.encode("utf-8", "replace").decode()
        return codes.get(status, code.INTERNAL), words, after

    async def _live(self, _request: Any) -> Any:
        return message("ServerLiveResponse")(live=True)

    async def _ready(self, _request: Any) -> Any:
        return message("ServerReadyResponse")(ready=self._models.ready)

    async def _model_ready(self, request: Any) -> Any:
        self._models.get(request.name, request.version)
        return message("ModelReadyResponse")(ready=self._models.ready)

    async def _server(self, _request: Any) -> Any:
        return message("ServerMetadataResponse")(name="edgepack", version=__version__, extensions=EXTENSIONS)

    async def _model(self, request: Any) -> Any:
        return message("ModelMetadataResponse")(**self._models.get(request.name, request.version).metadata())

    async def _index(self, _request: Any) -> Any:
        return message("RepositoryIndexResponse")(models=self._models.index())

    async def _infer(self, request: Any) -> Any:
        since = time.monotonic()
        model = self._models.get(request.model_name, request.model_version)
        try:
            model.refuse_full()
            query = read_query(request)
            answer = await asyncio.wrap_future(model.submit(query, since))
            response = write_answer(answer, query)
            model.sent(answer)
        except Exception as error:
            self._metrics.ended(model.name, "grpc", failure(error)[2])
            raise
        self._metrics.ended(model.name, "grpc", "ok")
        return response
