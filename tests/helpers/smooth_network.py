"""A classifier and a detector with SiLU and depthwise convolutions throughout, trained here in a minute each."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.demo.digits import load_digits

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgepack.specs.types import Array

_EPOCHS, _BATCH, _SEED = 12, 64, 5


def larger(pictures: Array) -> Array:
    """Return digits [N, 1, 8, 8] with each pixel twice as high and wide."""
    return pictures.repeat(2, axis=2).repeat(2, axis=3)


def conv(inputs: int, outputs: int, size: int = 1, stride: int = 1, groups: int = 1) -> Any:
    """Return a convolution with batch norm and SiLU."""
    from torch import nn

    made = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(made, nn.BatchNorm2d(outputs), nn.SiLU())


def separable(inputs: int, outputs: int, stride: int = 1) -> Any:
    """Return a depthwise convolution and a pointwise one."""
    from torch import nn

    return nn.Sequential(conv(inputs, inputs, 3, stride, inputs), conv(inputs, outputs))


def partial(channels: int) -> Any:
    """Return a block of YOLOX-nano: two halves, one with a residual, joined again."""
    import torch
    from torch import nn

    class Partial(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            half = channels // 2
            self.long, self.short, self.last = conv(channels, half), conv(channels, half), conv(channels, channels)
            self.inner = nn.Sequential(conv(half, half), separable(half, half))

        def forward(self, x: Any) -> Any:
            y = self.long(x)
            return self.last(torch.cat([y + self.inner(y), self.short(x)], 1))

    return Partial()


def make_detector() -> Any:
    """Return an untrained network for ``edgepack.demo.shapes.train``: a head of its own for scores and for boxes."""
    import torch
    from torch import nn

    class Detector(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(
                conv(3, 16, 3, 2), separable(16, 32, 2), partial(32), separable(32, 48), partial(48), separable(48, 48)
            )
            self.scores, self.boxes = (nn.Sequential(separable(48, 32), separable(32, 32)) for _ in range(2))
            self.heat, self.sides, self.offsets = (nn.Conv2d(32, count, 1) for count in (3, 2, 2))
            nn.init.constant_(self.heat.bias, -4.0)  # type: ignore[arg-type]

        def forward(self, image: Any) -> tuple[Any, Any, Any]:
            found = self.body(image)
            boxes = self.boxes(found)
            return torch.sigmoid(self.heat(self.scores(found))), self.sides(boxes), self.offsets(boxes)

    return Detector()


def make_pyramid(activation: str) -> Any:
    """Return an untrained detector of another kind: inverted blocks with gates, whose stages a pyramid joins.

    ``activation`` is a module of ``torch.nn``; with ReLU6 there are no gates (squeeze and excitation).
    """
    import torch
    from torch import nn

    act = getattr(nn, activation)

    def layer(inputs: int, outputs: int, size: int = 1, stride: int = 1, groups: int = 1, *, last: bool = False) -> Any:
        made = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
        return nn.Sequential(made, nn.BatchNorm2d(outputs), nn.Identity() if last else act())

    class Gate(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.less, self.more = nn.Conv2d(channels, channels // 4, 1), nn.Conv2d(channels // 4, channels, 1)

        def forward(self, x: Any) -> Any:
            found = torch.relu(self.less(nn.functional.adaptive_avg_pool2d(x, 1)))
            return x * nn.functional.hardsigmoid(self.more(found))

    class Inverted(nn.Module):
        def __init__(self, inputs: int, outputs: int, size: int = 3, stride: int = 1) -> None:
            super().__init__()
            self.adds, wide = stride == 1 and inputs == outputs, inputs * 3
            first, middle = layer(inputs, wide), layer(wide, wide, size, stride, wide)
            gate = nn.Identity() if activation == "ReLU6" else Gate(wide)
            self.layers = nn.Sequential(first, middle, gate, layer(wide, outputs, last=True))

        def forward(self, x: Any) -> Any:
            return x + self.layers(x) if self.adds else self.layers(x)

    def smooth(size: int) -> Any:
        return nn.Sequential(layer(32, 32, size, 1, 32), layer(32, 32))

    class Pyramid(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = layer(3, 16, 3, 2)
            self.second = nn.Sequential(Inverted(16, 24, 3, 2), Inverted(24, 24))
            self.third = nn.Sequential(Inverted(24, 40, 5, 2), Inverted(40, 40, 5))
            self.fourth = nn.Sequential(Inverted(40, 64, 3, 2), Inverted(64, 64))
            self.sides_of = nn.ModuleList(layer(channels, 32) for channels in (24, 40, 64))
            self.smooth = nn.ModuleList([smooth(5), smooth(5)])
            self.scores, self.boxes = smooth(3), smooth(3)
            self.heat, self.sides, self.offsets = (nn.Conv2d(32, count, 1) for count in (3, 2, 2))
            nn.init.constant_(self.heat.bias, -4.0)  # type: ignore[arg-type]

        def forward(self, image: Any) -> tuple[Any, Any, Any]:
            second = self.second(self.stem(image))
            third = self.third(second)
            found = self.sides_of[2](self.fourth(third))
            for smoothed, side, stage in zip(self.smooth, (1, 0), (third, second), strict=True):
                larger = nn.functional.interpolate(found, scale_factor=2.0, mode="nearest")
                found = smoothed(self.sides_of[side](stage) + larger)
            boxes = self.boxes(found)
            return torch.sigmoid(self.heat(self.scores(found))), self.sides(boxes), self.offsets(boxes)

    return Pyramid()


def train() -> Any:
    """Return the torch module: input [N, 1, 16, 16], output 10 class scores; blocks in the manner of YOLOX-nano."""
    import torch
    from torch import nn

    torch.manual_seed(_SEED)
    torch.use_deterministic_algorithms(True)
    model = nn.Sequential(
        conv(1, 16, 3), separable(16, 32, 2), partial(32), separable(32, 64, 2), partial(64), partial(64),
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


def write_detector(out: Path, make: Callable[[], Any] = make_detector) -> None:
    """Write ``detector.onnx``: image [N, 3, 64, 64], answers as the demonstration's detector gives them."""
    import torch

    from edgepack.demo.shapes import train as train_on_shapes

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on a busy machine small layers wait 25 times as long for each other's threads
    try:
        model = train_on_shapes(make)
    finally:
        torch.set_num_threads(threads)
    _export(model, (1, 3, 64, 64), ["heat", "sides", "offsets"], out / "detector.onnx")


def _export(model: Any, shape: tuple[int, ...], outputs: list[str], path: Path) -> None:
    import torch

    names = {"input_names": ["image"], "output_names": outputs}
    free = {name: {0: "N"} for name in ("image", *outputs)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the older exporter is the faster one
        torch.onnx.export(
            model, (torch.zeros(shape),), str(path), dynamo=False, opset_version=17, dynamic_axes=free, **names
        )


def write(out: Path) -> None:
    """Write ``smooth.onnx``, ``calibration.npz`` (128 of the training digits) and ``evaluation.npz`` (600 others)."""
    _export(train(), (1, 1, 16, 16), ["scores"], out / "smooth.onnx")
    pictures, _, others, labels = load_digits()
    np.savez(out / "calibration.npz", image=larger(pictures[:128]))
    np.savez(out / "evaluation.npz", image=larger(others), labels=labels)
