"""Converts parameters of Flax with the module of ``--module file.py:Class``, by jax2onnx; JAX gives the answers."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

OPSET = 18
_BATCH = "N"
_SIZE = 16  # of a free axis that is not a batch, in what is compared
_SHOWN = 4
# Arguments by which a module is told that it is not being trained, and what says so.
_INFERENCE = {"train": False, "training": False, "is_training": False, "deterministic": True,
              "use_running_average": True}  # fmt: skip


def convert(job: Any) -> None:
    """Convert ``job.source``, a file of flax.serialization or a folder of Orbax."""
    tree = _read(job)
    made = _made(job, tree)
    import flax
    from flax import nnx

    is_nnx = isinstance(made, nnx.Module)
    kind = "nnx" if is_nnx else "linen"
    if not is_nnx and not isinstance(made, flax.linen.Module):
        hint = "name a class of flax.linen.Module or flax.nnx.Module, or a function that makes one"
        raise job.refuse(f"{job.options['module']} is not a module of Flax", hint, "ConfigError")
    job.describe("Flax", f"{type(made).__name__} ({kind})", "flax", "jax", "jax2onnx")
    names = _arguments(made)
    shapes = _shapes(job, names)
    call = _completed_nnx(job, made, tree) if is_nnx else _completed_linen(job, made, tree, shapes)
    _export(job, call, names, shapes)


# --- parameters -------------------------------------------------------------------------------------------------------


def _read(job: Any) -> dict[str, Any]:
    """Return the file's arrays as nested dictionaries."""
    path = Path(job.source)
    try:
        found = _checkpoint(path) if path.is_dir() else _message(path)
    except Exception as error:
        words = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
        raise job.refuse(f"Flax cannot read it: {words}", "it may be cut short: copy or save it again") from error
    if not isinstance(found, dict) or not found:
        raise job.refuse("it holds no parameters", "save them: flax.serialization.to_bytes(variables)")
    return found


def _message(path: Path) -> Any:
    from flax import serialization

    return serialization.msgpack_restore(path.read_bytes())


def _checkpoint(path: Path) -> Any:
    """Return the newest step of a folder of Orbax; one that a CheckpointManager wrote has a folder for each."""
    import orbax.checkpoint

    steps = sorted((p for p in path.iterdir() if p.name.isdigit()), key=lambda p: int(p.name))
    if not (path / "_METADATA").is_file() and steps:
        path = steps[-1]
    if not (path / "_METADATA").is_file():
        path = next((p.parent for p in sorted(path.glob("*/_METADATA"))), path)
    return orbax.checkpoint.PyTreeCheckpointer().restore(path)


def _made(job: Any, tree: dict[str, Any]) -> Any:
    """Return the user's module, made without arguments; one of nnx gets a seed where it wants that."""
    reference = job.options.get("module")
    if not reference:
        leaves = _leaves(tree)
        names = [f"{'/'.join(path)} {list(shape)}" for path, shape in list(leaves.items())[:_SHOWN]]
        more = f" and {len(leaves) - _SHOWN} more" if len(leaves) > _SHOWN else ""
        raise job.refuse(
            f"it holds parameters without the network: {', '.join(names)}{more}",
            "name the module that they belong to: --module file.py:Class",
            "ConfigError",
        )
    found = job.sibling("user_module").find(job, reference)
    if not callable(found) or _is_module(found):
        return found
    try:
        return found()
    except TypeError as error:
        if "rngs" not in str(error):
            hint = "name a function without arguments that makes it: --module file.py:make"
            raise job.refuse(f"{reference} cannot be called without arguments: {error}", hint) from error
    from flax import nnx

    return found(rngs=nnx.Rngs(0))


def _is_module(found: Any) -> bool:
    from flax import linen, nnx

    return isinstance(found, (linen.Module, nnx.Module))


def _leaves(tree: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], tuple[int, ...]]:
    """Return the shape of each array by its path."""
    if hasattr(tree, "items"):
        found: dict[tuple[str, ...], tuple[int, ...]] = {}
        for key, value in tree.items():
            found.update(_leaves(value, (*path, str(key))))
        return found
    return {path: tuple(getattr(tree, "shape", ()))}


