"""The settings file that 'init' writes."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import onnx.parser
import pytest
from click.testing import CliRunner

from edgepack.cli.build import init
from edgepack.cli.init import write_settings
from edgepack.data.recipes import load_recipe
from edgepack.errors import ConfigError
from edgepack.pipeline.settings import BuildSettings, read_settings

Run = Callable[..., "Ran"]  # noqa: F821 - cli/conftest.py


def test_init_writes_a_file_that_build_reads(edgepack: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ran = edgepack("init", "--yes", "--model", "net.py:make", "--data", "pictures", "--recipe", "imagenet")
    assert ran.code == 0
    assert "edgepack build net.py:make --target host-onnxruntime" in ran.err
    assert ran.err.splitlines()[-2] == "  edgepack build", "the line before says why it cannot be run yet"
    other = edgepack("init", "--yes", "net.py:make", "-o", "other name.toml").err
    assert "\n  edgepack build 'other name.toml'\n" in other
    from edgepack.pipeline.settings import read_settings

    assert read_settings(Path("edgepack.toml")).model == "net.py:make"
    again = edgepack("init", "--yes", "other.py:make")
    assert again.code == 2
    assert "--force" in again.err
    assert edgepack("init", "--yes", "--force", "other.py:make").code == 0
    assert read_settings(Path("edgepack.toml")).model == "other.py:make"


def test_init_says_that_a_model_is_not_there(edgepack: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.onnx").write_bytes(b"x")
    said = edgepack("init", "--yes", "nets.onnx").err
    assert "but there is no model nets.onnx: did you mean 'net.onnx'?" in said
    assert "but" not in edgepack("init", "--yes", "--force", "net.onnx").err


def test_init_says_what_a_build_would_refuse_to_read(
    edgepack: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.pkl").write_bytes(pickle.dumps(np.zeros(3)))
    said = edgepack("init", "--yes", "--model", "net.pkl").err
    assert "reading net.pkl would run code that is in it: numpy" in said
    assert "write 'trust_code = true' in edgepack.toml" in said
    Path("edgepack.toml").write_text(Path("edgepack.toml").read_text() + "trust_code = true\n")
    assert read_settings(Path("edgepack.toml")).trust_code is True


def write(path: Path, *, ask: bool = False, force: bool = False, **words: Any) -> BuildSettings:
    write_settings(path, words, ask=ask, force=force)
    return read_settings(path)


@pytest.mark.parametrize(("data", "precisions"), [({}, ("fp32",)), ({"data": "x.npz"}, ("fp32", "int8"))])
def test_int8_is_usual_where_there_are_samples(
    tmp_path: Path, data: dict[str, str], precisions: tuple[str, ...]
) -> None:
    found = write(tmp_path / "edgepack.toml", model="net.onnx", **data)
    assert (found.targets, found.precisions) == (("host-onnxruntime",), precisions)


def test_names_of_any_kind_are_written_so_that_they_are_read_back(tmp_path: Path) -> None:
    name = 'a "quoted" \\ näme.onnx'
    found = write(tmp_path / "edgepack.toml", model=name, data="x.npz", eval_data='y"z.npz', seed=3)
    assert Path(found.model).name == name
    assert Path(str(found.eval)).name == 'y"z.npz'
    assert found.seed == 3


def test_settings_that_contradict_each_other_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs samples"):
        write(tmp_path / "edgepack.toml", model="net.onnx", precisions=("int8",))
    with pytest.raises(ConfigError, match="no model given"):
        write(tmp_path / "edgepack.toml")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_overwritten_on_demand_only(tmp_path: Path) -> None:
    (tmp_path / "edgepack.toml").write_text("mine")
    with pytest.raises(ConfigError, match="already exists"):
        write(tmp_path / "edgepack.toml", model="net.onnx")
    assert (tmp_path / "edgepack.toml").read_text() == "mine"
    assert write(tmp_path / "edgepack.toml", force=True, model="net.onnx").model


def test_what_was_not_given_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"Trained": "net.onnx", "Targets": "raspberry-pi-5 host-onnxruntime", "Calibration": str(tmp_path),
               "Preprocessing": "imagenet", "Precisions": "fp32 int8"}  # fmt: skip
    asked: list[str] = []

    def prompt(text: str, **_: Any) -> str:
        asked.append(text.split(maxsplit=1)[0].rstrip(","))
        return answers[asked[-1]]

    monkeypatch.setattr(click, "prompt", prompt)
    found = write(tmp_path / "edgepack.toml", ask=True)
    assert asked == ["Trained", "Targets", "Calibration", "Preprocessing", "Precisions"]
    assert found.targets == ("raspberry-pi-5", "host-onnxruntime")
    assert found.recipe == "imagenet"
    asked.clear()
    write(tmp_path / "edgepack.toml", ask=True, force=True, model="net.onnx", targets=("host-tvm",), data="x.npz")
    assert asked == ["Precisions"]  # a recipe is for pictures


def free_classifier(path: Path) -> Path:
    """Write a network of 12 classes of pictures of any size."""
    text = """<ir_version: 8, opset_import: ["" : 17]>
    net (float[N,3,H,W] x) => (float[N,3] y) {
        pooled = GlobalAveragePool(x)
        y = Flatten(pooled)
    }"""
    onnx.save(onnx.parser.parse_model(text), path)
    return path


@pytest.mark.slow
def test_a_recipe_that_fits_the_model_is_chosen_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    free_classifier(tmp_path / "net.onnx")
    found = write(tmp_path / "a.toml", model="net.onnx", data="pictures")
    assert found.recipe == "imagenet"  # 224 x 224 was tried first, which the recipe has
    asked: list[str] = []

    def prompt(text: str, **words: Any) -> Any:
        asked.append(text.split(maxsplit=1)[0])
        return (48, 96) if asked[-1] == "Height" else words["default"]

    monkeypatch.setattr(click, "prompt", prompt)
    write_settings(
        Path("b.toml"), {"model": "net.onnx", "data": "pictures", "targets": ("host-tvm",)}, ask=True, force=False
    )
    assert asked == ["Height", "Preprocessing", "Precisions"]
    made = load_recipe(str(read_settings(Path("b.toml")).recipe)).preprocessing
    assert made is not None
    assert (made.resize, made.crop) == ((48, 96), None)
    with pytest.raises(ConfigError, match="already exists"):
        write_settings(Path("c.toml"), {"model": "net.onnx", "data": "pictures"}, ask=True, force=False)
    assert not Path("c.toml").exists()


def test_a_recipe_reads_the_labels_of_the_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file of COCO's boxes is no folder; of what fits the model that is taken which finds boxes, or what is named."""
    monkeypatch.chdir(tmp_path)
    Path("boxes.json").write_text('{"images": [], "annotations": [], "categories": []}')
    text = """<ir_version: 8, opset_import: ["" : 17]>
    net (float[1,3,64,64] x) => (float[1,4,16,16] y) {
        halved = MaxPool<kernel_shape=[4, 4], strides=[4, 4]>(x)
        one = ReduceMax<axes=[1], keepdims=1>(halved)
        y = Concat<axis=1>(halved, one)
    }"""
    onnx.save(onnx.parser.parse_model(text), "net.onnx")
    found = write(tmp_path / "a.toml", model="net.onnx", data="boxes.json")
    task = load_recipe(str(found.recipe)).task
    assert task is not None
    assert task.kind == "keypoints"
    found = write(tmp_path / "b.toml", force=True, model="net.onnx", data="boxes.json", recipe="deeplab")
    made = load_recipe(str(found.recipe))
    assert made.preprocessing is not None
    assert made.preprocessing.resize == (64, 64)
    assert made.task is not None
    assert made.task.kind == "semantic-segmentation"
    free_classifier(Path("classes.onnx"))
    capsys.readouterr()
    assert write(tmp_path / "c.toml", model="classes.onnx", data="boxes.json").recipe is None
    assert "reads the labels of boxes.json" in capsys.readouterr().err


