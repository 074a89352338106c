"""A classifier with SiLU and depthwise convolutions throughout, trained here on scikit-learn's digits in a minute."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.demo.digits import load_digits

if TYPE_CHECKING:
    from pathlib import Path

    from edgepack.specs.types import Array

_EPOCHS, _BATCH, _SEED = 12, 64, 5


def larger(pictures: Array) -> Array:
    """Return digits [N, 1, 8, 8] with each pixel twice as high and wide."""
    return pictures.repeat(2, axis=2).repeat(2, axis=3)


def train() -> Any:
    """Return the torch module: input [N, 1, 16, 16], output 10 class scores; blocks in the manner of YOLOX-nano."""
    import torch
    from torch import nn

    def conv(inputs: int, outputs: int, size: int = 1, stride: int = 1, groups: int = 1) -> nn.Module:
        made = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
        return nn.Sequential(made, nn.BatchNorm2d(outputs), nn.SiLU())

    def separable(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
        return nn.Sequential(conv(inputs, inputs, 3, stride, inputs), conv(inputs, outputs))

    class Partial(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            half = channels // 2
            self.long, self.short, self.last = conv(channels, half), conv(channels, half), conv(channels, channels)
            self.inner = nn.Sequential(conv(half, half), separable(half, half))

        def forward(self, x: Any) -> Any:
            y = self.long(x)
            return self.last(torch.cat([y + self.inner(y), self.short(x)], 1))

    torch.manual_seed(_SEED)
    torch.use_deterministic_algorithms(True)
    model = nn.Sequential(
        conv(1, 16, 3), separable(16, 32, 2), Partial(32), separable(32, 64, 2), Partial(64), Partial(64),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip
    pictures, labels, _, _ = load_digits()
    x, y = torch.from_numpy(larger(pictures)), torch.from_numpy(labels)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _EPOCHS)
    generator = torch.Generator().manual_seed(_SEED)
    for _ in range(_EPOCHS):
        for chosen in torch.split(torch.randperm(len(x), generator=generator), _BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[chosen]), y[chosen]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        schedule.step()
    model.eval()
    return model


def write(out: Path) -> None:
    """Write ``smooth.onnx``, ``calibration.npz`` (128 of the training digits) and ``evaluation.npz`` (600 others)."""
    import torch

    model = train()
    example = torch.zeros(1, 1, 16, 16)
    free = {"image": {0: "N"}, "scores": {0: "N"}}
    names = {"input_names": ["image"], "output_names": ["scores"], "dynamic_axes": free}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the older exporter is the faster one
        torch.onnx.export(model, (example,), str(out / "smooth.onnx"), dynamo=False, opset_version=17, **names)
    pictures, _, others, labels = load_digits()
    np.savez(out / "calibration.npz", image=larger(pictures[:128]))
    np.savez(out / "evaluation.npz", image=larger(others), labels=labels)
