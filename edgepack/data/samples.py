"""Finds, chooses and reads samples: a folder of pictures, a .npz, or a callable of the user's own.

Samples are read one at a time when they are needed, and what is read is compared with the digest taken when they were
chosen, so that a calibration never runs on other data than its result says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from edgepack.base import documents
from edgepack.base.extensions import Table
from edgepack.base.files import sha256_file, sha256_json
from edgepack.base.missing import nothing_at
from edgepack.base.user_functions import is_callable_reference
from edgepack.data.labels import Labels, digest_of, stack, take
from edgepack.data.pictures import SUFFIXES
from edgepack.data.source import LABELS, Asked, Contents, Item, Source
from edgepack.errors import DataError
from edgepack.specs.data import Preprocessing, SampleSet
from edgepack.specs.model import TensorSpec
from edgepack.specs.task import Frame, Task
from edgepack.specs.types import Array

if TYPE_CHECKING:
    from collections.abc import Sequence

_MODELS = (".onnx", ".pt2", ".pt", ".pth", ".keras", ".tflite", ".edgepack")  # suffixes that no samples have

Digest: TypeAlias = Callable[[Path], str]

# Asked in this order whether what the user named is one of theirs. To add a kind of source, add a module with a
# ``Source`` and a line here; installed packages add theirs by an entry point in the group ``edgepack.samples``.
SOURCES: Table[Source] = Table(
    "kind of samples",
    "edgepack.samples",
    {
        "npz": "edgepack.data.npz:SOURCE",
        "zip": "edgepack.data.zip_file:SOURCE",
        "masks": "edgepack.data.mask_folder:SOURCE",
        "coco": "edgepack.data.coco:SOURCE",
        "yolo": "edgepack.data.yolo_folder:SOURCE",
        "pascal-voc": "edgepack.data.pascal_voc:SOURCE",
        "texts": "edgepack.data.text_file:SOURCE",
        "table": "edgepack.data.number_table:SOURCE",
        "text-pictures": "edgepack.data.text_pictures:SOURCE",
        "sounds": "edgepack.data.sound_folder:SOURCE",
        "pictures": "edgepack.data.image_folder:SOURCE",
        "callable": "edgepack.data.generator:SOURCE",
    },
    Source,
)


def find_samples(
    data: str,
    inputs: tuple[TensorSpec, ...] | None,
    preprocessing: Preprocessing | None,
    digest: Digest = sha256_file,
    *,
    task: Task | None = None,
    skip_bad: int = 0,
) -> SampleSet:
    """Return all samples of ``data`` that can feed a model with ``inputs``; None when these are not known yet.

    ``data`` is what a row of ``SOURCES`` recognises; pictures need ``preprocessing``. ``task`` says what labels mean.
    ``digest`` returns the sha256 of a file; a store's remembers it. Pictures are decoded only when they are read,
    unless ``skip_bad``: so many samples at most are left out because they are broken or their labels are. Raises
    ``DataError``.
    """
    kind = kind_of(data, task)
    if not _source(kind, data, task).pictures:
        # A recipe's preprocessing is for pictures; arrays are fed as they are, and no field may claim otherwise.
        preprocessing = None
    labels = None if any(spec.name == LABELS for spec in inputs or ()) else LABELS
    asked = Asked(data, preprocessing, task, labels, thorough=skip_bad > 0)
    contents = _scan(kind, asked, inputs, digest)
    _refuse_bad(contents, data, skip_bad)
    bad = {found.index for found in contents.bad}
    found = SampleSet(
        source=data,
        kind=kind,
        sha256="",
        indices=tuple(i for i in range(contents.count) if i not in bad),
        labelled=contents.labels is not None,
        classes=contents.classes,
        preprocessing=preprocessing,
        task=replace(task, input={**task.input, **contents.input}) if task is not None else None,
        skipped=tuple(found.reason for found in contents.bad),
        notes=contents.notes,
    )
    if not found.indices:
        raise DataError(f"no sample of {data} can be used: {contents.bad[0].reason}", hint=contents.bad[0].hint)
    return _with_digest(found, contents)


def _refuse_bad(contents: Contents, data: str, skip_bad: int) -> None:
    """Raise ``DataError`` where more is wrong with a source than may be left out."""
    bad = contents.bad
    if len(bad) <= skip_bad:
        return
    more = f" (and {len(bad) - 1} more of the kind)" if bad[1:] else ""
    choice = f"or leave such samples out with --skip-bad {len(bad)}"
    raise DataError(f"{bad[0].reason}{more}", hint=f"{bad[0].hint or f'correct {data}'}, {choice}")


def reads_elsewhere(data: str) -> bool:
    """Return whether a source may read other files than the one, or those in the folder, that the user named.

    A function reads what it likes, COCO's JSON names pictures, and a YOLO folder's data.yaml other folders.
    """
    if is_callable_reference(data):
        return True
    path = Path(data)
    return (path.is_file() and path.suffix.lower() != ".npz") or (path.is_dir() and any(path.glob("*.y*ml")))


def split_samples(
    samples: SampleSet, first: int, seed: int, digest: Digest = sha256_file
) -> tuple[SampleSet, SampleSet]:
    """Split at random into ``first`` samples and the others; both keep the source's order and share no sample.

    The same samples and seed give the same parts. Raises ``DataError`` unless both parts get a sample.
    """
    total = len(samples.indices)
    if not 0 < first < total:
        raise DataError(
            f"{samples.source} has {total} samples, which cannot be split into {first} and the others",
            hint=f"ask for 1 to {total - 1} samples, or give separate data for evaluation" if total > 1 else None,
        )
    shuffled = np.random.default_rng(seed).permutation(total)
    contents = _rescan(samples, digest)
    parts = [sorted(samples.indices[i] for i in part) for part in (shuffled[:first], shuffled[first:])]
    one, other = (_with_digest(replace(samples, indices=tuple(part)), contents) for part in parts)
    return one, other


def take_samples(samples: SampleSet, count: int, seed: int, digest: Digest = sha256_file) -> SampleSet:
    """Return ``count`` of the samples, chosen at random by ``seed``, in the source's order; all of them need no chance.

    Raises ``DataError`` when there are fewer.
    """
    total = len(samples.indices)
    if count < 1:
        raise DataError(f"asked for {count} samples", hint="ask for at least one")
    if count > total:
        raise DataError(
            f"asked for {count} samples, found {total} in {samples.source}",
            hint=f"give more data, or ask for at most {total}",
        )
    if count == total:
        return samples
    chosen = np.random.default_rng(seed).permutation(total)[:count]
    indices = tuple(sorted(samples.indices[i] for i in chosen))
    return _with_digest(replace(samples, indices=indices), _rescan(samples, digest))


def read_samples(samples: SampleSet, inputs: tuple[TensorSpec, ...], start: int = 0) -> Iterator[dict[str, Array]]:
    """Yield one feed a sample, in order: arrays by input name, in the input's dtype, with a batch axis of 1.

    ``start`` leaves out that many samples at the beginning. Raises ``DataError`` naming the sample that is damaged, of
    the wrong shape or dtype, or holds NaN; and after the last sample, when all were read, if they are not those that
    were chosen (a file was changed, a callable yields something else).
    """
    digests: list[str | None] = []
    labels: list[Any] = []
    for item in _read(samples, inputs, start):
        yield dict(item.feed)
        digests.append(item.digest)
        if item.label is not None:
            labels.append(item.label)
    known = [digest for digest in digests if digest is not None]
    if known and start == 0 and _digest(samples, known, stack(labels) if labels else None) != samples.sha256:
        raise DataError(
            f"{samples.source} changed after its samples were chosen",
            hint="do not change the data during a run; a callable must yield the same samples each time (fix its seed)",
        )


def read_labels(samples: SampleSet) -> Array:
    """Return labels that are an array, first axis = samples; classes are int64. Raises ``DataError`` without them."""
    found = read_any_labels(samples)
    if not isinstance(found, np.ndarray):
        raise DataError(
            f"the labels of {samples.source} are not numbers, one for each sample",
            hint="choose a metric that reads them; 'edgepack build --help' lists the metrics",
        )
    return found


def read_any_labels(samples: SampleSet) -> Labels:
    """Return the labels, one for each sample, of whatever kind. Raises ``DataError`` without labels."""
    if not samples.labelled:
        raise DataError(
            f"{samples.source} has no labels",
            hint="use class subfolders, a labels.csv with the header file,label, or an array named 'labels'",
        )
    values = _rescan(samples, sha256_file).labels
    if values is None or len(values) <= max(samples.indices):
        raise DataError(f"{samples.source} lost its labels", hint="do not change the data during a run")
    return take(values, samples.indices)


def read_frames(samples: SampleSet) -> Iterator[Frame]:
    """Yield where each sample lies in the model's input; nothing is known of samples that are arrays."""
    frame = _rescan(samples, sha256_file).frame
    return (frame(i) if frame is not None else Frame() for i in samples.indices)


