"""A TEST DOUBLE of NVIDIA's ``tensorrt`` module, not TensorRT: it computes with ONNX Runtime what an engine would.

It has the surface of the version in ``DOUBLE_TENSORRT`` (8.5, 8.6, 10.3, 10.13, 11.4) and nothing that this version
lacks: reading or setting another attribute fails, as with the real bindings (pybind11). Surfaces are from the bindings'
source (NVIDIA/TensorRT, python/src/infer/pyCore.cpp of 8.5 and 10.x) and, for 11, from tensorrt-rtx 1.7.1. It keeps
the rules that cost users most: 8.x needs flags for types, strongly typed networks refuse them, plans load only where
they were built, and a network dies with its parser. ``DOUBLE_BUILD`` makes builds fail in the ways that real ones do.
"""

import ctypes
import enum
import json
import os
import signal
import time
import weakref

import numpy as np

__version__ = {
    "8.5": "8.5.2.2", "8.6": "8.6.2.3", "10.3": "10.3.0", "10.13": "10.13.3.9", "11.4": "11.4.1",
}[os.environ.get("DOUBLE_TENSORRT", "10.3")]  # fmt: skip
_VERSION = tuple(int(n) for n in __version__.split(".")[:2])
_EIGHT = _VERSION < (9, 0)
_MAGIC = b"PLAN OF A TEST DOUBLE\n"
_TIMING = b"TIMING " + __version__.encode() + b"\n"


def _enum(name, members):
    return enum.IntEnum(name, members.split(), start=0)


_FLAGS = {
    8: "FP16 INT8 DEBUG GPU_FALLBACK STRICT_TYPES REFIT DISABLE_TIMING_CACHE TF32 SPARSE_WEIGHTS SAFETY_SCOPE "
    "OBEY_PRECISION_CONSTRAINTS PREFER_PRECISION_CONSTRAINTS DIRECT_IO REJECT_EMPTY_ALGORITHMS",
    10: "FP16 BF16 INT8 DEBUG GPU_FALLBACK REFIT DISABLE_TIMING_CACHE TF32 SPARSE_WEIGHTS SAFETY_SCOPE "
    "OBEY_PRECISION_CONSTRAINTS PREFER_PRECISION_CONSTRAINTS DIRECT_IO REJECT_EMPTY_ALGORITHMS VERSION_COMPATIBLE",
    11: "DEBUG GPU_FALLBACK REFIT DISABLE_TIMING_CACHE EDITABLE_TIMING_CACHE TF32 SPARSE_WEIGHTS SAFETY_SCOPE "
    "DIRECT_IO VERSION_COMPATIBLE STRICT_NANS",
}
BuilderFlag = _enum("BuilderFlag", _FLAGS[_VERSION[0]])
NetworkDefinitionCreationFlag = _enum(
    "NetworkDefinitionCreationFlag",
    {8: "EXPLICIT_BATCH", 10: "EXPLICIT_BATCH STRONGLY_TYPED", 11: "STRONGLY_TYPED"}[_VERSION[0]],
)
MemoryPoolType = _enum("MemoryPoolType", "WORKSPACE DLA_MANAGED_SRAM DLA_LOCAL_DRAM DLA_GLOBAL_DRAM")
DeviceType = _enum("DeviceType", "GPU DLA")
TensorIOMode = _enum("TensorIOMode", "NONE INPUT OUTPUT")
TensorLocation = _enum("TensorLocation", "DEVICE HOST")
DataType = _enum("DataType", "FLOAT HALF INT8 INT32 BOOL UINT8" + ("" if _EIGHT else " FP8 BF16 INT64 INT4"))


class _Strict:
    """Refuses attributes that the class does not list, as pybind11's classes do."""

    _settable = ()

    def __setattr__(self, name, value):
        if name.startswith("_") or name in self._settable:
            object.__setattr__(self, name, value)
        else:
            raise AttributeError(f"{type(self).__name__!r} object of TensorRT {__version__} has no attribute {name!r}")


