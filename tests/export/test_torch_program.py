"""A .pt2 file becomes ONNX; one that brings code along is refused before torch opens it."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from edgepack.errors import ConfigError, ModelError
from edgepack.export import export, find_inputs
from edgepack.export.torch_archive import read_archive
from edgepack.specs.model import TensorSpec
from edgepack.specs.source import SourceOptions

pytestmark = pytest.mark.slow


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)
        self.register_buffer("shift", torch.arange(4.0))
        self.constant = torch.ones(4)

    def forward(self, x: torch.Tensor, factor: torch.Tensor) -> dict[str, torch.Tensor]:
        y = (x + self.shift * self.constant) * factor
        return {"logits": self.fc(y), "half": y[: x.shape[0] // 2 + 1]}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program with a free batch, a dict of outputs, a buffer and a constant."""
    path = tmp_path_factory.mktemp("pt2") / "net.pt2"
    torch.manual_seed(0)
    free = torch.export.Dim.DYNAMIC
    program = torch.export.export(
        Net().eval(),
        (torch.randn(4, 4),),
        {"factor": torch.randn(4, 4)},
        dynamic_shapes={"x": {0: free}, "factor": {0: free}},
    )
    torch.export.save(program, path)
    return path


def test_program_becomes_onnx(saved: Path, tmp_path: Path) -> None:
    model = export(str(saved), None, {}, SourceOptions(), tmp_path)
    assert model.inputs == (TensorSpec("x", "float32", ("N", 4)), TensorSpec("factor", "float32", ("N", 4)))
    assert [spec.name for spec in model.outputs] == ["logits", "half"]
    feeds = {name: np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32) for name in ("x", "factor")}
    found = onnxruntime.InferenceSession(str(model.path), providers=["CPUExecutionProvider"]).run(None, feeds)
    expected = torch.export.load(saved).module()(
        *(torch.from_numpy(feeds["x"]),), factor=torch.from_numpy(feeds["factor"])
    )
    np.testing.assert_allclose(found[0], expected["logits"].detach().numpy(), atol=1e-5)
    assert found[1].shape == (2, 4)
    assert find_inputs(str(saved), None, {}) == model.inputs


def test_shapes_cannot_be_given(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="its own shapes"):
        export(str(saved), None, {"x": (1, 4)}, SourceOptions(), tmp_path)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (nn.Dropout(0.5), r"the dropout '1' is in training mode"),
        (nn.BatchNorm1d(3), r"the batch norm '1' is in training"),
    ],
)
def test_what_was_exported_while_training_is_named(layer: nn.Module, words: str, tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(4, 3), layer)
    with pytest.raises(ModelError, match=words) as raised:
        export(str(save(network.train(), tmp_path)), None, {}, SourceOptions(), tmp_path)
    assert "model.eval()" in raised.value.hint
    export(str(save(network.eval(), tmp_path)), None, {}, SourceOptions(), tmp_path)


def test_a_program_of_16_bits_says_so_where_roundings_differ(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(512, 64), nn.Tanh(), nn.Linear(64, 64)).half().eval()
    torch.export.save(torch.export.export(network, (torch.randn(2, 512).half(),)), tmp_path / "half.pt2")
    with pytest.raises(ModelError, match="does not compute what the torch module does") as raised:
        export(str(tmp_path / "half.pt2"), None, {}, SourceOptions(), tmp_path)
    assert "it computes in float16" in raised.value.hint
    assert "model.float()" in raised.value.hint


def save(network: nn.Module, folder: Path) -> Path:
    free = {0: torch.export.Dim.DYNAMIC}
    torch.export.save(torch.export.export(network, (torch.randn(2, 4),), dynamic_shapes=(free,)), folder / "it.pt2")
    return folder / "it.pt2"