def read_picture_files(samples: SampleSet, positions: Sequence[int]) -> Iterator[tuple[bytes, str]]:
    """Yield the bytes and the name of samples that are pictures. Raises ``DataError``."""
    picture = SOURCES.get(samples.kind).picture
    assert picture is not None, "asked of samples that are pictures"
    return (picture(_asked(samples), samples.indices[position]) for position in positions)


def has_pictures(samples: SampleSet) -> bool:
    """Return whether samples are picture files, which a recipe makes inputs of."""
    return _source(samples.kind, samples.source, samples.task).picture is not None


def picture_digests(samples: SampleSet) -> list[str]:
    """Return the sha256 of the file of each sample that is a picture."""
    contents = _rescan(samples, sha256_file)
    return [contents.digest(i) for i in samples.indices]


def ignored_files(samples: SampleSet) -> tuple[str, ...]:
    """Return what stands in the source and is not a sample: hidden and other files."""
    return _rescan(samples, sha256_file).ignored if _has_names(samples) else ()


def sample_names(samples: SampleSet) -> tuple[str, ...]:
    """Return a name for each sample, for messages: its file, or its number in the source."""
    names = _rescan(samples, sha256_file).names if _has_names(samples) else ()
    return tuple(names[i] if names else f"sample {i}" for i in samples.indices)


