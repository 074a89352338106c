"""Runs a bundle where numpy and its engine are all there is: pip install 'edgepack[onnxruntime]'."""

import sys
from pathlib import Path

import numpy as np

from edgepack import load

with np.load("stripes.npz") as data:
    x, labels = data["input"][:100], data["labels"][:100]
with load(Path(sys.argv[1])) as model:
    scores = model.infer({"input": x})["scores"]
    right = int((scores.argmax(axis=1) == labels).sum())
    print(f"{model.manifest.name} {model.manifest.precision} on {model.backend}: {right} of {len(labels)} right")
