"""What a manifest says of itself."""

from __future__ import annotations

from pathlib import Path

from small_bundles import small_bundle

from edgepack.bundle.archive import open_bundle


def test_the_size_of_the_model_is_that_of_the_engines_files(tmp_path: Path) -> None:
    bundle = open_bundle(small_bundle(tmp_path))
    sizes = {file.path: file.size_bytes for file in bundle.manifest.files}
    assert bundle.manifest.model_bytes == sum(n for path, n in sizes.items() if path.startswith("model/")) > 0
    assert bundle.manifest.model_bytes < sum(sizes.values()) < bundle.size_bytes
