"""A sound to a model's input: channels, rate, length, then samples, log-mel energies or MFCC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.data.audio.mel import cosine_transform, decibels, librosa_filters, tensorflow_filters
from edgepack.data.audio.resample import resample
from edgepack.data.audio.spectrum import frames, magnitudes, window
from edgepack.errors import ConfigError, DataError

if TYPE_CHECKING:
    from edgepack.data.audio.wav import Wav
    from edgepack.specs.signals import Sound
    from edgepack.specs.types import Array

# What a definition's own defaults are: librosa.feature.melspectrogram and mfcc (0.11), and TensorFlow's tutorial of
# tf.signal (MelFrequency cepstral coefficients, "tf.signal.mfccs_from_log_mel_spectrograms"), both for 16 kHz speech.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "librosa": {
        "fft_length": 2048, "hop": 512, "centre": True, "edges": "zeros", "power": 2.0, "mels": 128,
        "mel_scale": "slaney", "mel_norm": "slaney", "logarithm": "decibel",
    },
    "tensorflow": {
        "window_length": 1024, "hop": 256, "centre": False, "edges": "zeros", "power": 1.0, "mels": 80,
        "mel_scale": "htk", "mel_norm": "none", "logarithm": "natural",
    },
}  # fmt: skip
_MOST_LENGTH = 1 << 25  # samples of one sound; bins of all its frames; weights of the mel filters
_MOST_BINS = 1 << 20
_MOST_RATIO = 256  # of two rates


@dataclass(frozen=True)
class _Spectrum:
    """The settings of a spectrum with nothing left open; see ``Sound``. ``piece`` is how many samples a frame covers.

    librosa's frames are as long as the transform, TensorFlow's as the window.
    """

    window_length: int
    hop: int
    fft_length: int
    centre: bool
    edges: str
    power: float
    mels: int
    high_hz: float
    mel_scale: str
    mel_norm: str
    logarithm: str
    piece: int


def _spectrum(made: Sound) -> _Spectrum:
    defaults = _DEFAULTS[made.definition]
    found = {key: value if (value := getattr(made, key)) is not None else default for key, default in defaults.items()}
    found["high_hz"] = made.rate / 2 if made.high_hz is None else made.high_hz
    if made.definition == "tensorflow":  # tf.signal.stft: the smallest power of two that holds a window
        found["fft_length"] = made.fft_length or 1 << (found["window_length"] - 1).bit_length()
        return _Spectrum(**found, piece=found["window_length"])
    found["window_length"] = made.window_length or found["fft_length"]
    return _Spectrum(**found, piece=found["fft_length"])


def check_sound(made: Sound, where: str) -> None:
    """Raise ``ConfigError`` for settings that no sound can be made with; what is None is not looked at."""
    for key, least, most in (
        ("rate", 1, 768_000), ("length", 1, _MOST_LENGTH), ("window_length", 1, _MOST_BINS), ("hop", 1, _MOST_BINS),
        ("fft_length", 1, _MOST_BINS), ("mels", 1, 4096), ("coefficients", 1, 4096),
    ):  # fmt: skip
        value = getattr(made, key)
        if value is not None and not least <= value <= most:
            raise ConfigError(f"{where}: {key} = {value}", hint=f"write {least} to {most}")
    for key in ("power", "offset", "scale"):
        value = getattr(made, key)
        if value is not None and not value > 0:
            raise ConfigError(f"{where}: {key} = {value}", hint="write a number above 0")
    if not made.mean or not made.std or not all(value > 0 for value in made.std):
        raise ConfigError(f"{where}: mean and std need a number each, std above 0", hint="write [0.0] and [1.0]")
    _check_filters(made, where)


def _check_filters(made: Sound, where: str) -> None:
    spectrum = _spectrum(made)
    if spectrum.window_length > spectrum.fft_length:
        raise ConfigError(
            f"{where}: a window of {spectrum.window_length} samples in a transform of {spectrum.fft_length}",
            hint="make fft_length at least window_length",
        )
    if (spectrum.fft_length // 2 + 1) * spectrum.mels > _MOST_LENGTH:
        raise ConfigError(
            f"{where}: {spectrum.mels} mel filters of a transform of {spectrum.fft_length}", hint="make both smaller"
        )
    if not 0 <= made.low_hz < spectrum.high_hz <= made.rate / 2:
        raise ConfigError(
            f"{where}: mel filters from {made.low_hz:g} to {spectrum.high_hz:g} Hz at a rate of {made.rate} Hz",
            hint=f"low_hz and high_hz lie in 0 to {made.rate / 2:g}",
        )
    if made.features == "mfcc" and made.coefficients > spectrum.mels:
        raise ConfigError(
            f"{where}: {made.coefficients} coefficients of {spectrum.mels} mels", hint="ask for at most as many as mels"
        )
    if made.definition == "tensorflow" and (made.mel_scale == "slaney" or made.mel_norm == "slaney"):
        raise ConfigError(
            f"{where}: TensorFlow's mel filters are HTK's and not normalised",
            hint='remove mel_scale and mel_norm, or write definition = "librosa" with centre = false',
        )


def sound_input(sound: Wav, made: Sound, name: str) -> Array:
    """Return a sound as the model's input, float32, without a batch axis.

    [samples], or [frames, mels] or [frames, coefficients], turned by ``frequency_first``. Raises ``DataError`` for a
    sound too short for one frame or at a rate far from the one wanted, ``ConfigError`` as ``check_sound``.
    """
    check_sound(made, "the sound's settings")
    samples = fit_length(to_rate(sound, made, name), made)
    values = samples if made.features == "samples" else _features(samples, made, name)
    values = values * made.scale
    mean, std = np.asarray(made.mean), np.asarray(made.std)
    if any(len(v) not in (1, values.shape[-1]) for v in (mean, std)):
        raise ConfigError(
            f"mean and std have {len(mean)} and {len(std)} numbers, a frame of {name} has {values.shape[-1]}",
            hint="write one number for all, or one for each feature",
        )
    values = (values - mean) / std
    return np.ascontiguousarray(values.T if made.frequency_first else values, np.float32)


def to_rate(sound: Wav, made: Sound, name: str) -> Array:
    """Return one channel [n] at the rate wanted, float32. Raises ``DataError`` where the rates are far apart."""
    samples = sound.samples
    if not 1 / _MOST_RATIO <= sound.rate / made.rate <= _MOST_RATIO:
        raise DataError(
            f"{name} says that it is recorded at {sound.rate} Hz, and the model wants {made.rate} Hz",
            hint=f"rates that differ {_MOST_RATIO} times are not resampled: the file's header is likely damaged",
        )
    if len(samples) * made.rate > _MOST_LENGTH * sound.rate:
        raise DataError(f"{name} is longer than can be resampled at once", hint="cut it into parts")
    mono = samples[:, 0] if made.channel == "first" or samples.shape[1] == 1 else samples.mean(axis=1)
    return resample(mono, sound.rate, made.rate)


def fit_length(samples: Array, made: Sound) -> Array:
    """Divide by the largest magnitude or value where that is asked for; cut or fill with zeros to the length wanted."""
    largest = np.abs(samples).max(initial=0) if made.peak == "magnitude" else samples.max(initial=0)
    if made.peak != "none" and largest > 0:
        samples = samples / largest
    if made.length is not None:
        samples = np.pad(samples[: made.length], (0, max(0, made.length - len(samples))))
    return samples


def feature_shape(made: Sound) -> tuple[int | str, ...]:
    """Return the shape that ``sound_input`` gives; what depends on the sound's length is a string."""
    if made.features == "samples":
        return (made.length or "samples",)
    spectrum = _spectrum(made)
    each = spectrum.mels if made.features == "log-mel" else made.coefficients
    count: int | str = "frames"
    if made.length is not None:
        whole = made.length + (2 * (spectrum.piece // 2) if spectrum.centre else 0)
        count = max(0, 1 + (whole - spectrum.piece) // spectrum.hop)
    return (each, count) if made.frequency_first else (count, each)


def _features(samples: Array, made: Sound, name: str) -> Array:
    spectrum = _spectrum(made)
    pieces = _pieces(samples.astype(np.float64), spectrum, made.rate, name)
    middle = made.definition == "librosa"
    weights = window(made.window, spectrum.window_length)
    energies = magnitudes(pieces, weights, spectrum.fft_length, middle=middle) ** spectrum.power
    mels = _logarithm(energies @ _filters(made, spectrum), made, spectrum)
    return mels if made.features == "log-mel" else _cepstrum(mels, made)


def _pieces(samples: Array, made: _Spectrum, rate: int, name: str) -> Array:
    least = made.piece if not made.centre else made.piece // 2 + 1 if made.edges == "reflect" else 1
    if len(samples) < least:
        raise DataError(
            f"{name} has {len(samples)} samples at {rate} Hz, less than one frame of {made.piece}",
            hint="set length in the recipe, so that short sounds are filled with zeros, or remove it",
        )
    pieces = frames(samples, made.piece, made.hop, centre=made.centre, edges=made.edges)
    if pieces.shape[0] * made.fft_length > _MOST_LENGTH:
        raise DataError(
            f"{name} makes {pieces.shape[0]} frames of {made.fft_length}, more than are computed",
            hint="set length in the recipe, or cut the sound",
        )
    return pieces


def _filters(made: Sound, spectrum: _Spectrum) -> Array:
    if made.definition == "tensorflow":
        bins = spectrum.fft_length // 2 + 1
        return tensorflow_filters(spectrum.mels, bins, made.rate, made.low_hz, spectrum.high_hz)
    ends = made.low_hz, spectrum.high_hz
    return librosa_filters(spectrum.mels, spectrum.fft_length, made.rate, *ends, spectrum.mel_scale, spectrum.mel_norm)


def _logarithm(energies: Array, made: Sound, spectrum: _Spectrum) -> Array:
    if spectrum.logarithm == "decibel":
        return decibels(energies, made.top_db)
    result: Array = np.log(energies + made.offset)
    return result


def _cepstrum(mels: Array, made: Sound) -> Array:
    result = cosine_transform(mels, made.coefficients)
    if made.definition == "tensorflow":
        result[..., 0] *= np.sqrt(2.0)
    return result
