"""Everything that reads files of strangers, as functions of bytes, with files to begin from that are made in code.

Whatever bytes come, a reader gives a value or raises one of edgepack's own errors, with words and a hint.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_damage import members_of

from edgepack.errors import EdgepackError

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
Seeds = Callable[[Path], Iterator[bytes]]


@dataclass(frozen=True)
class Target:
    """A reader: ``seeds`` yields good files, ``read`` takes bytes and a folder to write them into.

    ``form`` says how a file is taken apart so that damage gets behind its checksums: "zip", "bundle", "json" or "".
    """

    seeds: Seeds
    read: Callable[[bytes, Path], Any]
    form: str = ""


class Finding(Exception):
    """An error without words, or what else a reader must not do."""


def try_bytes(target: Target, data: bytes, folder: Path) -> bool:
    """Say whether a reader takes ``data``. Raises what is a bug: any error that is not edgepack's own."""
    try:
        target.read(data, folder)
    except EdgepackError as error:
        if not (error.message and error.hint):
            raise Finding(f"{type(error).__name__} without words") from error
        return False
    return True


def _file(name: str, data: bytes, folder: Path) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


# --- readers ----------------------------------------------------------------------------------------------------------


def _read_bundle(data: bytes, folder: Path) -> None:
    from edgepack.bundle.archive import open_bundle, read_member
    from edgepack.bundle.layers import read_layers
    from edgepack.verify.golden import GOLDEN, check_golden, read_golden

    path = _file("fuzz.edgepack", data, folder)
    bundle = open_bundle(path)
    manifest = bundle.manifest
    vectors = read_golden(read_member(bundle, GOLDEN))
    check_golden(vectors, manifest.inputs, manifest.outputs, manifest.precision, str(path))
    read_layers(bundle)


def _read_job(data: bytes, folder: Path) -> None:
    from edgepack.bundle.job import open_job

    with open_job(_file("fuzz.job", data, folder), folder) as (job, model):
        if {*job.plan.inputs} - {spec.name for spec in model.inputs} or not model.path.is_file():
            raise Finding("a job of another model")


def _read_statistics(data: bytes, folder: Path) -> None:
    from edgepack.calibrate.merge import choose_from, merge, read_statistics

    found = read_statistics(_file("fuzz.json", data, folder))
    if any(one.low > one.high for one in choose_from(merge([found]), "mse", 99.99).tensors.values()):
        raise Finding("a range that ends before it begins")


def _read_manifest(data: bytes, _folder: Path) -> None:
    from edgepack.bundle.manifest import manifest_bytes, read_manifest

    manifest = read_manifest(data, "fuzz")
    again = read_manifest(manifest_bytes(manifest), "fuzz")
    if again != manifest:
        raise Finding("a manifest that was written again says something else")


def _read_signature(data: bytes, _folder: Path) -> None:
    from edgepack.trust.envelope import from_bytes, signers, to_bytes

    envelope = from_bytes(data, "fuzz")
    signers(envelope, ())
    if to_bytes(envelope) != data:
        raise Finding("a signature that was written again is another")


def _read_statement(data: bytes, folder: Path) -> None:
    """What a trusted key signed, which may yet be over anything: no statement of other files is taken."""
    from edgepack.bundle.archive import open_bundle
    from edgepack.trust.statement import check, file_digests

    bundle = open_bundle(_signed(folder))
    check(data, bundle)
    for digest in file_digests(bundle).values():
        if digest.encode() not in data:
            raise Finding("a statement without one of the files was taken")


def _read_root(data: bytes, _folder: Path) -> None:
    from edgepack.trust.root import parse_root

    parse_root(data, "fuzz").bundle_keys()


def _read_artifact(data: bytes, _folder: Path) -> None:
    from edgepack.bundle.layout import name_problem
    from edgepack.registry.transfer import _config, _layers

    layers = _layers(data, "fuzz")
    _config(data)
    if any(name_problem(layer.name) for layer in layers):
        raise Finding("a layer with a name that no bundle has was taken")


def _signed(folder: Path) -> Path:
    """Return a signed bundle that is made once for each folder."""
    from trust_cases import new_key, signed_bundle

    place = folder / "signed"
    path = place / "small.edgepack"
    return path if path.exists() else signed_bundle(place, new_key(place, "key"))


def _signatures(folder: Path) -> Iterator[bytes]:
    yield members_of(_signed(folder).read_bytes())["signature.dsse.json"]


def _statements(folder: Path) -> Iterator[bytes]:
    from edgepack.trust.envelope import from_bytes

    yield from (from_bytes(data, "seed").payload for data in _signatures(folder))


def _roots(folder: Path) -> Iterator[bytes]:
    from datetime import UTC, datetime

    from trust_cases import new_key

    from edgepack.base import documents
    from edgepack.trust.root import make_root, sign_root

    one, two = new_key(folder, "one"), new_key(folder, "two")
    made = make_root((one.public,), (two.public,), datetime(2030, 1, 1, tzinfo=UTC))
    yield documents.to_json(sign_root(made, [one])).encode()