def test_guard_that_excludes_a_batch_of_one(tmp_path: Path) -> None:
    class Many(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1 if x.shape[0] > 3 else x

    free = {"x": {0: torch.export.Dim.DYNAMIC}}
    torch.export.save(torch.export.export(Many(), (torch.randn(5, 2),), dynamic_shapes=free), tmp_path / "m.pt2")
    with pytest.raises(ModelError, match=r"does not accept x\[1, 2\]: .*Guard failed"):
        export(str(tmp_path / "m.pt2"), None, {}, SourceOptions(), tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.onnx"))


class Exploit:
    """Writes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return exec, (f"open({str(self.mark)!r}, 'w').close()",)


def rewritten(
    saved: Path, tmp_path: Path, changes: dict[str, bytes | Callable[[bytes], bytes]], deflate: bool = False
) -> Path:
    """Copy the archive with members added or changed."""
    path = tmp_path / "bad.pt2"
    left = dict(changes)
    with zipfile.ZipFile(saved) as source, zipfile.ZipFile(path, "w", 8 if deflate else 0) as target:
        for info in source.infolist():
            root, _, name = info.filename.partition("/")
            change = left.pop(name, None)
            data = source.read(info)
            if change is not None:
                data = change(data) if callable(change) else change
            target.writestr(info.filename, data)
        for name, content in left.items():
            assert isinstance(content, bytes)
            target.writestr(f"{root}/{name}", content)
    return path


def edited(change: Callable[[dict], None]) -> Callable[[bytes], bytes]:
    def edit(data: bytes) -> bytes:
        document = json.loads(data)
        change(document)
        return json.dumps(document).encode()

    return edit


def first_node(document: dict) -> dict:
    return document["graph_module"]["graph"]["nodes"][0]


def first_size(document: dict) -> dict:
    for tensor in document["graph_module"]["graph"]["tensor_values"].values():
        for size in tensor["sizes"]:
            if "as_expr" in size:
                return size["as_expr"]
    raise AssertionError("no free size")


MODEL, WEIGHTS = "models/model.json", "data/weights/model_weights_config.json"
CODE = "__import__('os').system('touch MARK')"


def pickled(mark: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save(Exploit(mark), buffer)
    return buffer.getvalue()


EXPRESSIONS = [
    CODE,
    f"Symbol({CODE!r})",
    "Add('__import__(1)', 1)",
    "(lambda: 1)()",
    "[1 for x in (1,)]",
    "Symbol('s0').__class__",
    "9**9**9",
    "x if 1 else 2",
    "f'{1}'",
]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_sizes_that_are_code_are_refused(expression: str, saved: Path, tmp_path: Path) -> None:
    change = edited(lambda d: first_size(d).update(expr_str=expression))
    with pytest.raises(ModelError, match="not plain arithmetic"):
        export(str(rewritten(saved, tmp_path, {MODEL: change})), None, {}, SourceOptions(), tmp_path / "out")


GUARDS = [CODE, "open('x')", "L['x'].data", "L['x'].size().__class__", "max(*L)", "L['x'].size(k=1)"]


@pytest.mark.parametrize("guard", GUARDS)
def test_guards_that_are_code_are_refused(guard: str, saved: Path, tmp_path: Path) -> None:
    change = edited(lambda d: d.update(guards_code=[guard]))
    with pytest.raises(ModelError, match="guard"):
        read_archive(rewritten(saved, tmp_path, {MODEL: change}))


@pytest.mark.parametrize(
    "target",
    [
        "torch.load",
        "torch.hub.load",
        "_operator.attrgetter",
        "torch.ops.aten.from_file.default",
        "torch.ops.load_library",
        "os.system",
        "math.__loader__",
        "torch.ops.my.operator",
        5,
    ],
)
def test_calls_of_other_functions_are_refused(target: object, saved: Path, tmp_path: Path) -> None:
    change = edited(lambda d: first_node(d).update(target=target))
    with pytest.raises(ModelError, match="is not one of torch's operators"):
        read_archive(rewritten(saved, tmp_path, {MODEL: change}))


def test_pickles_are_never_opened(saved: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    as_pickle = edited(lambda d: next(iter(d["config"].values())).update(use_pickle=True))
    attacks: list[dict[str, bytes | Callable[[bytes], bytes]]] = [
        {"data/sample_inputs/model.pt": pickled(mark)},
        {WEIGHTS: as_pickle, "data/weights/weight_0": pickled(mark)},
        {"data/weights/model.pt": pickled(mark)},
        {"data/constants/model.pt": pickled(mark)},
        {"data/constants/opaque_obj_0": pickle.dumps(Exploit(mark))},
        {"data/constants/custom_obj_0": pickle.dumps(Exploit(mark))},
        {"data/aotinductor/model/model.so": b"\x7fELF"},
        {"../outside": b""},
    ]
    for attack in attacks:
        path = rewritten(saved, tmp_path, attack)
        with pytest.raises(ModelError):
            export(str(path), None, {}, SourceOptions(), tmp_path / "out")
        assert not mark.exists(), attack


@pytest.mark.filterwarnings("ignore::Warning")
@pytest.mark.parametrize("way", ["example inputs", "size"])
def test_torch_itself_runs_the_code(way: str, saved: Path, tmp_path: Path) -> None:
    """Otherwise the tests above would show nothing."""
    mark = tmp_path / "mark"
    changes: dict[str, bytes | Callable[[bytes], bytes]] = {"data/sample_inputs/model.pt": pickled(mark)}
    if way == "size":
        code = f"__import__('pathlib').Path({str(mark)!r}).touch()"
        changes = {MODEL: edited(lambda d: first_size(d).update(expr_str=code))}
    with contextlib.suppress(Exception):
        torch.export.load(rewritten(saved, tmp_path, changes))
    assert mark.exists()


def test_structures_that_name_classes_are_refused(saved: Path, tmp_path: Path) -> None:
    def name_class(document: dict) -> None:
        signature = document["graph_module"]["module_call_graph"][0]["signature"]
        signature["out_spec"] = signature["out_spec"].replace("builtins.dict", "collections.defaultdict")

    with pytest.raises(ModelError, match="structure of its own class"):
        read_archive(rewritten(saved, tmp_path, {MODEL: edited(name_class)}))


def test_compressed_archives_are_refused(saved: Path, tmp_path: Path) -> None:
    """torch writes stored members; a compressed one may unpack to any size."""
    with pytest.raises(ModelError, match="does not load"):
        read_archive(rewritten(saved, tmp_path, {}, deflate=True))


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x05\x06" + bytes(18)])
def test_not_an_archive(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.pt2").write_bytes(content)
    with pytest.raises(ModelError):
        export(str(tmp_path / "x.pt2"), None, {}, SourceOptions(), tmp_path / "out")


def two_archives(shown: Path, hidden: Path, out: Path) -> None:
    """Write one file in which ``zipfile`` sees the archive ``shown``, and a reader of absolute offsets ``hidden``.

    ``zipfile`` takes the end record's size of the directory, and all offsets from there; miniz its stated offset.
    """

    def parts(path: Path) -> tuple[bytes, bytes, int]:
        with zipfile.ZipFile(path) as source:
            plain = io.BytesIO()
            with zipfile.ZipFile(plain, "w") as target:
                for info in source.infolist():
                    target.writestr(zipfile.ZipInfo(info.filename), source.read(info))
        data = plain.getvalue()
        count, size, offset = struct.unpack("<HII", data[-12:-2])
        return data[:offset], data[offset : offset + size], count

    (a, a_list, count), (b, b_list, b_count) = parts(shown), parts(hidden)
    assert (count, len(a_list)) == (b_count, len(b_list))
    b += bytes(max(0, len(a) - len(b)) + 64)
    moved, place = bytearray(a_list), 0
    for _ in range(count):
        lengths = struct.unpack("<3H", moved[place + 28 : place + 34])
        (offset,) = struct.unpack("<I", moved[place + 42 : place + 46])
        struct.pack_into("<I", moved, place + 42, len(b) + offset - len(a))
        place += 46 + sum(lengths)
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count, count, len(a_list), len(b), 0)
    out.write_bytes(b + b_list + a + bytes(moved) + end)


@pytest.mark.filterwarnings("ignore::Warning")
def test_file_that_shows_torch_another_archive(saved: Path, tmp_path: Path) -> None:
    """It is refused, and the hidden archive's pickle never runs."""
    mark = tmp_path / "mark"
    as_pickle = edited(lambda d: next(iter(d["config"].values())).update(use_pickle=True))
    hidden = rewritten(saved, tmp_path, {WEIGHTS: as_pickle, "data/weights/weight_0": pickled(mark)})
    both = tmp_path / "both.pt2"
    two_archives(saved, hidden, both)
    with zipfile.ZipFile(both) as seen, zipfile.ZipFile(saved) as expected:
        name = f"{expected.namelist()[0].split('/')[0]}/{WEIGHTS}"
        assert seen.read(name) == expected.read(name)
    with pytest.raises(ModelError, match="before its archive"):
        export(str(both), None, {}, SourceOptions(), tmp_path / "out")
    assert not mark.exists()
    with contextlib.suppress(Exception):
        torch.export.load(both)
    assert mark.exists(), "torch reads the file as zipfile does: this test shows nothing"


def test_torch_gets_only_what_was_read(saved: Path, tmp_path: Path) -> None:
    """Nothing that stands between the members, or in other fields of their headers, reaches torch."""
    path = tmp_path / "x.pt2"
    with zipfile.ZipFile(saved) as source, zipfile.ZipFile(path, "w") as target:
        for info in source.infolist():
            plain = zipfile.ZipInfo(info.filename)
            plain.extra, plain.comment = b"\xfe\xca\x04\0SECR", b"SECR"
            target.writestr(plain, source.read(info))
        target.comment = b"SECR"
    assert b"SECR" not in read_archive(path).getvalue()


def test_parts_that_overlap_are_refused(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/models/model.json", bytes(5000))
        info = archive.infolist()[0]
        for i in range(50):
            twin = copy.copy(info)
            twin.filename = f"net/data/weights/weight_{i}"
            archive.filelist.append(twin)
            archive.NameToInfo[twin.filename] = twin
    with pytest.raises(ModelError, match="overlap"):
        read_archive(path)


def test_names_that_differ_in_case_only_are_refused(saved: Path, tmp_path: Path) -> None:
    """torch's reader finds members without regard to case."""
    with pytest.raises(ModelError):
        read_archive(rewritten(saved, tmp_path, {"extra/a": b"1", "extra/A": b"2"}))


def test_example_inputs_are_written_anew(saved: Path, tmp_path: Path) -> None:
    member = "data/sample_inputs/model.pt"
    with zipfile.ZipFile(saved) as source, zipfile.ZipFile(read_archive(saved)) as found:
        old = torch.load(io.BytesIO(source.read(f"{source.namelist()[0].split('/')[0]}/{member}")))
        new = torch.load(io.BytesIO(found.read(f"archive/{member}")))
    assert torch.equal(old[0][0], new[0][0])
    assert torch.equal(old[1]["factor"], new[1]["factor"])


def test_damaged_archives_end_as_errors(saved: Path, tmp_path: Path) -> None:
    data = saved.read_bytes()
    random = np.random.default_rng(0)
    path = tmp_path / "x.pt2"
    for _ in range(150):
        damaged = bytearray(data)
        for _ in range(int(random.integers(1, 6))):
            damaged[int(random.integers(0, len(damaged)))] = int(random.integers(0, 256))
        path.write_bytes(damaged[: int(random.integers(len(data) // 2, len(data) + 1))])
        with contextlib.suppress(ModelError):
            read_archive(path)
