"""The curve of label shares: from recordings to a table, in one command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")

from worldgen.training import presets
from worldgen.training.label_curve import main


def test_the_curve_has_a_row_for_each_share(monkeypatch: pytest.MonkeyPatch, toy_recordings: Path, tmp_path: Path):
    def micro() -> presets.Preset:
        tiny = presets.tiny()
        fits = {n: replace(f, steps=4, batch=6, length=5) for n, f in tiny.fits.items()}
        return replace(tiny, side=16, latent_action={"dim": 16}, fits=fits)

    monkeypatch.setitem(presets.PRESETS, "micro", micro)
    monkeypatch.setattr("worldgen.training.action_reader.STEPS", 20)
    table, figures = tmp_path / "t.md", tmp_path / "f.json"
    given = [str(toy_recordings), "--out", str(table), "--preset", "micro", "--shares", "0", "0.2"]
    assert main([*given, "--json", str(figures)]) == 0
    found = json.loads(figures.read_text())["shares"]
    assert set(found) == {"0", "0.2"}
    assert all(0 <= f["nmi"] <= 1 and f["labelled"] == found["0"]["labelled"] for f in found.values())
    rows = table.read_text().splitlines()
    assert len(rows) == 4 and rows[2].startswith("| 0.0% |") and rows[3].startswith("| 20.0% |")
    assert main([*given[:2], str(tmp_path / "no" / "f.txt" / "x"), "--shares", "2", "--preset", "micro"]) == 2
