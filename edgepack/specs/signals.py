"""How sounds, sentences and rows of numbers become a model's inputs; every setting is one that it was trained with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Window = Literal["hann", "hamming", "blackman", "ones"]


@dataclass(frozen=True)
class Sound:
    """How a sound becomes the model's input.

    The channels are averaged (or the first is taken), the sound is resampled to ``rate`` (Hz), divided by its largest
    magnitude or by its largest value where ``peak`` says so, cut or filled with zeros at its end to ``length`` samples
    (None: its own), and then becomes ``features``: the samples themselves, log-mel energies [frames, mels] or MFCC
    [frames, coefficients].

    ``definition`` says whose spectrum, mel scale, logarithm and cosine transform these are, and what the keys that
    are None are: ``window_length``, ``hop`` and ``fft_length`` are in samples, ``low_hz`` and ``high_hz`` are the mel
    filters' ends, ``centre`` says that frames are centred on multiples of ``hop``, over a sound that is filled at both
    ends with zeros or with its mirror image (``edges``). ``power`` is that of the magnitude which the filters sum.
    ``logarithm`` is ``natural`` (log(x + offset)) or ``decibel`` (10 log10, at most ``top_db`` below its largest
    value). At last ``(value * scale - mean) / std``, where ``mean`` and ``std`` are one number or one a feature.
    ``frequency_first`` gives [features, frames].
    """

    rate: int = 16000
    channel: Literal["mean", "first"] = "mean"
    length: int | None = None
    peak: Literal["none", "magnitude", "maximum"] = "none"
    features: Literal["samples", "log-mel", "mfcc"] = "samples"
    definition: Literal["librosa", "tensorflow"] = "librosa"
    window: Window = "hann"
    window_length: int | None = None
    hop: int | None = None
    fft_length: int | None = None
    centre: bool | None = None
    edges: Literal["zeros", "reflect"] | None = None
    power: float | None = None
    mels: int | None = None
    low_hz: float = 0.0
    high_hz: float | None = None
    mel_scale: Literal["slaney", "htk"] | None = None
    mel_norm: Literal["slaney", "none"] | None = None
    logarithm: Literal["natural", "decibel"] | None = None
    offset: float = 1e-6
    top_db: float | None = 80.0
    coefficients: int = 13
    frequency_first: bool = False
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)


@dataclass(frozen=True)
class Text:
    """How a sentence becomes token ids, mask and type ids.

    ``tokenizer`` is the file ``tokenizer.json``; without it the one beside the data or the recipe is taken. At most
    ``max_length`` tokens, those that begin and end a text counted, are kept (None: what the file says). ``padding`` is
    ``longest`` (the text's own length), ``max_length``, or ``file``: what the file says, and its own length where that
    says nothing; an input whose length is fixed is always filled. ``text`` and ``label`` are columns or keys of the
    data; ``ids``, ``mask`` and ``types`` are the model's inputs, found by their usual names where they are empty.
    """

    tokenizer: str = ""
    max_length: int | None = None
    padding: Literal["file", "longest", "max_length"] = "file"
    text: str = ""
    label: str = ""
    ids: str = ""
    mask: str = ""
    types: str = ""


@dataclass(frozen=True)
class Columns:
    """Which columns of a table feed which input, and which is the label.

    ``inputs`` names the columns of each input, in their order; empty: all columns but the label's feed the only input.
    ``label`` is a column's name, or its number from 0 where the table has no header; empty: the column named label,
    labels, target, class or y, if there is one. ``header`` None: the first line is a header if it holds no
    number, or a word over a number.
    """

    inputs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    label: str = ""
    header: bool | None = None


@dataclass(frozen=True)
class Speech:
    """How a streaming model of voice activity is fed, and when its probabilities are speech.

    The sound, mono at ``rate``, is cut into chunks of ``chunk`` samples; each goes in behind the last ``context``
    samples of the one before. ``samples``, ``state`` and ``sample_rate`` are the model's inputs for them, ``speech``
    and ``next_state`` its outputs; found by shape where they are empty. Speech begins where the probability reaches
    ``threshold`` and ends where it stays below ``threshold - 0.15`` for ``silence_ms``; what is shorter than
    ``speech_ms`` is none, and each segment is ``pad_ms`` longer on both sides.
    """

    rate: int = 16000
    chunk: int = 512
    context: int = 64
    samples: str = ""
    state: str = ""
    sample_rate: str = ""
    speech: str = ""
    next_state: str = ""
    threshold: float = 0.5
    speech_ms: int = 250
    silence_ms: int = 100
    pad_ms: int = 30
