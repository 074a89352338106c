"""ResNet18, ResNet50 and MobileNetV2 in a few lines of torch, with random weights: for speed and numerics.

Deep Residual Learning for Image Recognition (arXiv 1512.03385, table 1; the stride of a bottleneck is in its 3x3) and
MobileNetV2: Inverted Residuals and Linear Bottlenecks (arXiv 1801.04381, table 2).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]


class Residual(nn.Module):
    """The sum of a body and of the input or a projection of it, with or without a ReLU after it."""

    def __init__(self, body: nn.Module, shortcut: nn.Module, last: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut, self.last = body, shortcut, last

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the sum."""
        return self.last(self.body(x) + self.shortcut(x))


def resnet(blocks: tuple[int, int, int, int], *, bottleneck: bool) -> nn.Module:
    """Return a network of input [N, 3, 224, 224] and output [N, 1000]."""
    layers: list[nn.Module] = [*_conv(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    for stage, count in enumerate(blocks):
        width = 64 << stage
        outputs = width * 4 if bottleneck else width
        for block in range(count):
            stride = 2 if stage and not block else 1
            if bottleneck:
                body = [
                    *_conv(channels, width, 1), nn.ReLU(), *_conv(width, width, 3, stride), nn.ReLU(),
                    *_conv(width, outputs, 1),
                ]  # fmt: skip
            else:
                body = [*_conv(channels, width, 3, stride), nn.ReLU(), *_conv(width, width, 3)]
            same = stride == 1 and channels == outputs
            shortcut = nn.Identity() if same else nn.Sequential(*_conv(channels, outputs, 1, stride))
            layers.append(Residual(nn.Sequential(*body), shortcut, nn.ReLU()))
            channels = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1000))


def mobilenet_v2() -> nn.Module:
    """Return a network of input [N, 3, 224, 224] and output [N, 1000]."""
    layers: list[nn.Module] = [*_conv(3, 32, 3, 2), nn.ReLU6()]
    channels = 32
    for expansion, outputs, count, first in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    ):  # fmt: skip
        for block in range(count):
            stride = 1 if block else first
            wide = channels * expansion
            body = [*_conv(channels, wide, 1), nn.ReLU6()] if expansion > 1 else []
            body += [*_conv(wide, wide, 3, stride, wide), nn.ReLU6(), *_conv(wide, outputs, 1)]
            same = stride == 1 and channels == outputs
            layers.append(
                Residual(nn.Sequential(*body), nn.Identity(), nn.Identity()) if same else nn.Sequential(*body)
            )
            channels = outputs
    head = [*_conv(channels, 1280, 1), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 1000)]
    return nn.Sequential(*layers, *head)


MODELS = {
    "resnet18": lambda: resnet((2, 2, 2, 2), bottleneck=False),
    "resnet50": lambda: resnet((3, 4, 6, 3), bottleneck=True),
    "mobilenetv2": mobilenet_v2,
}


def export(name: str, path: Path) -> Path:
    """Write the network with random weights as ONNX; batch normalisation has statistics of random pictures."""
    torch.manual_seed(0)
    model = MODELS[name]()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # one pass sets the statistics, so that nothing grows or vanishes
            module.momentum = None
    with torch.no_grad():
        model.train()(torch.randn(4, 3, 224, 224))
    example = (torch.zeros(1, 3, 224, 224),)
    torch.onnx.export(
        model.eval(), example, str(path), input_names=["input"], output_names=["output"], opset_version=17, dynamo=False
    )
    return path
