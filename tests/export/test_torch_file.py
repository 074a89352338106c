"""Files of torch by the real worker in this Python, which has torch."""

from __future__ import annotations

import importlib.util
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgepack.errors import ConfigError, ModelError
from edgepack.export import export
from edgepack.export.worker import read_facts
from edgepack.graph.compare import run_model
from edgepack.specs.model import OnnxModel, TensorSpec
from edgepack.specs.source import SourceOptions

pytestmark = pytest.mark.long
NET = """
import torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)
    def forward(self, image):
        return self.norm(self.conv(image)).mean((2, 3))
class Other(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.line = torch.nn.Linear(3, 3)
"""
SAME = """
import torch
class Same(torch.nn.Module):
    def forward(self, image):
        return {"image": image * 2}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "net.py").write_text(NET)
    space: dict[str, object] = {"__name__": "net"}
    exec(NET, space)
    torch.manual_seed(0)
    net = space["Net"]()  # type: ignore[operator]
    torch.save({"state_dict": {f"module.{k}": v for k, v in net.state_dict().items()}}, tmp_path / "trained.ckpt")
    torch.save(net.state_dict(), tmp_path / "weights.pth")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def find(path: Path, name: str) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


def read(source: str, folder: Path, **options: object) -> OnnxModel:
    return export(source, None, {"image": ("N", 3, 8, 8)}, SourceOptions(**options), folder / "out")  # type: ignore[arg-type]


@pytest.mark.parametrize("source", ["weights.pth", "trained.ckpt"])
def test_a_state_dict_and_its_class_are_a_model(source: str, folder: Path) -> None:
    model = read(source, folder, module="net.py:Net")
    assert model.inputs == (TensorSpec("image", "float32", ("N", 3, 8, 8)),)
    facts = read_facts(model)
    assert facts is not None
    assert (facts.framework, facts.title) == ("torch", "Net")


def test_a_state_dict_says_what_it_holds_and_what_is_missing(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"weights without the network: conv\.weight \[4, 3, 3, 3\]") as raised:
        read("weights.pth", folder)
    assert "--module file.py:Class" in raised.value.hint
    with pytest.raises(ModelError, match=r"missing: line\.weight, line\.bias; not in the class: conv\.weight"):
        read("weights.pth", folder, module="net.py:Other")
    with pytest.raises(ConfigError, match=r"the file has no Nothing") as raised:
        read("weights.pth", folder, module="net.py:Nothing")
    assert "Net, Other" in raised.value.hint


def test_torchscript_and_one_that_was_traced_while_training(folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch.jit, which people's files are of all the same
        torch.jit.script(torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.ReLU())).save("script.pt")
        net = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.BatchNorm2d(2)).train()
        torch.jit.trace(net, torch.zeros(2, 3, 8, 8)).save("traced.pt")
    model = export("script.pt", None, {"input": ("N", 3, 8, 8)}, SourceOptions(), folder / "out")
    assert model.inputs[0].shape == ("N", 3, 8, 8)
    with pytest.raises(ModelError, match="is a BatchNormalization in training mode"):
        export("traced.pt", None, {"input": ("N", 3, 8, 8)}, SourceOptions(), folder / "out2")


def test_what_trainers_wrap_around_weights(folder: Path) -> None:
    state = torch.load("weights.pth")
    strange = {"weights_of_the_mean": state, "mean": torch.zeros(3), "optimizer": {"state": {0: {"m": torch.ones(3)}}}}
    torch.save(strange, "strange.pt")
    assert read("strange.pt", folder, module="net.py:Net").inputs[0].name == "image"
    other = {"line.weight": torch.zeros(3, 3), "line.bias": torch.zeros(3)}
    torch.save({"critic": other, "generator": state}, "two.pt")
    facts = read_facts(read("two.pt", folder, module="net.py:Net"))
    assert facts is not None
    assert facts.notes == (
        "it holds several networks: 'generator' was taken, not 'critic'; for another, save that one alone",
    )
    torch.save({"first": state, "second": state}, "twice.pt")
    with pytest.raises(ModelError, match=r"several times: 'first', 'second'"):
        read("twice.pt", folder, module="net.py:Net")
    torch.save({"epoch": 3}, "none.pt")
    with pytest.raises(ModelError, match="it holds a dict with epoch, and no module or weights"):
        read("none.pt", folder, module="net.py:Net")


@pytest.mark.parametrize(
    ("key", "wrapped"), [("ema", False), ("ema", True), ("state_dict_ema", False), ("model_ema", False)]
)
def test_averaged_weights_are_taken_before_those_they_average(key: str, wrapped: bool, folder: Path) -> None:
    state = torch.load("weights.pth")
    trained = {name: tensor + 1 for name, tensor in state.items()}
    torch.save({"model": trained, key: {"module": state, "updates": 3} if wrapped else state}, "averaged.pt")
    model = read("averaged.pt", folder, module="net.py:Net")
    facts = read_facts(model)
    assert facts is not None
    assert "the averaged weights" in facts.notes[0]
    assert f"{key}{'.module' if wrapped else ''}' was taken, not 'model'" in facts.notes[0]
    again = read("weights.pth", folder.parent / "again", module="net.py:Net")
    assert model.sha256 == again.sha256


def test_averages_without_statistics_are_left_out_and_said(folder: Path) -> None:
    state = torch.load("weights.pth")
    averaged = {name: tensor for name, tensor in state.items() if "running" not in name}
    torch.save({"model": state, "ema": averaged}, "partly.pt")
    facts = read_facts(read("partly.pt", folder, module="net.py:Net"))
    assert facts is not None
    assert facts.notes[0].startswith("the averaged weights in 'ema' were left out, as they do not fit: missing: ")


def test_what_has_no_weight_of_the_network_is_not_called_averaged_weights(folder: Path) -> None:
    state = torch.load("weights.pth")
    torch.save({"model": state, "ema_scheduler": {"base_lrs": torch.ones(2)}}, "scheduled.pt")
    facts = read_facts(read("scheduled.pt", folder, module="net.py:Net"))
    assert facts is not None
    assert not [note for note in facts.notes if "averaged" in note]


def test_averages_of_torch_s_own_class_are_taken(folder: Path) -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.BatchNorm2d(2))
    averaged = torch.optim.swa_utils.AveragedModel(net)  # as torchvision's references save it: model_ema
    with torch.no_grad():
        for weight in net.parameters():
            weight.add_(1)
    Path("two.py").write_text(
        "from torch.nn import BatchNorm2d, Conv2d, Sequential\n\n"
        "def make():\n    return Sequential(Conv2d(3, 2, 3), BatchNorm2d(2))\n"
    )
    torch.save({"model": net.state_dict(), "model_ema": averaged.state_dict()}, "two.pt")
    torch.save(averaged.module.state_dict(), "alone.pt")
    shapes = {"input": ("N", 3, 8, 8)}
    found = [
        export(name, None, shapes, SourceOptions(module="two.py:make"), folder / f"of-{name}").sha256
        for name in ("two.pt", "alone.pt")
    ]
    assert found[0] == found[1]


def test_averaged_weights_beside_a_whole_module_are_taken(folder: Path) -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3))
    averaged = {name: tensor + 1 for name, tensor in net.state_dict().items()}
    options, shapes = SourceOptions(trust_code=True), {"input": ("N", 3, 8, 8)}
    torch.save({"model": net, "ema": averaged}, "both.pt")
    model = export("both.pt", None, shapes, options, folder / "both")
    facts = read_facts(model)
    assert facts is not None
    assert "'ema' was taken, not 'model'" in facts.notes[0]
    net.load_state_dict(averaged)
    torch.save(net, "alone.pt")
    assert model.sha256 == export("alone.pt", None, shapes, options, folder / "alone").sha256


def test_weights_usually_meant_are_not_replaced_by_others_that_fit(folder: Path) -> None:
    state = torch.load("weights.pth")
    wrong = {name: tensor for name, tensor in state.items() if name != "norm.running_mean"}
    torch.save({"model": wrong, "older": state}, "both.pt")
    with pytest.raises(ModelError, match=r"the weights in 'model' are not those .* missing: norm\.running_mean"):
        read("both.pt", folder, module="net.py:Net")


def test_counters_of_training_need_not_be_there(folder: Path) -> None:
    state = torch.load("weights.pth")
    torch.save({n: t for n, t in state.items() if "num_batches" not in n}, "old.pt")
    assert read("old.pt", folder, module="net.py:Net").inputs[0].name == "image"


def test_a_whole_module_in_a_checkpoint(folder: Path) -> None:
    torch.save({"epoch": 1, "model": torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3)), "ema": None}, "checkpoint.pt")
    options = SourceOptions(trust_code=True)
    model = export("checkpoint.pt", None, {"input": ("N", 3, 8, 8)}, options, folder / "out")
    assert model.outputs[0].shape == ("N", 2, 6, 6)
    ema = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3)).half()  # as Ultralytics keeps it
    torch.save({"epoch": 1, "model": torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3)), "ema": ema}, "checkpoint.pt")
    model = export("checkpoint.pt", None, {"input": ("N", 3, 8, 8)}, options, folder / "averaged")
    assert model.outputs[0].shape == ("N", 4, 6, 6)


@pytest.mark.parametrize(
    ("name", "words"),
    [("net.py", "it names no class of the file"), ("net.py:nothing", "a value of type int, not a torch.nn.Module")],
)
def test_what_names_no_class(name: str, words: str, folder: Path) -> None:
    (folder / "net.py").write_text(NET + "\ndef nothing():\n    return 3\n")
    with pytest.raises(ConfigError, match=words) as raised:
        read("weights.pth", folder, module=name)
    assert "file.py:" in raised.value.hint


def test_torchscript_that_returns_dicts_and_lists(folder: Path) -> None:
    (folder / "several.py").write_text("""
