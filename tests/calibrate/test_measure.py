import dataclasses
import json

import numpy as np
import onnx
import onnxruntime
import pytest
from calibrate_inputs import random_images
from hypothesis import given, settings
from hypothesis import strategies as st

import edgepack.calibrate
from edgepack.calibrate import calibrate, measure, tensors
from edgepack.data.samples import find_samples, take_samples
from edgepack.errors import ConfigError, DataError, ModelError
from edgepack.execution import child
from edgepack.graph.load import load_model

OBSERVERS = ["minmax", "percentile", "entropy", "mse"]


@pytest.fixture
def run(save_npz, tmp_path):
    """Calibrate a model on arrays."""

    def calibrate_on(model, observer="minmax", percentile=99.9, out=None, **arrays):
        found = find_samples(save_npz(**arrays), model.inputs, None)
        return calibrate(model, found, observer, percentile, out or tmp_path / "out")

    return calibrate_on


def all_tensors(model, names, images):
    """Every named tensor's values over all samples, by plain ONNX Runtime without optimizations."""
    proto = onnx.load(model.path)
    known = {value.name for value in proto.graph.output}
    proto.graph.output.extend(onnx.helper.make_empty_tensor_value_info(n) for n in names if n not in known | {"image"})
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    wanted = [name for name in names if name != "image"]
    rows = [session.run(wanted, {"image": image[None]}) for image in images]
    found = {name: np.concatenate([row[i].reshape(-1) for row in rows]) for i, name in enumerate(wanted)}
    return {**found, "image": images.reshape(-1)} if "image" in names else found


@pytest.mark.parametrize("observer", OBSERVERS)
def test_extremes_are_those_of_the_tensors(conv_model, run, observer):
    images = random_images(12)
    found = run(conv_model, observer, image=images)
    values = all_tensors(conv_model, list(found.tensors), images)
    assert len(values) == 7
    for name, seen in values.items():
        assert found.tensors[name].minimum == pytest.approx(seen.min(), rel=1e-5, abs=1e-6)
        assert found.tensors[name].maximum == pytest.approx(seen.max(), rel=1e-5)


def test_percentile_of_every_tensor_agrees_with_numpy(conv_model, run):
    images = random_images(40)
    found = run(conv_model, "percentile", 99.0, image=images)
    for name, seen in all_tensors(conv_model, list(found.tensors), images).items():
        low, high = np.percentile(seen, [0.5, 99.5])
        spread = float(np.abs(seen).max())
        assert found.tensors[name].low == pytest.approx(min(low, 0), abs=0.03 * spread)
        assert found.tensors[name].high == pytest.approx(max(high, 0), abs=0.03 * spread)


def test_the_document_says_where_it_is_from(conv_model, run, save_npz):
    found = run(conv_model, "percentile", 99.5, image=random_images(3))
    assert found.model_sha256 == conv_model.sha256
    assert found.data_sha256 == find_samples(save_npz(image=random_images(3)), conv_model.inputs, None).sha256
    assert (found.observer, found.percentile, found.samples) == ("percentile", 99.5, 3)
    assert found.tools == {"onnxruntime": onnxruntime.__version__}
    assert list(found.tensors) == sorted(found.tensors)
    assert run(conv_model, "mse", image=random_images(3)).percentile is None


@pytest.mark.parametrize("observer", OBSERVERS)
def test_the_order_of_samples_does_not_matter(conv_model, run, observer):
    images = random_images(15)
    first = run(conv_model, observer, image=images)
    shuffled = run(conv_model, observer, image=images[np.random.default_rng(1).permutation(15)])
    assert first.tensors == shuffled.tensors
    assert first.data_sha256 != shuffled.data_sha256


@pytest.mark.parametrize("observer", OBSERVERS)
def test_derived_tensors_come_out_as_if_measured(conv_model, run, monkeypatch, observer):
    images = random_images(10)
    derived = run(conv_model, observer, image=images)
    monkeypatch.setattr(tensors, "_derivation", lambda *_: None)
    assert run(conv_model, observer, image=images).tensors == derived.tensors


