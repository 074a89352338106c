"""The Open Inference Protocol over gRPC."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from edgepack import __version__
from edgepack.errors import ConfigError, ToolchainError
from edgepack.serve.http import EXTENSIONS, failure
from edgepack.serve.messages import METHODS, SERVICE, message, read_query, write_answer
from edgepack.serve.queries import BusyError, Limits

if TYPE_CHECKING:
    from edgepack.serve.metrics import Metrics
    from edgepack.serve.models import Models

_MORE_CALLS = 64  # than may wait: health and metadata, and those that are just refused
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
        ],
        maximum_concurrent_rpcs=limits.queue + limits.workers + _MORE_CALLS,
    )
    calls = _Calls(models, metrics, grpc)
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
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
    def __init__(self, models: Models, metrics: Metrics, grpc: Any) -> None:
        self._models, self._metrics, self._grpc = models, metrics, grpc

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

        async def handle(request: Any, context: Any) -> Any:
            try:
                return await answer(request)
            except Exception as error:
                await self._refuse(error, context)

        return handle

    async def _refuse(self, error: Exception, context: Any) -> None:
        code = self._grpc.StatusCode
        status, words, _ = failure(error)
        codes = {400: code.INVALID_ARGUMENT, 404: code.NOT_FOUND, 503: code.RESOURCE_EXHAUSTED}
        after = ((_PUSHBACK, str(int(error.retry_s * 1000))),) if isinstance(error, BusyError) else ()
        words = words.encode("utf-8", "replace").decode()
        await context.abort(codes.get(status, code.INTERNAL), words, after)

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
