import io
import struct
import wave

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sounds import encode_wav, noise, wav_file, wav_format

from edgepack.data.audio.wav import decode_wav, read_wav
from edgepack.errors import DataError

SOUND = np.stack([noise(101), noise(101, 1)], axis=1)


@pytest.mark.parametrize("extensible", [False, True])
@pytest.mark.parametrize(("bits", "kind"), [(8, 1), (16, 1), (24, 1), (32, 1), (32, 3), (64, 3)])
def test_every_width_gives_the_numbers_that_were_written(bits, kind, extensible):
    found = decode_wav(encode_wav(SOUND, 22050, bits, kind=kind, extensible=extensible), "x.wav")
    assert found.rate == 22050
    assert found.samples.shape == SOUND.shape
    assert found.samples.dtype == np.float32
    most = 0 if kind == 3 else 0.5 / 2 ** (bits - 1) + 2**-24
    np.testing.assert_allclose(found.samples, SOUND, rtol=0, atol=most)


def test_the_largest_numbers_are_read_with_their_sign():
    for bits in (8, 16, 24, 32):
        found = decode_wav(encode_wav(np.array([-1.0, 0.0, 0.5, 1.0]), 8000, bits), "x").samples[:, 0]
        np.testing.assert_allclose(found, [-1, 0, 0.5, 1 - 2.0 ** (1 - bits)], rtol=1e-7)


@given(st.binary(min_size=2, max_size=60).filter(lambda body: len(body) % 2 == 0), st.integers(1, 192_000))
def test_it_reads_what_the_standard_library_writes(body, rate):
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(body)
    found = decode_wav(buffer.getvalue(), "x")
    assert found.rate == rate
    np.testing.assert_array_equal(found.samples[:, 0] * 32768, np.frombuffer(body, "<i2"))


def test_chunks_of_other_programs_are_passed_over():
    other = b"LIST" + struct.pack("<I", 5) + b"INFO!" + b"\0"  # an odd size is filled up
    data = (
        wav_file(wav_format(1, 8000, 16), b"\x01\x00\x02\x00", before=other) + b"id3 " + struct.pack("<I", 4) + b"abcd"
    )
    assert len(decode_wav(data, "x").samples) == 2


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
def test_a_size_that_was_never_filled_in_means_the_rest(size):
    assert len(decode_wav(wav_file(wav_format(1, 8000, 16), b"\0\0" * 7, size=size), "x").samples) == 7


BODY = b"\0" * 64
BROKEN = {
    "empty": (b"", "not a .wav"),
    "flac": (b"fLaC" + BODY, "not a .wav"),
    "header alone": (b"RIFF\0\0\0\0WAVE", "'data' chunk is missing"),
    "no format": (b"RIFF\0\0\0\0WAVEdata\x04\0\0\0abcd", "before it says what they are"),
    "short format": (wav_file(b"\x01\0\x01\0", BODY), "does not say what its samples are"),
    "cut short": (wav_file(wav_format(1, 8000, 16), BODY, size=4000), "cut short.* 4000 bytes .* 64 are there"),
    "half a moment": (wav_file(wav_format(2, 8000, 16), b"\0" * 6), "not a multiple of the 4"),
    "no samples": (wav_file(wav_format(1, 8000, 16), b""), "holds no samples"),
    "12 bits": (wav_file(wav_format(1, 8000, 12), BODY), "12-bit whole numbers"),
    "16-bit float": (wav_file(wav_format(1, 8000, 16, 3), BODY), "16-bit floats"),
    "floats that were not divided": (
        wav_file(wav_format(1, 8000, 32, 3), np.full(4, 3e4, "<f4").tobytes()),
        "floats up to 30000, and full scale is",
    ),
    "mu-law": (wav_file(wav_format(1, 8000, 8, 7), BODY), "mu-law"),
    "unknown": (wav_file(wav_format(1, 8000, 16, 999), BODY), "format 999"),
    "no channel": (wav_file(wav_format(0, 8000, 16), BODY), "0 channels"),
    "65535 channels": (wav_file(wav_format(65535, 8000, 8, align=65535), BODY), "65535 channels"),
    "no rate": (wav_file(wav_format(1, 0, 16), BODY), "at 0 Hz"),
    "4 GHz": (wav_file(wav_format(1, 0xFFFFFFFF, 16), BODY), "4294967295 Hz"),
    "another block": (wav_file(wav_format(1, 8000, 16, align=4), BODY), "takes 2 bytes, not 4"),
    "NaN": (encode_wav(np.array([0.0, np.nan]), 8000, 32, kind=3), "NaN"),
    "too large for 32 bits": (encode_wav(np.array([1e300]), 8000, 64, kind=3), "infinite"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_whole_wav_is_named(name):
    data, words = BROKEN[name]
    with pytest.raises(DataError, match=words) as error:
        decode_wav(data, "clip.wav")
    assert "clip.wav" in str(error.value)
    assert error.value.hint


@given(st.data())
def test_a_damaged_file_is_read_or_refused(data):
    whole = bytearray(encode_wav(SOUND[:9], 16000, 16, extensible=data.draw(st.booleans())))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = decode_wav(bytes(whole[: data.draw(st.integers(0, len(whole)))]), "x")
    except DataError:
        return
    assert np.isfinite(found.samples).all()


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nothing\.wav"):
        read_wav(tmp_path / "nothing.wav")
