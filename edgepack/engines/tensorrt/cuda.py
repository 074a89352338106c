"""The CUDA runtime by ctypes: the few calls that a runner needs, each checked. Neither torch nor pycuda is needed.

Sources: CUDA Runtime API (driver_types.h, cuda_runtime_api.h). All of these are in the runtimes of CUDA 11.4 to 13.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepack.errors import EdgepackError, ToolchainError

# What an unusual installation may name: the path of libcudart.
LIBRARY_VARIABLE = "EDGEPACK_CUDART"
_NAMES = ("libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0", "libcudart.so")
_FOLDERS = (Path("/usr/local/cuda/lib64"), Path("/usr/local/cuda/targets/aarch64-linux/lib"))

_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76  # cudaDevAttrComputeCapabilityMajor and Minor
_HOST_TO_DEVICE, _DEVICE_TO_HOST = 1, 2  # cudaMemcpyKind
_CAPTURE_THREAD_LOCAL = 1  # cudaStreamCaptureModeThreadLocal
_OUT_OF_MEMORY = 2  # cudaErrorMemoryAllocation
_NAME_BYTES = 256  # cudaDeviceProp begins with char name[256]
_PROPERTIES_BYTES = 8192  # more than any version's cudaDeviceProp (about 1 KiB)

_POINTER, _SIZE, _INT = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
_SIGNATURES: dict[str, list[Any]] = {
    "cudaDriverGetVersion": [_POINTER],
    "cudaRuntimeGetVersion": [_POINTER],
    "cudaGetDeviceCount": [_POINTER],
    "cudaGetDeviceProperties": [_POINTER, _INT],
    "cudaDeviceGetAttribute": [_POINTER, _INT, _INT],
    "cudaMemGetInfo": [_POINTER, _POINTER],
    "cudaMalloc": [_POINTER, _SIZE],
    "cudaFree": [_POINTER],
    "cudaMallocHost": [_POINTER, _SIZE],
    "cudaFreeHost": [_POINTER],
    "cudaMemcpyAsync": [_POINTER, _POINTER, _SIZE, _INT, _POINTER],
    "cudaStreamCreate": [_POINTER],
    "cudaStreamDestroy": [_POINTER],
    "cudaStreamSynchronize": [_POINTER],
    "cudaStreamBeginCapture": [_POINTER, _INT],
    "cudaStreamEndCapture": [_POINTER, _POINTER],
    "cudaGraphInstantiateWithFlags": [_POINTER, _POINTER, ctypes.c_ulonglong],
    "cudaGraphLaunch": [_POINTER, _POINTER],
    "cudaGraphDestroy": [_POINTER],
    "cudaGraphExecDestroy": [_POINTER],
    "cudaGetLastError": [],
}


class CudaError(EdgepackError):
    """A CUDA call failed; ``out_of_memory`` says whether memory was what it lacked."""

    default_hint = "see 'dmesg' for the driver's words; a restart of the device frees what a crashed program holds"

    def __init__(self, call: str, code: int, words: str) -> None:
        self.out_of_memory = code == _OUT_OF_MEMORY
        hint = "stop other programs that use the GPU, or use a smaller batch" if self.out_of_memory else None
        super().__init__(f"{call} failed: {words} ({code})", hint=hint)


@dataclass(frozen=True)
class DeviceFacts:
    """The first GPU: its name, compute capability (``8.7``), and the CUDA versions of driver and runtime."""

    name: str
    sm: str
    driver: str
    runtime: str


class Cuda:
    """The loaded runtime library. Handles and addresses are plain integers."""

    def __init__(self, library: Any) -> None:
        self._library = library
        for name, arguments in _SIGNATURES.items():
            function = getattr(library, name)
            function.argtypes, function.restype = arguments, _INT
        library.cudaGetErrorString.argtypes = [_INT]
        library.cudaGetErrorString.restype = ctypes.c_char_p

    def device(self) -> DeviceFacts:
        """Return what the first GPU is. Raises ``ToolchainError`` when there is none or its driver does not work."""
        count = ctypes.c_int(0)
        code = self._library.cudaGetDeviceCount(ctypes.byref(count))
        if code != 0 or count.value == 0:
            words = "no GPU" if code == 0 else self._words(code)
            raise ToolchainError(
                f"CUDA finds no GPU here: {words}",
                hint="install NVIDIA's driver; in a container, start it with the GPU (docker run --runtime nvidia)",
            )
        properties = ctypes.create_string_buffer(_PROPERTIES_BYTES)
        self._check("cudaGetDeviceProperties", ctypes.byref(properties), 0)
        name = properties.raw[:_NAME_BYTES].partition(b"\0")[0].decode(errors="replace")
        major, minor = (self._number("cudaDeviceGetAttribute", a, 0) for a in (_CAPABILITY_MAJOR, _CAPABILITY_MINOR))
        driver, runtime = (self._number(n) for n in ("cudaDriverGetVersion", "cudaRuntimeGetVersion"))
        return DeviceFacts(name, f"{major}.{minor}", _version(driver), _version(runtime))

    def memory(self) -> tuple[int, int]:
        """Return free and all memory of the GPU in bytes."""
        free, total = _SIZE(0), _SIZE(0)
        self._check("cudaMemGetInfo", ctypes.byref(free), ctypes.byref(total))
        return free.value, total.value

    def allocate(self, size_bytes: int) -> int:
        """Return the address of device memory."""
        return self._made("cudaMalloc", max(size_bytes, 1))

    def free(self, address: int) -> None:
        """Free device memory."""
        self._check("cudaFree", address)

    def allocate_pinned(self, size_bytes: int) -> int:
        """Return the address of page-locked memory of the host, which copies run from and to without a detour."""
        return self._made("cudaMallocHost", max(size_bytes, 1))

    def free_pinned(self, address: int) -> None:
        """Free page-locked memory."""
        self._check("cudaFreeHost", address)

    def copy_in(self, device: int, host: int, size_bytes: int, stream: int) -> None:
        """Begin a copy from the host to the device."""
        self._check("cudaMemcpyAsync", device, host, size_bytes, _HOST_TO_DEVICE, stream)

    def copy_out(self, host: int, device: int, size_bytes: int, stream: int) -> None:
        """Begin a copy from the device to the host."""
        self._check("cudaMemcpyAsync", host, device, size_bytes, _DEVICE_TO_HOST, stream)

    def create_stream(self) -> int:
        """Return a new stream."""
        return self._made("cudaStreamCreate")

    def destroy_stream(self, stream: int) -> None:
        """Free a stream."""
        self._check("cudaStreamDestroy", stream)

    def synchronize(self, stream: int) -> None:
        """Wait until all work of a stream is done."""
        self._check("cudaStreamSynchronize", stream)

    def begin_capture(self, stream: int) -> None:
        """Record what is issued to the stream from here on instead of running it."""
        self._check("cudaStreamBeginCapture", stream, _CAPTURE_THREAD_LOCAL)

    def end_capture(self, stream: int) -> int:
        """Return what was recorded, ready to be launched again and again."""
        graph, launchable = _POINTER(), _POINTER()
        self._check("cudaStreamEndCapture", stream, ctypes.byref(graph))
        try:
            self._check("cudaGraphInstantiateWithFlags", ctypes.byref(launchable), graph, 0)
        finally:
            self._check("cudaGraphDestroy", graph)
        return launchable.value or 0

    def abandon_capture(self, stream: int) -> None:
        """End a recording that failed, whatever state it is in, and forget its error."""
        graph = _POINTER()
        if self._library.cudaStreamEndCapture(stream, ctypes.byref(graph)) == 0 and graph.value:
            self._library.cudaGraphDestroy(graph)
        self._library.cudaGetLastError()

    def launch(self, launchable: int, stream: int) -> None:
        """Begin what was recorded."""
        self._check("cudaGraphLaunch", launchable, stream)

    def destroy_graph(self, launchable: int) -> None:
        """Free what was recorded."""
        self._check("cudaGraphExecDestroy", launchable)

    def _made(self, call: str, *arguments: int) -> int:
        handle = _POINTER()
        self._check(call, ctypes.byref(handle), *arguments)
        return handle.value or 0

    def _number(self, call: str, *arguments: int) -> int:
        number = ctypes.c_int(0)
        self._check(call, ctypes.byref(number), *arguments)
        return number.value

    def _check(self, call: str, *arguments: Any) -> None:
        code = getattr(self._library, call)(*arguments)
        if code != 0:
            raise CudaError(call, code, self._words(code))

    def _words(self, code: int) -> str:
        return str(self._library.cudaGetErrorString(code).decode(errors="replace"))


@functools.cache
def load_cuda() -> Cuda:
    """Return the CUDA runtime of this machine. Raises ``ToolchainError`` when there is none."""
    for name in _candidates():
        try:
            return Cuda(ctypes.CDLL(name))
        except OSError:  # not there, or of another architecture
            continue
        except AttributeError as error:
            raise ToolchainError(
                f"the CUDA runtime {name} lacks a call: {error}", hint="use the CUDA of JetPack 5 or newer (11.4 to 13)"
            ) from None
    raise ToolchainError(
        "this machine has no CUDA runtime (libcudart)",
        hint=f"on a Jetson: sudo apt install cuda-runtime; or name the library in {LIBRARY_VARIABLE}",
    )


def _candidates() -> list[str]:
    if named := os.environ.get(LIBRARY_VARIABLE):
        return [named]
    found = ctypes.util.find_library("cudart")
    beside = [str(folder / name) for folder in _FOLDERS for name in _NAMES if (folder / name).exists()]
    return [*beside, *_NAMES, *([found] if found else [])]


def _version(number: int) -> str:
    """Return CUDA's 12060 as 12.6."""
    return f"{number // 1000}.{number % 1000 // 10}"
