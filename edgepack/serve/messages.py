"""The messages of the Open Inference Protocol's gRPC service, made from a table of their fields.

They live in a pool of their own, so that a program that has the generated ones, as clients do, can be in the same
process, and any version of protobuf will do.
Source: Open Inference Protocol, "GRPC", the numbers and types of its fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from edgepack.errors import DataError, ToolchainError
from edgepack.serve import tensors
from edgepack.serve.queries import Answer, Query, Wanted
from edgepack.specs.types import Array

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"
METHODS = (
    "ServerLive",
    "ServerReady",
    "ModelReady",
    "ServerMetadata",
    "ModelMetadata",
    "ModelInfer",
    "RepositoryIndex",
)
_MOST_TENSORS = 4096
# Message: fields as "number name type"; * is repeated, | one of several, % a map from texts.
_FIELDS: Mapping[str, str] = {
    "ServerLiveRequest": "",
    "ServerLiveResponse": "1 live bool",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "1 ready bool",
    "ModelReadyRequest": "1 name string, 2 version string",
    "ModelReadyResponse": "1 ready bool",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": "1 name string, 2 version string, 3 extensions string*",
    "ModelMetadataRequest": "1 name string, 2 version string",
    "ModelMetadataResponse.TensorMetadata": "1 name string, 2 datatype string, 3 shape int64*",
    "ModelMetadataResponse": "1 name string, 2 versions string*, 3 platform string, "
    "4 inputs ModelMetadataResponse.TensorMetadata*, 5 outputs ModelMetadataResponse.TensorMetadata*",
    "InferParameter": "1 bool_param bool|, 2 int64_param int64|, 3 string_param string|, 4 double_param double|, "
    "5 uint64_param uint64|",
    "InferTensorContents": "1 bool_contents bool*, 2 int_contents int32*, 3 int64_contents int64*, "
    "4 uint_contents uint32*, 5 uint64_contents uint64*, 6 fp32_contents float*, 7 fp64_contents double*, "
    "8 bytes_contents bytes*",
    "ModelInferRequest.InferInputTensor": "1 name string, 2 datatype string, 3 shape int64*, "
    "4 parameters InferParameter%, 5 contents InferTensorContents",
    "ModelInferRequest.InferRequestedOutputTensor": "1 name string, 2 parameters InferParameter%",
    "ModelInferRequest": "1 model_name string, 2 model_version string, 3 id string, 4 parameters InferParameter%, "
    "5 inputs ModelInferRequest.InferInputTensor*, 6 outputs ModelInferRequest.InferRequestedOutputTensor*, "
    "7 raw_input_contents bytes*",
    "ModelInferResponse.InferOutputTensor": "1 name string, 2 datatype string, 3 shape int64*, "
    "4 parameters InferParameter%, 5 contents InferTensorContents",
    "ModelInferResponse": "1 model_name string, 2 model_version string, 3 id string, 4 parameters InferParameter%, "
    "5 outputs ModelInferResponse.InferOutputTensor*, 6 raw_output_contents bytes*",
    "RepositoryIndexRequest": "1 repository_name string, 2 ready bool",
    "RepositoryIndexResponse.ModelIndex": "1 name string, 2 version string, 3 state string, 4 reason string",
    "RepositoryIndexResponse": "1 models RepositoryIndexResponse.ModelIndex*",
}
_CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    tensors.TEXT: "bytes_contents",
}


@cache
def message(name: str) -> Any:
    """Return the class of a message. Raises ``ToolchainError`` where protobuf is not installed."""
    from google.protobuf import message_factory  # type: ignore[import-untyped]

    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"{PACKAGE}.{name}"))


@cache
def _pool() -> Any:
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool
    except ImportError as error:
        raise ToolchainError(f"no gRPC here: {error}", hint="pip install 'edgepack[serve]'") from None
    file = descriptor_pb2.FileDescriptorProto(name="edgepack_open_inference.proto", package=PACKAGE, syntax="proto3")
    made: dict[str, Any] = {}
    for name in sorted(_FIELDS, key=lambda name: name.count(".")):  # the outer ones first
        outer, _, inner = name.rpartition(".")
        made[name] = (made[outer].nested_type if outer else file.message_type).add(name=inner)
        for text in filter(None, _FIELDS[name].split(", ")):
            _add_field(made[name], f"{PACKAGE}.{name}", *text.split())
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


def _add_field(into: Any, where: str, number: str, name: str, kind: str) -> None:
    field = into.field.add(name=name, number=int(number), label=3 if kind[-1] in "*%" else 1)
    if kind.endswith("%"):
        entry = into.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
        entry.options.map_entry = True
        _add_field(entry, "", "1", "key", "string")
        _add_field(entry, "", "2", "value", kind[:-1])
        field.type, field.type_name = 11, f".{where}.{entry.name}"
        return
    if kind.endswith("|"):
        if not into.oneof_decl:
            into.oneof_decl.add(name="parameter_choice")
        field.oneof_index = 0
    bare = kind.rstrip("*|")
    if bare in _FIELDS:
        field.type, field.type_name = 11, f".{PACKAGE}.{bare}"
    else:
        field.type = field.DESCRIPTOR.enum_types_by_name["Type"].values_by_name[f"TYPE_{bare.upper()}"].number


def read_query(request: Any) -> Query:
    """Return the query of a ``ModelInferRequest``. Raises ``DataError``."""
    raws = list(request.raw_input_contents)
    if len(request.inputs) > _MOST_TENSORS or (raws and len(raws) != len(request.inputs)):
        raise DataError(
            f"{len(request.inputs)} inputs, and {len(raws)} raw contents", hint="one for each input, or none"
        )
    feeds: dict[str, Array] = {}
    for i, each in enumerate(request.inputs):
        if each.name in feeds:
            raise DataError(f"input {each.name[:80]!r} is given twice")
        if "shared_memory_region" in each.parameters:
            raise DataError("shared memory is not offered", hint="send the data in the query")
        if raws and each.HasField("contents"):
            raise DataError(f"input {each.name[:80]!r} has both contents and raw contents")
        feeds[each.name] = _tensor(each, raws[i] if raws else None)
    wanted = tuple(Wanted(each.name, binary=bool(raws)) for each in request.outputs)
    return Query(feeds, wanted, bool(raws), request.id)


def _tensor(each: Any, raw: bytes | None) -> Array:
    name, shape = each.name[:80], list(each.shape)
    if raw is not None:
        return tensors.from_raw(name, each.datatype, shape, raw)
    if each.datatype not in _CONTENTS:
        raise DataError(f"input {name!r}: {each.datatype[:40]!r} has no contents of its own", hint="send raw contents")
    values = getattr(each.contents, _CONTENTS[each.datatype])
    if each.datatype == tensors.TEXT:
        return tensors.from_texts(name, shape, list(values))
    return tensors.from_values(name, each.datatype, shape, list(values))


def write_answer(answer: Answer, query: Query) -> Any:
    """Return a ``ModelInferResponse``: raw bytes where the query had them, or where a type has no contents."""
    names = [wanted.name for wanted in query.outputs] or list(answer.outputs)
    kinds = {name: tensors.datatype_of(answer.outputs[name]) for name in names}
    raw = query.binary or any(kind not in _CONTENTS for kind in kinds.values())
    response = message("ModelInferResponse")(model_name=answer.model, model_version=answer.version, id=query.id)
    for name in names:
        array = answer.outputs[name]
        output = response.outputs.add(name=name, datatype=kinds[name], shape=list(array.shape))
        if raw:
            response.raw_output_contents.append(tensors.to_raw(array))
        else:
            values = array.reshape(-1).tolist()
            texts = (
                [str(value).encode("utf-8", "replace") for value in values] if kinds[name] == tensors.TEXT else values
            )
            getattr(output.contents, _CONTENTS[kinds[name]]).extend(texts)
    return response