@pytest.mark.parametrize("observer", ["minmax", "mse"])
def test_one_core_and_many_passes_give_the_same(conv_model, run, monkeypatch, observer):
    images = random_images(10)
    expected = run(conv_model, observer, image=images)
    monkeypatch.setattr(measure, "usable_cores", lambda: 1)
    monkeypatch.setattr(edgepack.calibrate, "_BYTES_A_PASS", 100)
    assert run(conv_model, observer, image=images).tensors == expected.tensors


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("observer", ["minmax", "entropy"])
def test_interrupted_calibration_goes_on_with_the_same_result(
    conv_model, save_npz, tmp_path, monkeypatch, observer, parts
):
    found = find_samples(save_npz(image=random_images(20)), conv_model.inputs, None)
    expected = calibrate(conv_model, found, observer, 99.9, tmp_path / "other")
    monkeypatch.setattr(measure, "CHECKPOINT_S", 0.0)
    if parts > 1:
        monkeypatch.setattr(edgepack.calibrate, "_BYTES_A_PASS", 100)
    seen = []

    def interrupt_after(limit):
        def progress(what, done, total):
            seen.append(done)
            if limit and done >= limit:
                raise Interrupted

        return progress

    for limit in (7, 13):
        with pytest.raises(Interrupted):
            calibrate(conv_model, found, observer, 99.9, tmp_path / "out", interrupt_after(limit))
    seen.clear()
    assert calibrate(conv_model, found, observer, 99.9, tmp_path / "out", interrupt_after(None)) == expected
    assert seen[0] >= 7, "it started from the beginning again"
    assert list((tmp_path / "out").iterdir()) == [], "a finished calibration leaves nothing behind"


def test_a_checkpoint_of_other_data_or_damaged_is_not_used(conv_model, save_npz, tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "CHECKPOINT_S", 0.0)
    first = find_samples(save_npz("a.npz", image=random_images(8)), conv_model.inputs, None)
    second = find_samples(save_npz("b.npz", image=random_images(8, seed=5)), conv_model.inputs, None)
    out = tmp_path / "out"

    def stop(what, done, total):
        if done >= 4:
            raise Interrupted

    expected = calibrate(conv_model, second, "mse", 99.9, tmp_path / "other")
    with pytest.raises(Interrupted):
        calibrate(conv_model, first, "mse", 99.9, out, stop)
    (left,) = out.glob(".checkpoint*")
    assert calibrate(conv_model, second, "mse", 99.9, out) == expected
    for damage in (b"", left.read_bytes()[:200], b"PK garbage"):
        left.write_bytes(damage)
        assert calibrate(conv_model, first, "mse", 99.9, out).samples == 8


@pytest.mark.parametrize("observer", ["minmax", "mse"])
def test_it_runs_in_a_child_process(conv_model, save_npz, tmp_path, observer):
    found = find_samples(save_npz(image=random_images(4)), conv_model.inputs, None)
    steps = []
    ranges = child.call(
        calibrate,
        *(conv_model, found, observer, 99.9, tmp_path / "child"),
        limit_s=60,
        log=tmp_path / "log",
        progress=lambda *step: steps.append(step),
    )
    assert ranges == calibrate(conv_model, found, observer, 99.9, tmp_path / "here")
    assert steps[-1] == ("calibrate", 4, 4)


def test_one_sample_is_enough_and_none_is_not(conv_model, run, save_npz, tmp_path):
    assert run(conv_model, "entropy", image=random_images(1)).samples == 1
    found = find_samples(save_npz(image=random_images(1)), conv_model.inputs, None)
    with pytest.raises(DataError, match="no samples"):
        calibrate(conv_model, dataclasses.replace(found, indices=()), "minmax", 99.9, tmp_path)


@pytest.mark.parametrize("percentile", [0.0, 50.0, 100.5, float("nan")])
def test_percentile_out_of_bounds(conv_model, run, percentile):
    with pytest.raises(ConfigError, match="percentile"):
        run(conv_model, "percentile", percentile, image=random_images(1))


@pytest.mark.parametrize("observer", OBSERVERS)
def test_zeros_and_constants(conv_model, run, observer):
    found = run(conv_model, observer, image=np.zeros((3, 3, 8, 8), np.float32))
    assert all((r.low, r.high, r.magnitude) == (0, 0, 0) for r in found.tensors.values())
    found = run(conv_model, observer, image=np.full((3, 3, 8, 8), 2.0, np.float32))
    assert (found.tensors["image"].low, found.tensors["image"].high) == (0.0, 2.0)


@pytest.mark.parametrize("observer", ["minmax", "mse"])
@pytest.mark.parametrize(
    "body",
    [
        "a = Add(x, x) r = Sqrt(a) y = Mul(r, r)",
        "a = Mul(x, huge) b = Mul(a, huge) c = Sub(b, b) y = Relu(c)",
    ],
)
def test_nan_names_tensor_and_sample(make_model, run, observer, body):
    model = make_model(
        f'<ir_version: 8, opset_import: ["" : 17]> net (float[N,40] x) => (float[N,40] y) {{ {body} }}',
        huge=np.float32(1e30),
    )
    x = np.full((5, 40), 0.25, np.float32)
    x[3, 17] = -1e10 if "Sqrt" not in body else -1.0
    x[:3] = 1e-30
    x[4] = 1e-30
    with pytest.raises(DataError, match=r"the tensor '.*' holds NaN on sample 3") as caught:
        run(model, observer, x=x)
    assert caught.value.hint


