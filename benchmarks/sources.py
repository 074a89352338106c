"""Reads a model of each source framework and builds it in int8: a table, ``artifacts/sources.md`` and ``sources.json``.

Run by ``make sources``. ResNet8 is trained here for a minute on the pictures of ../shared where they are, else on random
ones; other networks have random weights. The Pythons are made on the way. A part: ``--only keras sklearn``.
"""
# ruff: noqa: E501

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgepack.base.files import sha256_json
from edgepack.base.resources import package_folder
from edgepack.device.host import host_facts
from edgepack.execution.events import Silent
from edgepack.execution.runner import StageRunner
from edgepack.execution.store import Store
from edgepack.export import FRAMEWORKS
from edgepack.export.environments import find_lock, make_environment, place_of
from edgepack.export.torch_onnx import read_compared
from edgepack.export.worker import read_facts
from edgepack.graph.load import read_proto
from edgepack.graph.prepare import prepare
from edgepack.pipeline.stages.export import export_model
from edgepack.specs.model import OnnxModel
from edgepack.specs.source import SourceOptions

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT.parent / "shared" / "assets" / "cifar10_test_b.npz"
TARGETS = ("host-onnxruntime", "host-openvino")
CALIBRATED, EVALUATED = 100, 500

NET = """
import keras, numpy as np
from keras import layers as L
keras.utils.set_random_seed(0)
i = keras.Input((32, 32, 3), name="image"); x = L.ReLU()(L.BatchNormalization(momentum=0.9)(L.Conv2D(16, 3, padding="same")(i)))
for f, s in ((16, 1), (32, 2), (64, 2)):
    y = L.ReLU()(L.BatchNormalization(momentum=0.9)(L.Conv2D(f, 3, strides=s, padding="same")(x)))
    y = L.BatchNormalization(momentum=0.9)(L.Conv2D(f, 3, padding="same")(y))
    x = x if s == 1 else L.Conv2D(f, 1, strides=s, padding="same")(x)
    x = L.ReLU()(L.add([x, y]))
m = keras.Model(i, L.Dense(10, activation="softmax", name="scores")(L.GlobalAveragePooling2D()(x)), name="resnet8")
"""
TRAIN = """
data = np.load("train.npz")
m.compile("adam", "sparse_categorical_crossentropy")
m.fit(data["image"], data["labels"], epochs=3, batch_size=64, verbose=0)
"""
FORMATS = """
import tensorflow as tf
m.save("m.keras"); m.save("m.h5"); m.export("m", verbose=False)
c = tf.lite.TFLiteConverter.from_keras_model(m)
open("float.tflite", "wb").write(c.convert())
np.savez("weights.npz", **{f"{k:03}": w for k, w in enumerate(m.get_weights())})
open("torch_net.py", "w").write(TORCH_NET); open("flax_net.py", "w").write(FLAX_NET)
"""
INTEGER = """
c.optimizations = [tf.lite.Optimize.DEFAULT]
c.representative_dataset = lambda: ([data["image"][n : n + 1]] for n in range(100))
c.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
c.inference_input_type = tf.int8
open("integer.tflite", "wb").write(c.convert())
(i,) = tf.lite.Interpreter("integer.tflite").get_input_details()
e = np.load("evaluation.npz")
q = np.clip(np.rint(e["image"] / i["quantization"][0] + i["quantization"][1]), -128, 127).astype(np.int8)
np.savez("integer.npz", image=q)
"""
RESNET8 = NET + TRAIN + FORMATS + INTEGER  # all formats of one trained network, so that it is trained once
# The same network written in torch and in Flax, with Keras' trained weights: both take pictures in NHWC, as Keras does.
TORCH_NET = """
import pathlib
import numpy as np, torch
from torch import nn
W = iter(np.load(pathlib.Path(__file__).with_name("weights.npz")).values())
def conv(stride=1):
    k, b = torch.tensor(next(W)).permute(3, 2, 0, 1), torch.tensor(next(W))
    # Keras' "same" pads behind alone where the stride is 2
    c = nn.Conv2d(k.shape[1], k.shape[0], k.shape[2], stride, padding=k.shape[2] // 2 if stride == 1 else 0)
    c.weight.data, c.bias.data = k.contiguous(), b
    return c if stride == 1 or k.shape[2] == 1 else nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), c)
def norm():
    gamma, beta, mean, var = (torch.tensor(next(W)) for _ in range(4))
    n = nn.BatchNorm2d(len(gamma), eps=1e-3)
    n.weight.data, n.bias.data, n.running_mean, n.running_var = gamma, beta, mean, var
    return n
class Block(nn.Module):
    def __init__(self, stride):
        super().__init__()
        self.a, self.an, self.b = conv(stride), norm(), conv()
        # get_weights follows the layers' depth: the short cut stands in front of the second norm
        self.short = conv(stride) if stride > 1 else nn.Identity()
        self.bn = norm()
    def forward(self, x): return torch.relu(self.short(x) + self.bn(self.b(torch.relu(self.an(self.a(x))))))
class ResNet8(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.norm = conv(), norm()
        self.blocks = nn.Sequential(*[Block(s) for s in (1, 2, 2)])
        self.dense = nn.Linear(64, 10)
        self.dense.weight.data, self.dense.bias.data = torch.tensor(next(W)).T.contiguous(), torch.tensor(next(W))
    def forward(self, image):
        x = self.blocks(torch.relu(self.norm(self.stem(image.permute(0, 3, 1, 2)))))
        return torch.softmax(self.dense(x.mean((2, 3))), -1)
def make(): return ResNet8().eval()
"""
FLAX_NET = """
import jax
from flax import nnx
def conv(i, o, k, s, r): return nnx.Conv(i, o, (k, k), strides=(s, s), rngs=r)
def norm(c, r): return nnx.BatchNorm(c, epsilon=1e-3, rngs=r)
class Block(nnx.Module):
    def __init__(self, i, o, s, r):
        self.a, self.an, self.b = conv(i, o, 3, s, r), norm(o, r), conv(o, o, 3, 1, r)
        self.short, self.bn = conv(i, o, 1, s, r) if s > 1 else None, norm(o, r)
    def __call__(self, x):
        y = self.bn(self.b(nnx.relu(self.an(self.a(x)))))
        return nnx.relu((x if self.short is None else self.short(x)) + y)
class ResNet8(nnx.Module):
    def __init__(self, rngs):
        r = rngs
        self.stem, self.norm, self.dense = conv(3, 16, 3, 1, r), norm(16, r), nnx.Linear(64, 10, rngs=r)
        self.blocks = nnx.List([Block(16, 16, 1, r), Block(16, 32, 2, r), Block(32, 64, 2, r)])
    def __call__(self, image):
        x = nnx.relu(self.norm(self.stem(image)))
        for block in self.blocks: x = block(x)
        return nnx.softmax(self.dense(x.mean((1, 2))))
"""
# Puts the same weights into a file of Flax; run in its own Python.
FLAX_FILE = """
import numpy as np
from flax import nnx, serialization
from flax_net import ResNet8
m = ResNet8(nnx.Rngs(0)); W = iter(np.load("weights.npz").values())
def conv(c): c.kernel[...], c.bias[...] = next(W), next(W)
def norm(n): n.scale[...], n.bias[...], n.mean[...], n.var[...] = (next(W) for _ in range(4))
conv(m.stem); norm(m.norm)
for b in m.blocks:
    conv(b.a); norm(b.an); conv(b.b)
    if b.short is not None: conv(b.short)
    norm(b.bn)
conv(m.dense)
open("m.msgpack", "wb").write(serialization.to_bytes(nnx.to_pure_dict(nnx.state(m, nnx.Not(nnx.RngState)))))
"""
STUB = """
import importlib.util
spec = importlib.util.spec_from_file_location("g", WORKERS + "/torch_graph.py"); g = importlib.util.module_from_spec(spec)
spec.loader.exec_module(g); g.without_torchvision()
"""
HF = (
    STUB
    + """
import torch, transformers as t
torch.manual_seed(0)
c = t.BertConfig(vocab_size=1000, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128)
t.BertForSequenceClassification(c).save_pretrained("bert")
"""
)
VIT = (
    STUB
    + """
import torch, transformers as t
torch.manual_seed(0)
c = t.ViTConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128, image_size=32, patch_size=8)
t.ViTForImageClassification(c).save_pretrained("vit")
"""
)
TIMM = (
    STUB
    + """
import torch, timm
torch.manual_seed(0)
torch.save(timm.create_model("mobilenetv3_small_050").state_dict(), "w.pth")
"""
)
SCRIPT = """
import torch
torch.manual_seed(0)
n = torch.nn
torch.jit.script(n.Sequential(n.Conv2d(3, 16, 3), n.BatchNorm2d(16), n.SiLU(), n.AdaptiveAvgPool2d(1), n.Flatten(),
    n.Linear(16, 10)).eval()).save("m.pt")
"""
FASTAI = (
    STUB
    + """
from fastai.vision.all import *
import PIL.Image, pathlib
for k in range(8):
    d = pathlib.Path("p") / "ab"[k % 2]; d.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(np.random.default_rng(k).integers(0, 255, (40, 40, 3), np.uint8)).save(d / f"{k}.png")
dls = ImageDataLoaders.from_folder("p", valid_pct=.5, item_tfms=Resize(32), bs=2, num_workers=0,
    batch_tfms=[Normalize.from_stats(*imagenet_stats)])
Learner(dls, xresnet18(n_out=2), loss_func=CrossEntropyLossFlat()).export("m.pkl")
"""
)
TREES = """
import joblib, numpy as np, lightgbm, xgboost
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
x, y = load_digits(return_X_y=True)
joblib.dump(make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)).fit(x, y), "m.joblib")
xgboost.XGBClassifier(n_estimators=20).fit(x, y).save_model("m.json")
lightgbm.train({"objective": "multiclass", "num_class": 10, "verbose": -1}, lightgbm.Dataset(x, y), 20).save_model("m.txt")
"""


