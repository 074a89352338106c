import pytest

from edgepack.benchmark.machine.advice import doctor_benchmark

CPUS = "sys/devices/system/cpu"


def tree(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


def said(root, **options):
    return doctor_benchmark(root, watch_s=0.01, sleep=options.pop("sleep", lambda _: None))


def one(found, words):
    (match,) = [d for d in found if words in d.message]
    return match


def test_a_machine_that_tells_nothing_has_notes_only(tmp_path):
    found = said(tmp_path)
    assert {d.severity for d in found} == {"note"}
    assert one(found, "does not report CPU pressure").hint
    assert one(found, "energy cannot be measured: no sensor")


@pytest.mark.parametrize(
    ("files", "words", "hint"),
    [
        ({f"{CPUS}/cpu0/cpufreq/scaling_governor": "powersave"}, "governor powersave", "cpupower"),
        ({f"{CPUS}/intel_pstate/no_turbo": "0"}, "turbo is on", "echo 1 | sudo tee"),
        ({f"{CPUS}/cpufreq/boost": "1"}, "turbo is on", "echo 0 | sudo tee"),
        ({f"{CPUS}/smt/active": "1"}, "SMT", "smt/control"),
        (
            {"sys/class/power_supply/AC/type": "Mains", "sys/class/power_supply/AC/online": "0"},
            "runs on battery",
            "mains",
        ),
        ({"proc/meminfo": "SwapTotal: 2000000 kB\nSwapFree: 1000000 kB"}, "swapped out", "swapoff"),
    ],
)
def test_each_setting_that_disturbs_is_a_warning_with_what_to_do(tmp_path, files, words, hint):
    found = one(said(tree(tmp_path, files)), words)
    assert found.severity == "warning"
    assert hint in found.hint


def test_settings_that_do_not_disturb_are_not_mentioned(tmp_path):
    files = {
        f"{CPUS}/cpu0/cpufreq/scaling_governor": "performance",
        f"{CPUS}/intel_pstate/no_turbo": "1",
        f"{CPUS}/smt/active": "0",
        "proc/pressure/cpu": "some avg10=0.00 avg60=0.00 avg300=0.00 total=5",
    }
    assert [d.message for d in said(tree(tmp_path, files))] == [
        "energy cannot be measured: no sensor: neither RAPL, INA3221 nor a discharging battery was found"
    ]


def test_what_would_void_a_measurement_now_is_an_error(tmp_path):
    pressure = "some avg10=0.00 avg60=0.00 avg300=0.00 total={}"
    tree(tmp_path, {"proc/pressure/cpu": pressure.format(0)})

    def busy(_seconds):
        tree(tmp_path, {"proc/pressure/cpu": pressure.format(10**9)})

    found = one(said(tmp_path, sleep=busy), "tasks waited for a CPU")
    assert found.severity == "error"
    assert "top" in found.hint


def test_this_machine_has_an_answer():
    assert all(d.message for d in doctor_benchmark(watch_s=0.05))


@pytest.mark.parametrize(
    ("name", "text", "words", "hint"),
    [
        ("sys/devices/platform/soc/soc:firmware/get_throttled", "1", "under-voltage", "power supply"),
        ("sys/class/hwmon/hwmon1/oc2_event_cnt", "3", "over-current", "power mode"),
    ],
)
def test_a_board_that_is_slowed_down_now_says_what_to_do(tmp_path, name, text, words, hint):
    tree(tmp_path, {name: "0"})
    found = one(said(tmp_path, sleep=lambda _: tree(tmp_path, {name: text})), words)
    assert found.severity == "error"
    assert hint in found.hint


def test_a_quota_says_how_many_threads_fit(tmp_path):
    files = {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "250000 100000"}
    assert "--threads 2" in one(said(tree(tmp_path, files)), "2.5 cores").hint
