"""A served bundle in a process of its own, and bundles to serve."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from small_bundles import small_compiled, small_facts, small_golden

from edgepack.bundle.pack import pack

INFER = "/v2/models/small/infer"
FEEDS = {"image": np.random.default_rng(5).standard_normal((1, 3, 8, 8)).astype(np.float32)}


class Server:
    """``edgepack serve`` on free ports; ``http`` and ``grpc`` are where it answers."""

    def __init__(self, *words: object) -> None:
        command = [
            sys.executable,
            "-m",
            "edgepack",
            "serve",
            *map(str, words),
            "--port",
            "0",
            "--grpc-port",
            "0",
            "--json",
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        text = ""
        for line in self.process.stdout:
            text += line
            if line == "}\n":
                break
        if not text:
            raise AssertionError(self.process.communicate()[1])
        self.said = json.loads(text)
        self.http = self.said["http"].removeprefix("http://")
        self.grpc = self.said["grpc"]

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, dict[str, str]]:
        """Return status, body and headers of one request over a connection of its own."""
        connection = http.client.HTTPConnection(self.http, timeout=60)
        data = json.dumps(body).encode() if body is not None and not isinstance(body, bytes) else body
        connection.request(method, path, data, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        found = response.read()
        connection.close()
        kind = response.headers.get("content-type", "")
        text = json.loads(found) if kind == "application/json" else found
        return response.status, text, {name.lower(): value for name, value in response.headers.items()}

    def terminate(self) -> None:
        """Ask it to end."""
        self.process.send_signal(signal.SIGTERM)

    def end(self) -> tuple[int, str]:
        """Wait for its end; its exit code and what it said on stderr."""
        _, said = self.process.communicate(timeout=60)
        return self.process.returncode, said

    def open_files(self) -> int:
        """Return how many descriptors it has open."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def resident_kb(self, what: str = "VmRSS") -> int:
        """Return the memory that it has, or with VmHWM the most that it had."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith(what)).split()[1])


@contextmanager
def serving(*words: object) -> Iterator[Server]:
    server = Server(*words)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.terminate()
            server.end()


def query(feeds: dict[str, Any] = FEEDS, **more: Any) -> dict[str, Any]:
    """Return a query in JSON."""
    inputs = [
        {"name": name, "shape": list(array.shape), "datatype": "FP32", "data": array.reshape(-1).tolist()}
        for name, array in feeds.items()
    ]
    return {"inputs": inputs, **more}


def mixing_bundle(folder: Path) -> Path:
    """Pack a model whose answer to a sample depends on the largest of those that are run with it."""
    import onnx
    from onnx import helper

    compiled = small_compiled(folder / "compiled")
    path = compiled.folder / "model.onnx"
    proto = onnx.load(path)
    proto.graph.node[-1].output[0] = "own"
    proto.graph.node.extend([
        helper.make_node("ReduceMax", ["own"], ["top"], name="top", axes=[0], keepdims=1),
        helper.make_node("Sub", ["own", "top"], ["scores"], name="less"),
    ])  # fmt: skip
    onnx.save(proto, path)
    golden = small_golden(path, folder / "golden.npz", with_tolerance=True)
    return pack(compiled, golden, small_facts(name="mixing"), folder)


class Stub:
    """A client of gRPC by the server's own messages; 'make test-serving' asks with Triton's."""

    def __init__(self, server: Server) -> None:
        import grpc

        self.channel = grpc.insecure_channel(server.grpc)

    def __call__(self, method: str, **fields: Any) -> Any:
        from edgepack.serve.messages import SERVICE, message

        call = self.channel.unary_unary(
            f"/{SERVICE}/{method}",
            request_serializer=message(f"{method}Request").SerializeToString,
            response_deserializer=message(f"{method}Response").FromString,
        )
        return call(message(f"{method}Request")(**fields), timeout=60)


def raw_query(name: str = "small", feeds: Any = FEEDS) -> dict[str, Any]:
    inputs = [{"name": key, "datatype": "FP32", "shape": list(array.shape)} for key, array in feeds.items()]
    return {"model_name": name, "inputs": inputs, "raw_input_contents": [array.tobytes() for array in feeds.values()]}
