"""From an ONNX file and arrays to fp32 and int8 bundles, in Python. Run make_files.py first."""

from edgepack import build

result = build(
    "stripes.onnx",
    targets=("host-onnxruntime",),
    precisions=("fp32", "int8"),
    data="stripes.npz",
    samples=200,
    max_drop=0.02,
    out="from-onnx",
    benchmark=False,
)
for row in result.rows:
    lost = 100 * row.accuracy.drop
    print(
        f"{row.target} {row.precision}: {row.status}, {lost:.1f} points lost on {row.accuracy.n} samples, {row.bundle}"
    )
