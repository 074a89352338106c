"""Strangers who ask ``edgepack serve`` keep nobody out, and do not fill its memory: real sockets, bytes of HTTP/2."""

from __future__ import annotations

import contextlib
import socket
import time
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from serving import INFER, Server, Stub, query, raw_query, serving

from edgepack.serve.messages import SERVICE, message

pytestmark = pytest.mark.slow


def test_a_body_without_a_length_is_measured_while_it_comes(server: Server) -> None:
    host, _, port = server.http.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(f"POST {INFER} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        piece = b"10000\r\n" + b" " * 65536 + b"\r\n"
        with contextlib.suppress(OSError):  # it answers and closes before it has read all
            for _ in range(40):
                connection.sendall(piece)
        assert b" 413 " in connection.recv(4096).partition(b"\r\n")[0]


def _open(server: Server, text: str) -> socket.socket:
    host, _, port = server.http.rpartition(":")
    connection = socket.create_connection((host, int(port)), timeout=30)
    connection.sendall(text.encode())
    return connection


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (8, f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n{{"),  # twice the memory for queries
        (300, "GET /v2 HT"),  # more than there may be
    ],
    ids=["bodies that do not come", "heads that do not come"],
)
def test_who_sends_nothing_keeps_nobody_out(server: Server, count: int, text: str) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(_open(server, text))
        assert server.ask("POST", INFER, query())[0] == 200


def half_a_message(server: Server) -> socket.socket:
    """Begin a call whose message is announced and does not come, by the bytes of HTTP/2 (RFC 9113) and HPACK."""
    fields = {
        ":method": "POST", ":scheme": "http", ":path": f"/{SERVICE}/ModelInfer", ":authority": "x", "te": "trailers",
        "content-type": "application/grpc",
    }  # fmt: skip
    texts = [(name.encode(), value.encode()) for name, value in fields.items()]
    head = b"".join(b"\0" + bytes([len(n)]) + n + bytes([len(v)]) + v for n, v in texts)
    begin = b"\0" + (900_000).to_bytes(4, "big") + b"x" * 100
    frames = ((4, 0, 0, b""), (1, 4, 1, head), (0, 0, 1, begin))  # settings, headers, data: type, flags, stream
    host, _, port = server.grpc.rpartition(":")
    connection = socket.create_connection((host, int(port)), timeout=30)
    made = (len(d).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + d
            for kind, flags, stream, d in frames)  # fmt: skip
    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"".join(made))
    return connection


def test_messages_that_do_not_come_keep_nobody_out(server: Server, rpc: Stub, right: Any) -> None:
    """Twice as many as are read at a time; each of the last ones took its place for half a minute else."""
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(half_a_message(server))
        time.sleep(0.2)
        assert rpc("ServerLive").live
        began = time.monotonic()
        response = rpc("ModelInfer", **raw_query())
        assert time.monotonic() - began < 10
    np.testing.assert_allclose(np.frombuffer(response.raw_output_contents[0], "<f4").reshape(1, 5), right, rtol=1e-5)


def test_messages_that_come_at_once_do_not_fill_the_memory(folder: Path) -> None:
    """Of 40 messages of 7 MB each four at most are there at a time; all were, with their copies."""
    data = message("ModelInferRequest")(model_name="small", raw_input_contents=[bytes(7_000_000)]).SerializeToString()
    with serving(folder / "small.edgepack", "--max-request", "8MB", "--threads", "1") as server:
        before = server.resident_kb("VmHWM")
        with contextlib.ExitStack() as stack:
            own = [("grpc.use_local_subchannel_pool", 1)]
            calls = []
            for _ in range(4):
                channel = stack.enter_context(grpc.insecure_channel(server.grpc, own))
                ask = channel.unary_unary(f"/{SERVICE}/ModelInfer")
                calls += [ask.future(data, timeout=60) for _ in range(10)]
            codes = {call.exception().code() for call in calls}
        grown = server.resident_kb("VmHWM") - before
    assert codes <= {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED}
    print(f"grown by {grown} kB, {codes}")
    assert grown < 150_000


def test_a_message_that_unpacks_to_more_is_refused(server: Server) -> None:
    data = message("ModelInferRequest")(raw_input_contents=[bytes(200_000_000)]).SerializeToString()
    before = server.resident_kb("VmHWM")
    with grpc.insecure_channel(server.grpc) as channel, pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary(f"/{SERVICE}/ModelInfer")(data, timeout=60, compression=grpc.Compression.Gzip)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert server.resident_kb("VmHWM") - before < 100_000