def _refuse_mismatch(job: Any, wanted: Any, given: Any) -> None:
    """Raise what to tell the user where a file's arrays are not those of the module."""
    need, have = _leaves(wanted), _leaves(given)
    parts = []
    for what, paths in (
        ("missing", [p for p in need if p not in have]),
        ("not in the module", [p for p in have if p not in need]),
        ("of another shape", [p for p in need if p in have and need[p] != have[p]]),
    ):
        if paths:
            more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
            parts.append(f"{what}: {', '.join('/'.join(p) for p in paths[:_SHOWN])}{more}")
    if parts:
        hint = "name the module, with the sizes, that they were trained in"
        raise job.refuse(f"the parameters are not those of {job.options['module']}: {'; '.join(parts)}", hint)


# --- modules ----------------------------------------------------------------------------------------------------------


def _signature(made: Any) -> Any:
    return inspect.signature(made.__call__).parameters


def _arguments(made: Any) -> list[str]:
    """Return the names of the arrays that a module takes."""
    usual = [
        p.name
        for p in _signature(made).values()
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.name not in _INFERENCE
    ]
    return usual or ["input"]


def _shapes(job: Any, names: list[str]) -> list[list[Any]]:
    shapes = job.shapes_of(names)
    unknown = set(shapes) - set(names)
    if unknown:
        raise job.refuse(
            f"--shape: the module has no input {sorted(unknown)[0]!r}", f"one of: {', '.join(names)}", "ConfigError"
        )
    missing = [name for name in names if name not in shapes]
    if missing:
        said = " ".join(f"--shape {name}=Nx224x224x3" for name in missing[:3])
        raise job.refuse("the shape of its input is not known", f"give it, as in {said}", "ConfigError")
    return [list(shapes[name]) for name in names]


def _inference(made: Any) -> dict[str, bool]:
    return {name: value for name, value in _INFERENCE.items() if name in _signature(made)}


def _completed_linen(job: Any, made: Any, tree: dict[str, Any], shapes: list[list[Any]]) -> Any:
    """Return what computes a linen module's answers with the file's parameters."""
    flags = _inference(made)
    wanted, integers = _wanted(job, made, flags, shapes)
    variables = _collections(wanted, tree)
    _refuse_mismatch(job, wanted, variables)

    def call(*x: Any) -> Any:
        return made.apply(variables, *x, **flags)

    call.integers = integers  # type: ignore[attr-defined]
    return call


def _wanted(job: Any, made: Any, flags: dict[str, bool], shapes: list[list[Any]]) -> tuple[Any, bool]:
    """Return the shapes of the variables that a linen module has, and whether its inputs are integers."""
    import jax

    said = ""
    for integers in (False, True):
        feeds = [_values(shape, 0, 2, integers=integers) for shape in shapes]
        try:
            return jax.eval_shape(lambda *x: made.init(jax.random.key(0), *x, **flags), *feeds), integers
        except Exception as error:
            said = said or " ".join(str(error).splitlines()[:2])[:300]
    raise job.refuse(f"the module does not accept {job.shapes}: {said}", "check --shape")


def _collections(wanted: Any, tree: dict[str, Any]) -> dict[str, Any]:
    """Return the collections that a module needs out of what trainers save around them, or bare parameters."""
    if hasattr(tree.get("params"), "get") and "params" in tree["params"] and "params" not in wanted.get("params", {}):
        tree = {**tree, **tree["params"]}
    if "params" not in tree:
        tree = {"params": tree}
    return {name: tree[name] for name in wanted if name in tree}


def _completed_nnx(job: Any, made: Any, tree: dict[str, Any]) -> Any:
    """Return what computes an nnx module's answers with the file's parameters."""
    from flax import nnx

    graph, state, rest = nnx.split(made, nnx.Not(nnx.RngState), ...)
    wanted = nnx.to_pure_dict(state)
    tree = next((tree[key] for key in ("params", "model", "state") if set(tree) >= {key} and key not in wanted), tree)
    _refuse_mismatch(job, wanted, tree)
    nnx.replace_by_pure_dict(state, tree)
    module = nnx.merge(graph, state, rest)
    module.eval()
    flags = _inference(made)

    def call(*x: Any) -> Any:
        return module(*x, **flags)

    return call


# --- the graph --------------------------------------------------------------------------------------------------------


def _values(shape: list[Any], seed: int, batch: int, factor: int = 1, *, integers: bool) -> Any:
    """Return seeded random values of a shape whose names are free sizes: the first is the batch."""
    import numpy as np

    random = np.random.default_rng(seed)
    sizes = [(batch if axis == 0 else _SIZE * factor) if isinstance(d, str) else int(d) for axis, d in enumerate(shape)]
    return random.integers(0, 4, sizes).astype(np.int32) if integers else random.normal(size=sizes).astype(np.float32)


