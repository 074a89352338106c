"""Puts together what is known of each layer of a bundle: asked, executed on this host, SQNR, time, and why."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from edgepack.bundle.archive import read_member
from edgepack.bundle.layers import read_layers
from edgepack.device.host import host_facts, saturates
from edgepack.engines import ENGINES, part_of
from edgepack.engines.common.profile import EngineNode, LayerProfiler, Profile
from edgepack.errors import ConfigError
from edgepack.execution import child
from edgepack.profiling.reasons import LayerFacts, reason
from edgepack.runtime.load import LoadedModel, load
from edgepack.specs.bundle import LayerRecord, LayerRecords
from edgepack.specs.run import RunOptions
from edgepack.specs.types import Asked, Ran
from edgepack.verify.golden import GOLDEN, check_golden, read_golden

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from edgepack.specs.types import Feeds

_LIMIT_S = 600.0
_LAYERS_LIMIT = 100_000
_WEIGHTED_KERNEL = re.compile("(Fused|QLinear)?(Conv|Gemm|MatMul)|FullyConnected|Deconvolution|QGemm")
_FUSED_STEPS = 3


@dataclass(frozen=True)
class LayerRow:
    """One operator of the model.

    ``asked`` is the precision that its Q/DQ or its type ask for, ``executed`` the one that the engine runs it in here
    ("fused": inside another node; "unknown": the engine does not say). ``time_share`` is a fraction of the time of all
    nodes. ``sqnr_db`` is None where ``identical``, and where the bundle does not hold it. ``macs`` are the operator's
    own multiply-adds a sample, ``inside_macs`` those of others that the engine runs inside this one's node.
    """

    name: str
    operator: str
    weighted: bool
    asked: Asked
    executed: Ran
    kernel: str
    sqnr_db: float | None
    identical: bool
    time_ns: int
    time_share: float | None
    macs: int | None
    moved_bytes: int | None
    reason: str | None
    weight_bytes: int = 0
    inside_macs: int = 0


@dataclass(frozen=True)
class LayersReport:
    """The layers of a bundle on this host, with the circumstances.

    ``time_ns`` is of all nodes in one inference, mean or median of ``runs`` on the golden inputs, with the engine's
    profiler on. ``conversion_share`` is of the nodes that only convert, ``other_share`` of those that belong to no
    operator of the model. ``sqnr_samples`` is None when the bundle holds no SQNR.
    """

    bundle: str
    sha256: str
    target: str
    precision: str
    engine: str
    device: str
    versions: Mapping[str, str]
    cpu: str
    isa: tuple[str, ...]
    runs: int
    time_ns: int
    conversion_share: float
    other_share: float
    sqnr_samples: int | None
    sqnr_engine: str | None
    layers: tuple[LayerRow, ...]


def inspect_layers(bundle: Path, options: RunOptions) -> LayersReport:
    """Check ``bundle``, run it on this host with the engine's profiler on, and return its layers.

    It runs in a child process. Raises what ``load`` raises; ``ConfigError`` for an engine that does not tell.
    """
    return child.call(report_layers, bundle.absolute(), options, limit_s=_LIMIT_S)


def report_layers(bundle: Path, options: RunOptions) -> LayersReport:
    """Do what ``inspect_layers`` says, in this process."""
    with load(bundle, options) as model:
        vectors = read_golden(read_member(model.bundle, GOLDEN))
        check_golden(vectors, model.inputs, model.outputs, model.manifest.precision, str(bundle))
        return report_loaded(model, vectors.inputs, options)


def report_loaded(model: LoadedModel, feeds: Sequence[Feeds], options: RunOptions) -> LayersReport:
    """Run a loaded bundle on ``feeds`` with the engine's profiler on, and return its layers."""
    if not ENGINES.get(model.backend).layers:
        known = " and ".join(name for name, engine in ENGINES.all() if engine.layers)
        raise ConfigError(f"{model.backend} does not report what it executes", hint=f"layers are available for {known}")
    records = read_layers(model.bundle) or _records_of(model)
    return _joined(model, records, _profile(model, feeds, options))