from typing import Dict, List
import torch
class Several(torch.nn.Module):
    def forward(self, image) -> Dict[str, List[torch.Tensor]]:
        return {"image": [image + 1], "scales": [image * 2, image * 3]}
""")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(find(folder / "several.py", "Several")()).save("several.pt")
    model = read("several.pt", folder)
    assert [spec.name for spec in model.outputs] == ["image_0", "scales_0", "scales_1"]
    image = np.random.default_rng(0).standard_normal((3, 3, 8, 8)).astype(np.float32)
    for name, factor, more in (("image_0", 1, 1), ("scales_0", 2, 0), ("scales_1", 3, 0)):
        np.testing.assert_allclose(run_model(model, {"image": image})[name], image * factor + more, rtol=1e-6)


def test_an_output_named_like_an_input(folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (folder / "same.py").write_text(SAME)
        torch.jit.script(find(folder / "same.py", "Same")()).save("same.pt")
    assert read("same.pt", folder).outputs[0].name == "image_out"


def test_a_shape_that_the_module_does_not_take_is_said_with_its_reason(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"of the shapes image\[2, 5, 8, 8\]: RuntimeError: .*5 channels instead"):
        export("weights.pth", None, {"image": ("N", 5, 8, 8)}, SourceOptions(module="net.py:Net"), folder / "out")


def write_safetensors(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    entries: dict[str, object] = {"__metadata__": metadata}
    data = b""
    for name, tensor in tensors.items():
        piece = tensor.numpy().tobytes()
        places = [len(data), len(data) + len(piece)]
        entries[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": places}
        data += piece
    header = json.dumps(entries).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)


def test_tensors_that_safetensors_keeps_once(folder: Path) -> None:
    (folder / "tied.py").write_text("""
