import contextlib
import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from calibrate_inputs import IMAGE_INPUT, random_images
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepack.data.npz import read_arrays
from edgepack.data.samples import find_samples, read_labels, read_samples, take_samples
from edgepack.errors import DataError
from edgepack.specs.model import TensorSpec

TOKENS = (TensorSpec("ids", "int64", ("batch", "length")), TensorSpec("mask", "int64", ("batch", "length")))


def images_of(path, inputs=IMAGE_INPUT, name="image", count=None, seed=0):
    found = find_samples(path, inputs, None)
    if count:
        found = take_samples(found, count, seed)
    return found, [feed[name] for feed in read_samples(found, inputs)]


@pytest.mark.parametrize("compressed", [False, True])
def test_rows_are_read_exactly_in_any_choice(save_npz, compressed):
    images = random_images(20)
    path = save_npz(image=images, labels=np.arange(20), compressed=compressed)
    for count in (20, 7, 1):
        found, feeds = images_of(path, count=count, seed=count)
        np.testing.assert_array_equal(np.concatenate(feeds), images[list(found.indices)])
        assert read_labels(found).tolist() == list(found.indices)


@pytest.mark.parametrize("compressed", [False, True])
def test_fortran_order_is_read_right(save_npz, compressed):
    images = random_images(4)
    path = save_npz(image=np.asfortranarray(images), compressed=compressed)
    np.testing.assert_array_equal(np.concatenate(images_of(path)[1]), images)


def test_other_byte_order_becomes_the_machines(save_npz):
    images = random_images(3)
    _, feeds = images_of(save_npz(image=images.astype(">f4")))
    assert feeds[0].dtype == np.dtype("float32")
    assert feeds[0].dtype.isnative
    np.testing.assert_array_equal(np.concatenate(feeds), images)


def test_rank_plus_one_feeds_whole_inputs(save_npz):
    inputs = (TensorSpec("x", "float32", (2, 3)), TensorSpec("rate", "int64", ()))
    x = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
    path = save_npz(x=x, rate=np.array([8, 16, 8, 16]))
    feeds = list(read_samples(find_samples(path, inputs, None), inputs))
    np.testing.assert_array_equal(feeds[1]["x"], x[1])
    assert feeds[1]["rate"].shape == ()
    assert feeds[1]["rate"] == 16


def test_several_inputs_and_lossless_widening(save_npz):
    ids = np.arange(12, dtype=np.int32).reshape(3, 4)
    path = save_npz(ids=ids, mask=np.ones((3, 4), np.int64))
    feeds = list(read_samples(find_samples(path, TOKENS, None), TOKENS))
    assert feeds[2]["ids"].dtype == np.int64
    assert feeds[2]["ids"].tolist() == [[8, 9, 10, 11]]


@pytest.mark.parametrize(
    ("dtype", "hint"),
    [
        (np.float64, "astype"),
        (np.uint8, "scale it as in training"),
        (np.int8, "scale it as in training"),
        (np.int64, "scale it as in training"),
        (np.bool_, "scale it as in training"),
    ],
)
def test_other_dtypes_are_not_corrected_silently(save_npz, dtype, hint):
    path = save_npz(image=np.ones((2, 3, 8, 8), dtype))
    with pytest.raises(DataError, match=r"'image' is .*, the model's input is float32") as caught:
        find_samples(path, IMAGE_INPUT, None)
    assert hint in caught.value.hint


def test_int64_does_not_shrink_to_int32(save_npz):
    spec = (TensorSpec("ids", "int32", ("N", 2)),)
    with pytest.raises(DataError, match="'ids' is int64, the model's input is int32"):
        find_samples(save_npz(ids=np.zeros((2, 2), np.int64)), spec, None)


@pytest.mark.parametrize("shape", [(5, 3, 8, 9), (5, 3, 8), (5, 1, 3, 8), (5, 2, 3, 8, 8, 1), (5,)])
def test_wrong_shape_names_array_and_input(save_npz, shape):
    with pytest.raises(DataError, match=r"'image' has shape .*the model's input is \[N, 3, 8, 8\]"):
        find_samples(save_npz(image=np.ones(shape, np.float32)), IMAGE_INPUT, None)


def test_fixed_batch_of_the_model_needs_whole_batches(save_npz):
    spec = (TensorSpec("image", "float32", (4, 3)),)
    with pytest.raises(DataError, match=r"'image' has shape \[1, 3\], and the model takes 4 samples at once"):
        find_samples(save_npz(image=np.ones((8, 3), np.float32)), spec, None)
    path = save_npz("batches.npz", image=np.ones((2, 4, 3), np.float32))
    assert len(find_samples(path, spec, None).indices) == 2


@pytest.mark.parametrize(("value", "word"), [(np.nan, "NaN"), (np.inf, "infinite"), (-np.inf, "infinite")])
def test_nan_and_infinite_values_name_the_sample(save_npz, value, word):
    images = random_images(4)
    images[2, 1, 0, 0] = value
    with pytest.raises(DataError, match=rf"sample 2 of .*data\.npz: 'image' holds .*{word}"):
        images_of(save_npz(image=images))