def _profiler(model: LoadedModel) -> LayerProfiler:
    return cast("LayerProfiler", part_of(model.backend, ENGINES.get(model.backend).layers))


def _profile(model: LoadedModel, feeds: Sequence[Feeds], options: RunOptions) -> Profile:
    path = model.folder / model.payload.entry
    return _profiler(model).profile(path, feeds, model.inputs, model.payload.precision, options, model.device)


def _records_of(model: LoadedModel) -> LayerRecords:
    """Return the operators as the payload itself reports them, without SQNR."""
    from edgepack.graph.describe import describe
    from edgepack.graph.load import load_model
    from edgepack.quantize.requested import asked_of_onnx

    path = model.folder / model.payload.entry
    if path.suffix == ".onnx":
        onnx_model = load_model(path)
        layers = asked_of_onnx(onnx_model)
        known = {layer.name: layer for layer in describe(onnx_model).layers}
        macs = {name: layer.macs for name, layer in known.items()}
    else:
        profiler = _profiler(model)
        layers, known, macs = profiler.asked_of(path), {}, profiler.macs_of(path)
    records = []
    made = {name for found in layers for name in found.makes}
    for found in layers:
        layer = found.layer
        facts = known.get(layer.name)
        asked = layer.asked
        if facts is not None and asked == "fp32" and facts.precision in ("fp16", "bf16"):
            asked = "fp16" if facts.precision == "fp16" else "bf16"
        records.append(
            LayerRecord(
                name=layer.name,
                operator=layer.operator,
                weighted=layer.weighted,
                asked=asked,
                left=layer.reason,
                reads=next((name for name in found.reads if name in made), next(iter(found.reads), "")),
                makes=next(iter(found.makes), ""),
                macs=macs.get(layer.name),
                weight_bytes=facts.weight_bytes if facts else None,
            )
        )
    return LayerRecords(0, "", tuple(records))


def _joined(model: LoadedModel, records: LayerRecords, profile: Profile) -> LayersReport:
    host = host_facts()
    total = profile.time_ns
    layers = records.layers[:_LAYERS_LIMIT]
    owners = _owners(layers, profile.nodes)
    inside = _inside(layers, profile.nodes, owners)
    beside = _beside(profile.nodes)
    common = LayerFacts(
        engine=ENGINES.get(model.backend).title,
        asked="fp32",
        executed="fused",
        saturates=saturates(host) and model.device == "CPU",
        among_int8=any(layer.asked == "int8" for layer in layers),
    )
    rows = tuple(
        _row(layer, owners.get(i, ()), beside, total, common, inside.get(i, 0)) for i, layer in enumerate(layers)
    )
    owned = {node.name for nodes in owners.values() for node in nodes}
    conversions = sum(node.time_ns for node in profile.nodes if node.conversion and node.name not in owned)
    others = sum(node.time_ns for node in profile.nodes if not node.conversion and node.name not in owned)
    manifest = model.manifest
    return LayersReport(
        bundle=manifest.name,
        sha256=model.bundle.sha256,
        target=manifest.target,
        precision=manifest.precision,
        engine=model.backend,
        device=model.device,
        versions=model.versions,
        cpu=host.cpu,
        isa=host.isa,
        runs=profile.runs,
        time_ns=total,
        conversion_share=conversions / total if total else 0.0,
        other_share=others / total if total else 0.0,
        sqnr_samples=records.samples or None,
        sqnr_engine=records.engine or None,
        layers=rows,
    )


def _owners(layers: Sequence[LayerRecord], nodes: Iterable[EngineNode]) -> dict[int, tuple[EngineNode, ...]]:
    """Return by a layer's place the engine's nodes that are it; a node of several layers is the one's with weights."""
    places: dict[str, int] = {}
    for i, layer in enumerate(layers):
        for name in filter(None, (layer.name, layer.makes)):
            places.setdefault(name, i)
    owners: dict[int, tuple[EngineNode, ...]] = {}
    for node in nodes:
        found = [places[name] for name in node.originals if name in places]
        if found:
            place = next((i for i in found if layers[i].weighted), found[0])
            if _WEIGHTED_KERNEL.match(node.kernel):
                place = _behind(layers, places, place)
            owners[place] = (*owners.get(place, ()), node)
    return owners


