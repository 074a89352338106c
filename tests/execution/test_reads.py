from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from edgepack.base.files import sha256_file
from edgepack.execution.reads import read_files

_CODE = """
import sys
from pathlib import Path
from edgepack.base.user_functions import load_callable
from edgepack.execution.reads import ReadFiles
reads = ReadFiles()
load_callable(sys.argv[1])()
reads.write(Path(sys.argv[2]))
"""


def test_every_file_that_user_code_reads_is_kept_with_its_digest(tmp_path: Path) -> None:
    (tmp_path / "neighbour.py").write_text("factor = 3\n")
    (tmp_path / "weights.bin").write_bytes(b"12345")
    code = "from pathlib import Path\nimport neighbour\ndef make():\n    return Path(r'%s').read_bytes()\n"
    (tmp_path / "net.py").write_text(code % (tmp_path / "weights.bin"))
    out = tmp_path / "out"
    out.mkdir()
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "-c", _CODE, f"{tmp_path}/net.py:make", str(out)], check=True, env=environment)
    found = read_files(out)
    for name in ("neighbour.py", "weights.bin", "net.py"):
        assert found[str(tmp_path / name)] == sha256_file(tmp_path / name)
    assert not [name for name in found if name.startswith("/proc")]


def test_a_stage_that_kept_none_has_none(tmp_path: Path) -> None:
    assert read_files(tmp_path) == {}
    (tmp_path / "read.json").write_text("not json")
    assert read_files(tmp_path) == {}
