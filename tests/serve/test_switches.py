"""Installations and rollbacks under a client that asks a server all the time: no query is lost, nothing is left."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from serving import FEEDS, serving
from small_bundles import onnx_outputs, small_bundle

from edgepack.runtime.install import install, rollback
from edgepack.serve.messages import SERVICE, message

TENSOR = {"name": "image", "datatype": "FP32", "shape": [1, 3, 8, 8]}


class Client(threading.Thread):
    """Asks over gRPC until it is stopped; ``wrong`` are the answers that neither version gives, and all errors."""

    def __init__(self, address: str, right: dict[str, Any]) -> None:
        super().__init__()
        self._address, self._right, self._end = address, right, threading.Event()
        self.asked, self.wrong, self.version = 0, [], ""  # type: ignore[var-annotated]

    def run(self) -> None:
        request = message("ModelInferRequest")(
            model_name="small", inputs=[TENSOR], raw_input_contents=[FEEDS["image"].tobytes()]
        ).SerializeToString()
        with grpc.insecure_channel(self._address) as channel:
            call = channel.unary_unary(
                f"/{SERVICE}/ModelInfer", response_deserializer=message("ModelInferResponse").FromString
            )
            while not self._end.is_set():
                try:
                    found = call(request, timeout=60)
                    self.version = found.model_version
                    scores = np.frombuffer(found.raw_output_contents[0], "<f4").reshape(1, 5)
                    if not np.allclose(scores, self._right[self.version], rtol=1e-3, atol=1e-4):
                        self.wrong.append(f"an answer of version {self.version} that is not its own")
                except grpc.RpcError as error:
                    self.wrong.append(str(error))
                self.asked += 1
                time.sleep(0.002)

    def __enter__(self) -> Client:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self.join()


def left(root: Path) -> list[str]:
    """Everything below an installation but the log, which grows, by name."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.name.startswith("audit"))


@pytest.mark.slow
@pytest.mark.parametrize("switches", [10, pytest.param(1000, marks=[pytest.mark.own, pytest.mark.timeout(7200)])])
def test_no_query_is_lost_while_versions_are_installed_and_rolled_back(tmp_path: Path, switches: int) -> None:
    bundles = {v: small_bundle(tmp_path / v, int(v) + 2, version=v) for v in ("1", "2")}
    right = {v: onnx_outputs(tmp_path / v / "compiled" / "model.onnx", FEEDS)["scores"] for v in bundles}
    root = tmp_path / "root"
    for bundle in bundles.values():
        install(bundle, root)
    with serving(root / "current" / "small.edgepack", "--threads", "1") as server:
        before: tuple[Any, ...] = ()
        with Client(server.grpc, right) as client:
            for i in range(switches):
                version = rollback(root).version if i % 2 == 0 else install(bundles["2"], root).version
                deadline = time.monotonic() + 60
                while client.version != version:
                    assert time.monotonic() < deadline, (client.wrong[:2], client.version, version)
                    time.sleep(0.005)
                if i == max(switches // 4, 4):
                    before = (server.open_files(), server.resident_kb(), left(root))
        after = (server.open_files(), server.resident_kb(), left(root))
    print(
        f"{switches} installations and rollbacks, {client.asked} queries, {len(client.wrong)} lost; "
        f"descriptors and kB: {before[:2]} then {after[:2]}"
    )
    assert client.wrong == []
    assert client.asked > switches
    assert after[0] <= before[0] + 3
    assert after[1] < before[1] * 1.2 + 20_000
    assert after[2] == before[2], "no file is left behind"