def _inside(
    layers: Sequence[LayerRecord], nodes: Iterable[EngineNode], owners: Mapping[int, Sequence[EngineNode]]
) -> dict[int, int]:
    """Return by a layer's place the multiply-adds of the other layers in its nodes which have no node of their own."""
    places = {layer.name: i for i, layer in reversed([*enumerate(layers)]) if layer.macs}
    owner_of = {node.name: place for place, owned in owners.items() for node in owned}
    found: dict[int, int] = {}
    for node in nodes:
        for place in {places[name] for name in node.originals if name in places} - owners.keys():
            owner = owner_of[node.name]
            found[owner] = found.get(owner, 0) + (layers[place].macs or 0)
    return found


def _behind(layers: Sequence[LayerRecord], places: Mapping[str, int], place: int) -> int:
    """Return the layer with weights that ``place`` is fused into; an engine may name both after what the last makes."""
    found = place
    for _ in range(_FUSED_STEPS):
        if layers[found].weighted:
            return found
        if layers[found].reads not in places:
            break
        found = places[layers[found].reads]
    return found if layers[found].weighted else place


def _row(
    layer: LayerRecord,
    nodes: Sequence[EngineNode],
    beside: Mapping[str, int],
    total: int,
    common: LayerFacts,
    inside_macs: int,
) -> LayerRow:
    time_ns = sum(node.time_ns for node in nodes)
    main = max(nodes, key=lambda node: (node.time_ns, not node.conversion), default=None)
    share = time_ns / total if total and main else None
    executed: Ran = main.executed if main else "fused"
    facts = dataclasses.replace(
        common,
        asked=layer.asked,
        executed=executed,
        kernel=main.kernel if main else "",
        left=layer.left,
        time_share=share,
        conversion_share=sum(beside.get(node.name, 0) for node in nodes) / total if total else None,
        macs=layer.macs,
        moved_bytes=main.moved_bytes if main else None,
    )
    stored = main.weight_bytes if main else 0
    return LayerRow(
        name=printable(layer.name),
        operator=printable(layer.operator),
        weighted=layer.weighted,
        asked=layer.asked,
        executed=executed,
        kernel=printable(facts.kernel),
        sqnr_db=layer.sqnr_db,
        identical=layer.identical,
        time_ns=time_ns,
        time_share=share,
        macs=layer.macs,
        moved_bytes=facts.moved_bytes,
        reason=printable(found) if (found := reason(facts)) else None,
        weight_bytes=stored,
        inside_macs=inside_macs,
    )


def _beside(nodes: Sequence[EngineNode]) -> dict[str, int]:
    """Return by a node's name the time of the conversions right before and after it, in ns."""
    known = {node.name: node for node in nodes}
    users: dict[str, list[str]] = {}
    for node in nodes:
        for name in node.before:
            users.setdefault(name, []).append(node.name)
    return {
        node.name: sum(known[name].time_ns for name in {*_chain(node, known, users)})
        for node in nodes
        if not node.conversion
    }


def _chain(node: EngineNode, known: Mapping[str, EngineNode], users: Mapping[str, list[str]]) -> Iterator[str]:
    """Yield the conversions through which a node's inputs come and its outputs go."""
    for forward in (False, True):
        seen: set[str] = set()
        pending = [node.name]
        while pending:
            name = pending.pop()
            following = users.get(name, ()) if forward else known[name].before if name in known else ()
            for other in following:
                if other in known and known[other].conversion and other not in seen:
                    seen.add(other)
                    pending.append(other)
                    yield other


def printable(text: str) -> str:
    """Return ``text`` with what would act on a terminal replaced: names come from the model."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
