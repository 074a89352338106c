"""Two models' outputs as metrics get them, from arrays."""

from types import SimpleNamespace

import numpy as np

from edgepack.verify.metrics import Compared


class Outputs:
    """Stands for an ``OutputReader`` of one output."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def whole(self, name: str) -> np.ndarray:
        assert name == "out"
        return self.values

    def sample(self, index: int) -> dict[str, np.ndarray]:
        return {"out": self.values[index : index + 1]}


def compared(metric: str, fp32: np.ndarray, other: np.ndarray, labels=None, samples=None) -> Compared:
    return Compared(metric, SimpleNamespace(), Outputs(fp32), Outputs(other), ("out",), labels, 0, samples)
