# ruff: noqa: E402  (the path comes first)
"""Records one network as every framework's exporter writes it: ``python record.py FOLDER``.

Run by hand when a worker or an exporter changes; writes ``resnet8.zip`` beside this file. The network and the ways to
save it are those of ``make sources``. Weights repeat sixteen values, so that the recordings are a few kB each.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[3] / "benchmarks"))

import sources

from edgepack.base.resources import package_folder
from edgepack.export import FRAMEWORKS, export
from edgepack.export.environments import find_lock, make_environment
from edgepack.specs.source import SourceOptions

WEIGHTS = """
def values(k, w):
    made = np.random.default_rng(k).normal(size=16) / (np.sqrt(np.prod(w.shape[:-1])) if w.ndim > 1 else 4)
    return np.resize(made if w.ndim > 1 else np.abs(made) + 0.5, w.shape)
m.set_weights([values(k, w) for k, w in enumerate(m.get_weights())])
"""


def main(folder: Path) -> None:
    """Make the network, export it by each framework, and keep the models as the real workers leave them."""
    workers = package_folder() / "export" / "workers"
    folder.mkdir(parents=True, exist_ok=True)
    code = sources.NET + WEIGHTS + sources.FORMATS
    place = sources._made(folder, code, make_environment(find_lock("tensorflow")).python, workers)
    models: dict[str, bytes] = {}
    for one in (case for case in sources.CASES if case.pictures):
        worker = FRAMEWORKS.get(one.framework).worker
        lock = None if worker is None else find_lock(one.other or worker.lock)
        python = None if lock is None else make_environment(lock).python
        if one.then:
            subprocess.run([str(python), "-c", one.then], cwd=place, check=True, capture_output=True)
        os.chdir(place)
        name = one.title.partition(",")[0]
        made = export(
            one.source, None, one.shapes, SourceOptions(python=python, **one.options), place / "exported" / name
        )
        models[name] = made.path.read_bytes()
        print(name, len(models[name]))
    with zipfile.ZipFile(HERE / "resnet8.zip", "w") as archive:
        for name, data in models.items():
            archive.writestr(zipfile.ZipInfo(f"{name}.onnx"), data, zipfile.ZIP_DEFLATED, 9)


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
