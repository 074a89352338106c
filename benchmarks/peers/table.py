"""Writes artifacts/peers.md, its short form (peers-short.md) and edgepack beside the best peer, output by output
(peers-verdict.md), from artifacts/peers.json.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ARTIFACTS = Path(__file__).resolve().parents[2] / "artifacts"
_NOTES = """
Every tool got the same simplified model and the same calibration samples, one process on one CPU each; CPU s and peak
MB (resident) are of that whole process, imports included. dB: SQNR of the outputs against fp32 in the same engine, over
all evaluation samples. bal: the mean over the parts of the outputs (boxes, scores, strides) of noise over signal, in
dB. same: share of samples with the same answer as fp32. drop: fp32 accuracy less this one's, in points, with the
half-width of its 95 % interval (paired). x: how many times less CPU time than fp32 in the same engine, one thread,
batch 1, median of interleaved rounds between processes. A dash: not measured, or no such figure.
"""


def main() -> None:
    """Write the page."""
    data = json.loads((ARTIFACTS / "peers.json").read_text())
    host = data["host"]
    names = list(dict.fromkeys(row["model"] for row in data["rows"]))
    parts = [
        "# Quantization: edgepack and other tools",
        f"{host['cpu']}, {host['cores']} cores ({', '.join(host['isa'])}), Linux {host['kernel']}.",
        "\n".join(f"- {tool}: {text}" for tool, text in _versions(data["rows"]).items()),
        _NOTES.strip(),
        *(_section(name, [r for r in data["rows"] if r["model"] == name], data["engines"]) for name in names),
    ]
    (ARTIFACTS / "peers.md").write_text("\n\n".join(parts) + "\n")
    (ARTIFACTS / "peers-short.md").write_text(_short_form(data, names) + "\n")
    (ARTIFACTS / "peers-verdict.md").write_text("\n".join(verdict(data["rows"], tuple(data["engines"]))) + "\n")


_SHORT_ENGINES = ("onnxruntime-avx2", "openvino-avx2")
_OWN = "auto, onnxruntime rules, saturation-safe"


def _short_form(data: dict[str, Any], names: list[str]) -> str:
    """Return one table without VNNI: edgepack's default, and of every peer the way with the highest SQNR in each."""
    titles = [
        "model",
        "tool",
        "CPU s",
        *(f"{_short(key)} {c}" for key in _SHORT_ENGINES for c in ("dB", "bal", "drop", "x")),
    ]
    table = [titles, ["---", "---", *["---:"] * (len(titles) - 2)]]
    for name in names:
        rows = [row for row in data["rows"] if row["model"] == name and row["file"] and row["tool"] != "fp32"]
        own = [row for row in rows if row["tool"] == "edgepack" and row["way"] == _OWN]
        tools = dict.fromkeys(row["tool"] for row in rows if row["tool"] != "edgepack")
        for row in own + [_best([r for r in rows if r["tool"] == tool]) for tool in tools]:
            cells = [name, f"{row['tool']} ({row['way']})", f"{row['cpu_s']:.1f}"]
            for key in _SHORT_ENGINES:
                found = row["engines"].get(key, {})
                known = "sqnr_db" in found
                loss = _cell("drop", found) if "drop" in found else f"same {_cell('same', found)}" if known else "-"
                cells += [
                    _cell("dB", found),
                    _cell("bal", found),
                    loss if "agreement" in found else "-",
                    _cell("x", found),
                ]
            table.append(cells)
    return "\n".join(f"| {' | '.join(line)} |" for line in table)


# --- edgepack beside the best peer ------------------------------------------------------------------------------------

_MOST_BELOW_DB, _LEAST_ABOVE_DB = 0.5, 3.0