@dataclass(frozen=True)
class Case:
    """One row: the framework, what it is called, how its source is made, where that then is, and what it is read with."""

    framework: str
    title: str
    code: str
    source: str
    options: dict[str, object]
    shapes: dict[str, tuple[int | str, ...]]
    pictures: bool = False
    other: str = ""  # the lock of another Python to read it with than the one that made it
    then: str = ""  # what the framework's own Python makes of what the first script made


def case(
    framework: str,
    title: str,
    code: str,
    source: str,
    *,
    pictures: bool = False,
    other: str = "",
    then: str = "",
    **options: object,
) -> Case:
    """Return a case; ``shape`` among the options is the input's."""
    shape = options.pop("shape", None)
    return Case(framework, title, code, source, options, dict([shape]) if shape else {}, pictures, other, then)  # type: ignore[list-item]


CASES = (
    case("keras", "Keras .keras (TensorFlow), ResNet8", RESNET8, "m.keras", pictures=True),
    case("keras", "Keras .h5 (TensorFlow), ResNet8", RESNET8, "m.h5", pictures=True),
    case("keras", "Keras .keras (torch), ResNet8", RESNET8, "m.keras", pictures=True, other=str(ROOT / "benchmarks" / "keras_torch.txt")),
    case("saved_model", "SavedModel, ResNet8", RESNET8, "m", pictures=True),
    case("tflite", "TensorFlow Lite float, ResNet8", RESNET8, "float.tflite", pictures=True),
    case("tflite", "TensorFlow Lite int8, ResNet8", RESNET8, "integer.tflite"),
    case("torch_module", "torch module, ResNet8", RESNET8, "torch_net.py:make", pictures=True, shape=("image", ("N", 32, 32, 3))),
    case("flax", "Flax nnx, ResNet8", RESNET8, "m.msgpack", pictures=True, shape=("image", ("N", 32, 32, 3)),
         module="flax_net.py:ResNet8", then=FLAX_FILE),
    case("hugging_face", "Hugging Face, BERT of 2 layers", HF, "bert"),
    case("hugging_face", "Hugging Face, ViT of 2 layers", VIT, "vit"),
    case("timm", "timm, mobilenetv3_small_050", TIMM, "timm:mobilenetv3_small_050", weights="w.pth",
         shape=("x", ("N", 3, 96, 96))),
    case("torch_file", "TorchScript, one convolution", SCRIPT, "m.pt", shape=("input", ("N", 3, 32, 32))),
    case("fastai", "fastai Learner, xresnet18", FASTAI, "p/m.pkl", trust_code=True),
    case("sklearn", "scikit-learn, scaler and logistic regression", TREES, "m.joblib", trust_code=True),
    case("sklearn", "XGBoost, 200 trees", TREES, "m.json"),
    case("sklearn", "LightGBM, 200 trees", TREES, "m.txt"),
)  # fmt: skip


