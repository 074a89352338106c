"""Reads .wav files: whole numbers of 8, 16, 24 and 32 bits and floats, any rate and number of channels.

The format is RIFF/WAVE: "Multimedia Programming Interface and Data Specifications 1.0" (IBM and Microsoft, 1991), and
WAVE_FORMAT_EXTENSIBLE of Microsoft's mmreg.h. A header may come from anybody: nothing in it is believed before it is
compared with the bytes that are there.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgepack.base.files import read_regular
from edgepack.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from edgepack.specs.types import Array

MOST_FILE_BYTES = 256 << 20
MOST_CHANNELS = 64
MOST_FLOAT = 100.0  # 40 dB above full scale: nobody records that, and whole numbers that were not divided are beyond it
MOST_RATE = 768_000  # Hz; the highest that converters are sold for
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_UNKNOWN_SIZE = (0, 0xFFFFFFFF)  # what programs write that cannot go back to the header
_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")  # of KSDATAFORMAT_SUBTYPE_*, after the two bytes of the kind
_OTHERS = {2: "ADPCM", 6: "A-law", 7: "mu-law", 0x11: "IMA ADPCM", 0x55: "MP3"}


@dataclass(frozen=True)
class Wav:
    """A sound: ``samples`` float32 [samples, channels], whole numbers scaled to -1..1, and its ``rate`` in Hz."""

    samples: Array
    rate: int


@dataclass(frozen=True)
class _Format:
    kind: int
    channels: int
    rate: int
    bits: int

    @property
    def frame_bytes(self) -> int:
        return self.channels * self.bits // 8


def read_wav(path: Path) -> Wav:
    """Return the sound in a file. Raises ``DataError`` naming it for anything that is not a whole .wav."""
    try:
        data = read_regular(path, MOST_FILE_BYTES)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", hint="check the path and its permissions") from error
    return decode_wav(data, str(path))


def decode_wav(data: bytes, name: str) -> Wav:
    """Return the sound in the bytes of a file; ``name`` is for messages.

    Whole numbers of b bits are divided by 2^(b-1); those of 8 bits are unsigned and 128 is 0.
    """
    made, body = _chunks(data, name)
    if len(body) % made.frame_bytes:
        raise DataError(
            f"{name}: {len(body)} bytes of samples are not a multiple of the {made.frame_bytes} of one frame",
            hint="copy the file again: it is damaged",
        )
    if not body:
        raise DataError(f"{name} holds no samples", hint="remove the file, or record it again")
    samples = _numbers(body, made).reshape(-1, made.channels)
    if not np.isfinite(samples).all():
        raise DataError(f"{name} holds samples that are NaN or infinite", hint="write it again from its source")
    if made.kind == _FLOAT and (largest := float(np.abs(samples).max())) > MOST_FLOAT:
        raise DataError(
            f"{name} holds floats up to {largest:g}, and full scale is 1",
            hint="divide them by what full scale was (32768 for 16 bits) and write it again",
        )
    return Wav(samples, made.rate)


def _chunks(data: bytes, name: str) -> tuple[_Format, bytes]:
    """Return the format and the bytes of the samples."""
    if len(data) < 12 or data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise DataError(f"{name} is not a .wav file", hint=_other_hint(data))
    made, place = None, 12
    while place + 8 <= len(data):
        kind, size = struct.unpack_from("<4sI", data, place)
        begin, place = place + 8, place + 8 + size + size % 2
        if kind == b"fmt ":
            made = _format(data[begin : begin + size], name)
        elif kind == b"data":
            if made is None:
                raise DataError(f"{name} has samples before it says what they are", hint="write it again")
            return made, _body(data, begin, size, name)
    raise DataError(f"{name} holds no samples: its 'data' chunk is missing", hint="copy the file again: it is damaged")


def _body(data: bytes, begin: int, size: int, name: str) -> bytes:
    there = len(data) - begin
    if size <= there and size not in _UNKNOWN_SIZE:
        return data[begin : begin + size]
    if size in _UNKNOWN_SIZE:
        return data[begin:]
    raise DataError(
        f"{name} is cut short: it says that it holds {size} bytes of samples, and {there} are there",
        hint="copy the file again",
    )


def _format(chunk: bytes, name: str) -> _Format:
    if len(chunk) < 16:
        raise DataError(f"{name} does not say what its samples are", hint="copy the file again: it is damaged")
    kind, channels, rate, _, align, bits = struct.unpack_from("<HHIIHH", chunk)
    if kind == _EXTENSIBLE and len(chunk) >= 40 and chunk[26:40] == _GUID_TAIL:
        kind = struct.unpack_from("<H", chunk, 24)[0]
    made = _Format(kind, channels, rate, bits)
    _check(made, align, name)
    return made


def _check(made: _Format, align: int, name: str) -> None:
    usual = {_PCM: (8, 16, 24, 32), _FLOAT: (32, 64)}.get(made.kind, ())
    if made.bits not in usual:
        what = _OTHERS.get(made.kind, f"format {made.kind}, {made.bits} bits")
        if made.kind in (_PCM, _FLOAT):
            what = f"{made.bits}-bit {'whole numbers' if made.kind == _PCM else 'floats'}"
        raise DataError(
            f"{name} holds {what}, which is not read",
            hint="save it as 8, 16, 24 or 32 bit PCM or as 32 or 64 bit float",
        )
    if not 1 <= made.channels <= MOST_CHANNELS or not 1 <= made.rate <= MOST_RATE:
        raise DataError(
            f"{name} says that it has {made.channels} channels at {made.rate} Hz",
            hint=f"1 to {MOST_CHANNELS} channels at 1 to {MOST_RATE} Hz are read; the file is likely damaged",
        )
    if align != made.frame_bytes:
        raise DataError(
            f"{name}: a frame of {made.channels} x {made.bits} bits takes {made.frame_bytes} bytes, not {align}",
            hint="copy the file again: it is damaged",
        )


def _numbers(body: bytes, made: _Format) -> Array:
    if made.kind == _FLOAT:
        with np.errstate(over="ignore"):  # a 64-bit float too large for 32 is infinite, and refused as that
            return np.frombuffer(body, f"<f{made.bits // 8}").astype(np.float32)
    if made.bits == 8:
        return (np.frombuffer(body, np.uint8).astype(np.float32) - 128) / np.float32(128)
    if made.bits == 24:
        bytes3 = np.frombuffer(body, np.uint8).reshape(-1, 3)
        wide = np.zeros((len(bytes3), 4), np.uint8)
        wide[:, 1:] = bytes3  # the three upper bytes of 32 bits, so that the sign is right
        return (wide.view("<i4")[:, 0].astype(np.float64) / 2.0**31).astype(np.float32)
    whole = np.frombuffer(body, f"<i{made.bits // 8}")
    return (whole.astype(np.float64) / 2.0 ** (made.bits - 1)).astype(np.float32)


def _other_hint(data: bytes) -> str:
    known = {b"fLaC": "FLAC", b"OggS": "Ogg", b"ID3\x03": "MP3", b"ID3\x04": "MP3", b"RIFX": "big-endian RIFF"}
    what = known.get(data[:4]) or ("RF64" if data[:4] in (b"RF64", b"BW64") else "")
    return f"it is {what}: save it as .wav" if what else "save it as .wav, or remove it"