def verdict(rows: list[dict[str, Any]], engines: tuple[str, ...]) -> list[str]:
    """Return a table of models and engines, and how many outputs hold what is aimed at.

    Each output is compared with the best of all ways of the peers for that output, among those that are not slower than
    fp32 (the upper quartile of the rounds' ratios is 1 or more).
    """
    lines = [
        "| model | engine | edgepack bal | x | best peer | bal | x | outputs | least | median | most |",
        "| --- | --- | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    apart: list[float] = []
    for name in dict.fromkeys(row["model"] for row in rows):
        for key in engines:
            line, found = _beside([r for r in rows if r["model"] == name], key)
            if line is not None:
                lines.append(f"| {name} | {_short(key)} | {line} |")
                apart += found
    held = sum(value >= -_MOST_BELOW_DB for value in apart)
    above = sum(value >= _LEAST_ABOVE_DB for value in apart)
    lines += ["", f"Of {len(apart)} outputs {held} are at most {_MOST_BELOW_DB} dB below the best peer, and {above} are"
              f" {_LEAST_ABOVE_DB:g} dB or more above it."]  # fmt: skip
    return lines


def _beside(rows: list[dict[str, Any]], key: str) -> tuple[str | None, list[float]]:
    """Return the cells of one model in one engine, and by how many dB each output is above the best peer's."""
    safe = key.endswith("-avx2")
    label = f"auto, {key.removesuffix('-avx2')} rules{', saturation-safe' if safe else ''}"
    own = next((r for r in rows if (r["tool"], r["way"]) == ("edgepack", label)), None)
    if own is None or "outputs_db" not in own["engines"].get(key, {}):
        return None, []
    mine = own["engines"][key]
    peers = [r for r in rows if r["tool"] not in ("edgepack", "fp32") and _is_fast(r["engines"].get(key, {}))]
    if not peers:
        return f"{_cell('bal', mine)} | {_cell('x', mine)} | none that is as fast as fp32 | | | | | |", []
    best = max(peers, key=lambda r: r["engines"][key]["balanced_db"])
    apart = []
    for name, level in mine["outputs_db"].items():
        theirs = [r["engines"][key]["outputs_db"][name] for r in peers]
        known = [value for value in theirs if value is not None]
        if level is not None and known:
            apart.append(level - max(known))
    apart.sort()
    found = best["engines"][key]
    cells = [_cell("bal", mine), _cell("x", mine), f"{best['tool']} ({best['way']})", _cell("bal", found),
             _cell("x", found), str(len(apart))]  # fmt: skip
    if apart:
        cells += [f"{value:+.1f}" for value in (apart[0], apart[len(apart) // 2], apart[-1])]
    return " | ".join(cells), apart


def _is_fast(found: dict[str, Any]) -> bool:
    measured = found.get("balanced_db") is not None and "speedup_quartiles" in found
    return measured and found["speedup_quartiles"][1] >= 1


def _best(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the row with the highest SQNR in the first of the engines that it was measured in."""

    def level(row: dict[str, Any]) -> tuple[float, ...]:
        return tuple(row["engines"].get(key, {}).get("sqnr_db") or -99.0 for key in _SHORT_ENGINES)

    return max(rows, key=level)


def _versions(rows: list[dict[str, Any]]) -> dict[str, str]:
    return {r["tool"]: ", ".join(f"{n} {v}" for n, v in r["versions"].items()) for r in rows if r["versions"]}


def _section(name: str, rows: list[dict[str, Any]], engines: dict[str, str]) -> str:
    used = [key for key in engines if any(key in row["engines"] for row in rows)]
    calibration = rows[0]["samples"][0]
    days = sorted({row["measured_at"][:10] for row in rows})
    head = f"## {name}\n\n{' and '.join(days)}; calibration n={calibration}."
    lines = []
    for key in used:
        first = next(row["engines"][key] for row in rows if key in row["engines"])
        fp32 = f", fp32 {first['fp32']:.4f}" if "fp32" in first else ""
        ms = f", fp32 {first['cpu_ms']:.3g} CPU ms" if "cpu_ms" in first else ""
        lines.append(f"- {_short(key)}: {engines[key]}; n={first.get('n', 0)}{fp32}{ms}")
    titles = ["tool", "way", "CPU s", "peak MB", *(f"{_short(key)} {c}" for key in used for c in _columns(key, rows))]
    table = [titles, ["---", "---", *["---:"] * (len(titles) - 2)]]
    table += [_line(row, used, rows) for row in rows if row["tool"] != "fp32"]
    return "\n\n".join([head, "\n".join(lines), "\n".join(f"| {' | '.join(line)} |" for line in table)])


def _short(key: str) -> str:
    names = {
        "onnxruntime": "ORT", "openvino": "OV", "openvino-avx2": "OV no VNNI", "onnxruntime-avx2": "ORT no VNNI"
    }  # fmt: skip
    return names.get(key, key)


def _columns(key: str, rows: list[dict[str, Any]]) -> list[str]:
    found = [row["engines"].get(key, {}) for row in rows]
    wanted = {"dB": "sqnr_db", "bal": "balanced_db", "same": "agreement", "drop": "drop", "x": "speedup"}
    return [title for title, field in wanted.items() if any(field in f for f in found)]


def _line(row: dict[str, Any], used: list[str], rows: list[dict[str, Any]]) -> list[str]:
    if row.get("reason"):
        cells = [row["tool"], f"{row['way']}: {row['reason']}".replace("|", "/"), "failed", "-"]
    else:
        known = row.get("cpu_s") is not None
        cost = [f"{row['cpu_s']:.1f}", f"{row['peak_bytes'] / 1e6:.0f}"] if known else ["-", "-"]
        cells = [row["tool"], row["way"], *cost]
    for key in used:
        found = row["engines"].get(key, {})
        for column in _columns(key, rows):
            cells.append("failed" if "reason" in found else _cell(column, found))
    return cells


def _cell(column: str, found: dict[str, Any]) -> str:
    if column == "dB":
        return "-" if found.get("sqnr_db") is None else f"{found['sqnr_db']:.1f}"
    if column == "bal":
        return "-" if found.get("balanced_db") is None else f"{found['balanced_db']:.1f}"
    if column == "same":
        return f"{100 * found['agreement']:.1f} %" if "agreement" in found else "-"
    if column == "drop":
        return f"{100 * found['drop']:.2f} ± {100 * found['half']:.2f}" if "drop" in found else "-"
    return f"{found['speedup']:.2f}" if "speedup" in found else "-"


if __name__ == "__main__":
    main()
