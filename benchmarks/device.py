"""What a device pays, as ratios in one interleaved run (``make bench-device``): a table, artifacts/bench-device.json.

Checking and loading a bundle beside sha256 of the same bytes and the bare engine; a push and a pull through a folder
beside a plain copy of the file, and through a registry on loopback beside one request for as many bytes; a query to
``edgepack serve`` beside the same call in the process.
Each figure is of this host, now; nothing here says how fast a network is.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "helpers"))

from registry_server import REGISTRY, distribution  # noqa: E402
from serving import FEEDS, serving  # noqa: E402
from small_bundles import small_bundle, small_compiled, small_facts, small_golden  # noqa: E402

from edgepack.bundle.archive import open_bundle  # noqa: E402
from edgepack.bundle.pack import pack  # noqa: E402
from edgepack.device.host import host_facts  # noqa: E402
from edgepack.registry.reference import parse  # noqa: E402
from edgepack.registry.transfer import pull, push  # noqa: E402
from edgepack.runtime.load import load  # noqa: E402
from edgepack.serve.messages import SERVICE, message  # noqa: E402

ROUNDS = 11
CALLS = 200
MEGABYTES = 64


def large_bundle(folder: Path) -> Path:
    """Pack the small model with weights of 64 MB beside it, which it adds and takes away again."""
    import onnx
    from onnx import helper, numpy_helper

    compiled = small_compiled(folder / "compiled")
    path = compiled.folder / "model.onnx"
    proto = onnx.load(path)
    weights = np.random.default_rng(0).standard_normal(MEGABYTES * 250_000).astype(np.float32)
    proto.graph.initializer.append(numpy_helper.from_array(weights, "heavy"))
    proto.graph.initializer.append(numpy_helper.from_array(np.array([7], np.int64), "one"))
    proto.graph.node[-1].output[0] = "own"
    proto.graph.node.extend([
        helper.make_node("Gather", ["heavy", "one"], ["picked"], name="pick"),
        helper.make_node("Mul", ["own", "picked"], ["scores"], name="scale"),
    ])  # fmt: skip
    onnx.save(proto, path)
    return pack(compiled, small_golden(path, folder / "golden.npz"), small_facts(name="large"), folder)


def interleaved(first: Callable[[], object], second: Callable[[], object], rounds: int = ROUNDS) -> dict[str, float]:
    """Return the median times in ms and the median of the ratios of ``rounds`` pairs, each in turn."""
    pairs = []
    for i in range(rounds + 1):
        times = [0.0, 0.0]
        for which in (0, 1) if i % 2 else (1, 0):
            begin = time.perf_counter()
            (first, second)[which]()
            times[which] = time.perf_counter() - begin
        pairs.append(times)
    kept = np.array(pairs[1:])  # the first fills caches
    ratios = kept[:, 0] / kept[:, 1]
    low, high = np.percentile(ratios, (25, 75))
    return {
        "ms": float(np.median(kept[:, 0]) * 1e3), "beside_ms": float(np.median(kept[:, 1]) * 1e3),
        "ratio": float(np.median(ratios)), "ratio_q1": float(low), "ratio_q3": float(high), "n": rounds,
    }  # fmt: skip


def checking(bundle: Path) -> dict[str, float]:
    data = bundle.read_bytes()
    return interleaved(lambda: open_bundle(bundle), lambda: hashlib.sha256(data).digest())


def loading(bundle: Path) -> dict[str, float]:
    import onnxruntime

    with load(bundle) as model:
        path = model.folder / model.payload.entry

        def bare() -> object:
            return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

        return interleaved(lambda: load(bundle).close(), bare)


def moving(bundle: Path, folder: Path) -> dict[str, dict[str, float]]:
    """A push into a new folder and a pull from it, each beside a copy that is written to the disk too."""
    copy = folder / "copy"

    def plain() -> None:
        shutil.copyfile(bundle, copy)
        with copy.open("rb") as file:
            os.fsync(file.fileno())

    def pushed() -> None:
        shutil.rmtree(folder / "layout", ignore_errors=True)
        push(bundle, parse(f"oci:{folder / 'layout'}:1"))

    def pulled() -> None:
        (folder / "pulled").unlink(missing_ok=True)
        pull(parse(f"oci:{folder / 'layout'}:1"), folder / "pulled")

    return {"push": interleaved(pushed, plain), "pull": interleaved(pulled, plain)}


def over_http(bundle: Path, folder: Path) -> dict[str, dict[str, float]]:
    """A push into a new repository of a registry on loopback and a pull from it, each beside one request for the bytes.

    What one request takes is what the link and the registry give: CNCF's, from Debian's docker-registry.
    """
    import http.client

    data, copy = bundle.read_bytes(), folder / "received"
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    numbers = itertools.count()
    with distribution(folder / "registry") as host, contextlib.closing(http.client.HTTPConnection(host)) as link:

        def asked(method: str, path: str, body: bytes | None, status: int) -> http.client.HTTPResponse:
            link.request(method, path, body, {"Content-Type": "application/octet-stream"} if body else {})
            answer = link.getresponse()
            assert answer.status == status, answer.read()
            return answer

        def sent() -> None:
            begun = asked("POST", f"/v2/plain{next(numbers)}/blobs/uploads/", None, 202)
            begun.read()
            place = begun.headers["Location"].partition(host)[2]
            asked("PUT", f"{place}&digest={digest}", data, 201).read()

        def received() -> None:
            answer = asked("GET", f"/v2/plain0/blobs/{digest}", None, 200)
            with copy.open("wb") as file:
                shutil.copyfileobj(answer, file, 1 << 20)
                os.fsync(file.fileno())

        def pushed() -> None:
            push(bundle, parse(f"{host}/pushed{next(numbers)}:1"))

        def pulled() -> None:
            (folder / "pulled").unlink(missing_ok=True)
            pull(parse(f"{host}/kept:1"), folder / "pulled")

        sent()
        push(bundle, parse(f"{host}/kept:1"))
        return {"push": interleaved(pushed, sent), "pull": interleaved(pulled, received)}


def serving_cost(bundle: Path) -> dict[str, dict[str, float]]:
    """200 queries one after another by gRPC and by HTTP, beside 200 calls in this process."""
    import http.client

    names = {"name": "image", "datatype": "FP32", "shape": [1, 3, 8, 8]}
    request = message("ModelInferRequest")(
        model_name="small", inputs=[names], raw_input_contents=[FEEDS["image"].tobytes()]
    ).SerializeToString()
    head = json.dumps({"inputs": [{**names, "parameters": {"binary_data_size": FEEDS["image"].nbytes}}]}).encode()
    body = head + FEEDS["image"].tobytes()
    with load(bundle) as model, serving(bundle) as server, grpc.insecure_channel(server.grpc) as channel:
        call = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        web = http.client.HTTPConnection(server.http)

        def ask() -> None:
            web.request("POST", "/v2/models/small/infer", body, {"Inference-Header-Content-Length": str(len(head))})
            web.getresponse().read()

        found = {}
        for name, one in (("gRPC", lambda: call(request)), ("HTTP", ask)):
            found[name] = interleaved(
                lambda one=one: [one() for _ in range(CALLS)], lambda: [model.infer(FEEDS) for _ in range(CALLS)]
            )
        web.close()
    return found


def main() -> None:
    """Run all, print a table and write the figures."""
    with tempfile.TemporaryDirectory(prefix="edgepack-bench-") as name:
        folder = Path(name)
        os.environ["EDGEPACK_CACHE"] = str(folder / "cache")
        os.environ["XDG_CACHE_HOME"] = str(folder / "user")
        large, small = large_bundle(folder / "large"), small_bundle(folder / "small")
        megabytes = large.stat().st_size / 1e6
        rows = {
            f"check {megabytes:.0f} MB, beside sha256 of as many bytes": checking(large),
            f"check and load {megabytes:.0f} MB, beside the bare engine": loading(large),
            **{f"{k} {megabytes:.0f} MB to a folder, beside a copy": v for k, v in moving(large, folder).items()},
            **{
                f"{k} {megabytes:.0f} MB by HTTP on loopback, beside one request": v
                for k, v in (over_http(large, folder) if REGISTRY is not None else {}).items()
            },
            **{f"{CALLS} queries by {k}, beside calls in the process": v for k, v in serving_cost(small).items()},
        }
    if REGISTRY is None:
        print("nothing was sent to a registry: Debian's docker-registry is not installed")
    host = host_facts()
    print(f"{host.cpu}, {host.cores} cores, {host.kernel}; load {os.getloadavg()[0]:.1f}")
    for what, row in rows.items():
        print(
            f"{what:<60} {row['ms']:>9.1f} ms  beside {row['beside_ms']:>9.1f} ms  ratio {row['ratio']:>6.2f} "
            f"({row['ratio_q1']:.2f} to {row['ratio_q3']:.2f})  n={row['n']:.0f}"
        )
    out = ROOT / "artifacts" / "bench-device.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps({"host": host.cpu, "load": os.getloadavg()[0], "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
