"""From a PyTorch network to fp32 and int8 bundles, in Python."""

import torch
from stripes import CLASSES, make_pictures, to_input

from edgepack import build


def make():
    """Return the trained network; edgepack calls this in a process of its own."""
    torch.manual_seed(0)
    pictures, labels = make_pictures(1000, seed=0)
    x, y = torch.from_numpy(to_input(pictures)), torch.from_numpy(labels)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 16, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(16, 32, 3, padding=1, stride=2),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(32, len(CLASSES)),
    )
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(6):
        for part in torch.randperm(len(x)).split(100):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x[part]), y[part]).backward()
            optimizer.step()
    return model.eval()


if __name__ == "__main__":
    result = build(
        "torch_to_int8.py:make",
        targets=("host-onnxruntime",),
        precisions=("fp32", "int8"),
        data="stripes.py:samples",
        shapes={"input": "Nx1x16x16"},  # N: any batch
        samples=200,
        max_drop=0.02,
        out="from-torch",
        benchmark=False,  # True measures latency on this machine
    )
    for row in result.rows:
        print(f"{row.target} {row.precision}: {row.status}, top-1 {100 * row.accuracy.value:.1f} %, {row.bundle}")