def test_missing_array_suggests_the_nearest(save_npz):
    with pytest.raises(DataError, match="has no array named 'image'") as caught:
        find_samples(save_npz(images=random_images(2), other=np.ones(2)), IMAGE_INPUT, None)
    assert "did you mean 'images'" in caught.value.hint
    with pytest.raises(DataError) as caught:
        find_samples(save_npz(x=random_images(2)), IMAGE_INPUT, None)
    assert "name that 'image'" in caught.value.hint


def test_false_and_true_are_classes(save_npz):
    found, _ = images_of(save_npz(image=random_images(4), labels=np.array([True, False, True, False])))
    labels = read_labels(found)
    assert (labels.dtype, labels.tolist()) == (np.int64, [1, 0, 1, 0])


def test_misnamed_labels_are_not_overlooked(save_npz):
    with pytest.raises(DataError, match="an array named 'y' but none named 'labels'"):
        find_samples(save_npz(image=random_images(2), y=np.zeros(2)), IMAGE_INPUT, None)


def test_labels_of_the_wrong_length(save_npz):
    with pytest.raises(DataError, match=r"'labels' has shape \[3\], 'image' has"):
        find_samples(save_npz(image=random_images(2), labels=np.zeros(3)), IMAGE_INPUT, None)


def test_an_input_named_labels_is_an_input(save_npz):
    spec = (TensorSpec("labels", "float32", ("N", 2)),)
    found = find_samples(save_npz(labels=np.ones((3, 2), np.float32)), spec, None)
    assert not found.labelled
    assert len(list(read_samples(take_samples(found, 2, 0), spec))) == 2


def test_no_pickle_is_ever_loaded(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "hacked"), "w"))

    np.savez(tmp_path / "x.npz", image=np.array([Bomb()], dtype=object))
    with pytest.raises(DataError, match="Python objects"):
        find_samples(str(tmp_path / "x.npz"), IMAGE_INPUT, None)
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize(
    "array", [np.array(["a", "b"]), np.ones(2, np.complex64), np.zeros(2, "M8[s]"), np.zeros(2, "i4,f4")]
)
def test_what_is_no_number_is_refused(save_npz, array):
    with pytest.raises(DataError, match="not numbers"):
        find_samples(save_npz(image=array), IMAGE_INPUT, None)


def test_empty_files_and_arrays(save_npz, tmp_path):
    with pytest.raises(DataError, match="contains no samples"):
        find_samples(save_npz(image=np.zeros((0, 3, 8, 8), np.float32)), IMAGE_INPUT, None)
    with pytest.raises(DataError, match="'image' has shape"):
        find_samples(save_npz(image=np.float32(1)), IMAGE_INPUT, None)
    with zipfile.ZipFile(tmp_path / "empty.npz", "w"):
        pass
    with pytest.raises(DataError, match="contains no arrays"):
        find_samples(str(tmp_path / "empty.npz"), IMAGE_INPUT, None)
    (tmp_path / "zero.npz").write_bytes(b"")
    with pytest.raises(DataError, match=r"not a complete \.npz"):
        find_samples(str(tmp_path / "zero.npz"), IMAGE_INPUT, None)


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("image.npy", b"not numpy at all", "is not a numpy array"),
        ("image.npy", b"\x93NUMPY\x01\x00v\x00{'descr': evil()}" + b" " * 100, "is not a numpy array"),
        ("image.npy", npy(random_images(2))[:-5], "not as long as its header says"),
        ("image.npy", npy(random_images(2)) + b"more", "not as long as its header says"),
        ("image.npy", b"\x93NUMPY\x09\x00", "is not a numpy array"),
    ],
)
def test_damaged_members_are_named(tmp_path, name, data, message):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, data)
    with pytest.raises(DataError, match=message):
        find_samples(str(path), IMAGE_INPUT, None)


def test_a_member_twice_is_refused(tmp_path):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("image.npy", npy(random_images(2)))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("image.npy", npy(random_images(3)))
    with pytest.raises(DataError, match="'image' twice"):
        find_samples(str(path), IMAGE_INPUT, None)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_changed_byte_is_noticed_by_its_checksum(tmp_path, save_npz, compressed):
    path = save_npz(image=random_images(3), compressed=compressed)
    data = bytearray(Path(path).read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "changed.npz").write_bytes(data)
    with pytest.raises(DataError, match=r"not a complete \.npz"):
        find_samples(str(tmp_path / "changed.npz"), IMAGE_INPUT, None)


