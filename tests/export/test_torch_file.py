"""Files of torch by the real worker in this Python, which has torch."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch

from edgepack.errors import ConfigError, ModelError
from edgepack.export import export
from edgepack.export.worker import read_facts
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
