"""The Open Inference Protocol over HTTP, and the page for Prometheus: an ASGI application."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from edgepack import __version__
from edgepack.errors import DataError, EdgepackError
from edgepack.serve import rest
from edgepack.serve.memory import Memory
from edgepack.serve.queries import Answer, BusyError, Limits, Outcome, Query, UnknownModelError

if TYPE_CHECKING:
    from edgepack.serve.metrics import Metrics
    from edgepack.serve.models import Models, ServedModel

EXTENSIONS = ("binary_tensor_data", "model_repository")
_BODY_S = 30.0  # how long a query may take to come
_IN_THREAD_BYTES = 64 << 10  # a larger query is read beside the others


def make_app(models: Models, limits: Limits, metrics: Metrics) -> Any:
    """Return the application."""
    from starlette.applications import Starlette
    from starlette.routing import Route

    pages = _Pages(models, limits, metrics)
    return Starlette(
        routes=[
            Route("/v2", pages.server),
            Route("/v2/health/live", pages.live),
            Route("/v2/health/ready", pages.ready),
            Route("/v2/repository/index", pages.index, methods=["GET", "POST"]),
            Route("/metrics", pages.metrics),
            *(
                Route(f"/v2/models/{{name}}{version}{rest}", page, methods=[method])
                for version in ("", "/versions/{version}")
                for rest, page, method in (
                    ("", pages.model, "GET"),
                    ("/ready", pages.model_ready, "GET"),
                    ("/infer", pages.infer, "POST"),
                )
            ),
        ],
        exception_handlers={404: pages.not_found, 405: pages.not_found, Exception: pages.failed},
    )


def failure(error: BaseException) -> tuple[int, str, Outcome]:
    """Return the status, the words and how a query ended that raised ``error``."""
    match error:
        case BusyError():
            return 503, f"{error.message}; {error.hint}", "refused"
        case UnknownModelError():
            return 404, error.message, "invalid"
        case DataError():
            return 400, f"{error.message}; {error.hint}" if _says(error) else error.message, "invalid"
        case EdgepackError():
            return 500, error.message, "failed"
    return 500, f"internal error: {type(error).__name__}", "failed"


def _says(error: EdgepackError) -> bool:
    return error.hint != type(error).default_hint


class _Pages:
    def __init__(self, models: Models, limits: Limits, metrics: Metrics) -> None:
        self._models, self._limits, self._metrics = models, limits, metrics
        self._memory = Memory(limits.request_bytes)

    async def server(self, _request: Any) -> Any:
        return _json({"name": "edgepack", "version": __version__, "extensions": list(EXTENSIONS)})

    async def live(self, _request: Any) -> Any:
        return _json({"live": True})

    async def ready(self, _request: Any) -> Any:
        return _json({"ready": self._models.ready}, 200 if self._models.ready else 503)

    async def index(self, _request: Any) -> Any:
        return _json(self._models.index())

    async def metrics(self, _request: Any) -> Any:
        from starlette.responses import Response

        body, kind = self._metrics.text()
        return Response(body, headers={"Content-Type": kind})

    async def not_found(self, request: Any, error: Any) -> Any:
        return _json({"error": f"there is no {request.method} {str(request.url.path)[:200]}"}, error.status_code)

    async def failed(self, _request: Any, error: Exception) -> Any:
        return _json({"error": f"internal error: {type(error).__name__}"}, 500)

    async def model(self, request: Any) -> Any:
        try:
            return _json(self._found(request).metadata())
        except UnknownModelError as error:
            return _refusal(error)

    async def model_ready(self, request: Any) -> Any:
        try:
            name = self._found(request).name
        except UnknownModelError as error:
            return _refusal(error)
        return _json({"name": name, "ready": self._models.ready}, 200 if self._models.ready else 503)

    async def infer(self, request: Any) -> Any:
        model = None
        try:
            model = self._found(request)
            model.refuse_full()
            response = await self._answer(model, request)
        except Exception as error:
            if model is not None:
                self._metrics.ended(model.name, "http", failure(error)[2])
            return _refusal(error)
        self._metrics.ended(model.name, "http", "ok")
        return response

    def _found(self, request: Any) -> ServedModel:
        return self._models.get(request.path_params["name"], request.path_params.get("version", ""))

    async def _answer(self, model: ServedModel, request: Any) -> Any:
        size = _announced(request, self._limits.request_bytes)
        with self._memory.hold() as more:
            body = await _body(request, size, more)
            if request.headers.get("content-encoding"):
                more(self._limits.request_bytes)
            since = time.monotonic()  # from when it was here: how long a client takes to send it is its own
            query: Query = await _beside(len(body), self._read, body, request)
            answer: Answer = await asyncio.wrap_future(model.submit(query, since))
            response = await _beside(len(body), _response, answer, query)
            model.sent(answer)
            return response

    def _read(self, body: bytes, request: Any) -> Query:
        whole = rest.unpacked(body, request.headers.get("content-encoding", ""), self._limits.request_bytes)
        return rest.read_query(whole, _number(request, rest.LENGTH))


class _TooLargeError(DataError):
    """A query is larger than is taken."""


def _announced(request: Any, most: int) -> int:
    """Return how many bytes a body will have at most. Raises ``DataError``."""
    size = _number(request, "Content-Length")
    if size is not None and size > most:
        raise _TooLargeError(f"the query has {size} bytes, and at most {most} are taken", hint="see --max-request")
    return most if size is None else size


async def _body(request: Any, most: int, came: Callable[[int], None]) -> bytes:
    parts: list[bytes] = []
    left = most

    async def read() -> None:
        nonlocal left
        async for part in request.stream():
            left -= len(part)
            if left < 0:
                raise _TooLargeError(f"the query has more than {most} bytes", hint="see --max-request")
            came(len(part))
            parts.append(part)

    try:
        await asyncio.wait_for(read(), _BODY_S)
    except asyncio.TimeoutError:  # noqa: UP041 (Python 3.10)
        raise DataError(f"the query did not come within {_BODY_S:.0f} s") from None
    return b"".join(parts)


async def _beside(size: int, function: Any, *arguments: Any) -> Any:
    """Call a function, in a thread where ``size`` says that it takes long."""
    return function(*arguments) if size < _IN_THREAD_BYTES else await asyncio.to_thread(function, *arguments)


def _response(answer: Answer, query: Query) -> Any:
    from starlette.responses import Response

    body, length = rest.write_answer(answer, query)
    if length is None:
        return Response(body, media_type="application/json")
    return Response(body, media_type="application/octet-stream", headers={rest.LENGTH: str(length)})


def _number(request: Any, header: str) -> int | None:
    text = request.headers.get(header)
    if text is None:
        return None
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise DataError(f"{header} is not a number")
    return int(text)


def _refusal(error: Exception) -> Any:
    status, words, _ = failure(error)
    response = _json({"error": words}, 413 if isinstance(error, _TooLargeError) else status)
    if isinstance(error, BusyError):
        response.headers["Retry-After"] = str(math.ceil(error.retry_s))
    return response


def _json(value: Any, status: int = 200) -> Any:
    from starlette.responses import Response

    return Response(json.dumps(value), status, media_type="application/json")
