"""The tables of how training scales. Processes are real ones there: `python -m worldgen.training.scaling`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")

from test_training import micro  # noqa: E402

from worldgen.errors import InputError  # noqa: E402
from worldgen.training import presets  # noqa: E402
from worldgen.training.scaling import Scaling, scaling  # noqa: E402


def test_three_widths_are_trained_measured_and_not_trained_again(toy_recordings, tmp_path, monkeypatch):
    preset = replace(micro(), dynamics={"dim": 64, "num_layers": 2, "num_heads": 4})
    monkeypatch.setitem(presets.PRESETS, "micro", lambda: preset)
    choices = Scaling(
        toy_recordings, tmp_path / "scaling.md", preset="micro", steps=3, tokenizer_steps=2, processes=(), batches=2
    )
    said: list[str] = []
    figures = scaling(choices, "python -m worldgen.training.scaling ...", said.append)
    assert [row["width"] for row in figures["sizes"]] == [16, 32, 64]
    assert [row["steps"] for row in figures["sizes"]] == [3, 3, 3]
    parameters = [row["parameters"] for row in figures["sizes"]]
    assert parameters == sorted(parameters) and all(row["loss"] > 0 for row in figures["sizes"])
    table = choices.out.read_text()
    assert "python -m worldgen.training.scaling" in table and "| 64 |" in table
    assert json.loads(choices.out.with_suffix(".json").read_text()) == figures
    said.clear()
    again = scaling(choices, say=said.append)
    assert not any(line.startswith("  step") for line in said)
    assert [row["loss"] for row in again["sizes"]] == [row["loss"] for row in figures["sizes"]]


@pytest.mark.parametrize("wrong", [{"out": Path("table.txt")}, {"processes": (0,)}, {"process_steps": 2}])
def test_a_wrong_choice_is_refused(wrong):
    with pytest.raises(InputError):
        Scaling(**{"data": Path("x"), "out": Path("table.md"), **wrong})
