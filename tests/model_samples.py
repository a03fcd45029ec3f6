"""Arguments for the operations whose arguments must fit each other, by the last part of the operation's name.

A method takes the arguments of the function, its tensor first; a full dotted name stands for that one alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def f(*shape: int) -> torch.Tensor:
    """Numbers between 0.2 and 0.8."""
    return torch.rand(shape, dtype=torch.float64) * 0.6 + 0.2


def i(*numbers: int) -> torch.Tensor:
    return torch.tensor(numbers)


def g(*args: Any, **kwargs: Any) -> Arguments:
    return args, kwargs


def rnn(gates: int, cell: bool = False) -> Callable[[], Arguments]:
    """torch.lstm, gru, rnn_tanh: input (time, batch, 3), hidden size 2."""

    def make() -> Arguments:
        weights = [f(gates * 2, 3), f(gates * 2, 2), f(gates * 2), f(gates * 2)]
        hidden = [f(1, 2, 2), f(1, 2, 2)] if cell else f(1, 2, 2)
        return g(f(4, 2, 3), hidden, weights, True, 1, 0.0, True, False, False)

    return make


def rnn_cell(gates: int, cell: bool = False) -> Callable[[], Arguments]:
    return lambda: g(
        f(2, 3),
        [f(2, 2), f(2, 2)] if cell else f(2, 2),
        f(gates * 2, 3),
        f(gates * 2, 2),
        f(gates * 2),
        f(gates * 2),
    )


def attention() -> Arguments:
    x = f(3, 2, 4)
    return g(
        x,
        f(3, 2, 4),
        f(3, 2, 4),
        4,
        2,
        f(12, 4),
        f(12),
        None,
        None,
        False,
        0.0,
        f(4, 4),
        f(4),
        need_weights=True,
    )


SAMPLES: dict[str, list[Callable[[], Arguments]]] = {
    # products of three
    "addbmm": [lambda: g(f(2, 4), f(5, 2, 3), f(5, 3, 4))],
    "baddbmm": [lambda: g(f(5, 2, 4), f(5, 2, 3), f(5, 3, 4))],
    "addmv": [lambda: g(f(2), f(2, 3), f(3))],
    "addr": [lambda: g(f(2, 3), f(2), f(3))],
    "mv": [lambda: g(f(2, 3), f(3))],
    "linear": [lambda: g(f(2, 3), f(4, 3), f(4))],
    "bilinear": [lambda: g(f(2, 3), f(2, 4), f(5, 3, 4), f(5))],
    "tensordot": [lambda: g(f(2, 3), f(3, 4), 1)],
    "torch.einsum": [lambda: g("ij,jk->ik", f(2, 3), f(3, 4))],
    # convolutions
    "conv1d": [lambda: g(f(2, 3, 5), f(4, 3, 3), f(4))],
    "conv2d": [lambda: g(f(2, 3, 5, 5), f(4, 3, 3, 3), f(4))],
    "conv3d": [lambda: g(f(2, 3, 5, 5, 5), f(4, 3, 3, 3, 3), f(4))],
    "conv_transpose1d": [lambda: g(f(2, 3, 5), f(3, 4, 3), f(4))],
    "conv_transpose2d": [lambda: g(f(2, 3, 5, 5), f(3, 4, 3, 3), f(4))],
    "conv_transpose3d": [lambda: g(f(2, 3, 4, 4, 4), f(3, 4, 3, 3, 3), f(4))],
    "conv_tbc": [lambda: g(f(5, 2, 3), f(2, 3, 4), f(4))],
    "convolution": [
        lambda: g(f(2, 3, 5, 5), f(4, 3, 3, 3), f(4), [1, 1], [0, 0], [1, 1], False, [0, 0], 1),
    ],
    # pooling, padding, resampling
    "avg_pool1d": [lambda: g(f(2, 3, 6), 2)],
    "avg_pool2d": [lambda: g(f(2, 3, 6, 6), 2)],
    "avg_pool3d": [lambda: g(f(2, 3, 4, 4, 4), 2)],
    "max_pool1d": [lambda: g(f(2, 3, 6), 2)],
    "max_pool2d": [lambda: g(f(2, 3, 6, 6), 2)],
    "max_pool3d": [lambda: g(f(2, 3, 4, 4, 4), 2)],
    "adaptive_avg_pool2d": [lambda: g(f(2, 3, 6, 6), (2, 2))],
    "adaptive_avg_pool3d": [lambda: g(f(2, 3, 4, 4, 4), (2, 2, 2))],
    "adaptive_max_pool2d": [lambda: g(f(2, 3, 6, 6), (2, 2))],
    "adaptive_max_pool3d": [lambda: g(f(2, 3, 4, 4, 4), (2, 2, 2))],
    "lp_pool1d": [lambda: g(f(2, 3, 6), 2.0, 2)],
    "lp_pool2d": [lambda: g(f(2, 3, 6, 6), 2.0, 2)],
    "lp_pool3d": [lambda: g(f(2, 3, 4, 4, 4), 2.0, 2)],
    "fractional_max_pool2d": [lambda: g(f(2, 3, 6, 6), 2, output_size=3)],
    "fractional_max_pool3d": [lambda: g(f(2, 3, 6, 6, 6), 2, output_size=3)],
    "fractional_max_pool2d_with_indices": [lambda: g(f(2, 3, 6, 6), 2, output_size=3)],
    "fractional_max_pool3d_with_indices": [lambda: g(f(2, 3, 6, 6, 6), 2, output_size=3)],
    "max_unpool1d": [lambda: g(*F.max_pool1d(f(2, 3, 6), 2, return_indices=True), 2)],
    "max_unpool2d": [lambda: g(*F.max_pool2d(f(2, 3, 6, 6), 2, return_indices=True), 2)],
    "max_unpool3d": [lambda: g(*F.max_pool3d(f(2, 3, 4, 4, 4), 2, return_indices=True), 2)],
    "pad": [lambda: g(f(2, 3), (1, 1))],
    "torch.nn.functional.unfold": [lambda: g(f(2, 3, 4, 4), 2)],
    "fold": [lambda: g(f(2, 12, 9), (4, 4), 2)],
    "interpolate": [lambda: g(f(2, 3, 4), 8), lambda: g(f(2, 3, 4, 4), 8, mode="bilinear")],
    "upsample": [lambda: g(f(2, 3, 4), 8)],
    "upsample_nearest": [lambda: g(f(2, 3, 4, 4), 8)],
    "upsample_bilinear": [lambda: g(f(2, 3, 4, 4), 8)],
    "grid_sample": [lambda: g(f(2, 3, 4, 4), f(2, 5, 5, 2), align_corners=False)],
    "grid_sampler": [lambda: g(f(2, 3, 4, 4), f(2, 5, 5, 2), 0, 0, False)],
    "grid_sampler_2d": [lambda: g(f(2, 3, 4, 4), f(2, 5, 5, 2), 0, 0, False)],
    "grid_sampler_3d": [lambda: g(f(2, 3, 4, 4, 4), f(2, 5, 5, 5, 3), 0, 0, False)],
    "affine_grid": [lambda: g(f(2, 2, 3), (2, 3, 4, 4), align_corners=False)],
    "affine_grid_generator": [lambda: g(f(2, 2, 3), (2, 3, 4, 4), False)],
    # normalisation
    "torch.batch_norm": [lambda: g(f(4, 3), f(3), f(3), None, None, True, 0.1, 1e-5, False)],
    "torch.nn.functional.batch_norm": [lambda: g(f(4, 3), None, None, f(3), f(3), True)],
    "torch.instance_norm": [lambda: g(f(2, 3, 5), f(3), f(3), None, None, True, 0.1, 1e-5, False)],
    "torch.nn.functional.instance_norm": [lambda: g(f(2, 3, 5), None, None, f(3), f(3))],
    "layer_norm": [lambda: g(f(2, 3), (3,), f(3), f(3))],
    "rms_norm": [lambda: g(f(2, 3), (3,), f(3))],
    "group_norm": [lambda: g(f(2, 4, 5), 2, f(4), f(4))],
    # recurrent cells and attention
    "lstm": [rnn(4, cell=True)],
    "gru": [rnn(3)],
    "rnn_tanh": [rnn(1)],
    "rnn_relu": [rnn(1)],
    "lstm_cell": [rnn_cell(4, cell=True)],
    "gru_cell": [rnn_cell(3)],
    "rnn_tanh_cell": [rnn_cell(1)],
    "rnn_relu_cell": [rnn_cell(1)],
    "multi_head_attention_forward": [attention],
    "scaled_dot_product_attention": [lambda: g(f(2, 3, 4), f(2, 3, 4), f(2, 3, 4))],
    # indices
    "embedding": [lambda: g(i(0, 2), f(3, 4))],
    "torch.embedding": [lambda: g(f(3, 4), i(0, 2))],
    "torch.nn.functional.embedding_bag": [
        lambda: g(i(0, 2, 1), f(3, 4), i(0, 2)),
        lambda: g(i(0, 2, 1), f(3, 4), i(0, 2), mode="sum", per_sample_weights=f(3)),
    ],
    "torch.embedding_bag": [lambda: g(f(3, 4), i(0, 2, 1), i(0, 2))],
    "gather": [lambda: g(f(2, 3), 1, torch.tensor([[0], [2]]))],
    "scatter": [lambda: g(f(2, 3), 1, torch.tensor([[0], [2]]), f(2, 1))],
    "scatter_add": [lambda: g(f(2, 3), 1, torch.tensor([[0], [2]]), f(2, 1))],
    "scatter_reduce": [lambda: g(f(2, 3), 1, torch.tensor([[0], [2]]), f(2, 1), "mean")],
    "index_add": [lambda: g(f(3, 4), 0, i(0, 2), f(2, 4))],
    "index_copy": [lambda: g(f(3, 4), 0, i(0, 2), f(2, 4))],
    "index_reduce": [lambda: g(f(3, 4), 0, i(0, 2), f(2, 4), "mean")],
    "index_fill": [lambda: g(f(3, 4), 0, i(0, 2), 0.5), lambda: g(f(3, 4), 0, i(0, 2), f())],
    "index_put": [lambda: g(f(3, 4), (i(0, 2),), f(2, 4))],
    "index_select": [lambda: g(f(3, 4), 0, i(0, 2))],
    "masked_fill": [lambda: g(f(2, 3), f(2, 3) > 0.5, 0.1), lambda: g(f(2, 3), f(2, 3) > 0.5, f())],
    "masked_scatter": [lambda: g(f(2, 3), torch.tensor([[True, False, True]] * 2), f(2, 3))],
    "masked_select": [lambda: g(f(2, 3), torch.tensor([[True, False, True]] * 2))],
    "put": [lambda: g(f(2, 3), i(0, 2), f(2))],
    "take": [lambda: g(f(2, 3), i(0, 2))],
    "take_along_dim": [lambda: g(f(2, 3), torch.tensor([[0], [2]]), 1)],
    "select_scatter": [lambda: g(f(2, 3), f(3), 0, 0)],
    "diagonal_scatter": [lambda: g(f(3, 3), f(3))],
    "slice_scatter": [lambda: g(f(4, 3), f(2, 3), 0, 0, 2)],
    "repeat_interleave": [lambda: g(f(2, 3), 2), lambda: g(f(3), i(1, 2, 1))],
    "where": [lambda: g(torch.tensor([True, False, True]), f(2, 3), f(2, 3))],
    "torch.Tensor.where": [lambda: g(f(2, 3), torch.tensor([True, False, True]), f(2, 3))],
    # views
    "permute": [lambda: g(f(2, 3), (1, 0))],
    "permute_copy": [lambda: g(f(2, 3), (1, 0))],
    "split": [lambda: g(f(4, 3), 2)],
    "split_with_sizes": [lambda: g(f(4, 3), [1, 3])],
    "split_with_sizes_copy": [lambda: g(f(4, 3), [1, 3])],
    "unflatten": [lambda: g(f(6, 2), 0, (2, 3))],
    "view_as_complex": [lambda: g(f(3, 2))],
    "view_as_complex_copy": [lambda: g(f(3, 2))],
    "torch.block_diag": [lambda: g(f(2, 2), f(3, 3))],
    "torch.broadcast_tensors": [lambda: g(f(2, 1), f(1, 3))],
    "torch.meshgrid": [lambda: g(f(2), f(3))],
    "torch.cartesian_prod": [lambda: g(f(2), f(3))],
    "torch.nn.functional.pixel_shuffle": [lambda: g(f(2, 4, 3, 3), 2)],
    # activations with more than one argument
    "prelu": [lambda: g(torch.tensor([[-0.5, 0.3], [0.2, -0.1]], dtype=torch.float64), f(2))],
    "copysign": [lambda: g(f(2, 3), f(2, 3))],
    "glu": [lambda: g(f(2, 4))],
    "dropout": [lambda: g(f(2, 3), 0.5, True)],
    "feature_dropout": [lambda: g(f(2, 3, 4), 0.5, True)],
    "alpha_dropout": [lambda: g(f(2, 3), 0.5, True)],
    "feature_alpha_dropout": [lambda: g(f(2, 3, 4), 0.5, True)],
    "rrelu": [lambda: g(f(2, 3) - 0.5, 0.1, 0.3, True)],
    "atleast_1d": [lambda: g(f())],
    "atleast_2d": [lambda: g(f(3))],
    "atleast_3d": [lambda: g(f(3))],
    "acosh": [lambda: g(f(2, 3) + 1)],
    "arccosh": [lambda: g(f(2, 3) + 1)],
    # linear algebra
    "matrix_power": [lambda: g(f(3, 3), 3)],
    "lu_unpack": [lambda: g(*torch.linalg.lu_factor(f(3, 3)))],
    "orgqr": [lambda: g(f(4, 3), f(3))],
    "householder_product": [lambda: g(f(4, 3), f(3))],
    "ormqr": [lambda: g(f(4, 3), f(3), f(4, 4))],
    "ldl_solve": [lambda: g(*torch.linalg.ldl_factor(f(3, 3) + f(3, 3).T), f(3, 2))],
    "solve_triangular": [lambda: g(f(3, 3).tril() + torch.eye(3), f(3, 2), upper=False)],
    "tensorinv": [lambda: g(torch.eye(6, dtype=torch.float64).reshape(6, 2, 3) + f(6, 2, 3) * 0.1, 1)],
    "chain_matmul": [lambda: g(f(2, 3), f(3, 4))],
    "multigammaln": [lambda: g(f(2, 3) + 3, 2)],
    # spectra
    "stft": [lambda: g(f(16), 8, return_complex=True, window=torch.ones(8, dtype=torch.float64))],
    "istft": [
        lambda: g(
            torch.stft(f(32), 8, return_complex=True, window=torch.ones(8, dtype=torch.float64)),
            8,
            window=torch.ones(8, dtype=torch.float64),
        )
    ],
    # criteria
    "cross_entropy": [lambda: g(f(2, 3), i(0, 2), f(3)), lambda: g(f(2, 3), f(2, 3))],
    "nll_loss": [lambda: g(f(2, 3), i(0, 2), f(3))],
    "nll_loss2d": [lambda: g(f(2, 3, 4, 4), torch.zeros(2, 4, 4, dtype=torch.long))],
    "multi_margin_loss": [lambda: g(f(2, 3), i(0, 2))],
    "multilabel_margin_loss": [lambda: g(f(2, 3), torch.tensor([[0, -1, 1], [2, 1, -1]]))],
    "ctc_loss": [
        lambda: g(f(6, 2, 4).log_softmax(2), torch.tensor([[1, 2], [2, 3]]), i(6, 6), i(2, 2)),
    ],
    "cosine_embedding_loss": [lambda: g(f(2, 3), f(2, 3), torch.tensor([1.0, -1.0], dtype=torch.float64))],
    "margin_ranking_loss": [lambda: g(f(3), f(3), torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64))],
    "hinge_embedding_loss": [lambda: g(f(2), torch.tensor([1.0, -1.0], dtype=torch.float64))],
    "linear_cross_entropy": [lambda: g(f(2, 3), f(4, 3), i(0, 2))],
    "torch.binary_cross_entropy_with_logits": [lambda: g(f(2, 3), f(2, 3), None, None, 1)],
    "torch.cosine_embedding_loss": [
        lambda: g(f(2, 3), f(2, 3), torch.tensor([1.0, -1.0], dtype=torch.float64), 0.0, 1)
    ],
    "torch.hinge_embedding_loss": [lambda: g(f(2), torch.tensor([1.0, -1.0], dtype=torch.float64), 1.0, 1)],
    "torch.kl_div": [lambda: g(f(2, 3), f(2, 3), 1)],
    "torch.margin_ranking_loss": [lambda: g(f(3), f(3), torch.ones(3, dtype=torch.float64), 0.0, 1)],
    "torch.poisson_nll_loss": [lambda: g(f(3), f(3), True, False, 1e-8, 1)],
    "torch.triplet_margin_loss": [lambda: g(f(2, 3), f(2, 3), f(2, 3), 1.0, 2.0, 1e-6, False, 1)],
    "torch.ctc_loss": [
        lambda: g(f(6, 2, 4).log_softmax(2), torch.tensor([[1, 2], [2, 3]]), i(6, 6), i(2, 2), 0, 1),
    ],
    # what is true of one depends on the other
    "logical_or": [lambda: g(f(2, 3), f(2, 3) * 0), lambda: g(f(2, 3) * 0, f(2, 3))],
    "multinomial": [lambda: g(f(2, 30), 20)],
    # new tensors
    "torch.tensor": [lambda: g(0.5), lambda: g(f(2))],
    "as_tensor": [lambda: g(f(2))],
    "asarray": [lambda: g(f(2))],
    "new_tensor": [lambda: g(f(2), f(2))],
    "torch.Tensor.new": [lambda: g(f(2), [0.5, 0.5])],
    "from_numpy": [lambda: g(f(2).numpy())],
    "torch.linspace": [lambda: g(f(), f(), 3), lambda: g(0.5, 1.0, 3)],
    "torch.logspace": [lambda: g(f(), f(), 3), lambda: g(0.5, 1.0, 3)],
    "new_full": [lambda: g(f(2), (2,), 0.5)],
    # what a graph has
    "torch.Tensor.cdouble": [lambda: g(f(2))],
    "torch.Tensor.cfloat": [lambda: g(f(2))],
    "is_tensor": [lambda: g(f(2))],
    "is_storage": [lambda: g(f(2))],
    "torch.Tensor.as_subclass": [lambda: g(f(2), torch.Tensor)],
    "torch.Tensor.unfold": [lambda: g(f(6), 0, 2, 1)],
    "torch.Tensor.to": [lambda: g(f(2), torch.float32), lambda: g(f(2), "cpu"), lambda: g(f(2), f(2))],
    "torch.Tensor.type": [lambda: g(f(2), torch.float32)],
    "torch.Tensor.copy_": [lambda: g(f(2, 3), f(2, 3))],
    "torch.Tensor.set_": [lambda: g(f(2, 3), f(2, 3))],
}
