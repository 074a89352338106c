"""A stage's output and the stores of several machines, for the tests of shared stores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgepack.execution.shared.address import parse_address
from edgepack.execution.shared.remote import Remote
from edgepack.execution.shared.shared import SharedStore
from edgepack.execution.store import Store


@dataclass(frozen=True)
class Output:
    """What the stages of these tests return."""

    path: Path
    number: int


def make(number: int = 1, size: int = 1000) -> Callable[[Path], Output]:
    """Return a stage's function: a file of ``size`` bytes, an empty one in a folder."""

    def function(out: Path) -> Output:
        (out / "model.bin").write_bytes(bytes([number % 256]) * size)
        (out / "deep").mkdir()
        (out / "deep" / "empty").write_bytes(b"")
        return Output(out / "model.bin", number)

    return function


class Machine(Store):
    """A machine with a folder of its own before a shared store, and what it was told."""

    def __init__(self, folder: Path, url: str, secret: bytes | None = None) -> None:
        self.shared = SharedStore(Remote(parse_address(url), pause_s=0.01), secret)
        super().__init__(folder, self.shared)
        self.told: list[str] = []
        self.tell_by(self.told.append)

    def output(self, number: int = 1, size: int = 1000) -> Output:
        """Return an output, from where it is or made now."""
        found = self.run("stage", 1, {"number": number, "size": size}, Output, make(number, size))
        assert found.number == number
        assert found.path.read_bytes() == bytes([number % 256]) * size
        assert (found.path.parent / "deep" / "empty").read_bytes() == b""
        return found
