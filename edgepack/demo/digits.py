"""A small network trained here on scikit-learn's handwritten digits: the labelled demonstration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.base.stage import stage
from edgepack.specs.types import Progress, no_progress

if TYPE_CHECKING:
    from edgepack.specs.types import Array

_SEED = 7
_EPOCHS = 30
_BATCH = 64
_EVALUATION = 600


def load_digits() -> tuple[Array, Array, Array, Array]:
    """Return training pictures and labels, then those for evaluation; pictures are float32 [n, 1, 8, 8] in 0..1."""
    import numpy as np
    from sklearn import datasets

    bunch = datasets.load_digits()
    pictures = (bunch.images / 16).astype(np.float32)[:, None]
    labels = bunch.target.astype(np.int64)
    order = np.random.default_rng(_SEED).permutation(len(labels))
    train, test = order[_EVALUATION:], order[:_EVALUATION]
    return pictures[train], labels[train], pictures[test], labels[test]


def make_model(progress: Progress = no_progress) -> Any:
    """Train on 1197 digits and return the torch module: input [N, 1, 8, 8], output 10 class scores."""
    import torch
    from torch import nn

    pictures, labels, _, _ = load_digits()
    torch.manual_seed(_SEED)
    torch.use_deterministic_algorithms(True)
    model = nn.Sequential(
        *_block(1, 32), *_block(32, 32), nn.MaxPool2d(2), *_block(32, 64), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(64, 10),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _EPOCHS)
    x, y = torch.from_numpy(pictures), torch.from_numpy(labels)
    generator = torch.Generator().manual_seed(_SEED)
    for epoch in range(_EPOCHS):
        progress("training epochs", epoch, _EPOCHS)
        for chosen in torch.split(torch.randperm(len(x), generator=generator), _BATCH):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x[chosen]), y[chosen])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        schedule.step()
    progress("training epochs", _EPOCHS, _EPOCHS)
    model.eval()
    setattr(model, "example_inputs", (x[:1],))  # noqa: B010 - edgepack reads the input's shape from it
    return model


def _block(inputs: int, outputs: int) -> tuple[Any, ...]:
    from torch import nn

    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()


@stage("data")
def write_digits(out: Path) -> Path:
    """Write ``calibration.npz`` (256 of the training digits) and ``evaluation.npz`` (600 others, labelled)."""
    import numpy as np

    train, _, test, labels = load_digits()
    np.savez(out / "calibration.npz", input=train[:256])
    np.savez(out / "evaluation.npz", input=test, labels=labels)
    return out