def _artifacts(folder: Path) -> Iterator[bytes]:
    from edgepack.registry.layout import Layout
    from edgepack.registry.reference import Folder
    from edgepack.registry.transfer import push

    push(_signed(folder), Folder(folder / "usb"))
    layout = Layout(folder / "usb")
    yield layout.read(layout.find("latest"))


def _read_golden(data: bytes, _folder: Path) -> None:
    from small_bundles import INPUTS, OUTPUTS

    from edgepack.verify.golden import check_golden, read_golden

    check_golden(read_golden(data), INPUTS, OUTPUTS, "fp32", "fuzz")


def _read_profile(data: bytes, folder: Path) -> None:
    from edgepack.engines.targets import read_target

    read_target(_file("fuzz.toml", data, folder))


def _read_recipe(data: bytes, folder: Path) -> None:
    from edgepack.data.recipes import read_recipe

    read_recipe(_file("fuzz.toml", data, folder))


def _read_npz(data: bytes, folder: Path) -> None:
    from small_bundles import INPUTS

    from edgepack.data.samples import find_samples, read_labels, read_samples

    samples = find_samples(str(_file("fuzz.npz", data, folder)), INPUTS, None)
    for feed in read_samples(samples, INPUTS):
        if feed["image"].shape != (1, 3, 8, 8) or np.isnan(feed["image"]).any():
            raise Finding("a sample that does not fit the model")
    if samples.labelled:
        read_labels(samples)


def _read_wav(data: bytes, _folder: Path) -> None:
    from edgepack.data.audio.features import sound_input
    from edgepack.data.audio.wav import decode_wav
    from edgepack.specs.signals import Sound

    made = Sound(features="log-mel", length=800, hop=100, fft_length=256, mels=8)
    if not np.isfinite(sound_input(decode_wav(data, "fuzz"), made, "fuzz")).all():
        raise Finding("a sound that is not a number")


def _read_tokenizer(data: bytes, _folder: Path) -> None:
    from edgepack.data.text.inputs import text_input
    from edgepack.data.text.tokenizer import read_tokenizer
    from edgepack.specs.model import TensorSpec
    from edgepack.specs.signals import Text

    inputs = (TensorSpec("input_ids", "int64", ("N", "L")), TensorSpec("attention_mask", "int64", ("N", "L")))
    text_input(read_tokenizer(data, "fuzz"), "the [MASK] card, É", Text(), inputs)


def _read_table(data: bytes, folder: Path) -> None:
    from edgepack.data.samples import find_samples, read_samples
    from edgepack.specs.model import TensorSpec

    inputs = (TensorSpec("x", "float32", ("N", 2)),)
    samples = find_samples(str(_file("fuzz.csv", data, folder)), inputs, None)
    for feed in read_samples(samples, inputs):
        if feed["x"].shape != (1, 2) or not np.isfinite(feed["x"]).all():
            raise Finding("a row that does not fit the model")


def _sounds(_folder: Path) -> Iterator[bytes]:
    from sounds import encode_wav, noise

    yield encode_wav(noise(400), 16000)
    yield encode_wav(np.stack([noise(90), noise(90)], axis=1), 44100, 24, extensible=True)
    yield encode_wav(noise(300), 8000, 32, kind=3)


def _tokenizers(_folder: Path) -> Iterator[bytes]:
    from tokenizers_made import tokenizer_bytes

    yield tokenizer_bytes()
    yield tokenizer_bytes(padding={"strategy": {"Fixed": 9}, "direction": "Left", "pad_id": 5, "pad_type_id": 1})


def _tables(_folder: Path) -> Iterator[bytes]:
    yield b"a,b,label\n1,2.5,0\n-3,4e1,1\n"
    yield b"1,2\n3,4\n"


def _read_onnx(data: bytes, folder: Path) -> None:
    from edgepack.graph.load import load_model

    load_model(_file("fuzz.onnx", data, folder))


def _read_pt2(data: bytes, folder: Path) -> None:
    from edgepack.export.torch_archive import read_archive

    read_archive(_file("fuzz.pt2", data, folder))


def _read_results(data: bytes, folder: Path) -> None:
    from edgepack.report.entries.read import read_results

    read_results([_file("fuzz.json", data, folder)])


def _import(data: bytes, folder: Path) -> None:
    from simulated import HOST

    from edgepack.benchmark.imported import Of, import_result

    of = Of("net", "board", "fp32", HOST)
    logs = folder / "loadgen"
    logs.mkdir(exist_ok=True)
    _file("mlperf_log_summary.txt", data, logs)
    with contextlib.suppress(EdgepackError):
        import_result(logs, of)
    import_result(_file("fuzz.json", data, folder), of)


# --- files to begin from ----------------------------------------------------------------------------------------------


