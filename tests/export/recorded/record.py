# ruff: noqa: E501
"""Records what the real workers answer for tiny models: ``python record.py FRAMEWORK PYTHON FOLDER``.

Run by hand when a worker changes, with a Python that has the framework; writes ``FRAMEWORK.zip`` beside this file.
Weights repeat sixteen values, so that the recordings are a few kB.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from edgepack.export import FRAMEWORKS
from edgepack.export.worker import _request, _run
from edgepack.specs.source import SourceOptions

HERE = Path(__file__).parent
TILE = "import numpy as np\ntile = lambda shape: np.resize(np.random.default_rng(0).normal(size=16) / 4, shape)\n"
KERAS = (
    TILE
    + """
import keras
i = keras.Input((8, 8, 3), name="image"); x = keras.layers.Conv2D(4, 3, activation="relu")(i)
m = keras.Model(i, keras.layers.Dense(2, name="scores")(keras.layers.GlobalAveragePooling2D()(x)), name="tiny")
m.set_weights([tile(w.shape) for w in m.get_weights()])
"""
)
TORCH = (
    TILE
    + """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("g", WORKERS + "/torch_graph.py"); g = importlib.util.module_from_spec(spec)
spec.loader.exec_module(g); g.without_torchvision()
import torch
def fill(m):
    with torch.no_grad():
        for p in m.parameters(): p.copy_(torch.tensor(tile(tuple(p.shape)) if p.dim() > 1 else p, dtype=p.dtype))
    return m.eval()
"""
)
FLAX = """
from flax import nnx
class Net(nnx.Module):
    def __init__(self, rngs):
        self.c = nnx.Conv(3, 4, (3, 3), rngs=rngs); self.b = nnx.BatchNorm(4, rngs=rngs)
        self.d = nnx.Dropout(0.5, rngs=rngs); self.l = nnx.Linear(4, 2, rngs=rngs)
    def __call__(self, image): return self.l(self.d(nnx.gelu(self.b(self.c(image))).mean((1, 2))))
"""
SHAPES = {"timm": {"x": ("N", 3, 32, 32)}, "torch_file": {"input": ("N", 3, 8, 8)}, "flax": {"image": ("N", 8, 8, 3)}}
MAKERS = {
    "keras": (KERAS + "m.save('m.keras')", "m.keras", {}),
    "keras2": (
        TILE + """
import os; os.environ['TF_USE_LEGACY_KERAS'] = '1'
import tf_keras as K, tensorflow_model_optimization as tfmot
i = K.Input((8, 8, 3), name='image'); x = K.layers.Conv2D(4, 3)(i); x = K.layers.BatchNormalization()(x)
x = K.layers.GlobalAveragePooling2D()(K.layers.ReLU()(x))
m = tfmot.quantization.keras.quantize_model(K.Model(i, K.layers.Dense(2, name='scores')(x), name='tiny'))
for l in m.layers:
    for v in l.weights:
        if 'kernel' in v.name: v.assign(tile(v.shape))
m.compile('sgd', 'mse'); r = np.random.default_rng(0)
m.fit(r.normal(size=(64, 8, 8, 3)), r.normal(size=(64, 2)), verbose=0); m.save('m.h5')""", "m.h5", {},
    ),
    "flax": (
        TILE + f"open('net.py', 'w').write({FLAX!r})\n" + """
from net import Net
from flax import nnx, serialization
import jax
state = nnx.to_pure_dict(nnx.state(Net(nnx.Rngs(0)), nnx.Not(nnx.RngState)))
state = jax.tree.map(lambda v: tile(v.shape).astype('f') if v.ndim > 1 else v, state)
open('m.msgpack', 'wb').write(serialization.to_bytes(state))""", "m.msgpack", {"module": "net.py:Net"},
    ),
    "saved_model": (KERAS + "m.export('m', verbose=False)", "m", {}),
    "tflite": (
        KERAS + """
import tensorflow as tf
c = tf.lite.TFLiteConverter.from_keras_model(m); c.optimizations = [tf.lite.Optimize.DEFAULT]
c.representative_dataset = lambda: ([np.random.default_rng(n).random((1, 8, 8, 3), np.float32)] for n in range(20))
c.inference_input_type = c.inference_output_type = tf.int8
open('m.tflite', 'wb').write(c.convert())""", "m.tflite", {},
    ),
    "hugging_face": (
        TORCH + """
import transformers as t
c = t.BertConfig(vocab_size=16, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
    max_position_embeddings=32, id2label={0: 'bad', 1: 'good'})
fill(t.BertForSequenceClassification(c)).save_pretrained('bert')""", "bert", {},
    ),
    "timm": (
        TORCH + "import timm\ntorch.save(fill(timm.create_model('test_resnet', num_classes=3)).state_dict(), 'w.pth')",
        "timm:test_resnet", {"weights": "w.pth"},
    ),
    "torch_file": (
        TORCH + "torch.jit.script(fill(torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.ReLU()))).save('m.pt')",
        "m.pt", {},
    ),
    "fastai": (
        TORCH + """
from fastai.vision.all import *
import PIL.Image, pathlib
for n in range(8):
    d = pathlib.Path('p') / 'ab'[n % 2]; d.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(np.random.default_rng(n).integers(0, 255, (20, 20, 3), np.uint8)).save(d / f'{n}.png')
dls = ImageDataLoaders.from_folder('p', valid_pct=.5, item_tfms=Resize(16), bs=2,
    batch_tfms=[Normalize.from_stats(*imagenet_stats)], num_workers=0)
m = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(2, 2))
Learner(dls, fill(m), loss_func=CrossEntropyLossFlat(), metrics=[]).export('m.pkl')""", "p/m.pkl", {"trust_code": True},
    ),
    "sklearn": (
        "import joblib, numpy as np\nfrom sklearn.linear_model import LogisticRegression\n"
        "x = np.random.default_rng(0).normal(size=(40, 3)); joblib.dump(LogisticRegression().fit(x, x[:, 0] > 0), 'm.joblib')",
        "m.joblib", {"trust_code": True},
    ),
}  # fmt: skip


def main(name: str, python: str, folder: Path) -> None:
    """Make the tiny model, run the real worker on it, and keep its answer."""
    import os

    worker = FRAMEWORKS.get(name).worker
    assert worker is not None
    code, source, options = MAKERS[name]
    folder.mkdir(parents=True)
    os.chdir(folder)
    script = f"WORKERS = {str(worker.path.parent)!r}\n{code}"
    subprocess.run([python, "-c", script], check=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
    answer = folder / "answer"
    answer.mkdir()
    _run(
        worker,
        python,
        _request(worker, source, SHAPES.get(name, {}), SourceOptions(**options)),
        answer,
        lambda *_: None,
    )
    with zipfile.ZipFile(HERE / f"{name}.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for file in ("model.onnx", "meta.json", "pairs.npz"):
            archive.writestr(zipfile.ZipInfo(file), (answer / file).read_bytes(), zipfile.ZIP_DEFLATED)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]).absolute())
