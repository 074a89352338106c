import contextlib
import dataclasses
import io
import struct

import numpy as np
import pytest
from PIL import Image

from edgepack.data import preprocess
from edgepack.data.preprocess import decode_picture, picture_shape, prepare_pixels, read_picture
from edgepack.errors import DataError
from edgepack.specs.data import Preprocessing

PLAIN = Preprocessing()


def encode(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def gradient(width: int, height: int) -> Image.Image:
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    pixels = np.stack([x * 255 // width, y * 255 // height, (x + y) % 256], axis=2)
    return Image.fromarray(pixels.astype(np.uint8))


def reference(image: Image.Image, made: Preprocessing) -> np.ndarray:
    """torchvision's Resize(short) and CenterCrop, then the formula, step by step in float64."""
    width, height = image.size
    if made.resize_short:
        if width < height:
            size = (made.resize_short, int(made.resize_short * height / width))
        else:
            size = (int(made.resize_short * width / height), made.resize_short)
        image = image.resize(size, getattr(Image.Resampling, made.interpolation.upper()))
    if made.resize:
        image = image.resize(made.resize[::-1], getattr(Image.Resampling, made.interpolation.upper()))
    if made.crop:
        top = round((image.height - made.crop[0]) / 2.0)
        left = round((image.width - made.crop[1]) / 2.0)
        image = image.crop((left, top, left + made.crop[1], top + made.crop[0]))
    values = np.asarray(image).astype(np.float64)
    if made.color == "BGR":
        values = values[:, :, ::-1]
    values = (values * made.scale - np.array(made.mean)) / np.array(made.std)
    return values.transpose(2, 0, 1) if made.layout == "NCHW" else values


@pytest.mark.parametrize(
    "made",
    [
        PLAIN,
        Preprocessing(
            resize_short=20, crop=(16, 12), scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
        ),
        Preprocessing(resize_short=21, crop=(16, 16), interpolation="bicubic", mean=(127,) * 3, std=(128,) * 3),
        Preprocessing(resize=(9, 14), color="BGR", scale=1 / 255, interpolation="nearest"),
        Preprocessing(resize=(9, 14), layout="NHWC", interpolation="lanczos"),
    ],
)
@pytest.mark.parametrize("size", [(40, 25), (25, 41), (30, 30)])
def test_agrees_with_the_formula_written_out(made, size):
    image = gradient(*size)
    found = decode_picture(encode(image), "x.png", made)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, reference(image, made), rtol=1e-6, atol=1e-6)


def test_shape_is_known_before_a_picture_is_read():
    made = Preprocessing(resize_short=20, crop=(16, 12))
    assert picture_shape(made) == decode_picture(encode(gradient(40, 25)), "x", made).shape
    assert picture_shape(PLAIN) == (3, "height", "width")
    line = Preprocessing(resize=(50, 320), letterbox=True, stride=8)
    assert picture_shape(line) == (3, "height", "width")
    assert picture_shape(dataclasses.replace(line, fixed_height=True)) == (3, 56, "width")
    assert picture_shape(Preprocessing(resize=(5, 6), layout="NHWC", color="L")) == (5, 6, 1)


def test_grey_has_one_channel_and_uint8_is_left_alone():
    made = Preprocessing(color="L", layout="NHWC", dtype="uint8")
    image = gradient(7, 5)
    found = decode_picture(encode(image), "x", made)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found[:, :, 0], np.asarray(image.convert("L")))


def test_grey_is_normalised_by_its_first_numbers():
    found = decode_picture(encode(gradient(7, 5)), "x", Preprocessing(color="L", scale=1 / 255))
    assert found.shape == (1, 5, 7)
    assert found.max() <= 1.0


def test_exif_orientation_turns_the_picture_upright():
    image = gradient(20, 10)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to show (Exif 2.3, tag Orientation)
    found = decode_picture(encode(image, "PNG", exif=exif), "x", PLAIN)
    np.testing.assert_array_equal(found, np.asarray(image.rotate(-90, expand=True)).transpose(2, 0, 1))


@pytest.mark.parametrize("mode", ["P", "L", "LA", "RGBA", "CMYK", "1"])
def test_modes_become_rgb_as_pillow_converts_them(mode):
    image = gradient(9, 7).convert(mode)
    kind = "TIFF" if mode == "CMYK" else "PNG"
    found = decode_picture(encode(image, kind), "x", PLAIN)
    np.testing.assert_array_equal(found, np.asarray(image.convert("RGB")).transpose(2, 0, 1))


def test_transparent_palette_keeps_its_colours():
    image = gradient(9, 7).convert("P")
    found = decode_picture(encode(image, transparency=bytes([0] * 256)), "x", PLAIN)
    np.testing.assert_array_equal(found, np.asarray(image.convert("RGB")).transpose(2, 0, 1))


def test_16_bit_grey_is_scaled_and_not_clipped():
    values = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
    found = decode_picture(encode(Image.fromarray(values)), "x", Preprocessing(color="L"))
    np.testing.assert_array_equal(found[0], np.arange(256).reshape(16, 16))


def test_float_and_32_bit_pixels_are_refused():
    for values in (np.ones((4, 4), np.float32), np.full((4, 4), 1 << 20, np.int32)):
        with pytest.raises(DataError, match=r"x.tif holds .* whose range is not known"):
            decode_picture(encode(Image.fromarray(values), "TIFF"), "x.tif", PLAIN)


@pytest.mark.parametrize(
    "data",
    [b"", b"not a picture", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0garbage", b"%!PS-Adobe-3.0 EPSF-3.0\n"],
    ids=["empty", "text", "png header", "jpeg header", "postscript"],
)
def test_what_is_no_picture_is_named(data):
    with pytest.raises(DataError, match=r"bad.jpg is not a picture that can be read"):
        decode_picture(data, "bad.jpg", PLAIN)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM"])
def test_truncated_pictures_are_named(kind):
    data = encode(gradient(64, 48), kind)
    assert decode_picture(data, "whole", PLAIN).shape == (3, 48, 64)
    with pytest.raises(DataError, match="cut is not a picture"):
        decode_picture(data[: len(data) // 2], "cut", PLAIN)


def test_decompression_bomb_is_refused_before_decoding():
    data = bytearray(encode(gradient(4, 4)))
    data[16:24] = struct.pack(">II", 60000, 60000)  # PNG IHDR: width, height (RFC 2083, 4.1.1)
    with pytest.raises(DataError, match="bomb"):
        decode_picture(bytes(data), "bomb", PLAIN)


def test_a_strip_that_would_grow_huge_is_refused():
    data = encode(Image.new("RGB", (20000, 1)))
    with pytest.raises(DataError, match=r"after resizing is .* pixels"):
        decode_picture(data, "strip.png", Preprocessing(resize_short=256, crop=(224, 224)))


@pytest.mark.parametrize("resampler", ["pillow", "opencv"])
def test_a_strip_that_would_be_huge_between_its_two_sides_is_refused(resampler):
    made = Preprocessing(resize=(8, 1000), resampler=resampler)
    with pytest.raises(DataError, match=r"while it is resized is 1000x200000 pixels"):
        decode_picture(encode(Image.new("L", (1, 200000))), "strip.png", made)
    with pytest.raises(DataError, match=r"while it is resized is 1000x200000 pixels"):
        prepare_pixels(np.zeros((200000, 1, 3), np.uint8), made)


def test_picture_smaller_than_the_crop_is_refused():
    with pytest.raises(DataError, match=r"small.png is 10x8 where a crop of 16x16 is taken"):
        decode_picture(encode(gradient(10, 8)), "small.png", Preprocessing(crop=(16, 16)))


def test_read_picture_names_a_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"cannot read .*none.png"):
        read_picture(tmp_path / "none.png", PLAIN)


def test_read_picture_reads_a_file(tmp_path):
    (tmp_path / "a.png").write_bytes(encode(gradient(5, 4)))
    assert read_picture(tmp_path / "a.png", PLAIN).shape == (3, 4, 5)


def test_only_decoders_that_start_no_program_are_used():
    assert not {"EPS", "PSD", "FITS", "ICNS"} & set(preprocess.FORMATS)


def test_fuzzed_pictures_are_read_or_refused():
    rng = np.random.default_rng(0)
    originals = [encode(gradient(24, 18), kind) for kind in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP")]
    for turn in range(300):
        data = bytearray(originals[turn % len(originals)])
        for place in rng.integers(0, len(data), size=rng.integers(1, 6)):
            data[place] = rng.integers(0, 256)
        with contextlib.suppress(DataError):  # whatever else it raised would be a traceback for the user
            decode_picture(bytes(data), "fuzzed", Preprocessing(resize=(8, 8)))


@pytest.mark.parametrize(
    "made",
    [
        Preprocessing(resize=(40, 40), letterbox=True, resampler="opencv", scale=1 / 255),
        Preprocessing(resize=(40, 56), letterbox=True, anchor="top-left", rounding="down", pad=0, color="BGR"),
        Preprocessing(resize=(64, 64), letterbox=True, scale_up=False, interpolation="area"),
        Preprocessing(resize=(40, 40), letterbox=True, stride=16),
        Preprocessing(resize=(40, 48), letterbox=True, stride=8, fixed_height=True, anchor="top-left"),
        Preprocessing(resize=(30, 50), interpolation="bicubic", resampler="opencv", layout="NHWC"),
        Preprocessing(resize_short=20, crop=(18, 18), interpolation="lanczos"),
        Preprocessing(resize=(11, 90), interpolation="bicubic"),
        Preprocessing(resize=(90, 11), interpolation="lanczos"),
        Preprocessing(resize=(16, 80), interpolation="nearest"),
        Preprocessing(resize=(24, 24), color="L", mean=(0.5,), std=(2.0,)),
    ],
    ids=str,
)
def test_an_array_becomes_what_its_file_becomes(made):
    """To the last bit, though versions of Pillow differ in which side they resize first."""
    pixels = np.random.default_rng(0).integers(0, 2, (37, 53, 3), dtype=np.uint8) * np.uint8(255)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    assert np.array_equal(prepare_pixels(pixels, made), decode_picture(file.getvalue(), "x", made))


def test_a_letterbox_surrounds_the_picture():
    made = Preprocessing(resize=(20, 40), letterbox=True, pad=7)
    found = prepare_pixels(np.full((10, 10, 3), 200, np.uint8), made)
    assert found.shape == (3, 20, 40)
    assert (found[:, :, 10:30] == 200).all()
    assert (found[:, :, :10] == 7).all()
    assert (found[:, :, 30:] == 7).all()


def test_grey_arrays_become_colours_and_back():
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    assert (prepare_pixels(grey, Preprocessing()) == grey).all()
    assert np.array_equal(prepare_pixels(np.repeat(grey[..., None], 3, 2), Preprocessing(color="L"))[0], grey)
