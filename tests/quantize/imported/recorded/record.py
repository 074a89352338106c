# ruff: noqa: E501
"""Records small quantized networks of real tools: ``python record.py TOOL PYTHON FOLDER``.

Run by hand with a Python that has the tool; writes ``TOOL.zip`` beside this file: the tool's file as it is, inputs, and
the answers of its own integer model (for files of ONNX alone, of ONNX Runtime operator by operator). Made with torch
2.13.0 (CPU), brevitas 0.13.4, nvidia-modelopt 0.47.0, torchao 0.18.0, nncf 3.4.0, onnxruntime 1.31.1, onnx 1.23.2.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
NET = """
import torch, numpy as np, warnings
warnings.simplefilter("ignore")
torch.manual_seed(0)
nn=torch.nn
class Net(nn.Module):
    def __init__(s):
        super().__init__(); s.a=nn.Conv2d(3,8,3,padding=1); s.b=nn.Conv2d(8,8,3,padding=1); s.c=nn.Linear(8,4)
    def forward(s,image):
        x=torch.relu(s.a(image)); y=torch.relu(s.b(x)+x); return s.c(y.mean((2,3)))
r=np.random.default_rng(0)
def net():
    m=Net().eval()
    with torch.no_grad():
        for p in m.parameters():
            if p.dim()>1: p.copy_(torch.tensor(np.resize(r.normal(size=64)/3,tuple(p.shape)),dtype=torch.float32))
    return m
X=[torch.tensor(r.normal(size=(2,3,8,8)),dtype=torch.float32) for _ in range(8)]
"""
ANSWER = """
def keep(y): np.savez("pairs.npz", image=X[1].numpy(), output=np.asarray(y))
NAMES = dict(input_names=["image"], output_names=["output"], dynamic_axes={"image": {0: "N"}, "output": {0: "N"}})
def run(file):
    import onnxruntime as ort
    o = ort.SessionOptions(); o.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(file, o, providers=["CPUExecutionProvider"]).run(None, {"image": X[1].numpy()})[0]
"""
FLOAT = """
torch.onnx.export(net(), (X[1],), "float.onnx", dynamo=False, opset_version=17, **NAMES)
"""
ORT = (
    FLOAT
    + """
from onnxruntime.quantization import quantize_static, QuantType, QuantFormat, CalibrationDataReader
class R(CalibrationDataReader):
    def __init__(s): s.i = iter(X)
    def get_next(s):
        x = next(s.i, None); return None if x is None else {"image": x.numpy()}
"""
)
TOOLS = {
    "brevitas": """
import brevitas.nn as qnn
from brevitas.quant import Int8WeightPerChannelFloat, Int8ActPerTensorFloat, Uint8ActPerTensorFloat, Int32Bias
from brevitas.export import export_onnx_qcdq
class QNet(nn.Module):
    def __init__(s):
        super().__init__()
        s.i=qnn.QuantIdentity(act_quant=Int8ActPerTensorFloat,return_quant_tensor=True)
        kw=dict(weight_quant=Int8WeightPerChannelFloat,bias_quant=Int32Bias,return_quant_tensor=False)
        s.a=qnn.QuantConv2d(3,8,3,padding=1,**kw); s.ra=qnn.QuantReLU(act_quant=Uint8ActPerTensorFloat,return_quant_tensor=True)
        s.b=qnn.QuantConv2d(8,8,3,padding=1,**kw); s.rb=qnn.QuantReLU(act_quant=Uint8ActPerTensorFloat,return_quant_tensor=True)
        s.qc=qnn.QuantIdentity(act_quant=Uint8ActPerTensorFloat,return_quant_tensor=True)
        s.c=qnn.QuantLinear(8,4,bias=True,**kw)
    def forward(s,image):
        x=s.ra(s.a(s.i(image))); y=s.rb(s.b(x)+x.value if hasattr(x,"value") else s.b(x)+x)
        v=y.value if hasattr(y,"value") else y
        return s.c(s.qc(v.mean((2,3))))
m=QNet()
f=net()
with torch.no_grad():
    for n in "abc":
        getattr(m,n).weight.copy_(getattr(f,n).weight); getattr(m,n).bias.copy_(getattr(f,n).bias)
m.train()
for x in X*8: m(x)
m.eval()
y=m(X[1])
keep(getattr(y, "value", y).detach())
export_onnx_qcdq(m, args=X[1], export_path="model.onnx", dynamo=False, opset_version=13, **NAMES)
""",
    "modelopt": """
import modelopt.torch.quantization as mtq
q = mtq.quantize(net(), mtq.INT8_DEFAULT_CFG, lambda m: [m(x) for x in X])
keep(q(X[1]).detach())
torch.onnx.export(q, (X[1],), "model.onnx", dynamo=False, opset_version=17, **NAMES)
""",
    "torchao": """
from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e, convert_pt2e
from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import X86InductorQuantizer, get_default_x86_inductor_quantization_config
free = {"image": {0: torch.export.Dim("N")}}
q = X86InductorQuantizer(); q.set_global(get_default_x86_inductor_quantization_config())
p = prepare_pt2e(torch.export.export(net(), (X[0],), dynamic_shapes=free).module(), q)
for x in X: p(x)
c = convert_pt2e(p); keep(c(X[1]).detach())
torch.onnx.export(torch.export.export(c, (X[0],), dynamic_shapes=free), dynamo=True, opset_version=18, verbose=False).save("model.onnx")
""",
    "onnxruntime": ORT
    + """
quantize_static("float.onnx", "model.onnx", R(), quant_format=QuantFormat.QDQ, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, per_channel=True)
keep(run("model.onnx"))
""",
    "onnxruntime_operators": ORT
    + """
quantize_static("float.onnx", "model.onnx", R(), quant_format=QuantFormat.QOperator, activation_type=QuantType.QInt8, weight_type=QuantType.QInt8, per_channel=True)
keep(run("model.onnx"))
""",
    "nncf": FLOAT
    + """
import nncf, onnx
onnx.save(nncf.quantize(onnx.load("float.onnx"), nncf.Dataset(X, lambda x: {"image": x.numpy()}), subset_size=8), "model.onnx")
keep(run("model.onnx"))
""",
}


def main(tool: str, python: str, folder: Path) -> None:
    """Let the tool quantize the network, and keep its file and answers."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run([python, "-c", NET + ANSWER + TOOLS[tool]], check=True, cwd=folder)
    with zipfile.ZipFile(HERE / f"{tool}.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for file in ("model.onnx", "pairs.npz"):
            archive.writestr(zipfile.ZipInfo(file), (folder / file).read_bytes(), zipfile.ZIP_DEFLATED)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]).absolute())