def _made(root: Path, code: str, python: str, workers: Path) -> Path:
    """Return the folder with what a script makes, made once."""
    folder = root / sha256_json(code)[:8]
    if not folder.is_dir():
        folder.mkdir()
        _pictures(folder)
        begin = f"WORKERS, TORCH_NET, FLAX_NET = {str(workers)!r}, {TORCH_NET!r}, {FLAX_NET!r}"
        words = [python, "-c", f"{begin}\n{code}"]
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
        done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr[-1500:])
    return folder


def measure(one: Case, root: Path) -> dict[str, object]:
    """Return a row: seconds, sizes, differences, counts before and after, int8 closeness."""
    worker = FRAMEWORKS.get(one.framework).worker
    maker = find_lock("tensorflow" if one.code == RESNET8 or worker is None else worker.lock)
    began = time.monotonic()
    python = make_environment(maker).python
    made_s = time.monotonic() - began
    folder = _made(root, one.code, python, package_folder() / "export" / "workers")
    lock = None if worker is None else find_lock(one.other or worker.lock)
    if lock is not None:
        python = make_environment(lock).python
    if one.then:
        subprocess.run([python, "-c", one.then], cwd=folder, check=True, capture_output=True)
    os.chdir(folder)
    runner = StageRunner(Store(folder / "store"), folder / "logs", Silent(), 900.0, host_facts())
    began = time.monotonic()
    options = SourceOptions(python=python if lock is not None else None, **one.options)  # type: ignore[arg-type]
    model = export_model(runner, one.source, shapes=one.shapes, options=options)
    seconds = time.monotonic() - began
    facts, compared = read_facts(model), read_compared(model)
    prepared = runner.run(prepare, model)
    row: dict[str, object] = {
        "source": one.title, "environment": lock.name if lock else "edgepack's own", "made_s": round(made_s),
        "environment_mb": _size(place_of(lock)) >> 20 if lock else None, "conversion_s": round(seconds, 1),
        "difference": (facts or compared).largest_difference if facts or compared else None, "versions": dict(facts.versions) if facts else {},
        "nodes": [_count(model), _count(prepared)], "transposes": [_count(model, "Transpose"), _count(prepared, "Transpose")],
    }  # fmt: skip
    quantized = facts is not None and facts.quantized
    if one.pictures or quantized:
        row |= _int8(model, folder, root, as_is=quantized)
    return row