def _export(job: Any, call: Any, names: list[str], shapes: list[list[Any]]) -> None:
    """Write the model, and keep what JAX computes."""
    integers = _kind(job, call, shapes)
    feeds = [_values(shape, 0, 2, integers=integers) for shape in shapes]
    outputs = list(_named(job, call(*feeds)))
    job.progress("converting")
    free = _write(job, call, names, shapes, outputs, integers=integers)

    def ask(seed: int, batch: int, factor: int) -> tuple[dict[str, Any], dict[str, Any]]:
        sizes = (batch, factor) if free else (1, 1)
        given = [_values(shape, seed, *sizes, integers=integers) for shape in shapes]
        return dict(zip(names, given)), _named(job, call(*given))

    for given, answers in job.sibling("trials").answered(ask):
        job.pair(given, answers)


def _kind(job: Any, call: Any, shapes: list[list[Any]]) -> bool:
    """Say whether the inputs are integers: they are where floats are refused."""
    known = getattr(call, "integers", None)
    first: BaseException | None = None
    for integers in (False, True) if known is None else (known,):
        try:
            call(*(_values(shape, 0, 2, integers=integers) for shape in shapes))
        except Exception as error:
            first = first or error
            continue
        return bool(integers)
    words = " ".join(str(first).splitlines()[:2])[:300]
    raise job.refuse(f"the module does not accept {job.shapes}: {words}", "check --shape") from first


def _named(job: Any, answer: Any) -> dict[str, Any]:
    """Return the arrays of an answer by name, in the order in which JAX flattens them: a dict's keys, else numbers."""
    import jax
    import numpy as np

    pairs = jax.tree_util.tree_flatten_with_path(answer)[0]
    if not pairs or any(getattr(value, "dtype", None) is None for _, value in pairs):
        raise job.refuse("the module returns something else than arrays", "return arrays from __call__")
    if len(pairs) == 1 and not pairs[0][0]:
        return {"output": np.asarray(pairs[0][1])}
    words = ["_".join(str(getattr(k, "key", getattr(k, "idx", getattr(k, "name", k)))) for k in p) for p, _ in pairs]
    return {(w if not w.isdigit() else f"output_{w}"): np.asarray(v) for w, (_, v) in zip(words, pairs)}


def _write(
    job: Any, call: Any, names: list[str], shapes: list[list[Any]], outputs: list[str], *, integers: bool
) -> bool:
    """Write the file; say whether its batch is free: where it cannot be, the model is written for a batch of 1."""
    import jax2onnx
    import onnx

    wants_free = any(isinstance(shape[0], str) for shape in shapes)
    first: BaseException | None = None
    for free in (True, False) if wants_free else (False,):
        sizes = [_symbols(shape, free=free) for shape in shapes]
        try:
            model = jax2onnx.to_onnx(
                call, _specs(sizes, integers=integers), opset=OPSET, input_names=names, output_names=outputs
            )
        except Exception as error:
            first = first or error
            continue
        if first is not None:
            job.note(f"for a batch of 1 alone: with a free one jax2onnx said {str(first).splitlines()[0][:200]}")
        onnx.save(model, str(job.model))
        return free
    words = " ".join(line.strip() for line in str(first).splitlines()[:2])[:400]
    hint = "replace the operation that it names by others"
    raise job.refuse(f"jax2onnx cannot write it as ONNX: {type(first).__name__}: {words}", hint) from first


def _symbols(shape: list[Any], *, free: bool) -> list[Any]:
    return [(d if axis else _BATCH) if free and isinstance(d, str) else 1 if isinstance(d, str) and not axis else
            _SIZE if isinstance(d, str) else d for axis, d in enumerate(shape)]  # fmt: skip


def _specs(sizes: list[list[Any]], *, integers: bool) -> list[Any]:
    """Return the inputs as jax2onnx takes them: shapes alone are of floats."""
    if not integers:
        return [tuple(size) for size in sizes]
    import jax
    import numpy as np
    from jax import export

    names = sorted({d for size in sizes for d in size if isinstance(d, str)})
    symbols = dict(zip(names, export.symbolic_shape(",".join(names)))) if names else {}
    return [jax.ShapeDtypeStruct(tuple(symbols.get(d, d) for d in size), np.int32) for size in sizes]
