"""Crops of the photographs that installed packages bring."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from edgepack.demo import photos
from edgepack.demo.photos import write_photos

pytest.importorskip("skimage", reason="the photographs are scikit-image's: pip install 'edgepack[demo]'")
pytest.importorskip("sklearn", reason="some of the photographs are scikit-learn's: pip install 'edgepack[demo]'")


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two photographs a part, of either package, and three crops of each."""
    monkeypatch.setattr(photos, "_CALIBRATION", ("coffee.png", "china.jpg"))
    monkeypatch.setattr(photos, "_EVALUATION", ("chelsea.png", "flower.jpg"))
    monkeypatch.setattr(photos, "_CROPS", 3)


def test_no_photograph_is_in_both_parts() -> None:
    assert not set(photos._CALIBRATION) & set(photos._EVALUATION)
    for name in (*photos._CALIBRATION, *photos._EVALUATION):
        assert photos._find(name).is_file()


@pytest.mark.usefixtures("few")
def test_crops_are_square_and_of_one_size(tmp_path: Path) -> None:
    folder = write_photos(tmp_path)
    for part, names in (("calibration", ("coffee", "china")), ("evaluation", ("chelsea", "flower"))):
        found = sorted(path.name for path in (folder / part).iterdir())
        assert found == sorted(f"{name}-{i:02}.png" for name in names for i in range(3))
        for path in (folder / part).iterdir():
            with Image.open(path) as crop:
                assert (crop.size, crop.mode) == ((288, 288), "RGB")


@pytest.mark.usefixtures("few")
def test_the_same_crops_come_each_time(tmp_path: Path) -> None:
    contents = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_photos(tmp_path / name)
        contents.append({p.relative_to(tmp_path / name): p.read_bytes() for p in (tmp_path / name).rglob("*.png")})
    assert contents[0] == contents[1]
    assert len(set(contents[0].values())) == 12  # no two crops are alike


def test_a_photograph_that_nobody_has_is_named() -> None:
    with pytest.raises(FileNotFoundError, match=r"neither scikit-image nor scikit-learn has nobody\.png"):
        photos._find("nobody.png")
