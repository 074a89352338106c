"""Sounds as inputs: .wav files, or samples as an array."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgepack.data.audio.features import sound_input
from edgepack.data.audio.wav import Wav, read_wav
from edgepack.data.sound_folder import as_input, check_input, sound_settings
from edgepack.errors import DataError
from edgepack.specs.task import Frame, Task
from edgepack.tasks import Making, Prepared


def prepare_sound(thing: Any, making: Making) -> Prepared:
    """Return the input that a sound becomes: a .wav, a ``Wav``, or floats [samples] at the rate of the recipe.

    Raises ``DataError``.
    """
    made = sound_settings(making.task, "the bundle")
    spec = check_input(made, making.inputs, "the bundle")
    sound, name = open_sound(thing, made.rate)
    return Prepared({spec.name: as_input(sound_input(sound, made, name), spec, name)}, Frame())


def open_sound(thing: Any, rate: int) -> tuple[Wav, str]:
    """Return a sound and how messages name it; an array is taken to be at ``rate``. Raises ``DataError``."""
    if isinstance(thing, Wav):
        return thing, "the sound"
    if isinstance(thing, str | Path):
        return read_wav(Path(thing)), str(thing)
    if not isinstance(thing, np.ndarray) or thing.dtype.kind != "f" or thing.ndim not in (1, 2) or not thing.size:
        raise DataError(
            f"a {type(thing).__name__} is not a sound",
            hint=f"give a path to a .wav, or floats in -1 to 1 [samples] or [samples, channels] at {rate} Hz",
        )
    if not np.isfinite(thing).all():
        raise DataError("the sound holds samples that are NaN or infinite", hint="check where it comes from")
    return Wav(np.asarray(thing, np.float32).reshape(len(thing), -1), rate), "the sound"


def check_sound_task(task: Task) -> None:
    """Raise ``ConfigError`` for settings of sounds that cannot be meant."""
    sound_settings(task, "task")
