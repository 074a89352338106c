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
from graph_models import external_model, model, relu, small_conv, value, write
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


def changed(change: str, tmp_path: Path) -> str:
    """Return why small_conv is refused after ``change``, a statement on its graph ``g`` and model ``m``."""
    m = small_conv()
    exec(change, {"m": m, "g": m.graph, "helper": helper, "value": value})  # the tests' own statements
    return refused(write(m, tmp_path))


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


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("del g.node[:]", "no nodes"),
        ("del g.input[:]", "no inputs"),
        ("del g.output[:]", "no outputs"),
        ("g.input.append(g.input[0])", "two inputs named 'image'"),
        ("g.output.append(g.output[0])", "two outputs named 'logits'"),
        ("g.initializer.append(g.initializer[0])", "two initializers named 'conv.weight'"),
        ("g.node.append(g.node[1])", "two nodes make the tensor 'r'"),
        ("g.input[0].name = ''", "inputs without a name"),
        ("g.output[0].name = 'nowhere'", "no node makes the output 'nowhere'"),
        ("g.node[1].input[0] = 'nowhere'", "nowhere"),
        ("g.node[0].input[0] = 'r'", "not valid"),  # a cycle
        ("g.initializer[0].raw_data = b'123'", "needs 6912 bytes"),
        ("g.initializer[1].raw_data = b'123'", "needs 256 bytes"),
        ("g.initializer[1].ClearField('raw_data')", "needs 64 values"),
        ("g.initializer[1].ClearField('raw_data'); g.initializer[1].float_data.extend([0] * 63)", "63 are stored"),
        ("g.initializer[0].dims[0] = -1", "negative"),
        ("g.initializer[0].dims[0] = 1 << 40", "needs 118747255799808 bytes"),
        ("g.initializer[0].data_type = 99", "data type"),
        ("g.input[0].type.tensor_type.elem_type = 7", "unsupported type"),
        ("g.input[0].type.tensor_type.elem_type = 99", "not valid"),
        ("g.input[0].type.Clear()", "type"),
        ("g.input[0].type.sequence_type.elem_type.tensor_type.elem_type = 1", "unsupported type"),
        ("g.node[1].op_type = 'Reluu'", "unknown operator Reluu in opset 17 (nodes: relu)"),
        ("g.node[1].domain = 'my.domain'", "does not import the domain 'my.domain'"),
        ("g.node[1].domain = 'd'; m.opset_import.add(domain='d', version=1)", "unknown domain 'd'"),
        (
            "g.node[1].domain = 'com.microsoft'; m.opset_import.add(domain='com.microsoft', version=1)",
            "no com.microsoft.Relu",
        ),
        ("g.node[1].op_type = 'Upsample'", "was removed"),
        ("m.opset_import[0].version = 0", "opset version 0"),
        ("m.opset_import.add(domain='ai.onnx', version=17)", "operator set twice"),
        ("del m.opset_import[:]", "does not say which opset"),
        ("m.ir_version = 1000", "IR version 1000"),
        ("m.ClearField('graph')", "no ONNX graph"),
    ],
)  # fmt: skip
def test_bad_structure(change: str, words: str, tmp_path: Path) -> None:
    assert words in changed(change, tmp_path)


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


def test_output_that_is_no_tensor(tmp_path: Path) -> None:
    made = onnx.helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)
    proto = model([helper.make_node("SequenceConstruct", ["x"], ["y"], name="s")], [value("x", [1])], [made])
    assert "the output 'y' has the type sequence" in refused(write(proto, tmp_path))


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


def test_inputs_exclude_initializers(tmp_path: Path) -> None:
    proto = small_conv()
    proto.graph.input.append(value("conv.weight", [64, 3, 3, 3]))
    assert [spec.name for spec in load_model(write(proto, tmp_path)).inputs] == ["image"]


def test_unknown_shapes(tmp_path: Path) -> None:
    proto = small_conv()
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    proto.graph.input[0].type.tensor_type.shape.dim[0].Clear()
    loaded = load_model(write(proto, tmp_path))
    assert loaded.inputs[0].shape == ("?", 3, 8, 8)
    assert loaded.outputs[0].shape[1:] == (5,)  # inferred
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    assert load_model(write(proto, tmp_path)).inputs[0].shape == ("...",)