def _bundles(folder: Path) -> Iterator[bytes]:
    from small_bundles import small_bundle, small_bundle_of_two

    yield small_bundle(folder / "one", channels=2).read_bytes()
    yield small_bundle_of_two(folder / "two", same=True).read_bytes()


def _jobs(folder: Path) -> Iterator[bytes]:
    from edgepack.bundle.job import write_job
    from edgepack.graph.load import load_model

    yield write_job(load_model(_small(folder)), None, None, None, folder).path.read_bytes()


def _statistics(folder: Path) -> Iterator[bytes]:
    from edgepack.base import documents
    from edgepack.calibrate.merge import measure_statistics
    from edgepack.data.samples import find_samples
    from edgepack.graph.load import load_model

    model = load_model(_small(folder))
    np.savez(folder / "x.npz", image=np.random.default_rng(0).standard_normal((2, 3, 8, 8), np.float32))
    samples = find_samples(str(folder / "x.npz"), model.inputs, None)
    yield documents.to_json(measure_statistics(model, samples, folder)).encode()


def _small(folder: Path) -> Path:
    from small_bundles import small_onnx

    return small_onnx(folder / "small.onnx", channels=2)


def _manifests(folder: Path) -> Iterator[bytes]:
    for data in _bundles(folder):
        yield members_of(data)["manifest.json"]


def _goldens(folder: Path) -> Iterator[bytes]:
    for data in _bundles(folder):
        yield next(content for name, content in members_of(data).items() if name.endswith("golden.npz"))


def _tomls(place: str) -> Seeds:
    def seeds(_folder: Path) -> Iterator[bytes]:
        for path in sorted((ROOT / place).glob("*.toml")):
            yield path.read_bytes()

    return seeds


def _arrays(_folder: Path) -> Iterator[bytes]:
    random = np.random.default_rng(0)
    image = random.standard_normal((4, 3, 8, 8)).astype(np.float32)
    columns = {"image": np.asfortranarray(image)}
    for save, extra in ((np.savez, {}), (np.savez_compressed, {"labels": np.arange(4)}), (np.savez, columns)):
        buffer = io.BytesIO()
        save(buffer, **{"image": image, **extra})  # type: ignore[operator]
        yield buffer.getvalue()


def _models(_folder: Path) -> Iterator[bytes]:
    from mutations import seeds

    yield from seeds()


def _programs(folder: Path) -> Iterator[bytes]:
    import torch

    class Net(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(x) if x.shape[0] > 0 else x

    free = {"x": {0: torch.export.Dim.DYNAMIC}}
    program = torch.export.export(Net().eval(), (torch.randn(2, 3),), dynamic_shapes=free)
    torch.export.save(program, folder / "net.pt2")
    yield (folder / "net.pt2").read_bytes()


def _results(_folder: Path) -> Iterator[bytes]:
    from made_up import full_build, result

    from edgepack.base import documents
    from edgepack.specs.build import BuildResult

    results, rows = full_build()
    yield documents.to_json(result()).encode()
    yield documents.to_json(results[0]).encode()
    yield documents.to_json(BuildResult("net", rows, (), "out", None, {}, 0, 0)).encode()


def _measurements(_folder: Path) -> Iterator[bytes]:
    for path in sorted((ROOT / "tests" / "benchmark" / "recorded").rglob("*")):
        if path.is_file() and path.stat().st_size < 100_000:
            yield path.read_bytes()
    times = {"startEnqMs": 0.0, "endEnqMs": 0.1, "startH2dMs": 0.0, "endH2dMs": 0.1, "startComputeMs": 0.1}
    times |= {"endComputeMs": 1.0, "startD2hMs": 1.0, "endD2hMs": 1.2, "h2dMs": 0.1, "computeMs": 0.9, "d2hMs": 0.2}
    yield json.dumps([{**times, "latencyMs": 1.2}] * 3).encode()


TARGETS: dict[str, Target] = {
    "bundle": Target(_bundles, _read_bundle, "bundle"),
    "job": Target(_jobs, _read_job, "bundle"),
    "statistics": Target(_statistics, _read_statistics, "json"),
    "manifest": Target(_manifests, _read_manifest, "json"),
    "golden": Target(_goldens, _read_golden, "zip"),
    "profile": Target(_tomls("targets"), _read_profile),
    "recipe": Target(_tomls("calibration"), _read_recipe),
    "npz": Target(_arrays, _read_npz, "zip"),
    "wav": Target(_sounds, _read_wav),
    "tokenizer": Target(_tokenizers, _read_tokenizer, "json"),
    "table": Target(_tables, _read_table),
    "onnx": Target(_models, _read_onnx),
    "pt2": Target(_programs, _read_pt2, "zip"),
    "results": Target(_results, _read_results, "json"),
    "import": Target(_measurements, _import, "json"),
    "signature": Target(_signatures, _read_signature, "json"),
    "statement": Target(_statements, _read_statement, "json"),
    "root": Target(_roots, _read_root, "json"),
    "artifact": Target(_artifacts, _read_artifact, "json"),
}
