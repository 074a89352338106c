"""Made-up results and build rows: no figure here was measured."""

from __future__ import annotations

import dataclasses

import numpy as np

from edgepack.benchmark.statistics.percentiles import distribution, percentiles
from edgepack.specs.build import BuildRow, Latency, ModelFacts
from edgepack.specs.bundle import MeasuredAccuracy
from edgepack.specs.model import TensorSpec
from edgepack.specs.result import Bandwidth, LayerLimit, Limit, Memory, Peak, Peaks, Result, Scenario, Tuned
from edgepack.specs.run import Accuracy, RunOptions
from edgepack.specs.target import Host

HOST = Host(
    cpu="Made-up(R) CPU M-1000 @ 2.00GHz",
    arch="x86_64",
    isa=("avx2", "fma"),
    cores=4,
    memory_bytes=8 << 30,
    os="linux",
    kernel="6.1.0",
    python="3.11.7",
    power_mode="governor performance",
)
QUIET = {"cpu_busy_s": 1.0}


def other_host(cpu, **changes):
    return dataclasses.replace(HOST, cpu=cpu, **changes)


def digest(text):
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()


def accuracy(value=0.9134, fp32=0.9198, n=5000, ci95=(0.0031, 0.0097), metric="top1"):
    return Accuracy(metric, n, fp32, value, fp32 - value, ci95)


