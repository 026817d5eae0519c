"""The table of how far exported graphs are from torch."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from worldgen.export.parity import main, page
from worldgen.export.verify import EQUAL

MEASURED = {
    "fp32": {
        "parity": {"denoise": 1.23e-6, "frame_2": 8e-7},
        "pictures": {"frame_2": EQUAL},
        "rollout_error": 2e-6,
        "rollout_psnr": 93.84,
    },
    "int8": {"refused": "denoise in int8: tokens differs from torch by 4.0e-02, more than 3e-02"},
}


def test_the_page_has_a_row_for_every_graph_and_the_reason_of_what_was_refused():
    lines = page("`doom`", MEASURED).splitlines()
    assert lines[0] == "# Parity of `doom`"
    for row in (
        "| graph | fp32 |",
        "| `denoise` | 1.2e-06 |",
        "| `frame_2` | 8.0e-07, equal |",
        "| 8 frames alone | 2.0e-06, 93.8 dB |",
        "| `fp8` | 0.05 | 0.15 | 28 dB |",
        "`int8`: denoise in int8: tokens differs from torch by 4.0e-02, more than 3e-02",
    ):
        assert row in lines


def test_wrong_usage_is_one_line(capsys: pytest.CaptureFixture):
    assert main(["doom"]) == 2
    assert "usage: python -m worldgen.export.parity WORLD FILE" in capsys.readouterr().err
    assert main(["no-such-world", "page.md"]) == 2
    assert "no world 'no-such-world'" in capsys.readouterr().err