class ILogger:
    class Severity(enum.IntEnum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2
        INFO = 3
        VERBOSE = 4

    def __init__(self):
        pass


if _VERSION >= (10, 0):

    class IProgressMonitor:
        def __init__(self):
            pass


def _say(logger, text, severity=ILogger.Severity.ERROR):
    logger.log(severity, text)


def _host_memory(data):
    """Return what stands for IHostMemory: a buffer."""
    return bytearray(data)


class OptimizationProfile(_Strict):
    def __init__(self):
        self._shapes = {}

    def set_shape(self, input, min, opt, max):  # noqa: A002
        self._shapes[input] = (tuple(min), tuple(opt), tuple(max))


class TimingCache(_Strict):
    def __init__(self, content):
        self._content = content

    def serialize(self):
        return _host_memory(self._content or _TIMING)


class BuilderConfig(_Strict):
    _settable = ("default_device_type", "DLA_core", "profile_stream") + (
        ("builder_optimization_level",) if _VERSION >= (8, 6) else ()
    ) + (("progress_monitor",) if _VERSION >= (10, 0) else ())  # fmt: skip

    def __init__(self):
        self._flags = {BuilderFlag.TF32}
        self._profiles = []
        self._cache = None
        self._pools = {}

    def set_flag(self, flag):
        self._flags.add(flag)

    def clear_flag(self, flag):
        self._flags.discard(flag)

    def get_flag(self, flag):
        return flag in self._flags

    def set_memory_pool_limit(self, pool, pool_size):
        self._pools[pool] = pool_size

    def add_optimization_profile(self, profile):
        self._profiles.append(profile)
        return len(self._profiles) - 1

    def create_timing_cache(self, serialized_timing_cache):
        content = bytes(serialized_timing_cache)
        return TimingCache(content) if not content or content.startswith(b"TIMING ") else None

    def set_timing_cache(self, cache, ignore_mismatch):
        if cache._content and not cache._content.startswith(_TIMING) and not ignore_mismatch:
            return False
        self._cache = cache
        return True

    def get_timing_cache(self):
        return self._cache


class Network(_Strict):
    def __init__(self, flags):
        self._flags = flags
        self._parser = None
        self._onnx = None


class ParserError(_Strict):
    def __init__(self, words, node):
        self._words, self._node = words, node

    def desc(self):
        return self._words

    if _VERSION >= (8, 6):

        def node_name(self):
            return self._node


class OnnxParser(_Strict):
    def __init__(self, network, logger):
        self._network, self._logger, self._errors = network, logger, []
        network._parser = weakref.ref(self)

    @property
    def num_errors(self):
        return len(self._errors)

    def get_error(self, index):
        return self._errors[index]

    def parse_from_file(self, model_file):
        import onnx

        if _EIGHT and not self._network._flags & 1:
            self._errors.append(ParserError("explicit batch is wanted", ""))
            return False
        model = onnx.load(model_file)
        for node in model.graph.node:
            if node.op_type == "Det":
                self._errors.append(ParserError("false", node.name))
        self._network._onnx = model
        return not self._errors


class Builder(_Strict):
    def __init__(self, logger):
        self._logger = logger

    def create_network(self, flags=0):
        known = sum(1 << int(flag) for flag in NetworkDefinitionCreationFlag)
        if flags & ~known:
            raise ValueError("unknown flags")
        return Network(flags)

    def create_builder_config(self):
        return BuilderConfig()

    def create_optimization_profile(self):
        return OptimizationProfile()

    def build_serialized_network(self, network, config):
        if network._parser is None or network._parser() is None:
            os.kill(os.getpid(), signal.SIGSEGV)  # the real one reads freed memory
        _log("build")
        how = os.environ.get("DOUBLE_BUILD", "")
        monitor = getattr(config, "progress_monitor", None)
        if monitor is not None:
            monitor.phase_start("Building Engine", None, 4)
            monitor.phase_start("Tactic selection", "Building Engine", 2)
        if how.startswith("sleep"):
            time.sleep(float(how.partition(" ")[2]))
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "crash":
            ctypes.string_at(0)
        if how == "refuse":
            _say(self._logger, "Could not find any implementation for node conv")
            return None
        if monitor is not None:
            for step in range(4):
                monitor.step_complete("Building Engine", step)
            monitor.phase_finish("Tactic selection")
            monitor.phase_finish("Building Engine")
        problem = self._problem(network, config)
        if problem:
            _say(self._logger, problem)
            return None
        profile = config._profiles[0]._shapes if config._profiles else {}
        head = {
            "version": __version__, "sm": os.environ.get("DOUBLE_CUDA_SM", "87"), "profile": profile,
            "workspace": config._pools.get(MemoryPoolType.WORKSPACE), "tf32": BuilderFlag.TF32 in config._flags,
            "dla": getattr(config, "DLA_core", None),
        }  # fmt: skip
        return _host_memory(_MAGIC + json.dumps(head).encode() + b"\n" + network._onnx.SerializeToString())

    def _problem(self, network, config):
        import onnx

        graph = network._onnx.graph
        types = {t.data_type for t in graph.initializer} | {
            a.i for n in graph.node if n.op_type == "Cast" for a in n.attribute if a.name == "to"
        }
        asked = {flag.name for flag in config._flags} & {"FP16", "INT8", "BF16"}
        quantized = any(n.op_type == "QuantizeLinear" for n in graph.node)
        if not _EIGHT:
            return f"strongly typed networks take no {', '.join(asked)}" if asked else ""
        if quantized and "INT8" not in asked:
            return "the network has quantization, but the INT8 flag is not set"
        if onnx.TensorProto.FLOAT16 in types and "FP16" not in asked:
            return "the network has half precision, but the FP16 flag is not set"
        names = {t.name for t in graph.initializer}
        dynamic = any(
            d.dim_param or d.dim_value < 1
            for i in graph.input if i.name not in names for d in i.type.tensor_type.shape.dim
        )  # fmt: skip
        return "Network has dynamic inputs, but no optimization profile" if dynamic and not config._profiles else ""


class Runtime(_Strict):
    _settable = ("DLA_core",)

    def __init__(self, logger):
        self._logger = logger

    def deserialize_cuda_engine(self, serialized_engine):
        data = bytes(serialized_engine)
        if not data.startswith(_MAGIC):
            _say(self._logger, "Serialization assertion magicTagRead == kMAGIC_TAG failed")
            return None
        head, _, onnx = data[len(_MAGIC) :].partition(b"\n")
        facts = json.loads(head)
        if facts["version"] != __version__ or facts["sm"] != os.environ.get("DOUBLE_CUDA_SM", "87"):
            _say(self._logger, "The engine plan file is not compatible with this version of TensorRT or this device")
            return None
        return Engine(facts, onnx)


_KINDS = {
    "float32": "FLOAT", "float16": "HALF", "int8": "INT8", "int32": "INT32", "bool": "BOOL", "uint8": "UINT8",
    "int64": "INT32" if _EIGHT else "INT64",
}  # fmt: skip
_NUMPY = {"FLOAT": "float32", "HALF": "float16", "INT8": "int8", "INT32": "int32", "BOOL": "bool", "UINT8": "uint8",
          "INT64": "int64"}  # fmt: skip


class Engine(_Strict):
    def __init__(self, facts, onnx_bytes):
        import onnx
        import onnxruntime

        self._facts = facts
        model = onnx.ModelProto.FromString(onnx_bytes)
        names = {t.name for t in model.graph.initializer}
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 4
        self._session = onnxruntime.InferenceSession(onnx_bytes, options, providers=["CPUExecutionProvider"])
        self._inputs = [i for i in model.graph.input if i.name not in names]
        self._outputs = list(model.graph.output)
        self._types = {
            v.name: onnx.helper.tensor_dtype_to_np_dtype(v.type.tensor_type.elem_type).name
            for v in (*self._inputs, *self._outputs)
        }

    @property
    def num_io_tensors(self):
        return len(self._inputs) + len(self._outputs)

    def get_tensor_name(self, index):
        return [*self._inputs, *self._outputs][index].name

    def get_tensor_mode(self, name):
        return TensorIOMode.INPUT if name in [i.name for i in self._inputs] else TensorIOMode.OUTPUT

    def get_tensor_location(self, name):
        return TensorLocation.DEVICE

    def get_tensor_dtype(self, name):
        return DataType[_KINDS[self._types[name]]]

    def create_execution_context(self):
        if os.environ.get("DOUBLE_CONTEXT") == "none":
            return None
        return ExecutionContext(self)


class ExecutionContext(_Strict):
    def __init__(self, engine):
        self._engine, self._shapes, self._addresses, self._out = engine, {}, {}, None
        self._callback = _CALLBACK(self._run)

    def set_input_shape(self, name, shape):
        limits = self._engine._facts["profile"].get(name)
        if limits and not all(a <= s <= b for a, s, b in zip(limits[0], shape, limits[2], strict=True)):
            return False
        self._shapes[name] = tuple(shape)
        self._out = None
        return True

    def get_tensor_shape(self, name):
        if name in self._shapes:
            return self._shapes[name]
        if self._out is None:
            feeds = {n: np.zeros(s, self._engine._types[n]) for n, s in self._shapes.items()}
            names = [o.name for o in self._engine._outputs]
            self._out = dict(zip(names, self._engine._session.run(names, feeds), strict=True))
        return self._out[name].shape

    def set_tensor_address(self, name, memory):
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle):
        return _library().double_enqueue(ctypes.c_void_p(stream_handle), self._callback, None) == 0

    def _run(self, _):
        feeds = {}
        for name, shape in self._shapes.items():
            array = self._array(name, shape)
            feeds[name] = array.astype(self._engine._types[name])
        names = [o.name for o in self._engine._outputs]
        for name, value in zip(names, self._engine._session.run(names, feeds), strict=True):
            self._array(name, value.shape)[...] = value

    def _array(self, name, shape):
        dtype = np.dtype(_NUMPY[_KINDS[self._engine._types[name]]])
        size = int(np.prod(shape)) * dtype.itemsize
        buffer = (ctypes.c_uint8 * size).from_address(self._addresses[name])
        return np.frombuffer(buffer, np.uint8).view(dtype).reshape(shape)


_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def _library():
    library = ctypes.CDLL(os.environ["EDGEPACK_CUDART"])
    library.double_enqueue.argtypes = [ctypes.c_void_p, _CALLBACK, ctypes.c_void_p]
    return library


def _log(word):
    if path := os.environ.get("DOUBLE_LOG"):
        with open(path, "a") as file:  # noqa: PTH123
            file.write(f"{word} {os.getpid()}\n")
