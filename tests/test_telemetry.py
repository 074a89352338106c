"""Engines that edgepack starts report to nobody: they write nothing about their user and look up no host."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

_USE = """
import sys, time
seen = []
sys.addaudithook(lambda event, _: event.startswith("socket.") and event != "socket.__new__" and seen.append(event))
{first}
from onnx import TensorProto, helper
tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", tensors[:1], tensors[1:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
if "onnxruntime" in sys.argv[1]:
    import onnxruntime
    onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
if "openvino" in sys.argv[1]:
    import openvino
    openvino.Core().compile_model(openvino.Core().read_model(model, b""), "CPU")
if "torch" in sys.argv[1]:
    import torch
    torch.ones(1) + 1
if "tvm" in sys.argv[1]:
    import tvm
time.sleep(1)
print(*seen)
"""


def traces(folder: Path, engine: str, first: str, **environment: str) -> list[str]:
    """Return what an engine leaves: files in the folders of a new user, and Python's calls of sockets."""
    places = {name: str(folder / name.lower()) for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "TMPDIR")}
    for place in places.values():
        Path(place).mkdir()
    kept = {k: v for k, v in os.environ.items() if k not in ("ORT_DISABLE_TELEMETRY", "CI", "GITHUB_ACTIONS")}
    done = subprocess.run(
        [sys.executable, "-c", _USE.format(first=first), engine],
        capture_output=True, text=True, check=True, env={**kept, **places, **environment}, timeout=120,
    )  # fmt: skip
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()] + done.stdout.split()


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "torch", "tvm"])
def test_an_engine_leaves_no_trace(tmp_path: Path, engine: str) -> None:
    pytest.importorskip(engine)
    assert traces(tmp_path, engine, "import edgepack") == []


def test_openvino_would_leave_some(tmp_path: Path) -> None:
    """Otherwise the test above would show nothing. No host is reached: the proxy is a closed port here."""
    if not list(importlib.metadata.distributions(name="openvino-telemetry")):
        pytest.skip("openvino-telemetry is not installed")
    closed = {"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    found = traces(tmp_path, "openvino", "import edgepack", EDGEPACK_ENGINE_TELEMETRY="1", **closed)
    assert any(trace.startswith("home/intel/") for trace in found)


def test_what_the_user_chose_stays(tmp_path: Path) -> None:
    code = "import os, edgepack; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "0"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "0"


def test_the_user_may_let_engines_report() -> None:
    code = "import os, sys, edgepack; print('ORT_DISABLE_TELEMETRY' in os.environ, 'openvino_telemetry' in sys.modules)"
    kept = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    for chosen, wanted in (("1", "False False"), ("0", "True True")):
        environment = {**kept, "EDGEPACK_ENGINE_TELEMETRY": chosen}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
        assert done.stdout.strip() == wanted
