"""Published weights: int8 in the graphs, the same numbers in half precision beside them."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from worldgen.errors import RunError  # noqa: E402
from worldgen.export.quantise import as_int8, quantise_weights, quantised  # noqa: E402


def weights(*shape: int) -> torch.Tensor:
    """Rows as far apart in size as half precision allows, and one of zeros"""
    made = 0.03 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    for row, scale in ((1, 0.0), (2, 1e-6), (3, 1e5)):
        made[row] *= scale
    return made


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("shape", [(64, 48), (30, 20, 3, 3), (40, 40)])
def test_quantised_weights_are_integers_times_scales_and_half_precision(shape: tuple[int, ...], dtype: type):
    made = quantised(weights(*shape))
    assert torch.equal(made.half().float(), made)
    found = as_int8(made.numpy().astype(dtype))
    assert found is not None
    integers, scales = found
    assert integers.dtype == np.int8 and scales.dtype == dtype
    assert scales.shape == (shape[0], *[1] * (len(shape) - 1))
    np.testing.assert_array_equal(integers * scales, made.numpy().astype(dtype))


@pytest.mark.parametrize("shape", [(64, 48), (40, 40)])
def test_a_transposed_matrix_is_integers_times_scales_too(shape: tuple[int, int]):
    made = np.ascontiguousarray(quantised(weights(*shape)).numpy().T)
    found = as_int8(made)
    assert found is not None
    np.testing.assert_array_equal(found[0] * found[1], made)


def test_quantising_errs_by_less_than_a_hundredth_and_scales_of_a_power_of_two_by_more():
    given = 0.03 * torch.randn(200, 300, generator=torch.Generator().manual_seed(0))
    largest = given.abs().amax(1, keepdim=True)
    coarse = torch.exp2((largest / 127).log2().ceil())
    errors = [
        ((made - given).norm() / given.norm()).item() for made in (quantised(given), coarse * (given / coarse).round())
    ]
    assert errors[0] < 0.01
    assert errors[1] > 1.2 * errors[0]


@pytest.mark.parametrize("array", [np.ones(2000, np.float32), np.ones((40, 40), np.int64)])
def test_vectors_and_other_numbers_stay(array: np.ndarray):
    assert as_int8(array) is None


def test_a_column_is_no_rows_of_one_number_each():
    column = torch.randn(400, 1, generator=torch.Generator().manual_seed(0)).half().numpy()
    assert as_int8(column) is None and as_int8(column.T) is None
    assert as_int8(np.ones_like(column)) is not None  # one row, transposed


def test_weights_that_were_not_quantised_stay():
    given = weights(64, 48)
    assert as_int8(given.numpy()) is None
    assert as_int8(given.half().float().numpy()) is None


class Small(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = torch.nn.ModuleList([torch.nn.Linear(64, 48), torch.nn.Conv2d(3, 4, 3)])
        self.tokens_out = torch.nn.Linear(48, 64)


@pytest.mark.parametrize(
    ("name", "chosen"),
    [("dynamics", ["blocks.0.weight"]), ("tokenizer", ["blocks.0.weight", "tokens_out.weight"]), ("upscaler", [])],
)
def test_what_is_quantised_is_large_and_chosen_and_a_second_time_changes_nothing(name: str, chosen: list[str]):
    torch.manual_seed(0)
    network = Small()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    quantise_weights(name, network)
    once = {key: value.clone() for key, value in network.state_dict().items()}
    assert [key for key, value in before.items() if not torch.equal(value, once[key])] == chosen
    quantise_weights(name, network)
    assert all(torch.equal(value, once[key]) for key, value in network.state_dict().items())


def test_rows_too_short_to_be_stored_so_are_not_quantised():
    torch.manual_seed(0)
    network = torch.nn.Linear(4, 512)
    before = network.weight.clone()
    quantise_weights("tokenizer", network)
    assert torch.equal(network.weight, before)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_is_kept_in_graphs_and_never_published(value: float):
    mask = np.zeros((64, 64), np.float32)
    mask[3, 5] = value
    assert as_int8(mask) is None
    network = torch.nn.Linear(64, 64)
    with torch.no_grad():
        network.weight[3, 5] = value
    with pytest.raises(RunError, match="tokenizer.weight.*not finite.*train tokenizer"):
        quantise_weights("tokenizer", network)
