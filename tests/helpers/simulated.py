"""Workers that measure nothing: made-up latencies from a known distribution, for tests of what is done with them."""

from __future__ import annotations

import math

import numpy as np

from edgepack.benchmark.machine.usage import Usage
from edgepack.benchmark.measure.loop import Warmup
from edgepack.benchmark.measure.summary import Subject
from edgepack.benchmark.measure.worker import Block, Closed, Measured, Open, Opened
from edgepack.errors import ChildError
from edgepack.specs.bundle import Manifest, Payload, Requirements
from edgepack.specs.model import TensorSpec
from edgepack.specs.result import Memory
from edgepack.specs.run import RunOptions
from edgepack.specs.target import Host

HOST = Host("Made-up CPU", "x86_64", ("avx2",), 4, 8 << 30, "linux", "6.1", "3.11.7")


def manifest(target="board", precision="fp32", name="net", source="ab" * 32):
    return Manifest(
        format=1,
        name=name,
        version="1",
        target=target,
        precision=precision,
        inputs=(TensorSpec("x", "float32", ("N", 3)),),
        outputs=(TensorSpec("y", "float32", ("N", 2)),),
        preprocessing=None,
        classes=(),
        layers={},
        accuracy=None,
        requirements=Requirements("x86_64", (), {}),
        payloads=(Payload("onnxruntime", "CPU", precision, "m", ("m",)),),
        toolchain={},
        source_sha256=source,
        calibration_sha256=None,
        files=(),
    )


def subject(sha256="cd" * 32, size_bytes=1000, **about):
    return Subject(manifest(**about), sha256, size_bytes, "onnxruntime", {"onnxruntime": "1.0"}, RunOptions(), HOST)


class Machine:
    """What all simulated workers share: a level of latency that drifts, and the sequence of who measured."""

    def __init__(self, seed, drift=0.05, round_sd=0.01, launch_sd=0.002, spikes=0.1):
        self.random = np.random.default_rng(seed)
        self.level = math.log(1e6)
        self.drift, self.round_sd, self.launch_sd, self.spikes = drift, round_sd, launch_sd, spikes
        self.turns = []


class SimulatedWorker:
    """A worker whose queries take ``factor`` milliseconds, give or take what the machine does."""

    def __init__(self, machine, name, factor=1.0, about=None, dies_after=None, queries=20, refreshed=0):
        self.machine, self.name, self.queries, self.refreshed = machine, name, queries, refreshed
        self.own = math.log(factor) + machine.random.normal(0, machine.launch_sd)
        self.about = about or subject()
        self.dies_after, self.asked, self.closed = dies_after, 0, False

    def ask(self, request):
        if isinstance(request, Open):
            return Opened(self.about, Warmup(10, 10**8, True), Usage(0.5), ())
        if not isinstance(request, Block):
            return Closed(Memory(10, 20, 20, 30, 40))
        self.asked += 1
        if self.dies_after is not None and self.asked > self.dies_after:
            raise ChildError("the measuring process crashed (killed by SIGSEGV)", hint="its last words: oh no")
        self.machine.turns.append(self.name)
        return self.block(request)

    def block(self, request):
        random, machine = self.machine.random, self.machine
        machine.level += random.normal(0, machine.drift)
        level = machine.level + self.own + random.normal(0, machine.round_sd)
        if random.random() < machine.spikes:
            level += random.exponential(0.5)
        latencies = np.exp(level + random.normal(0, 0.03, self.queries)).astype(np.int64)
        return Measured(tuple(latencies.tolist()), int(latencies.sum()), Usage(0.01), Usage(), self.refreshed)

    def close(self):
        self.closed = True
