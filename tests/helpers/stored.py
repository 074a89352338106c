"""What the stages of the store's tests return, and what they leave on the disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Output:
    """What the stages of these tests return."""

    path: Path
    number: int = 0
    more: tuple[Path, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)


def make(text: str = "data", number: int = 7) -> Callable[[Path], Output]:
    def function(out: Path) -> Output:
        (out / "deep").mkdir()
        (out / "model.bin").write_text(text)
        (out / "deep" / "more.bin").write_bytes(b"\0" * 1000)
        return Output(out / "model.bin", number, (out / "deep" / "more.bin",), {"z": "1", "a": "2"})

    return function


def entries(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.rglob("_value.json"))


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".*") if path.is_dir()]
