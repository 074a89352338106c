"""Writes references.npz: what librosa and TensorFlow make of a sound; both are too large for tests.

Run it where both are installed: LIBRARY (librosa or tensorflow), in this folder. It keeps what the other one wrote.
"""

import json
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
SAMPLES = 4000  # of sounds.noise, which is made the same way everywhere
LIBROSA = (
    {},
    {"hop": 160, "fft_length": 400, "mels": 40},
    {
        "hop": 160, "fft_length": 512, "window_length": 400, "mels": 40, "centre": False,
        "low_hz": 20.0, "high_hz": 7600.0,
    },
    {
        "hop": 100, "fft_length": 512, "mels": 23, "edges": "reflect", "mel_scale": "htk", "mel_norm": "none",
        "window": "hamming",
    },
)  # fmt: skip
TENSORFLOW = (
    {"window_length": 480, "hop": 320, "mels": 40, "low_hz": 20.0, "high_hz": 4000.0},
    {"window_length": 640, "hop": 160, "fft_length": 1024, "mels": 64, "low_hz": 80.0, "high_hz": 7600.0},
    {"window_length": 400, "hop": 160, "mels": 20, "window": "hamming", "power": 2.0},
)


def of_librosa(sound: np.ndarray, case: dict) -> tuple[np.ndarray, np.ndarray]:
    """Return log-mel [mels, frames] and MFCC [13, frames]."""
    import librosa

    power = librosa.feature.melspectrogram(
        y=sound, sr=16000, n_fft=case.get("fft_length", 2048), hop_length=case.get("hop", 512),
        win_length=case.get("window_length"), window=case.get("window", "hann"), center=case.get("centre", True),
        pad_mode={"zeros": "constant", "reflect": "reflect"}[case.get("edges", "zeros")],
        n_mels=case.get("mels", 128), fmin=case.get("low_hz", 0.0), fmax=case.get("high_hz"),
        htk=case.get("mel_scale") == "htk", norm=None if case.get("mel_norm") == "none" else "slaney",
    )  # fmt: skip
    mels = librosa.power_to_db(power)
    return mels, librosa.feature.mfcc(S=mels, n_mfcc=13)


def of_tensorflow(sound: np.ndarray, case: dict) -> tuple[np.ndarray, np.ndarray]:
    """Return log-mel [frames, mels] and MFCC [frames, 10]."""
    import tensorflow as tf

    window = {"hann": tf.signal.hann_window, "hamming": tf.signal.hamming_window}[case.get("window", "hann")]
    power = tf.abs(
        tf.signal.stft(sound, case["window_length"], case["hop"], case.get("fft_length"), window_fn=window)
    ) ** case.get("power", 1.0)
    filters = tf.signal.linear_to_mel_weight_matrix(
        case["mels"], power.shape[-1], 16000, case.get("low_hz", 0.0), case.get("high_hz", 8000.0)
    )
    mels = tf.math.log(tf.tensordot(power, filters, 1) + 1e-6)
    return mels.numpy(), tf.signal.mfccs_from_log_mel_spectrograms(mels)[..., :10].numpy()


def main(library: str) -> None:
    """Add a library's values to the file."""
    sys.path.insert(0, str(HERE.parents[1] / "helpers"))
    from sounds import noise

    path = HERE / "references.npz"
    kept = dict(np.load(path)) if path.exists() else {}
    kept = {name: value for name, value in kept.items() if not name.startswith(library)}
    cases, make = {"librosa": (LIBROSA, of_librosa), "tensorflow": (TENSORFLOW, of_tensorflow)}[library]
    for i, case in enumerate(cases):
        mels, cepstrum = make(noise(SAMPLES), case)
        kept |= {f"{library}.{i}.log-mel": mels[..., :6], f"{library}.{i}.mfcc": cepstrum[..., :6]}
        if library == "tensorflow":
            kept |= {f"{library}.{i}.log-mel": mels[:6], f"{library}.{i}.mfcc": cepstrum[:6]}
        kept[f"{library}.{i}.case"] = np.array(json.dumps(case))
    kept[f"{library}.version"] = np.array(__import__(library).__version__)
    kept["sound"] = noise(SAMPLES)
    np.savez_compressed(path, **kept)


if __name__ == "__main__":
    main(sys.argv[1])
