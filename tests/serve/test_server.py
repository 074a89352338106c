"""``edgepack serve`` in a process of its own, over HTTP and gRPC: answers, refusals, new versions, load, its end."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import math
import socket
import threading
import time
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from program import main
from serving import FEEDS, INFER, Server, Stub, query, raw_query, serving
from small_bundles import onnx_outputs, small_bundle

from edgepack.runtime.install import install, rollback
from edgepack.serve.messages import METHODS, SERVICE, message

pytestmark = pytest.mark.slow


# --- what is answered -------------------------------------------------------------------------------------------------


def test_it_says_what_it_serves_and_how(server: Server) -> None:
    assert server.said["http"].startswith("http://127.0.0.1:")
    assert server.said["models"] == [
        "small 1.0 by onnxruntime, up to 8 samples at once",
        "mixing 1.0 by onnxruntime, one query at a time: "
        "the answer to a sample depends on the others that are run with it",
        "again 1.0 by onnxruntime, up to 8 samples at once",
    ]


PAGES = (
    ("/v2", {"name": "edgepack", "extensions": ["binary_tensor_data", "model_repository"]}),
    ("/v2/health/live", {"live": True}),
    ("/v2/health/ready", {"ready": True}),
    ("/v2/models/small/ready", {"name": "small", "ready": True}),
    ("/v2/models/small/versions/1.0/ready", {"name": "small", "ready": True}),
    (
        "/v2/models/small",
        {
            "name": "small",
            "versions": ["1.0"],
            "platform": "edgepack_onnxruntime",
            "inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, 3, 8, 8]}],
            "outputs": [{"name": "scores", "datatype": "FP32", "shape": [-1, 5]}],
        },
    ),
)


@pytest.mark.parametrize(("path", "expected"), PAGES)
def test_pages(server: Server, path: str, expected: dict[str, Any]) -> None:
    status, found, _ = server.ask("GET", path)
    assert status == 200
    assert {key: found[key] for key in expected} == expected


def test_an_answer_over_http(server: Server, right: Any) -> None:
    status, found, _ = server.ask("POST", "/v2/models/small/versions/1.0/infer", query(id="7"))
    assert status == 200
    assert (found["model_name"], found["model_version"], found["id"]) == ("small", "1.0", "7")
    (output,) = found["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("scores", "FP32", [1, 5])
    np.testing.assert_allclose(np.reshape(output["data"], (1, 5)), right, rtol=1e-5)


def test_raw_bytes_over_http(server: Server, right: Any) -> None:
    data = FEEDS["image"].tobytes()
    tensor = {"name": "image", "shape": [1, 3, 8, 8], "datatype": "FP32", "parameters": {"binary_data_size": len(data)}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    body = gzip.compress(head + data)
    length = "Inference-Header-Content-Length"
    status, found, headers = server.ask("POST", INFER, body, **{length: str(len(head)), "Content-Encoding": "gzip"})
    assert status == 200
    values = np.frombuffer(found[int(headers[length.lower()]) :], "<f4").reshape(1, 5)
    np.testing.assert_allclose(values, right, rtol=1e-5)


def test_an_answer_over_grpc(rpc: Stub, right: Any) -> None:
    response = rpc("ModelInfer", **raw_query(), id="7")
    assert (response.model_name, response.model_version, response.id) == ("small", "1.0", "7")
    np.testing.assert_allclose(np.frombuffer(response.raw_output_contents[0], "<f4").reshape(1, 5), right, rtol=1e-5)
    contents = {"fp32_contents": FEEDS["image"].reshape(-1).tolist()}
    tensor = {"name": "image", "datatype": "FP32", "shape": [1, 3, 8, 8], "contents": contents}
    response = rpc("ModelInfer", model_name="small", inputs=[tensor], outputs=[{"name": "scores"}])
    np.testing.assert_allclose(np.reshape(response.outputs[0].contents.fp32_contents, (1, 5)), right, rtol=1e-5)


def test_the_other_calls_of_grpc(rpc: Stub) -> None:
    assert rpc("ServerLive").live
    assert rpc("ServerReady").ready
    assert rpc("ModelReady", name="small").ready
    assert rpc("ServerMetadata").name == "edgepack"
    assert list(rpc("ModelMetadata", name="small").inputs[0].shape) == [-1, 3, 8, 8]
    assert [model.name for model in rpc("RepositoryIndex").models] == ["small", "mixing", "again"]
    assert len(METHODS) == 7


def test_what_is_counted(folder: Path) -> None:
    with serving(folder / "small.edgepack") as server:
        server.ask("POST", INFER, query())
        server.ask("POST", INFER, {})
        server.ask("POST", "/v2/models/no/infer", query())
        text = server.ask("GET", "/metrics")[1].decode()
        assert 'edgepack_queries_total{model="small",outcome="ok",protocol="http"} 1.0' in text
        assert 'edgepack_queries_total{model="small",outcome="invalid",protocol="http"} 1.0' in text
        assert 'edgepack_samples_total{model="small"} 1.0' in text
        assert 'edgepack_version_info{model="small",version="1.0"} 1.0' in text
        assert 'model="no"' not in text, "a stranger's words make no series"


# --- what is refused --------------------------------------------------------------------------------------------------

IMAGE = {"name": "image", "shape": [1, 3, 8, 8], "datatype": "FP32"}
REFUSED = (
    ("GET", "/v2/models/no", None, 404, "there is no model 'no'"),
    ("POST", "/v2/models/no/infer", query(), 404, "there is no model 'no'"),
    ("POST", "/v2/models/small/versions/2.0/infer", query(), 404, "served in version 1.0, not '2.0'"),
    ("GET", "/v2/models/small/versions/2.0/ready", None, 404, "served in version 1.0"),
    ("GET", "/nowhere", None, 404, "there is no GET /nowhere"),
    ("GET", INFER, None, 405, "there is no GET"),
    ("POST", INFER, b"{", 400, "not JSON"),
    ("POST", INFER, b"[" * 100_000, 400, "not JSON"),
    ("POST", INFER, {"inputs": []}, 400, "missing inputs: image"),
    ("POST", INFER, query({**FEEDS, "more": FEEDS["image"]}), 400, "unknown inputs: more"),
    ("POST", INFER, query({"image": np.zeros((1, 3, 8, 9))}), 400, "has shape [1, 3, 8, 9], not [N, 3, 8, 8]"),
    ("POST", INFER, query({"image": np.zeros((0, 3, 8, 8))}), 400, "holds no values"),
    ("POST", INFER, {"inputs": [{**IMAGE, "datatype": "FP64", "data": [0.0] * 192}]}, 400, "has type float64"),
    ("POST", INFER, {"inputs": [{**IMAGE, "shape": [2**62, 3, 8, 8], "data": [0.0] * 192}]}, 400, "shape"),
    ("POST", INFER, query(outputs=[{"name": "no"}]), 400, "unknown output 'no'"),
    ("POST", INFER, query(outputs=[{"name": "scores"}] * 2), 400, "asked for twice"),
    ("POST", INFER, {"inputs": [{**IMAGE, "shape": [0, 2**62], "data": []}]}, 400, "larger than any query"),
    ("POST", INFER, b" " * 2_000_000, 413, "at most 1000000 are taken"),
    ("POST", INFER, query({"image": np.full((1, 3, 8, 8), 3e38)}), 400, "which JSON does not have"),
)


@pytest.mark.parametrize(("method", "path", "body", "code", "words"), REFUSED, ids=range(len(REFUSED)))
def test_wrong_requests_are_told_why(server: Server, method: str, path: str, body: Any, code: int, words: str) -> None:
    status, found, _ = server.ask(method, path, body)
    assert status == code
    assert words in found["error"]
    assert server.ask("POST", INFER, query())[0] == 200


GRPC_REFUSED = (
    (raw_query("no"), grpc.StatusCode.NOT_FOUND, "there is no model"),
    ({**raw_query(), "model_version": "2"}, grpc.StatusCode.NOT_FOUND, "served in version 1.0"),
    ({**raw_query(), "raw_input_contents": [b"123"]}, grpc.StatusCode.INVALID_ARGUMENT, "3 bytes are not"),
    (raw_query(feeds={"no": FEEDS["image"]}), grpc.StatusCode.INVALID_ARGUMENT, "missing inputs: image"),
    (
        raw_query(feeds={"image": np.zeros((2000, 3, 8, 8), np.float32)}),
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "larger than",
    ),
)


@pytest.mark.parametrize(("fields", "code", "words"), GRPC_REFUSED, ids=range(len(GRPC_REFUSED)))
def test_wrong_calls_are_told_why(rpc: Stub, fields: dict[str, Any], code: grpc.StatusCode, words: str) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        rpc("ModelInfer", **fields)
    assert refused.value.code() is code
    assert words in refused.value.details()


def test_bytes_that_are_no_message_are_refused(server: Server) -> None:
    with grpc.insecure_channel(server.grpc) as channel:
        for method, data in (("ModelInfer", b"\xff" * 40), ("ModelInfer", b"\x2a" * 5000), ("Nothing", b"")):
            with pytest.raises(grpc.RpcError):
                channel.unary_unary(f"/{SERVICE}/{method}")(data, timeout=30)
    assert server.ask("POST", INFER, query())[0] == 200


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("none.edgepack",), 2, "none.edgepack"),
        (("{small}", "{small}"), 2, "two bundles are named small"),
        (("{small}", "--host", "192.0.2.1"), 2, "cannot listen on 192.0.2.1"),
        (("{small}", "--port", "{taken}"), 2, "cannot listen on 127.0.0.1"),
        (("{small}", "--port", "0", "--grpc-port", "{taken}"), 2, "gRPC cannot listen"),
    ],
)
def test_what_cannot_be_served_is_said_at_once(
    folder: Path, words: tuple[str, ...], code: int, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        names = {"small": str(folder / "small.edgepack"), "taken": str(taken.getsockname()[1])}
        assert main(["serve", *(word.format(**names) for word in words)]) == code
    assert said in capfd.readouterr().err


def test_a_damaged_bundle_is_refused_as_everywhere(folder: Path, tmp_path: Path, capfd: Any) -> None:
    damaged = bytearray((folder / "small.edgepack").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / "small.edgepack").write_bytes(damaged)
    assert main(["serve", str(tmp_path / "small.edgepack"), "--port", "0"]) in (2, 5)
    assert "small.edgepack" in capfd.readouterr().err


def test_it_listens_on_this_machine_alone(server: Server) -> None:
    assert server.http.startswith("127.0.0.1:")
    assert server.grpc.startswith("127.0.0.1:")
    port = int(server.http.rpartition(":")[2])
    with socket.socket() as other:
        other.bind(("127.0.0.2", port))  # nobody has this address of the machine


# --- new versions, load and the end -----------------------------------------------------------------------------------


def test_a_new_version_is_taken_up_without_losing_a_query(tmp_path: Path) -> None:
    for version in ("1", "2"):
        install(small_bundle(tmp_path / version, int(version) + 2, version=version), tmp_path / "root")
    expected = [onnx_outputs(tmp_path / v / "compiled" / "model.onnx", FEEDS)["scores"] for v in ("1", "2")]
    wrong: list[Any] = []
    seen: list[str] = []
    stop = threading.Event()
    with serving(tmp_path / "root" / "current" / "small.edgepack") as server:

        def ask() -> None:
            while not stop.is_set():
                status, found, _ = server.ask("POST", INFER, query())
                if status != 200:
                    wrong.append(found)
                    continue
                seen.append(found["model_version"])
                scores = np.reshape(found["outputs"][0]["data"], (1, 5))
                if not np.allclose(scores, expected[int(seen[-1]) - 1], rtol=1e-3, atol=1e-4):
                    wrong.append(found)

        client = threading.Thread(target=ask)
        client.start()
        for _ in range(6):
            version = rollback(tmp_path / "root").version
            deadline = time.monotonic() + 30
            while not seen or seen[-1] != version:
                assert time.monotonic() < deadline, (wrong[:1], seen[-1:])
                time.sleep(0.01)
        stop.set()
        client.join()
    assert wrong == []
    assert set(seen) == {"1", "2"}


HEAVY = {"image": np.random.default_rng(6).standard_normal((64, 3, 8, 8)).astype(np.float32)}
WAIT_S = 0.5


async def load(server: Server, rate: float, seconds: float) -> tuple[list[float], list[Any], list[float]]:
    """Send calls at a rate, whatever comes back: the latencies of those answered, what refused, and when these came."""
    answered: list[float] = []
    refused: list[Any] = []
    refused_s: list[float] = []
    request = message("ModelInferRequest")(**raw_query(feeds=HEAVY)).SerializeToString()
    async with grpc.aio.insecure_channel(server.grpc) as channel:
        call = channel.unary_unary(f"/{SERVICE}/ModelInfer")

        async def one() -> None:
            start = time.monotonic()
            try:
                await call(request, timeout=30)
                answered.append(time.monotonic() - start)
            except grpc.aio.AioRpcError as error:
                refused.append(error)
                refused_s.append(time.monotonic() - start)

        begin = time.monotonic()
        tasks = []
        for i in range(math.ceil(rate * seconds)):
            await asyncio.sleep(max(0.0, begin + i / rate - time.monotonic()))
            tasks.append(asyncio.create_task(one()))
        await asyncio.gather(*tasks)
    return answered, refused, refused_s


def capacity(server: Server, seconds: float = 2.0) -> float:
    """Return how many calls a second are answered when the next one follows the answer, from two clients."""
    count = [0, 0]
    end = time.monotonic() + seconds

    def ask(i: int) -> None:
        stub = Stub(server)
        while time.monotonic() < end:
            with contextlib.suppress(grpc.RpcError):  # after a disturbed run the second client may be refused
                stub("ModelInfer", **raw_query(feeds=HEAVY))
                count[i] += 1
        stub.channel.close()

    clients = [threading.Thread(target=ask, args=(i,)) for i in range(2)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    return sum(count) / seconds


@pytest.mark.long
@pytest.mark.own  # make test-serving: what else runs on the machine changes the capacity
def test_at_twice_its_capacity_it_refuses_cleanly_and_answers_in_time(tmp_path: Path) -> None:
    bundle = small_bundle(tmp_path, 4096)
    with serving(bundle, "--max-wait", f"{WAIT_S}s", "--threads", "1", "--max-batch", "64") as server:
        after = capacity(server)
        for _ in range(5):  # what else runs here changes the capacity: it must be what it was before the load
            most = after
            answered, refused, refused_s = asyncio.run(load(server, 2 * most, 5.0))
            after = capacity(server)
            if 0.7 * most < after < 1.3 * most:
                break
        descriptors = server.open_files()
        status, _, _ = server.ask("POST", INFER, query())
    sent = len(answered) + len(refused)
    late = np.percentile(answered, 99)
    print(
        f"capacity {most:.0f} calls/s; of {sent} sent at twice that {len(answered)} answered, p99 {late * 1e3:.0f} ms, "
        f"{len(refused)} refused, p99 {np.percentile(refused_s, 99) * 1e3:.0f} ms"
    )
    assert {error.code() for error in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert all("grpc-retry-pushback-ms" in dict(error.trailing_metadata()) for error in refused)
    assert len(refused) > 0.2 * sent
    assert len(answered) > 0.5 * most * 5, "it answers as many as it can while it refuses the others"
    assert late <= WAIT_S, "its own bound, with what the client and gRPC add"
    assert status == 200
    assert descriptors < 60


def test_a_full_queue_is_503_with_retry_after(tmp_path: Path) -> None:
    bundle = small_bundle(tmp_path, 4096)
    with serving(bundle, "--queue", "1", "--threads", "1", "--max-batch", "1", "--max-wait", "30s") as server:
        found: list[tuple[int, Any, dict[str, str]]] = []
        clients = [
            threading.Thread(target=lambda: found.append(server.ask("POST", INFER, query(HEAVY)))) for _ in range(12)
        ]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
    refused = [each for each in found if each[0] != 200]
    assert {status for status, _, _ in refused} == {503}
    assert refused
    assert len(refused) < 12
    assert all(int(headers["retry-after"]) >= 1 for _, _, headers in refused)
    assert all("queries wait already" in text["error"] for _, text, _ in refused)


def all_taken(metrics: str, queries: int) -> bool:
    """Say whether so many queries were answered, wait, or are the one that runs while others wait."""
    values = [(line.split("{")[0], float(line.split()[-1])) for line in metrics.splitlines() if "{" in line]
    ended = sum(value for name, value in values if name == "edgepack_queries_total")
    waiting = sum(value for name, value in values if name == "edgepack_waiting")
    return ended + waiting + (waiting > 0) >= queries


def test_it_ends_on_sigterm_when_what_it_took_is_answered(tmp_path: Path) -> None:
    bundle = small_bundle(tmp_path, 4096)
    server = Server(bundle, "--threads", "1", "--max-batch", "1", "--max-wait", "30s")
    found: list[int] = []
    errors: list[BaseException] = []

    def ask(over_grpc: bool) -> None:
        try:
            if over_grpc:
                stub = Stub(server)
                stub("ModelInfer", **raw_query(feeds=HEAVY))
                stub.channel.close()
                found.append(200)
            else:
                found.append(server.ask("POST", INFER, query(HEAVY))[0])
        except BaseException as error:
            errors.append(error)

    clients = [threading.Thread(target=ask, args=(i % 2 == 0,)) for i in range(8)]
    for client in clients:
        client.start()
    deadline = time.monotonic() + 30
    while not all_taken(server.ask("GET", "/metrics")[1].decode(), len(clients)):
        assert time.monotonic() < deadline
    server.terminate()
    code, said = server.end()
    for client in clients:
        client.join()
    assert errors == []
    assert code == 0
    assert said == ""
    assert set(found) <= {200, 503}
    assert 200 in found