def _pictures(folder: Path) -> None:
    """Write pictures to train with and others to build with, values from 0 to 1."""
    if PICTURES.is_file():
        stored = np.load(PICTURES)
        x, y = stored["x"].astype(np.float32) / 255, stored["y"].astype(np.int64).ravel()
    else:
        random = np.random.default_rng(0)
        x, y = random.random((2000, 32, 32, 3), np.float32), random.integers(0, 10, 2000)
    few = CALIBRATED + EVALUATED
    np.savez(folder / "train.npz", image=x[few:], labels=y[few:])
    np.savez(folder / "calibration.npz", image=x[:CALIBRATED])
    np.savez(folder / "evaluation.npz", image=x[CALIBRATED:few])


def _int8(model: OnnxModel, folder: Path, root: Path, *, as_is: bool) -> dict[str, object]:
    """Return SQNR, agreement and latency of int8 by the plain rules of both engines: what the graph's form costs.

    Of a model that came quantized as it is: then SQNR is to its own answers. The latency is a ratio to the bundle of the
    first row, by paired, interleaved runs.
    """
    how = ["-p", "as-is", "--eval", "integer.npz"] if as_is else ["-p", "int8", "--method", "plain", "-d", "calibration.npz", "--eval", "evaluation.npz"]  # fmt: skip
    built = folder / "built"
    words = ["build", str(model.path), "-t", ",".join(TARGETS), *how, "--no-benchmark", "--allow-poor", "--out", str(built),
             "--json", "--store", "store"]  # fmt: skip
    rows = json.loads(_edgepack(folder, *words))["rows"]
    if failed := next((row["reason"] for row in rows if row["bundle"] is None), None):
        raise RuntimeError(failed)
    return {
        row["target"]: {k: row[k] for k in ("sqnr_db", "agreement")} | _ratio(row, root / row["target"]) for row in rows
    }


