"""Matrix tiles (AMX) as a run option: a process without them computes the same integers by other kernels."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import backend_models
import pytest

from edgepack.device.host import host_facts
from edgepack.engines import get_backend
from edgepack.engines.targets import load_target

pytest.importorskip("openvino")

# The kernels of a convolution that is compiled by itself after edgepack loaded a model, and what the model answers.
CHILD = """
import json, os, sys
from pathlib import Path
import numpy as np
from edgepack.base import documents
from edgepack.engines import get_backend
from edgepack.specs.model import CompiledModel
from edgepack.specs.run import RunOptions
before = dict(os.environ)
compiled = documents.decode(CompiledModel, json.loads(sys.argv[1]), "model")
amx = {"None": None, "False": False}[sys.argv[2]]
runner = get_backend("openvino").load_model(compiled, RunOptions(threads=1, amx=amx))
with np.load(sys.argv[3]) as data:
    answers = runner.infer({name: data[name] for name in data})
import openvino
model = openvino.Core().compile_model(str(compiled.folder / compiled.entry), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
kinds = [node.get_rt_info()["primitiveType"].value for node in model.get_runtime_model().get_ordered_ops()]
print(json.dumps({
    "kinds": kinds, "answers": [value.tolist() for value in answers.values()], "same": before == dict(os.environ)
}))
"""


def in_a_process(folder: Path, compiled: str, amx: str) -> dict[str, list[object]]:
    command = [sys.executable, "-c", CHILD, compiled, amx, str(folder / "feeds.npz")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.skipif("amx_int8" not in host_facts().isa, reason="this processor has no AMX")
def test_without_tiles_other_kernels_give_the_same_answers(tmp_path: Path) -> None:
    import numpy as np

    from edgepack.base import documents

    proto = backend_models.quantized()
    model = backend_models.save(proto, tmp_path / "m.onnx")
    compiled = get_backend("openvino").compile_model(model, load_target("host-openvino"), "int8", tmp_path / "out")
    np.savez(tmp_path / "feeds.npz", **backend_models.feeds("quantized"))
    written = documents.to_json(compiled)
    tiles, none = (in_a_process(tmp_path, written, amx) for amx in ("None", "False"))
    assert any("amx" in str(kind) for kind in tiles["kinds"])
    assert not any("amx" in str(kind) for kind in none["kinds"])
    assert tiles["answers"] == none["answers"]
    assert (tiles["same"], none["same"]) == (True, True), "the environment is left as it was"
