"""Steps of ``run.py`` that need numpy, as a process of their own that prints its result in JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from measure import compare
from models import MODELS, set_up

if __name__ == "__main__":
    step, name, *words = sys.argv[1:]
    if step == "set_up":
        print(json.dumps(set_up(name, Path(words[0]))))
    else:
        print(json.dumps(compare(*map(Path, words), decides=name not in MODELS or MODELS[name].decides)))