def result(target="host-openvino", precision="fp32", median_ms=4.0, **changes):
    """A result whose latencies are log-normal about a median, from a seed that depends on the names."""
    name = changes.pop("bundle_name", "resnet20")
    seed = int(digest(f"{name}{target}{precision}")[:8], 16)
    queries = changes.pop("queries", 1500)
    draws = np.random.default_rng(seed).normal(0, 0.06, queries)
    latencies = (1e6 * median_ms * np.exp(draws)).astype(np.int64)
    latencies[:: max(queries // 15, 1)] *= 2
    values = {
        "format": 1,
        "bundle_sha256": digest(f"bundle {name} {target} {precision}"),
        "bundle_name": name,
        "target": target,
        "precision": precision,
        "host": HOST,
        "engine": target.removeprefix("host-"),
        "versions": {target.removeprefix("host-"): "1.2.3"},
        "options": RunOptions(threads=2),
        "scenario": Scenario("SingleStream", 2_000_000_000, 400_000_000),
        "queries": queries,
        "warmup_queries": 100,
        "duration_ns": int(latencies.sum()),
        "percentiles": percentiles(latencies, 0),
        "samples_per_second": queries / (latencies.sum() / 1e9),
        "samples_per_second_ci95": (200.0, 260.0),
        "memory_load_bytes": 30_000_000,
        "memory_peak_bytes": 84_000_000 if precision == "fp32" else 61_000_000,
        "energy_uj": None,
        "energy_source": "no sensor: neither RAPL, INA3221 nor a discharging battery was found",
        "load_before": QUIET,
        "load_after": QUIET,
        "valid": True,
        "invalid_reasons": (),
        "accuracy": None,
        "size_bytes": 1_130_000 if precision == "fp32" else 340_000,
        "distribution_ns": distribution(latencies),
        "coefficient_of_variation": 0.21,
        "memory": Memory(30_000_000, 60_000_000, 70_000_000, 65_000_000, 84_000_000),
        "source_sha256": digest(f"model {name}"),
        "measured_at": "2026-01-02T03:04:05Z",
        "notes": ("4 distinct golden inputs in turn",),
    }
    return Result(**{**values, **changes})


def measured(quality=None, agreement=None, sqnr_db=None, n=5000, note=None):
    return MeasuredAccuracy(quality, sqnr_db, 0.999, agreement, n, "onnxruntime 1.2.3", ("avx2",), note)


def row(target="host-openvino", precision="fp32", of=None, **changes):
    """A row of a build; ``of`` is the result that it belongs to."""
    values = {
        "target": target,
        "precision": precision,
        "status": "ok",
        "reason": None,
        "bundle": f"artifacts/resnet20/resnet20-{target}-{precision}.edgepack",
        "sha256": of.bundle_sha256 if of else digest(f"bundle resnet20 {target} {precision}"),
        "size_bytes": of.size_bytes if of else 1_130_000,
        "accuracy": None,
        "sqnr_db": None if precision == "fp32" else 27.8,
        "cosine": 1.0 if precision == "fp32" else 0.9991,
        "agreement": 1.0 if precision == "fp32" else 0.973,
        "n": 5000,
        "sqnr_ci95_db": None,
        "cosine_ci95": None,
        "agreement_ci95": None if precision == "fp32" else (0.968, 0.9772),
        "latency_ns": None,
        "speedup_over_fp32": None,
        "speedup_ci95": None,
        "measured_on": None,
        "model": "resnet20",
        "source_sha256": digest("model resnet20"),
    }
    if of is not None:
        p50, p90 = (p.value_ns for p in of.percentiles[:2])
        values["latency_ns"] = Latency(p50, p90)
        values["measured_on"] = f"{of.host.cpu}, {of.engine} 1.2.3"
        values["speedup_over_fp32"] = 1.0 if precision == "fp32" else None
    return BuildRow(**{**values, **changes})


ROOF = Peaks(
    2,
    (Peak("fp32", 90_000_000_000, "made-up MatMul 256"), Peak("int8", 300_000_000_000, "made-up MatMul 1024")),
    (Bandwidth(262_144, 60_000_000_000, "copy of 512 KiB"), Bandwidth(67_108_864, 20_000_000_000, "copy of 32 MiB")),
    {"onnxruntime": "1.2.3"},
)
BOUND_OF = {0: "compute", 1: "memory", 2: "overhead", 3: "precision"}


def limit(p50_ns, precision="int8", layers=14):
    """A limit whose layers go through all kinds of bounds."""
    found = []
    for i in range(layers):
        ops, moved = 90_000 * (i + 1), 4_000 * (1 + (i * 5) % 7) ** 2
        floor = 1_000 * (i + 1)
        time = floor * (2 + i % 4)
        bound = BOUND_OF[i % 4]
        reason = f"{bound}: made up for layer {i}"
        asked = "int8" if bound == "precision" else precision
        found.append(
            LayerLimit(
                f"/layer{i}/Conv", "Conv", asked, precision, ops, moved, floor, time, floor / time, bound, reason
            )
        )
    found.append(
        LayerLimit("/pool/Mean", "ReduceMean", precision, precision, None, 4096, 10, 500, 0.02, "overhead", "o")
    )
    floor = sum(layer.floor_ns for layer in found)
    costliest = sorted(found, key=lambda layer: -layer.time_ns)[:10]
    return Limit(
        floor_ns=floor,
        fraction=floor / p50_ns,
        samples=1,
        ops=sum(layer.ops or 0 for layer in found),
        moved_bytes=sum(layer.moved_bytes or 0 for layer in found),
        roof=ROOF,
        runs=100,
        profiled_ns=sum(layer.time_ns for layer in found),
        layers=tuple(found),
        costliest=tuple(layer.name for layer in costliest),
    )


FACTS = ModelFacts(
    4_652_008,
    391_000_000,
    18,
    (TensorSpec("input", "float32", ("N", 3, 224, 224)),),
    (TensorSpec("logits", "float32", ("N", 1000)),),
)


def full_build():
    """Everything that a page can show: energy, limits, two instruction sets, disturbed and tuned rows, a bound."""
    results, rows = labelled_build()
    board = dataclasses.replace(
        rows[4], target="jetson-orin-nano-jp6", bundle="resnet20-jetson-orin-nano-jp6-int8.edgepack"
    )
    rows = (*rows, board)
    rows = tuple(dataclasses.replace(r, facts=FACTS, model_bytes=r.size_bytes and r.size_bytes - 60_000) for r in rows)
    apart = {"load_ns": 31_000_000, "first_answer_ns": 38_500_000}
    results = tuple(dataclasses.replace(r, model_bytes=r.size_bytes - 60_000, **apart) for r in results)
    vnni = other_host("Made-up CPU V-9", isa=("avx2", "avx512_vnni", "avx512f"))
    more = []
    for i, found in enumerate(results):
        quality = next(r.accuracy for r in rows if r.sha256 == found.bundle_sha256)
        p50 = found.percentiles[0].value_ns
        engine = f"{found.engine} 1.2.3"
        energy = {"energy_uj": 9_000 + 2_500 * i, "energy_source": "a made-up sensor", "energy_idle_uw": 2_400_000}
        first = MeasuredAccuracy(quality, 27.8, 0.999, 0.97, 5000, engine, ("avx2", "fma"), None)
        more.append(dataclasses.replace(found, limit=limit(p50, found.precision), accuracy=first, **energy))
        better = accuracy(0.9160, ci95=(0.0012, 0.0064)) if found.precision == "int8" else quality
        there = MeasuredAccuracy(better, 27.8, 0.999, 0.97, 5000, engine, vnni.isa, None)
        elsewhere = result(found.target, found.precision, p50 / 2.6e6, host=vnni, accuracy=there, **energy)
        if found.precision == "fp32":
            reasons = ("tasks waited for a CPU in 61.5% of the time (bound 5%)",)
            elsewhere = dataclasses.replace(elsewhere, valid=False, invalid_reasons=reasons)
        else:
            tuned = Tuned("made-up key", "SingleStream", 0.91, (0.88, 0.95), "2026-01-02T03:00:00Z", 0)
            elsewhere = dataclasses.replace(elsewhere, tuned=tuned, options=RunOptions(threads=2, spinning=False))
        more.append(elsewhere)
    return tuple(more), rows


def labelled_build():
    """Two targets measured here, one only built, one that failed: results and rows."""
    results, rows = [], []
    medians = {
        ("openvino", "fp32"): 4.1,
        ("openvino", "int8"): 2.2,
        ("onnxruntime", "fp32"): 5.0,
        ("onnxruntime", "int8"): 3.1,
    }
    for (engine, precision), median in medians.items():
        target = f"host-{engine}"
        found = result(target, precision, median)
        speedup = medians[engine, "fp32"] / median
        quality = accuracy() if precision == "int8" else accuracy(0.9198, ci95=(0.0, 0.0))
        rows.append(
            row(
                target,
                precision,
                found,
                accuracy=quality,
                speedup_over_fp32=speedup,
                speedup_ci95=None if precision == "fp32" else (0.96 * speedup, 1.05 * speedup),
            )
        )
        results.append(found)
    notes = {"latency": "not measured: no such device here"}
    rows.append(
        row("raspberry-pi-5", "int8", accuracy=accuracy(0.9120, ci95=(0.004, 0.012)), size_bytes=338_000, notes=notes)
    )
    rows.append(
        row(
            "intel-n100",
            "int8",
            status="failed",
            reason="openvino refused model.onnx: operator Foo is unknown (try --precision fp32)",
            bundle=None,
            sha256=None,
            size_bytes=None,
            agreement=None,
            agreement_ci95=None,
            sqnr_db=None,
            n=None,
        )
    )
    return tuple(results), tuple(rows)


def unmeasured_build():
    """Seven boards, none of which is here: fp32 and int8 of each, built and never measured."""
    boards = ("raspberry-pi-5", "raspberry-pi-4-tvm", "rk3588-tvm", "jetson-orin-nano-jp6", "intel-n100", "amd-zen3",
              "riscv64-rva22v-tvm")  # fmt: skip
    notes = {"latency": "not measured: no such device here"}
    sizes = {"fp32": 1_130_000, "int8": 340_000}
    rows = [row(b, p, bundle=f"{b}-{p}.edgepack", size_bytes=s, notes=notes) for b in boards for p, s in sizes.items()]
    return (), tuple(rows)


def unlabelled_build():
    """The same without labels, and on a disturbed machine."""
    results, rows = labelled_build()
    reasons = ("other processes took 41.0% of the CPU time (bound 5%)",)
    results = tuple(dataclasses.replace(r, valid=False, invalid_reasons=reasons) for r in results)
    notes = {"accuracy": "not measured: the samples have no labels"}
    rows = tuple(
        dataclasses.replace(r, accuracy=None, notes={**r.notes, **notes}, n=200 if r.n else None) for r in rows
    )
    return results, rows


def many(devices=40, models=1):
    """Five hundred results: made-up devices with four precisions, one to four threads (and eight on every other)."""
    results = []
    random = np.random.default_rng(0)
    for model in range(models):
        for device in range(devices):
            host = dataclasses.replace(HOST, cpu=f"Made-up CPU {device}")
            speed = float(np.exp(random.normal(1.5, 1)))
            for precision, factor, drop in (
                ("fp32", 1, 0),
                ("fp16", 0.7, 0.0004),
                ("bf16", 0.75, 0.001),
                ("int8", 0.45, 0.006),
            ):
                for threads in (1, 2, 4, 8) if device % 2 and precision == "int8" else (1, 2, 4):
                    found = drop * float(np.exp(random.normal(0, 0.3)))
                    quality = accuracy(0.9198 - found, ci95=(found - 0.003, found + 0.003))
                    median_ms = speed * factor / threads**0.7
                    results.append(
                        result(
                            f"device-{device:02}",
                            precision,
                            median_ms,
                            host=host,
                            options=RunOptions(threads=threads),
                            accuracy=measured(quality, 0.98, 25.0),
                            bundle_name=f"net{model}",
                            queries=700,
                            energy_uj=round(2_000 * median_ms * threads),
                            energy_source="a made-up sensor",
                            limit=limit(round(1e6 * median_ms), precision, layers=40),
                        )
                    )
    return tuple(results), ()