import torch
class Tied(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Linear(4, 4, bias=False), torch.nn.Linear(4, 4, bias=False)
        self.second.weight = self.first.weight
    def forward(self, image):
        return self.second(self.first(image))
""")
    weight = torch.randn(4, 4)
    for metadata in ({"second.weight": "first.weight"}, {}):
        write_safetensors(folder / "tied.safetensors", {"first.weight": weight}, metadata)
        options = SourceOptions(module="tied.py:Tied")
        model = export("tied.safetensors", None, {"image": ("N", 4)}, options, folder / "out")
        image = np.ones((1, 4), np.float32)
        (found,) = run_model(model, {"image": image}).values()
        np.testing.assert_allclose(found, image @ weight.numpy().T @ weight.numpy().T, rtol=1e-4, atol=1e-5)


def test_safetensors_that_are_cut_short(folder: Path) -> None:
    path = folder / "cut.safetensors"
    write_safetensors(path, {"line.weight": torch.zeros(3, 3), "line.bias": torch.zeros(3)}, {})
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ModelError, match=r"the tensor line\.bias needs 12 bytes, and 8 are there"):
        read("cut.safetensors", folder, module="net.py:Other")
    write_safetensors(path, {"line.weight": torch.zeros(3, 3)}, {})
    path.write_bytes(path.read_bytes().replace(b"F32", b"F8_"))
    with pytest.raises(ModelError, match=r"of the type F8_, which is not read"):
        read("cut.safetensors", folder, module="net.py:Other")