@settings(max_examples=150, deadline=None)
@given(st.binary(min_size=1, max_size=4), st.floats(0, 1), st.booleans(), st.booleans())
def test_fuzzed_files_are_read_or_refused(tmp_path_factory, patch, where, cut, compressed):
    folder = tmp_path_factory.getbasetemp()
    original = folder / f"fuzz-{compressed}.npz"
    if not original.exists():
        (np.savez_compressed if compressed else np.savez)(original, image=random_images(2), labels=np.arange(2))
    data = bytearray(original.read_bytes())
    place = int(where * (len(data) - len(patch)))
    data[place : place + len(patch)] = b"" if cut else patch
    path = folder / "fuzzed.npz"
    path.write_bytes(data[:place] if cut else data)
    with contextlib.suppress(DataError):  # whatever else it raised would be a traceback for the user
        images_of(str(path))


# --- files that are made to take a machine down -----------------------------------------------------------------------


def bomb(path: Path, shape: tuple[object, ...], *, fortran: bool = False, zeros: int, dtype: str = "|u1") -> Path:
    """Write an array of zeros that is thousands of times smaller in its file."""
    header = f"{{'descr': '{dtype}', 'fortran_order': {fortran}, 'shape': {shape!r}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("image.npy", "w") as member:
        member.write(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
        for _ in range(zeros >> 20):
            member.write(bytes(1 << 20))
        member.write(bytes(zeros & ((1 << 20) - 1)))
    return path


def limited_to(limit_bytes: int, code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run code in a process whose memory is limited."""
    before = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({limit_bytes}, {limit_bytes}))\n"
    words = [sys.executable, "-c", before + code, *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)


_READ = """
import sys
from edgepack.data.npz import read_arrays
from edgepack.data.samples import find_samples, read_samples
from edgepack.errors import DataError
from edgepack.specs.model import TensorSpec
inputs = (TensorSpec("image", "uint8", ("N", "length")),)
try:
    for feed in read_samples(find_samples(sys.argv[1], inputs, None), inputs):
        pass
except DataError as error:
    print(error.message)
"""


@pytest.mark.slow
def test_a_compressed_array_in_fortran_order_is_not_expanded_whole(tmp_path: Path) -> None:
    path = bomb(tmp_path / "x.npz", (1000, 400_000), fortran=True, zeros=400_000_000)
    assert path.stat().st_size < 1_000_000
    done = limited_to(900 << 20, _READ, path)
    assert "is compressed and takes 400000128 bytes at once" in done.stdout, done.stderr


@pytest.mark.slow
def test_a_compressed_sample_has_a_limit(tmp_path: Path) -> None:
    done = limited_to(900 << 20, _READ, bomb(tmp_path / "x.npz", (1, 400_000_000), zeros=400_000_000))
    assert "is compressed and takes 400000000 bytes at once" in done.stdout, done.stderr


@pytest.mark.slow
def test_a_compressed_array_in_c_order_is_read_row_by_row(tmp_path: Path) -> None:
    done = limited_to(900 << 20, _READ, bomb(tmp_path / "x.npz", (1000, 400_000), zeros=400_000_000))
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.parametrize("shape", [(True, 4), (1, True), (10**400, 0), (2**63, 0), (10**9, 0), (10**7 + 1, 0)])
def test_sizes_that_are_no_sizes(tmp_path: Path, shape: tuple[object, ...]) -> None:
    path = bomb(tmp_path / "x.npz", shape, zeros=4 if True in shape else 0)
    with pytest.raises(DataError):
        images_of(str(path), (TensorSpec("image", "uint8", ("N", "length")),))


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, é=np.zeros((2, 3)))
    path.write_bytes(path.read_bytes().replace("\u00e9".encode(), b"\x99\x99"))
    with pytest.raises(DataError, match=r"not a complete \.npz file: .*decode"):
        images_of(str(path))


def test_a_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.npz")
    with pytest.raises(DataError, match="not a regular file"):
        images_of(str(tmp_path / "x.npz"))
    with pytest.raises(DataError, match="not a regular file"):
        read_arrays(tmp_path / "x.npz", ["image"])


def test_a_member_of_two_sizes_is_refused(save_npz) -> None:
    """zipfile reads one of them, a reader that looks at the bytes the other."""
    path = Path(save_npz(image=random_images(2)))
    data = bytearray(path.read_bytes())
    place = data.index(b"PK\x01\x02")
    data[place + 20 : place + 24] = (1).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(DataError):
        images_of(str(path))


@pytest.mark.parametrize("names", [("x", "x.npy"), ("x.npy", "x")])
def test_a_name_with_and_without_its_suffix_is_refused(tmp_path, names):
    # numpy.load(...)["x"] is the member without the suffix, which would be passed over here
    path = tmp_path / "data.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for value, name in enumerate(names):
            content = io.BytesIO()
            np.save(content, np.full((2, 3), value, np.float32))
            archive.writestr(name, content.getvalue())
    with pytest.raises(DataError, match="'x' twice"):
        find_samples(str(path), (TensorSpec("x", "float32", ("N", 3)),), None)
    with pytest.raises(DataError, match="'x' twice"):
        read_arrays(path, ["x"])
