"""A hostile or damaged ONNX file ends in one ModelError that says what is wrong; a good one is described truly."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from graph_models import model, relu, small_conv, value, write
from onnx import TensorProto, helper, numpy_helper

from edgepack.errors import ModelError
from edgepack.graph.load import load_model, read_proto, read_tensor, save_proto
from edgepack.specs.model import TensorSpec

pytestmark = pytest.mark.slow

# A process's own peak; ru_maxrss it would inherit from the one that started it.
_PEAK_KIB = "int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"


def refused(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load_model(path)
    assert caught.value.hint
    return caught.value.message


def test_good_model(tmp_path: Path) -> None:
    path = write(small_conv(), tmp_path)
    loaded = load_model(path)
    assert loaded.inputs == (TensorSpec("image", "float32", ("N", 3, 8, 8)),)
    assert loaded.outputs == (TensorSpec("logits", "float32", ("N", 5)),)
    assert (loaded.opset, loaded.external, loaded.path) == (17, (), path)
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert loaded.size_bytes == path.stat().st_size


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"PK\x03\x04 a zip archive", "not an ONNX file"),
        (b"hello, this is text\n" * 20, "ONNX"),
        (b"\x00" * 100, "not an ONNX file"),
        (b"\x08\x08", "holds no ONNX graph"),
        (os.urandom(4096), "ONNX"),
    ],
)
def test_not_onnx(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(content)
    assert words in refused(path)


def test_missing(tmp_path: Path) -> None:
    assert "there is no file" in refused(tmp_path / "none.onnx")
    assert "there is no file" in refused(tmp_path / "none" / "none.onnx")


def test_folder_and_fifo(tmp_path: Path) -> None:
    assert "is a folder" in refused(tmp_path)
    os.mkfifo(tmp_path / "pipe.onnx")
    assert "not a regular file" in refused(tmp_path / "pipe.onnx")
    assert "not a regular file" in refused(Path("/dev/zero"))


def test_name_that_no_file_can_have() -> None:
    assert "cannot read" in refused(Path("a\0b.onnx"))
    assert "cannot read" in refused(Path("x" * 5000))


def test_truncated_everywhere(tmp_path: Path) -> None:
    data = relu().SerializeToString()
    path = tmp_path / "x.onnx"
    for end in range(1, len(data)):
        path.write_bytes(data[:end])
        try:
            load_model(path)
        except ModelError:
            continue
        # What was cut was a whole field at the end, and nothing that the model needs.
        assert onnx.load(path).graph.node


def test_truncated_says_so(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(small_conv().SerializeToString()[:-200])
    assert "truncated" in refused(path)


def test_unknown_operator_names_the_near_one_and_all_nodes(tmp_path: Path) -> None:
    proto = model(
        [helper.make_node("Sofmax", [f"x{i}"], [f"x{i + 1}"], name=f"n{i}") for i in range(8)],
        [value("x0", [1])],
        [value("x8", [1])],
    )
    with pytest.raises(ModelError, match=r"n0, n1, n2, n3, n4 and 3 more") as caught:
        load_model(write(proto, tmp_path))
    assert "'Softmax'" in caught.value.hint


def test_unknown_operator_inside_control_flow(tmp_path: Path) -> None:
    branch = helper.make_graph([helper.make_node("Nonsense", ["x"], ["b"], name="inner")], "b", [], [value("b", [1])])
    node = helper.make_node("If", ["c"], ["y"], name="if", then_branch=branch, else_branch=branch)
    proto = model([node], [value("c", [], TensorProto.BOOL), value("x", [1])], [value("y", [1])])
    assert "inner" in refused(write(proto, tmp_path))


def test_opset_newer_than_onnx(tmp_path: Path) -> None:
    message = refused(write(relu(opset=10_000), tmp_path))
    assert f"the highest that onnx {onnx.__version__} knows is {onnx.defs.onnx_opset_version()}" in message


def test_opset_newer_than_onnxruntime(tmp_path: Path) -> None:
    newest = onnx.defs.onnx_opset_version()
    path = write(relu(opset=newest), tmp_path)
    try:
        onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception:
        message = refused(path)
        assert f"ONNX Runtime {onnxruntime.__version__} loads is" in message
        highest = int(message.rsplit(" ", 1)[1])
        load_model(write(relu(opset=highest), tmp_path))
        assert str(highest + 1) in refused(write(relu(opset=highest + 1), tmp_path))
    else:
        load_model(path)


def test_skeleton_points_at_the_weights(tmp_path: Path) -> None:
    loaded = load_model(write(small_conv(), tmp_path))
    light = {tensor.name: tensor for tensor in read_proto(loaded, weights=False).graph.initializer}
    assert not light["conv.weight"].raw_data  # 6912 bytes stay in the file
    assert light["conv.bias"].raw_data
    for tensor in read_proto(loaded).graph.initializer:
        found = read_tensor(light[tensor.name], tmp_path)
        np.testing.assert_array_equal(numpy_helper.to_array(found), numpy_helper.to_array(tensor))


def test_a_model_is_read_through_a_link_to_it(tmp_path: Path) -> None:
    """Caches of hubs are folders of links. What the user named is theirs; data that the file names must be no link."""
    (tmp_path / "there").mkdir()
    path = write(small_conv(), tmp_path / "there")
    link = tmp_path / "net.onnx"
    link.symlink_to(path)
    loaded, through = load_model(path), load_model(link)
    assert (through.sha256, through.external, through.inputs) == (loaded.sha256, (), loaded.inputs)
    assert read_proto(through) == read_proto(loaded)


@pytest.mark.parametrize("external", [False, True])
def test_save_and_load(external: bool, tmp_path: Path) -> None:
    proto = small_conv()
    first = save_proto(proto, tmp_path / "a", external_data=external)
    second = save_proto(proto, tmp_path / "b", external_data=external)
    assert first.external == (("model.onnx.data",) if external else ())
    assert first.sha256 == second.sha256
    assert first.path.read_bytes() == second.path.read_bytes()
    again = read_proto(first)
    for before, after in zip(proto.graph.initializer, again.graph.initializer, strict=True):
        np.testing.assert_array_equal(numpy_helper.to_array(before), numpy_helper.to_array(after))
    feed = {"image": np.ones((2, 3, 8, 8), np.float32)}
    outputs = [
        onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"]).run(None, feed)[0]
        for source in (proto.SerializeToString(), str(first.path))
    ]
    np.testing.assert_array_equal(*outputs)


def test_more_than_2_gib_in_one_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "large.onnx"
    with path.open("wb") as file:
        file.truncate((1 << 31) + 10)
    assert "cannot have more than 2 GiB" in refused(path)


@pytest.mark.long
def test_more_than_2_gib_of_external_data(tmp_path: Path) -> None:
    rows = (1 << 31) // (4 * 1024) + 1
    proto = model(
        [helper.make_node("Gather", ["table", "i"], ["y"], name="rows")],
        [value("i", ["N"], TensorProto.INT64)],
        [value("y", ["N", 1024])],
    )
    table = proto.graph.initializer.add(name="table", data_type=TensorProto.FLOAT, dims=[rows, 1024])
    table.data_location = TensorProto.EXTERNAL
    table.external_data.add(key="location", value="table.bin")
    with (tmp_path / "table.bin").open("wb") as file:
        file.truncate(rows * 4096)  # a sparse file: no blocks are written
    write(proto, tmp_path)
    code = (
        "import sys; from pathlib import Path; from edgepack.graph.load import load_model;"
        "m = load_model(Path(sys.argv[1])); assert m.size_bytes > 1 << 31;"
        f"print({_PEAK_KIB} >> 10)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "m.onnx")], capture_output=True, text=True, check=True
    )
    assert int(run.stdout) < 400  # MiB: Python, onnx, and none of the weights


def test_checking_does_not_hold_the_weights(tmp_path: Path) -> None:
    proto = small_conv()
    proto.graph.initializer.append(numpy_helper.from_array(np.zeros(100 << 20, np.uint8), "unused"))
    path = write(proto, tmp_path)
    del proto
    code = (
        "import sys; from pathlib import Path; import onnx; from edgepack.graph.load import load_model;"
        f"before = {_PEAK_KIB}; load_model(Path(sys.argv[1])); print({_PEAK_KIB} - before >> 10)"
    )
    run = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 50  # MiB, of a file of 100


def test_real_models_load(assets: Path) -> None:
    for path in sorted(assets.glob("*.onnx")):
        loaded = load_model(path)
        assert loaded.inputs, path.name
        assert loaded.outputs, path.name