def test_nothing_is_asked_that_the_source_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def prompt(text: str, **words: Any) -> str:
        asked.append(text)
        return str(words["default"])

    monkeypatch.setattr(click, "prompt", prompt)
    (tmp_path / "pictures").mkdir()
    words = {"targets": ("host-onnxruntime",), "data": str(tmp_path / "pictures"), "precisions": ("fp32",)}
    found = write(tmp_path / "a.toml", ask=True, model="timm:resnet18", **words)
    assert (asked, found.recipe) == ([], None)
    found = write(tmp_path / "b.toml", ask=True, model="net.onnx", **words)
    assert (asked, found.recipe) == (["Preprocessing recipe (empty for none)"], None)  # nothing is known of it


def test_a_wrong_answer_is_said_and_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    free_classifier(tmp_path / "net.onnx")
    np.savez(tmp_path / "x.npz", x=np.zeros((4, 3, 8, 8), np.float32))
    answers = ["nett.onnx", "net.onnx", "rpi55", "rpi5, host-onnxruntime", "y.npz", "x.npz", "fp32,int4", "fp32,int8"]
    ran = CliRunner().invoke(init, input="\n".join(answers) + "\n")
    assert ran.exit_code == 0, ran.output
    for said in (
        "there is no model nett.onnx; did you mean 'net.onnx'?",
        "unknown target 'rpi55'; did you mean 'rpi5'?",
        "there is no file or folder y.npz",
        "unknown value 'int4'; did you mean 'int8'?",
    ):
        assert said in ran.stderr
    found = read_settings(Path("edgepack.toml"))
    assert (found.targets, found.precisions) == (("rpi5", "host-onnxruntime"), ("fp32", "int8"))


def test_where_nobody_answers_it_says_what_to_do(
    edgepack: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    ran = edgepack("init")
    assert (ran.code, ran.out) == (2, "")
    assert "no terminal to answer them" in ran.err
    assert "--yes" in ran.err
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".toml"]
