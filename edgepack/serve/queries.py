"""What is asked of a served model, whichever protocol it came by, and how asking can end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from edgepack.errors import EdgepackError
from edgepack.specs.types import Array


class BusyError(EdgepackError):
    """More is asked than can be answered in time; ``retry_s`` is when to ask again."""

    default_hint = "ask again later, or slower"

    def __init__(self, message: str, retry_s: float) -> None:
        super().__init__(message)
        self.retry_s = retry_s


class UnknownModelError(EdgepackError):
    """There is no such model, or no such version of it."""

    default_hint = "the index of models is at POST /v2/repository/index"


class ClosingError(BusyError):
    """The server is about to end."""


@dataclass(frozen=True)
class Wanted:
    """An output that is asked for, and whether as raw bytes."""

    name: str
    binary: bool


@dataclass(frozen=True)
class Query:
    """One query: arrays by the names of the inputs. ``outputs`` is empty for all of them."""

    feeds: Mapping[str, Array]
    outputs: tuple[Wanted, ...] = ()
    binary: bool = False
    id: str = ""


@dataclass(frozen=True)
class Answer:
    """Outputs by name in the model's order, the version that computed them, and when it had, by the server's clock."""

    outputs: Mapping[str, Array]
    model: str
    version: str
    at: float = 0.0


@dataclass(frozen=True)
class Limits:
    """What a server takes on. ``queue`` counts queries that wait; ``wait_s`` is the longest from arrival to answer.

    ``batch`` is the most samples that are run at once, ``delay_s`` how long the first of them waits for others.
    ``workers`` is how many inferences of one model run at the same time, ``request_bytes`` the largest query.
    """

    batch: int = 8
    delay_s: float = 0.0
    queue: int = 64
    wait_s: float = 1.0
    workers: int = 1
    request_bytes: int = 32 << 20


Outcome = Literal["ok", "invalid", "refused", "failed"]


@dataclass(frozen=True)
class Served:
    """A bundle to serve, by its name or as NAME=PATH."""

    path: str
    name: str | None = field(default=None)