def _has_names(samples: SampleSet) -> bool:
    """Say whether samples are files or lines; those of a callable take its whole work to be found again."""
    found = _source(samples.kind, samples.source, samples.task)
    return found.named or found.picture is not None


def _source(kind: str, data: str, task: Task | None) -> Source:
    """Return the source that samples are of: of an archive the one in it."""
    found = SOURCES.get(kind)
    return found if found.within is None else found.within(data, task)


def _asked(samples: SampleSet) -> Asked:
    return Asked(samples.source, samples.preprocessing, samples.task, LABELS if samples.labelled else None)


def stated_classes(data: str, preprocessing: Preprocessing | None, task: Task) -> tuple[str, ...]:
    """Return the names of classes in the order in which ``data`` numbers them, whatever the task names.

    Nothing where it numbers none. Raises ``DataError``.
    """
    plain = replace(task, classes=())
    kind = kind_of(data, plain)
    if _source(kind, data, plain).unnumbered:
        return ()
    return _scan(kind, Asked(data, preprocessing, plain, LABELS), None, sha256_file).classes


def tasks_of(data: str, task: Task | None) -> tuple[str, ...]:
    """Return the kinds of tasks that the labels of a source are for, empty where for any. Raises ``DataError``."""
    return _source(kind_of(data, task), data, task).tasks