@pytest.mark.parametrize("observer", OBSERVERS)
def test_what_holds_infinities_has_no_range_and_the_others_keep_theirs(make_model, run, observer):
    """Masks of attention are minus infinity by intention."""
    model = make_model(
        """<ir_version: 8, opset_import: ["" : 17]> net (float[N,40] x) => (float[N,40] y) {
            low = Less(x, zero) m = Where(low, infinite, x) y = Softmax(m) }""",
        zero=np.float32(0),
        infinite=np.float32(-np.inf),
    )
    found = run(model, observer, x=np.random.default_rng(0).standard_normal((5, 40)).astype(np.float32)).tensors
    assert "m" not in found
    assert 0 < found["y"].maximum <= 1
    assert found["x"].minimum < 0 < found["x"].maximum


@pytest.mark.parametrize("observer", ["minmax", "percentile"])
def test_dynamic_shapes_and_empty_tensors(make_model, save_npz, tmp_path, observer):
    """Only what exceeds 0.5 goes on: for one sample nothing does."""
    model = make_model(
        """<ir_version: 8, opset_import: ["" : 17]> net (float[n] x) => (float[m] y) {
            big = Greater(x, half) kept = Compress(x, big) y = Mul(kept, half) }""",
        half=np.float32(0.5),
    )
    path = tmp_path / "dynamic.py"
    path.write_text(
        "import numpy as np\ndef make():\n    for n in (1, 4, 2):\n        yield {'x': np.arange(n, dtype='float32')}\n"
    )
    spec = (dataclasses.replace(model.inputs[0], shape=("n",)),)
    arrays = np.array([[0.1, 0.2, 0.3], [0.1, 0.9, 0.7]], np.float32)
    found = find_samples(save_npz(x=arrays), spec, None)
    ranges = calibrate(model, found, observer, 100.0, tmp_path / "out")
    assert ranges.tensors["y"].minimum == pytest.approx(0.35)
    assert ranges.tensors["y"].maximum == pytest.approx(0.45)
    none = find_samples(save_npz(x=arrays[:1]), spec, None)
    assert "y" not in calibrate(model, none, observer, 100.0, tmp_path / "out").tensors


@pytest.mark.parametrize("observer", OBSERVERS)
def test_control_flow(make_model, run, observer):
    model = make_model(
        """<ir_version: 8, opset_import: ["" : 17]> net (float[N,4] x, bool[N] flag) => (float[N,4] y) {
            one = ReduceMax<keepdims=0>(number)
            c = If<then_branch = yes () => (float[N,4] t) { t = Relu(x) },
                   else_branch = no () => (float[N,4] e) { e = Neg(x) }>(flag)
            y = Mul(c, one) }""",
        number=np.array([2.0], np.float32),
    )
    x = np.array([[1, 2, 3, -4], [5, 6, -7, 8]], np.float32)
    found = run(model, observer, 100.0, x=x, flag=np.array([True, False]))
    assert (found.tensors["y"].minimum, found.tensors["y"].maximum) == (-16.0, 14.0)
    assert "t" not in found.tensors


@pytest.mark.parametrize("inline_bytes", [4096, 100])
def test_weights_in_files_of_their_own(conv_model, save_npz, tmp_path, monkeypatch, inline_bytes):
    monkeypatch.setattr(tensors, "INLINE_BYTES", inline_bytes)
    proto = onnx.load(conv_model.path)
    folder = tmp_path / "external"
    folder.mkdir()
    onnx.save(proto, folder / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=16)
    model = load_model(folder / "model.onnx")
    assert model.external == ("weights.bin",)
    found = find_samples(save_npz(image=random_images(5)), model.inputs, None)
    inside = calibrate(conv_model, found, "mse", 99.9, tmp_path / "out")
    assert calibrate(model, found, "mse", 99.9, tmp_path / "out").tensors == inside.tensors


def test_quantized_model_is_refused(make_model, run):
    model = make_model(
        """<ir_version: 8, opset_import: ["" : 17]> net (float[N,4] x) => (float[N,4] y) {
            q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z) }""",
        s=np.float32(0.1),
        z=np.uint8(3),
    )
    with pytest.raises(ModelError, match="already quantized"):
        run(model, x=np.ones((1, 4), np.float32))


def test_sample_that_the_engine_refuses_is_named(make_model, run):
    model = make_model(
        """<ir_version: 8, opset_import: ["" : 17]> net (int64[N] ids) => (float[N,3] y) {
            row = Gather(table, ids) y = Relu(row) }""",
        table=np.ones((5, 3), np.float32),
    )
    with pytest.raises(DataError, match=r"ONNX Runtime cannot run the model on sample 2: .*[Oo]ut of"):
        run(model, ids=np.array([0, 4, 7, 1]))