def _ratio(row: dict[str, str], first: Path) -> dict[str, object]:
    """Return the latency of a row's bundle as a ratio to the first one's, which it becomes where there is none yet."""
    if not first.is_file():
        shutil.copyfile(row["bundle"], first)
        return {"ratio": 1.0, "ci95": None}
    found = json.loads(
        _edgepack(first.parent, "compare", str(first), row["bundle"], "--duration", "20s", "--threads", "1", "--json")
    )
    return {"ratio": found["ratio"], "ci95": found["ci95"]}


def _edgepack(folder: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "edgepack", *words], cwd=folder, capture_output=True, text=True, check=False
    )
    if not done.stdout:
        raise RuntimeError(done.stderr[-1500:])
    return done.stdout


def _count(model: OnnxModel, operator: str | None = None) -> int:
    nodes = read_proto(model, weights=False).graph.node
    return sum(operator in (None, node.op_type) for node in nodes)


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


def table(rows: list[dict[str, object]]) -> str:
    """Return the rows as a table of Markdown."""
    lines = [
        "| source | environment, MB | conversion, s | largest difference | nodes | transposes | int8 dB, agreement, latency to the first row's: ONNX Runtime | OpenVINO |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if "error" in row:
            lines.append(f"| {row['source']} | failed: {str(row['error']).splitlines()[-1][:120]} | | | | | | |")
            continue
        lines.append(
            f"| {row['source']} | {row['environment']}, {row['environment_mb'] or '-'} | {row['conversion_s']} | "
            f"{_difference(row['difference'])} | {_arrow(row['nodes'])} | {_arrow(row['transposes'])} | "
            + " | ".join(_close(row.get(target)) for target in TARGETS) + " |"
        )  # fmt: skip
    return "\n".join(lines)


def _difference(found: object) -> str:
    return "-" if found is None else f"{found:.0e}"


def _arrow(pair: object) -> str:
    before, after = pair  # type: ignore[misc]
    return f"{before} → {after}"


def _close(found: object) -> str:
    if not isinstance(found, dict):
        return ""
    close = "exact" if found["sqnr_db"] is None else f"{found['sqnr_db']:.1f}"
    ends = f" ({found['ci95'][0]:.2f} to {found['ci95'][1]:.2f})" if found["ci95"] else ""
    return f"{close}, {found['agreement']:.3f}, {found['ratio']:.2f}{ends}"


def main() -> None:
    """Measure the cases chosen and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", help="frameworks")
    chosen = parser.parse_args().only
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as root:
        for one in CASES:
            if chosen and one.framework not in chosen:
                continue
            try:
                rows.append(measure(one, Path(root)))
            except Exception as error:  # a source that fails is a row that says so
                rows.append({"source": one.title, "error": f"{type(error).__name__}: {error}"})
            finally:
                os.chdir(ROOT)
            print(json.dumps(rows[-1], default=str), file=sys.stderr, flush=True)
    host = host_facts()
    text = f"{table(rows)}\n\n{time.strftime('%d %B %Y')}, {host.cpu}, {host.cores} cores, Python {platform.python_version()}.\n"
    (ROOT / "artifacts" / "sources.md").write_text(text)
    (ROOT / "artifacts" / "sources.json").write_text(json.dumps(rows, indent=1))
    print(text)


if __name__ == "__main__":
    main()
