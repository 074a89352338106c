"""A test double of NVIDIA's management library: functions that ctypes would find, with made-up answers.

No GPU was asked. The names, argument orders and structures are those of nvml.h, as in
``edgepack.benchmark.machine.nvml``.
"""

from __future__ import annotations

NOT_SUPPORTED = 3


class FakeNvml:
    """``answers`` maps a function to what it writes through its last pointer; others are not supported.

    ``others`` are the answers of further GPUs. ``processes`` are those of every GPU.
    """

    def __init__(self, processes=(), others=(), **answers):
        self.processes, self.answers, self.asked = processes, [answers, *others], []

    def nvmlInit_v2(self):
        return 0

    def nvmlDeviceGetCount_v2(self, count):
        count._obj.value = len(self.answers)
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index, handle):
        handle._obj.value = 0xABC + index
        return 0

    def nvmlDeviceGetComputeRunningProcesses_v3(self, handle, count, infos):
        for i, (pid, used) in enumerate(self.processes):
            infos[i].pid, infos[i].used = pid, used
        count._obj.value = len(self.processes)
        return 0

    def __getattr__(self, name):
        if not name.startswith("nvml"):
            raise AttributeError(name)

        def function(handle, *words):
            number = handle.value - 0xABC
            *choices, target = words
            self.asked.append((name, *choices))
            answer = self.answers[number].get(name)
            if isinstance(answer, dict):
                answer = answer.get(choices[0])
            if answer is None:
                return NOT_SUPPORTED
            if isinstance(answer, tuple):
                for field, value in zip(target._obj._fields_, answer, strict=True):
                    setattr(target._obj, field[0], value)
            else:
                target._obj.value = answer() if callable(answer) else answer
            return 0

        return function
