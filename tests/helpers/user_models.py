"""What users write: torch modules of many kinds, good and bad. Loaded by the tests as file.py:callable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn


class Conv(nn.Module):
    """image[N,3,H,W] -> logits, with a batch norm, a dropout and an optional argument."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.drop, self.fc = (
            nn.Conv2d(3, 4, 3),
            nn.BatchNorm2d(4),
            nn.Dropout(0.5),
            nn.Linear(4, 5),
        )

    def forward(self, image: torch.Tensor, scale: torch.Tensor | None = None) -> torch.Tensor:
        x = self.drop(self.norm(self.conv(image)).relu().mean((2, 3)))
        return self.fc(x if scale is None else x * scale)


def make() -> nn.Module:
    return Conv().train()


def make_half() -> nn.Module:
    return Conv().half()


@dataclass
class Found:
    boxes: torch.Tensor
    scores: torch.Tensor
    extra: torch.Tensor | None = None


class Pair(NamedTuple):
    first: torch.Tensor
    second: torch.Tensor


class Returns(nn.Module):
    """Returns what ``wrap`` makes of two tensors."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: torch.Tensor) -> object:
        a, b = x * 2, x.sum(1)
        return {
            "tuple": (a, b),
            "list": [a, b],
            "dict": {"boxes": a, "scores": b},
            "nested": {"out": (a, b), "aux": None},
            "named tuple": Pair(a, b),
            "dataclass": Found(a, b),
            "number": (a, 5),
            "nothing": None,
            "twice": {"a_0": a, "a": [b]},
            "input name": {"x": a},
        }[self.kind]


def returns_tuple() -> nn.Module:
    return Returns("tuple")


def returns_list() -> nn.Module:
    return Returns("list")


def returns_dict() -> nn.Module:
    return Returns("dict")


def returns_nested() -> nn.Module:
    return Returns("nested")


def returns_named_tuple() -> nn.Module:
    return Returns("named tuple")


def returns_dataclass() -> nn.Module:
    return Returns("dataclass")


def returns_number() -> nn.Module:
    return Returns("number")


def returns_nothing() -> nn.Module:
    return Returns("nothing")


def returns_twice() -> nn.Module:
    return Returns("twice")


def returns_input_name() -> nn.Module:
    return Returns("input name")


class Tokens(nn.Module):
    """ids[N,L], mask[N,L] -> output[N,8]: whole numbers and two free dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(100, 8)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return (self.embedding(ids) * mask[..., None]).sum(1)


class DependsOnValues(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.sum() > 0:
            return x + 1
        return -x


class FixesBatch(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(2, -1)


class Random(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.rand_like(x)


class Counts(nn.Module):
    """Its result depends on how often it was called: Python state that tracing freezes."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x * self.calls


class Fails(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise ValueError("I do not work")


class NoInputs(nn.Module):
    def forward(self) -> torch.Tensor:
        return torch.zeros(3)


class WithExamples(nn.Module):
    example_inputs = (torch.zeros(1, 6),)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.cumsum(1)


def fails() -> nn.Module:
    raise RuntimeError("the weights are not here")


def leaves() -> nn.Module:
    raise SystemExit(3)


def gives_a_number() -> int:
    return 5


def needs_an_argument(_path: str) -> nn.Module:
    return Conv()


not_callable = 5


class Distances(nn.Module):
    """x[N,4,8] -> distances[N,4,4] by an operator that torch's newer exporter does not know."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.fc(x)
        return torch.cdist(y, y + 1)


class DistancesOrNot(Distances):
    """The same, or another result, as the values are: recorded, it would be one of the two for ever."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) if x.sum() > 0 else x[:, :, :4] * 2


class Frozen(Distances):
    """Leaves torch, so that what was computed there would be recorded as a constant."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * float(x.detach().numpy().mean())


def script() -> nn.Module:
    return torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()))


def traced() -> nn.Module:
    return torch.jit.trace(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), torch.zeros(1, 3, 8, 8))


class Drops(nn.Module):
    """A dropout that is on always."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(x, 0.5)
