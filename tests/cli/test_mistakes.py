"""Mistakes that people make on the command line, each with the words that must be in what they are told."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, save

pytestmark = pytest.mark.slow

Run = Callable[..., "Ran"]  # noqa: F821 - cli/conftest.py

# Words on the command line, and what must be said. The folder is that of the fixture ``folder``.
MISTAKES: tuple[tuple[str, tuple[str, ...]], ...] = (
    # a command that is none
    ("biuld net.onnx", ("no such command 'biuld'", "did you mean 'build'")),
    ("convert net.onnx", ("no such command 'convert'", "edgepack export")),
    ("quantise net.onnx", ("no such command 'quantise'", "edgepack quantize")),
    ("predict net.edgepack", ("no such command 'predict'", "edgepack run")),
    ("targets shwo rpi5", ("no such command 'shwo'", "did you mean 'show'")),
    ("help biuld", ("no such command 'biuld'", "did you mean 'build'")),
    ("targets rpi5", ("no such command 'rpi5'", "'edgepack targets show rpi5'")),
    ("recipes imagenet", ("no such command 'imagenet'", "'edgepack recipes show imagenet'")),
    ("demo digits", ("unexpected extra argument (digits)", "did you mean '--model digits'?")),
    ("recipes add mine", ("no such command 'add'", "list, new, show")),
    # an option that is none, or lacks its value
    ("build net.onnx --presicion int8", ("no such option", "--precision")),
    ("build net.onnx --quantize", ("no such option '--quantize'", "--help")),
    ("build net.onnx --target", ("option '--target' requires an argument", "'edgepack build --help'")),
    ("run net.edgepack", ("missing option '--input'", "add --input FILE|TEXT", "'edgepack run --help'")),
    ("quantize net.onnx --target rpi5 -o q.onnx", ("missing option '--ranges'",)),
    ("compile net.onnx -o out", ("missing option '--target'", "add --target TEXT")),
    ("verify", ("missing argument 'BUNDLE'",)),
    ("compare a.edgepack", ("missing argument 'B...'",)),
    ("build net.onnx pictures -p int8", ("pictures is taken for a second model", "--data pictures")),
    ("build net.onnx other.onnx", ("net.onnx is not an edgepack.toml", "models.toml")),
    ("doctor -q -v", ("--verbose and --quiet cannot be used together",)),
    ("doctor --log-file no/where.log", ("there is no folder no",)),
    # a model that is none
    ("build", ("no MODEL given", "edgepack init")),
    ("build nets.onnx", ("there is no file nets.onnx", "did you mean 'net.onnx'?")),
    ("build missing.onnx", ("there is no file missing.onnx", "check the path")),
    ("build net", ("there is no model net", "did you mean 'net.onnx'?")),
    ("build NET.ONNX", ("there is no file NET.ONNX", "did you mean 'net.onnx'?")),
    ("build C:\\models\\net.onnx", ("a path of Windows",)),
    ("build pictures\\..\\net.onnx", ("did you mean 'pictures/../net.onnx'?",)),
    ("build ~/net.onnx", ("write the home folder in full",)),
    ("build file:///models/net.onnx", ("is an address", "give the path alone: /models/net.onnx")),
    ("build my net.onnx -t rpi5", ("my and net.onnx are taken for two models", "in quotes: 'my net.onnx'")),
    ("build --model net.onnx", ("no such option '--model'", "MODEL without an option")),
    ("build net.onnx \u2014target rpi5", ("'\u2014target'", "--target; editors and chats")),
    ("build net.onnx \u201c--target\u201d rpi5", ("hyphens of a keyboard", "--target")),
    ("build net.onnx \u2013-target=rpi5", ("hyphens of a keyboard", "--target")),
    ("build empty.onnx", ("empty.onnx is empty",)),
    ("build text.onnx", ("text.onnx",)),
    ("build https://models.example/net.onnx", ("https://models.example/net.onnx is an address", "fetch the file")),
    ("build pictures", ("pictures is a folder",)),
    ("build hub", ("a Hugging Face model (BertModel) without its weights", "hf:OWNER/NAME --download")),
    ("build google/vit-base", ("no file here", "edgepack build hf:google/vit-base --download")),
    ("build weights.safetensors", ("weights without the network", "--module file.py:Class")),
    ("build net.tflite", ("net.tflite is not a TensorFlow Lite file", "save it again")),
    ("build net.edgepack", ("net.edgepack",)),
    ("build model.py:make", ("no file model.py",)),
    ("build nowhere.models:make", ("no Python module 'nowhere.models'",)),
    ("build net.onnx --data nowhere", ("there is no file or folder nowhere", "a folder of pictures")),
    ("init net.onnx --model other.onnx", ("two models are given: net.onnx and --model other.onnx",)),
    ("build missing.toml", ("there is no file missing.toml", "edgepack init")),
    ("build wrong.toml", ("wrong.toml", "unknown key 'precison'", "precision")),
    # a target or a precision that is none
    ("build net.onnx -t rasperry-pi-5", ("unknown target 'rasperry-pi-5'", "did you mean 'raspberry-pi-5'")),
    ("build net.onnx -t rpi5,rpi6", ("unknown target 'rpi6'", "did you mean 'rpi")),
    ("build net.onnx -t board.toml", ("there is no target board.toml", "check the path")),
    ("build net.onnx -t pictures/board.tml", ("there is no target pictures/board.tml", "check the path")),
    ("build net.onnx -d x.npz --recipe wrng.toml", ("there is no recipe wrng.toml", "did you mean 'wrong.toml'?")),
    ("build net.onnx -d x.npz --recipe pictures/own.tml", ("there is no recipe pictures/own.tml", "check the path")),
    ("build net.onnx -t rpi5,raspberry-pi-5", ("the target 'raspberry-pi-5' was given twice",)),
    ("check net.onnx -t jetson-orin-nano", ("stands for several targets", "jetson-orin-nano-jp6")),
    ("build net.onnx -t rpi5 host-openvino", ("host-openvino is taken for a second model", "--target host-openvino")),
    ("build net.onnx -t rpi5;host-openvino", ("unknown target", "separated by commas")),
    ("build net.onnx -t int8", ("unknown target 'int8'", "that is a precision: --precision int8")),
    ("build net.onnx -p rpi5", ("unknown precision 'rpi5'", "that is a target: --target rpi5")),
    ("build net.onnx -p fp32 int8", ("int8 is taken for a second model", "--precision int8")),
    ("build net.onnx -p fp32;int8", ("unknown precision", "separated by commas")),
    ("build net.onnx -t cpu", ("unknown target 'cpu'", "'edgepack targets' lists all")),
    ("build net.onnx -p INT8", ("unknown precision 'INT8'", "did you mean 'int8'")),
    ("build net.onnx -p half", ("unknown precision 'half'", "did you mean 'fp16'")),
    ("build net.onnx -p int4", ("unknown precision 'int4'", "int8")),
    ("build net.onnx -p fp32,int9", ("unknown precision 'int9'", "did you mean 'int8'")),
    ("build net.onnx -p fp32 -p fp32", ("the precision 'fp32' was given twice",)),
    ("check net.onnx -t rpi5,rpi4", ("unknown target 'rpi5,rpi4'", "give one target")),
    ("export net.onnx -o net.onnx", ("--out net.onnx is the model itself", "another name")),
    ("export net.onnx -o net2.tflite", ("not the name of an ONNX file", "net2.onnx", "'edgepack build'")),
    ("quantize net.onnx --ranges r.json -t rpi5 -o net.onnx", ("--out net.onnx is the model itself",)),
    # samples and what is done with them
    ("build net.onnx -p int8", ("int8 needs samples", "--data")),
    ("build net.onnx -p int8 -d picturs", ("picturs",)),
    ("build net.onnx -p int8 -d pictures/*.jpg", ("no file or folder pictures/*.jpg", "give the folder", "pictures")),
    ("build net.onnx -p int8 -d cut.zip", ("cut.zip", "not a zip file", "copy or pack it again")),
    ("build net.onnx -p int8 -d other.npz", ("other.npz", "'x'")),
    ("build net.onnx -d x.npz --recipe imagnet", ("unknown recipe 'imagnet'", "did you mean 'imagenet'")),
    ("build net.onnx -d x.npz --metric topp1", ("did you mean 'top1'",)),
    ("build net.onnx -d x.npz --max-drop 5", ("--max-drop 5 is out of range", "0.05", "5pt")),
    ("build net.onnx -d x.npz --max-drop one", ("'one' is not a drop", "1pt")),
    ("build net.onnx --max-drop 1pt", ("--max-drop needs samples", "--eval")),
    ("build net.onnx -d x.npz --observer minmx", ("unknown observer 'minmx'", "did you mean 'minmax'")),
    ("build net.onnx -d x.npz --samples 0", ("--samples 0 is out of range",)),
    ("build net.onnx -d x.npz --samples many", ("'many' is not a whole number", "digits alone")),
    ("build net.onnx -d x.npz --samples 10k", ("'10k' is not a whole number", "digits alone")),
    ("build net.onnx -d x.npz --min-sqnr 20dB", ("'20dB' is not a number", "without a unit")),
    ("build net.onnx -d x.npz --skip-bad -1", ("-1 is out of range", "a value of 0 or more")),
    ("run net.edgepack --input x.npz --threads 0", ("0 is out of range", "from 1 to 1024")),
    ("build pictures -d net.onnx -p int8", ("edgepack build net.onnx --data SAMPLES",)),
    ("build net.onnx -d s3://bucket/pictures -p int8", ("that is an address", "fetch what is there")),
    ("build net.onnx -o net.onnx", ("the output folder net.onnx is a file", "--out artifacts/NAME")),
    ("build net.onnx --task classification", ("unknown task", "'image-classification' or 'text-classification'")),
    ("build net.onnx -d x.npz --recipe ImageNet", ("unknown recipe 'ImageNet'", "did you mean 'imagenet' or")),
    ("build net.onnx --shape x", ("input=Nx3x224x224",)),
    ("build net.onnx --shape x=1x-3", ("'-3' is not a size",)),
    ("calibrate net.onnx -o r.json", ("calibration needs samples", "--data")),
    ("calibrate net.onnx net.onnx --data in.npz -o r.json", ("one model, not 2", "--merge")),
    ("calibrate --merge net.onnx -o r.json", ("net.onnx", "JSON")),
    ("calibrate net.onnx --job --data in.npz -o n.job", ("--data cannot be used with a job", "a device has")),
    ("calibrate net.onnx --job --statistics -o n.job", ("--job takes a model, not --statistics",)),
    ("calibrate --merge a.json --job -o r.json", ("--merge and --job cannot be used together",)),
    ("calibrate --merge a.json --data in.npz -o r.json", ("--data cannot be used with --merge",)),
    ("calibrate n.job --job -o m.job", ("--job takes a model",)),
    ("calibrate n.job -o r.json", ("calibration needs samples", "--data")),
    ("calibrate n.job --data in.npz --recipe imagenet -o r.json", ("--recipe cannot be used with a job",)),
    ("calibrate n.job --data in.npz --observer mse -o r.json", ("--observer cannot be used with a job", "--merge")),
    ("calibrate n.job --data in.npz -o r.json", ("there is no file n.job",)),
    # bundles, results and reports
    ("verify net.onnx", ("net.onnx", "edgepack build")),
    ("verify nets.edgepack", ("nets.edgepack",)),
    ("benchmark nets.edgepack", ("nets.edgepack",)),
    ("benchmark nets.edgepack --duration fast", ("'fast' is not a duration", "10s")),
    ("benchmark nets.edgepack --scenario SingleSteam", ("did you mean 'SingleStream'",)),
    ("benchmark nets.edgepack --scenario Server", ("--latency-bound",)),
    ("inspect notes", ("notes is text, not an ONNX file or a bundle",)),
    ("sign net.edgepack", ("no key to sign with", "--key")),
    ("sign net.edgepack --key notes", ("notes is not a private key in PEM", "edgepack keygen")),
    ("inspect nets.onnx", ("nets.onnx",)),
    ("report nowhere", ("nowhere",)),
    ("report cut.zip -o page.html", ("cut.zip is a zip file, as bundles are", "edgepack benchmark --out")),
    ("report . -o report.pdf", ("unknown report format", ".html")),
    ("report results --fail-if p91>20ms", ("unknown figure 'p91'", "did you mean 'p9")),
    ("report results --fail-if p90>20", ("p90 has no unit ''", "ms")),
    ("report results -o - --json", ("--json, --github and --out - each write to stdout", "give one of them")),
    ("report results -o - --format pdf", ("unknown report format 'pdf'", "html, md, parquet, xml")),
    ("report results -o page.csv --baseline results", ("--baseline does not work with .csv", ".html or .md")),
    ("import trt.json -t rpi5 -p int8", ("where should the result go", "--out result.json", "--json")),
    ("status --root nowhere", ("nowhere",)),
    ("store prune", ("give --older-than or --max-size",)),
    ("store --store pictures --clear", ("pictures",)),
    ("schema bundel", ("known:", "manifest")),
    ("list target", ("did you mean 'targets'",)),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What somebody has who makes the mistakes: a model, samples, and files that are none."""
    place = tmp_path_factory.mktemp("mistakes")
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", values[:1], values[1:])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), place / "net.onnx")
    shutil.copy(place / "net.onnx", place / "my net.onnx")
    np.savez(place / "x.npz", x=np.zeros((8, 4), np.float32))
    np.savez(place / "other.npz", image=np.zeros((8, 4), np.float32))
    for name in ("pictures", "hub", "results"):
        (place / name).mkdir()
    (place / "pictures" / "note.txt").write_text("no picture")
    (place / "hub" / "config.json").write_text(json.dumps({"architectures": ["BertModel"]}))
    (place / "notes").write_text("no model and no key\n")
    (place / "empty.onnx").write_bytes(b"")
    (place / "text.onnx").write_text("this is no model\n")
    (place / "cut.zip").write_bytes(b"PK\x03\x04")
    (place / "net.tflite").write_bytes(b"\0\0\0\0TF")
    (place / "net.edgepack").write_bytes(b"no bundle")
    header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    (place / "weights.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    (place / "wrong.toml").write_text('model = "net.onnx"\nprecison = ["int8"]\n')
    return place


def test_there_are_sixty_and_none_twice() -> None:
    assert len({words for words, _ in MISTAKES}) == len(MISTAKES) >= 60


@pytest.mark.parametrize(("words", "said"), MISTAKES, ids=[words for words, _ in MISTAKES])
def test_a_mistake_is_explained_once_with_what_to_do(
    edgepack: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, said: tuple[str, ...]
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("EDGEPACK_STORE", str(tmp_path / "store"))
    before = sorted(path.name for path in folder.iterdir())
    ran = edgepack(*words.split())
    assert (ran.code, ran.out) == (2, ""), ran.err
    for part in said:
        assert part in ran.err
    lines = ran.err.splitlines()
    assert [line.partition(":")[0] for line in lines[-2:]] == ["error", "hint"]
    message = lines[-2].removeprefix("error: ")
    assert ran.err.count(message) == 1, "said once"
    assert "Traceback" not in ran.err
    made = sorted(path.name for path in folder.iterdir())
    assert [name for name in made if name not in {*before, "artifacts"}] == []
