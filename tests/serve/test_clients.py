"""A served bundle asked by Triton's own clients, over HTTP and gRPC.

They live in an environment of their own, ``.venv-serving`` (``make test-serving``), as they need another protobuf;
without it these tests are skipped.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving import FEEDS, serving
from small_bundles import onnx_outputs, small_bundle

TESTS = Path(__file__).resolve().parents[1]
CLIENTS = Path(os.environ.get("EDGEPACK_SERVING_VENV", TESTS.parent / ".venv-serving")) / "bin" / "python"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CLIENTS.is_file(), reason="tritonclient is not installed: make test-serving"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("served")
    small_bundle(made)
    return made


@pytest.fixture(scope="module")
def said(folder: Path) -> Any:
    np.save(folder / "image.npy", FEEDS["image"])
    with serving(folder / "small.edgepack") as server:
        words = [CLIENTS, TESTS / "helpers" / "triton_client.py", server.http, server.grpc, folder / "image.npy"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_way_of_asking_has_the_model_s_answer(said: Any, folder: Path) -> None:
    right = onnx_outputs(folder / "compiled" / "model.onnx", FEEDS)["scores"]
    assert len(said["answers"]) == 35
    for answer in said["answers"]:
        np.testing.assert_allclose(answer, right, rtol=1e-5)


def test_health_and_metadata(said: Any) -> None:
    assert said["http"] == said["grpc"] == [True, True, True]
    over_http, over_grpc = said["metadata"]
    assert over_http["inputs"] == [{"name": "image", "datatype": "FP32", "shape": [-1, 3, 8, 8]}]
    assert over_grpc["inputs"] == [{"name": "image", "datatype": "FP32", "shape": ["-1", "3", "8", "8"]}]
    assert [each["name"] for each in said["index"][0]] == [each["name"] for each in said["index"][1]["models"]]
    assert {each["name"] for each in said["server"]} == {"edgepack"}


def test_refusals_are_the_clients_own_errors(said: Any) -> None:
    unknown, wrong = "there is no model 'none'", "input 'image' has shape [1, 3, 8, 4]"
    for told, code, words in zip(
        said["refused"],
        ("404", "StatusCode.NOT_FOUND", "400", "StatusCode.INVALID_ARGUMENT"),
        (unknown, unknown, wrong, wrong),
        strict=True,
    ):
        assert told.startswith(f"{code}: {words}")
