"""Sounds that tests make: .wav files of every kind, and signals whose values are known."""

import struct

import numpy as np


def encode_wav(samples: np.ndarray, rate: int, bits: int = 16, *, kind: int = 1, extensible: bool = False) -> bytes:
    """Return the bytes of a .wav of samples [n, channels] in -1..1; kind 1 is whole numbers, 3 floats."""
    samples = np.asarray(samples, np.float64).reshape(len(samples), -1)
    return wav_file(wav_format(samples.shape[1], rate, bits, kind, extensible), raw_samples(samples, bits, kind))


def raw_samples(samples: np.ndarray, bits: int, kind: int) -> bytes:
    if kind == 3:
        return samples.astype(f"<f{bits // 8}").tobytes()
    top = 2 ** (bits - 1)
    whole = np.clip(np.round(samples * top), -top, top - 1).astype(np.int64)
    if bits == 8:
        return (whole + 128).astype(np.uint8).tobytes()
    if bits == 24:
        return whole.astype("<i4").reshape(-1).view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    return whole.astype(f"<i{bits // 8}").tobytes()


def wav_format(channels: int, rate: int, bits: int, kind: int = 1, extensible: bool = False, align: int | None = None):
    align = channels * bits // 8 if align is None else align
    head = struct.pack("<HHIIHH", 0xFFFE if extensible else kind, channels, rate, rate * align % 2**32, align, bits)
    if not extensible:
        return head
    guid = struct.pack("<H", kind) + bytes.fromhex("000000001000800000aa00389b71")
    return head + struct.pack("<HHI", 22, bits, 0) + guid


def wav_file(form: bytes, body: bytes, *, size: int | None = None, before: bytes = b"") -> bytes:
    """Return a RIFF file; ``size`` is what the data chunk says of itself, ``before`` other chunks ahead of it."""
    chunks = b"fmt " + struct.pack("<I", len(form)) + form + before
    chunks += b"data" + struct.pack("<I", len(body) if size is None else size) + body + b"\0" * (len(body) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def noise(count: int, seed: int = 0) -> np.ndarray:
    """Return coloured noise with a tone that rises, float32 [count]: something in every mel band."""
    random = np.random.default_rng(seed)
    time = np.arange(count) / 16000
    tone = np.sin(2 * np.pi * (200 * time + 1500 * time**2))
    return (0.3 * tone + 0.05 * random.standard_normal(count)).astype(np.float32)