def kind_of(data: str, task: Task | None) -> str:
    """Return the row that what the user named belongs to. Raises ``DataError``."""
    own = tuple(SOURCES.own)
    found = dict(SOURCES.all())
    for name in (*(name for name in found if name not in own), *own):  # edgepack's own take any folder in the end
        with _files_of(data):
            if found[name].recognises(data, task):
                return name
    path = Path(data)
    if "\0" not in data and path.is_file():
        raise DataError(f"{data} is neither a folder nor a .npz file", hint=_file_hint(path))
    if any(letter in path.name for letter in "*?[") and path.parent.is_dir():
        hint = f"give the folder, which is searched as a whole: {path.parent}"
        raise DataError(f"there is no file or folder {data}", hint=hint)
    message, hint = nothing_at(data, DataError.default_hint, what="file or folder", suffixes=(".npz",))
    raise DataError(message, hint=hint)


def _scan(kind: str, asked: Asked, inputs: tuple[TensorSpec, ...] | None, digest: Digest) -> Contents:
    with _files_of(asked.source):
        return SOURCES.get(kind).scan(asked, inputs, digest)


def _read(samples: SampleSet, inputs: tuple[TensorSpec, ...], start: int) -> Iterator[Item]:
    with _files_of(samples.source):
        yield from SOURCES.get(samples.kind).read(_asked(samples), inputs, samples.indices[start:])


@contextmanager
def _files_of(data: str) -> Iterator[None]:
    """Turn what the system says of a source's files into ``DataError``: pipes, names that are too long, permissions."""
    try:
        yield
    except OSError as error:
        name = error.filename if isinstance(error.filename, str) else data
        raise DataError(
            f"cannot read {name[:400]}: {error.strerror or error}", hint=f"correct, remove or replace it in {data}"
        ) from error


def _file_hint(path: Path) -> str | None:
    if path.suffix.lower() == ".npy":
        return "save it with np.savez(file, input_name=array), so that the array has a name"
    if path.suffix.lower() == ".py":
        return f"name the function in it: {path}:function"
    if path.suffix.lower() == ".zip":
        return "it is not a zip file, judging by its contents: copy or pack it again"
    if path.suffix.lower() in _MODELS:
        return f"it looks like a model, which has no option: edgepack build {path} --data SAMPLES"
    if path.suffix.lower() in SUFFIXES:
        return f"give the folder of the picture: {path.parent}"
    return None


def _rescan(samples: SampleSet, digest: Digest) -> Contents:
    """Scan a source again for a part of its samples; what they feed was checked when they were found."""
    contents = _scan(samples.kind, _asked(samples), None, digest)
    if contents.count <= max(samples.indices):
        raise DataError(f"{samples.source} has fewer samples than before", hint="do not change the data during a run")
    return contents


def _with_digest(samples: SampleSet, contents: Contents) -> SampleSet:
    labels = None if contents.labels is None else take(contents.labels, samples.indices)
    return replace(samples, sha256=_digest(samples, [contents.digest(i) for i in samples.indices], labels))


def _digest(samples: SampleSet, digests: list[str], labels: Labels | None) -> str:
    """Return the sha256 over the samples' digests, their labels, which ones they are, and how they are prepared."""
    return sha256_json(
        {
            "kind": samples.kind,
            "indices": list(samples.indices),
            "samples": digests,
            "labels": None if labels is None else digest_of(labels),
            "classes": list(samples.classes),
            "preprocessing": documents.encode(samples.preprocessing),
            "task": documents.encode(_of_any_place(samples.task)),
        }
    )


def _of_any_place(task: Task | None) -> Task | None:
    """Return a task without the place of its tokenizer, which counts by its contents in each sample's own digest."""
    if task is None or "tokenizer" not in task.input:
        return task
    return replace(task, input={name: value for name, value in task.input.items() if name != "tokenizer"})