def test_tensor_names_of_any_kind(make_model, run):
    model = make_model('<ir_version: 8, opset_import: ["" : 17]> net (float[N,4] x) => (float[N,4] y) { y = Tanh(x) }')
    proto = onnx.load(model.path)
    proto.graph.node[0].output[0] = proto.graph.output[0].name = "a b/c:0;é"
    onnx.save(proto, model.path)
    found = run(load_model(model.path), "mse", x=np.ones((2, 4), np.float32))
    assert set(found.tensors) == {"x", "a b/c:0;é"}


def test_output_read_by_other_nodes_and_input_given_back(make_model, run):
    model = make_model(
        """<ir_version: 8, opset_import: ["" : 17]> net (float[N,4] x) => (float[N,4] a, float[N,4] y, float[N,4] z) {
            a = Tanh(x) y = Relu(a) z = Identity(x) }"""
    )
    x = np.array([[1, -1, 2, -2]], np.float32)
    for observer in OBSERVERS:
        found = run(model, observer, 100.0, x=x).tensors
        assert found["a"].maximum == pytest.approx(np.tanh(2.0))
        assert found["y"].minimum == 0
        assert found["z"].minimum == -2


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 12), st.integers(0, 2**32), st.sampled_from(OBSERVERS))
def test_any_choice_of_samples_gives_the_ranges_of_just_those(tmp_path_factory, count, seed, observer):
    folder = tmp_path_factory.getbasetemp() / "choices"
    folder.mkdir(exist_ok=True)
    if not (folder / "model.onnx").exists():
        onnx.save(
            onnx.parser.parse_model(
                '<ir_version: 8, opset_import: ["" : 17]> net (float[N,6] x) => (float[N,6] y) '
                "{ a = Sin(x) b = Mul(a, x) y = Clip(b, lo) } "
            ),
            folder / "raw.onnx",
        )
        proto = onnx.load(folder / "raw.onnx")
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(-0.5), "lo"))
        onnx.save(proto, folder / "model.onnx")
        np.savez(folder / "x.npz", x=np.random.default_rng(0).normal(size=(12, 6)).astype(np.float32))
    model = load_model(folder / "model.onnx")
    found = take_samples(find_samples(str(folder / "x.npz"), model.inputs, None), count, seed)
    ranges = calibrate(model, found, observer, 99.0, folder)
    x = np.load(folder / "x.npz")["x"][list(found.indices)]
    y = np.maximum(np.sin(x) * x, np.float32(-0.5))
    assert ranges.tensors["y"].maximum == pytest.approx(max(y.max(), -1), rel=1e-5, abs=1e-6)
    assert ranges.tensors["x"].minimum == x.min()


def test_ranges_of_real_networks(assets, save_npz, tmp_path):
    model = load_model(assets / "kws_dscnn.onnx")
    stored = np.load(assets / "kws01.npz")
    features = ((stored["x_int8"][:40].astype(np.float32) - 83) * 0.58470290899).astype(np.float32)
    found = find_samples(save_npz(input_1=features.reshape(40, 49, 10, 1)), model.inputs, None)
    ranges = {o: calibrate(model, found, o, 99.99, tmp_path / "out") for o in OBSERVERS}
    assert len(ranges["minmax"].tensors) >= 25
    for name, plain in ranges["minmax"].tensors.items():
        for observer in OBSERVERS[1:]:
            chosen = ranges[observer].tensors[name]
            assert plain.low <= chosen.low <= chosen.high <= plain.high
            assert chosen.minimum == plain.minimum
            assert chosen.maximum == plain.maximum


def test_memory_does_not_grow_with_the_samples(conv_model, save_npz, tmp_path):
    """The statistics of 10 and of 120 samples take about the same room in the checkpoint, which holds all of them."""
    sizes = []
    for count in (10, 120):
        found = find_samples(save_npz(image=random_images(count)), conv_model.inputs, None)
        kept = tmp_path / f"kept{count}"

        def keep(what, done, total, kept=kept, out=tmp_path / "out"):
            for path in out.glob(".checkpoint*"):
                kept.write_bytes(path.read_bytes())

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(measure, "CHECKPOINT_S", 0.0)
            calibrate(conv_model, found, "mse", 99.9, tmp_path / "out", keep)
        sizes.append(kept.stat().st_size)
    assert sizes[1] < 1.5 * sizes[0]


def test_progress_ends_at_the_total(conv_model, save_npz, tmp_path):
    found = find_samples(save_npz(image=random_images(6)), conv_model.inputs, None)
    steps = []
    calibrate(conv_model, found, "entropy", 99.9, tmp_path, lambda *step: steps.append(step))
    assert steps[0] == ("calibrate", 0, 6)
    assert steps[-1] == ("calibrate", 6, 6)
    assert [done for _, done, _ in steps] == sorted(done for _, done, _ in steps)
    json.dumps(steps)
