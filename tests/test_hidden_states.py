"""Hidden states of recordings: of what is seen, in chunks the same as of whole episodes, and of what is played on."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from worldgen.bundle import load_network  # noqa: E402
from worldgen.data.dataset import Segments  # noqa: E402
from worldgen.training import hidden_states as module  # noqa: E402
from worldgen.training.hidden_states import committed, hidden_states  # noqa: E402
from worldgen.training.rollout import PROMPT  # noqa: E402


def given(tiny_world, tmp_path):
    """The arguments of hidden_states() for two episodes of 40 and 30 frames of noise, but for its last two"""
    dynamics = load_network(tiny_world, "dynamics").requires_grad_(False)
    rng = np.random.default_rng(0)
    tokens = rng.standard_normal((70, dynamics.num_tokens, dynamics.config.token_dim)).astype(np.float32)
    led_to = rng.integers(0, 5, (70, 1))
    segments = Segments(np.array([0, 40]), np.array([40, 70]))
    return dynamics, SimpleNamespace(path=tmp_path / "data"), tokens, led_to, 0.0, segments, 1000, tiny_world


def committed_alone(given, start, stop):
    clip, actions = torch.from_numpy(given[2][start:stop])[None], torch.from_numpy(given[3][start:stop])[None]
    return committed(given[0], clip, actions, 0.0, None)[0].numpy()


def test_chunks_see_as_far_back_as_the_whole_episode(tiny_world, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 8)
    arguments = given(tiny_world, tmp_path)
    found = hidden_states(*arguments, tmp_path / "hidden", lambda text: None)
    np.testing.assert_allclose(found.at(np.arange(40)[None])[0], committed_alone(arguments, 0, 40), atol=3e-3)
    again = hidden_states(*arguments, tmp_path / "hidden", pytest.fail)  # kept
    assert (again.hidden == found.hidden).all()


def test_every_other_episode_is_played_from_its_first_frames(tiny_world, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PLAYED_FRAMES", 20)
    arguments = given(tiny_world, tmp_path)
    found = hidden_states(*arguments, tmp_path / "hidden", lambda text: None)
    assert list(found.segments) == [(0, 40), (40, 60), (60, 70)]
    assert list(found.recorded) == [(0, 40), (40, 70)]
    for start, stop in ((40, 60), (60, 70)):
        hidden, seen = found.at(np.arange(start, stop)[None])[0], committed_alone(arguments, start, stop)
        np.testing.assert_allclose(hidden[:PROMPT], seen[:PROMPT], atol=3e-3)
        assert (np.abs(hidden[PROMPT:] - seen[PROMPT:]).max((1, 2)) > 0.05).all()  # the recorded noise is not foretold
