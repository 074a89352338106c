"""What a user allows for the reading of a model that is not an ONNX file, and what its framework told of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgepack.specs.data import Preprocessing
from edgepack.specs.types import UserSource


@dataclass(frozen=True)
class Interpreter:
    """A Python that has a framework: its path, and what it has in one digest, by which alone it counts."""

    python: str
    sha256: str


@dataclass(frozen=True)
class SourceOptions:
    """``trust_code`` lets code in the source run, ``download`` lets a hub be asked for what the source names.

    ``module`` is the class of a state dict, ``weights`` the file for a named architecture, ``signature`` the one of
    several that is meant. ``python`` is the user's own interpreter; ``interpreter`` the one that was found for it.
    """

    python: str | None = None
    trust_code: bool = False
    download: bool = False
    module: UserSource | None = None
    weights: UserSource | None = None
    signature: str | None = None
    interpreter: Interpreter | None = None


@dataclass(frozen=True)
class Compared:
    """How far ONNX Runtime is from what torch itself computed here, ``compared.json``.

    ``largest_difference`` is a share of the largest value, over ``inputs`` inputs; None where that value is 0.
    """

    torch: str
    inputs: int
    largest_difference: float | None


@dataclass(frozen=True)
class SourceFacts:
    """What a source framework told of a model, ``meta.json``.

    ``classes`` are in the order of the scores. ``largest_difference`` is that of ONNX Runtime to the framework on the
    framework's own ``pairs``, as a share of the largest value. ``not_confined`` says what of network and files the
    worker could have used.
    """

    framework: str
    title: str
    versions: Mapping[str, str]
    python: str
    notes: tuple[str, ...] = ()
    not_confined: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None
    task: str | None = None
    tokenizer: str | None = None
    sampling_rate: int | None = None
    pairs: int = 0
    largest_difference: float = 0.0
    quantized: bool = False
    extra: Mapping[str, str] = field(default_factory=dict)
