"""Compiled training: the same network, or one line about what is missing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from test_dynamics import make  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from worldgen.errors import InputError  # noqa: E402
from worldgen.models.attention import attend  # noqa: E402
from worldgen.training import compiled  # noqa: E402
from worldgen.training.own_past import play_on  # noqa: E402
from worldgen.training.recipe import Recipe  # noqa: E402


def test_attention_stays_in_float32_on_a_processor():
    q, k, v = torch.randn(3, 2, 4, 5, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    visible = torch.ones(5, 5, dtype=torch.bool).tril()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = attend(q, k, v, visible)
    assert out.dtype == torch.float32
    expected = F.scaled_dot_product_attention(q.float(), k.float(), v.float(), attn_mask=visible)
    assert torch.equal(out, expected)


@pytest.mark.parametrize("unit", ["amx_bf16", "avx512_bf16"])
def test_bfloat16_is_used_where_the_processor_multiplies_it(monkeypatch, unit):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {unit: True})
    assert compiled.multiplies_bfloat16()
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {unit: False, "avx512_f": True})
    assert not compiled.multiplies_bfloat16()


def test_what_is_missing_is_said_before_training(monkeypatch, tmp_path):
    with pytest.raises(InputError, match="--compile and --shard"):
        Recipe(Path("data"), Path("out"), compile=True, shard=True)
    with pytest.raises(InputError, match="--stages dynamics heads"):
        Recipe(Path("data"), Path("out"), compile=True, stages=("tokenizer",))
    monkeypatch.setenv("CXX", str(tmp_path / "compiler"))
    with pytest.raises(InputError, match="C\\+\\+ compiler.*/compiler"):
        compiled.check_compiler()
    monkeypatch.setattr(compiled.shutil, "which", str)
    monkeypatch.setattr(compiled.sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(InputError, match="Python.h.*python3-dev"):
        compiled.check_compiler()


@pytest.mark.skipif(not os.environ.get("WORLDGEN_TEST_COMPILE"), reason="takes minutes: WORLDGEN_TEST_COMPILE=1")
def test_a_compiled_network_has_the_same_output_and_gradient():
    from test_optimizer import step

    results, plays = [], []
    for is_compiled in (False, True):
        network = make(is_new=True)
        network = type(network)(**{**dict(network.config), "grid": [2, 2], "token_dim": 8}).train()
        torch.manual_seed(1)
        for parameter in network.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
        if is_compiled:
            compiled.compile_network(network)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
        losses = [step(network, optimizer, i) for i in range(2)]
        results.append((losses, torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])))
        with torch.no_grad():
            tokens = torch.randn(2, 5, 4, 8, generator=torch.Generator().manual_seed(2))
            actions, one = torch.ones(2, 5, 1, dtype=torch.long), torch.ones(2, dtype=torch.long)
            played, _ = play_on(
                network, tokens, actions, 0.1 * one, one, torch.Generator().manual_seed(3)
            )  # denoise() and commit()
        plays.append(played)
    assert torch.allclose(plays[0], plays[1], atol=1e-4)
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-5)
    assert torch.allclose(results[0][1], results[1][1], atol=1e-6, rtol=1e-4)