@pytest.mark.parametrize(
    "location", ["/etc/passwd", "../secret", "a/../../secret", "..\\secret", "C:\\x", "", "a\0b", "."]
)
def test_external_data_outside_is_refused(location: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(64))
    message = refused(write(external_model(location), tmp_path / "model"))
    assert "outside its folder" in message or "regular file" in message


def test_external_data_through_links_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(64))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "data").write_bytes(bytes(64))
    inside = tmp_path / "model"
    path = write(external_model("w.data"), inside)
    (inside / "w.data").symlink_to(tmp_path / "secret")
    assert "symbolic link" in refused(path)
    (inside / "linked").symlink_to(tmp_path / "folder")
    assert "symbolic link" in refused(write(external_model("linked/data"), inside))


@pytest.mark.parametrize(
    ("offset", "length", "words"),
    [
        (0, 60, "needs 64 bytes"),
        (0, 68, "needs 64 bytes"),
        (40, 64, "too short"),
        (1 << 62, 64, "too short"),
        (-4, 64, "offset '-4'"),
        ("x", 64, "offset 'x'"),
        ("9" * 30, 64, "offset"),
        (0, "1e3", "length"),
    ],
)
def test_external_data_of_wrong_size(offset: int | str, length: int | str, words: str, tmp_path: Path) -> None:
    (tmp_path / "w.data").write_bytes(bytes(80))
    assert words in refused(write(external_model("w.data", offset, length), tmp_path))


@pytest.mark.parametrize("key", ["location", "offset", "length"])
def test_external_data_that_is_stated_twice_is_refused(key: str, tmp_path: Path) -> None:
    """One reader would take the first place, another the last."""
    proto = external_model("w.data")
    tensor = next(t for t in proto.graph.initializer if t.external_data)
    entry = tensor.external_data.add()
    entry.key, entry.value = key, "../other.data" if key == "location" else "0"
    if len([e for e in tensor.external_data if e.key == key]) == 1:
        tensor.external_data.add().CopyFrom(entry)
    (tmp_path / "w.data").write_bytes(bytes(1 << 16))
    assert "is stated twice" in refused(write(proto, tmp_path))


def test_external_data_missing_or_no_file(tmp_path: Path) -> None:
    path = write(external_model("w.data"), tmp_path)
    assert "w.data is missing" in refused(path)
    (tmp_path / "w.data").mkdir()
    assert "not a regular file" in refused(path)


def test_external_data(tmp_path: Path) -> None:
    data = np.arange(16, dtype=np.float32)
    (tmp_path / "w.data").write_bytes(data.tobytes())
    path = write(external_model("w.data"), tmp_path)
    loaded = load_model(path)
    assert loaded.external == ("w.data",)
    assert loaded.size_bytes == path.stat().st_size + 64
    np.testing.assert_array_equal(numpy_helper.to_array(read_proto(loaded).graph.initializer[0]).ravel(), data)
    (tmp_path / "w.data").write_bytes(data[::-1].tobytes())
    assert load_model(path).sha256 != loaded.sha256


def test_external_data_cut_after_loading(tmp_path: Path) -> None:
    (tmp_path / "w.data").write_bytes(bytes(64))
    loaded = load_model(write(external_model("w.data"), tmp_path))
    (tmp_path / "w.data").write_bytes(bytes(10))
    with pytest.raises(ModelError, match="too short"):
        read_proto(loaded)


def test_skeleton_points_at_the_weights(tmp_path: Path) -> None:
    loaded = load_model(write(small_conv(), tmp_path))
    light = {tensor.name: tensor for tensor in read_proto(loaded, weights=False).graph.initializer}
    assert not light["conv.weight"].raw_data  # 6912 bytes stay in the file
    assert light["conv.bias"].raw_data
    for tensor in read_proto(loaded).graph.initializer:
        found = read_tensor(light[tensor.name], tmp_path)
        np.testing.assert_array_equal(numpy_helper.to_array(found), numpy_helper.to_array(tensor))


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
