"""The kernels of `token` for rows of logits in GPU memory, as torch tensors of float32, float16 or bfloat16.

States and words are those of the CPU, bit for bit. Tensors in CPU memory go through the same code, run by one thread
that plays all of a GPU's: slow, and meant for tests. States, keys and candidates are NumPy arrays and travel with the
call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from watermark.ops._native import to_host
from watermark.ops.batch import launch, to_device
from watermark.ops.token import ALL_COLUMNS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from watermark.ops.token import Function, Texts

Tensor = Any
_PARTS = 16


def bias(
    function: Function,
    texts: Texts,
    logits: Tensor,
    threshold: int,
    delta: float,
    *,
    hard: bool = False,
    candidates: NDArray[np.int64] = ALL_COLUMNS,
) -> None:
    """See `token.bias` (not for `Seeding.SELF`)."""
    values, number = _values(logits)
    states = function.states(texts)
    places = to_device(states.view(np.int32), logits), to_device(candidates, logits)
    launch("bias_logits", values, number, function.code, function.key, *places, threshold, delta, hard)


def words(
    function: Function,
    states: NDArray[np.uint32],
    columns: int,
    like: Tensor,
    candidates: NDArray[np.int64] = ALL_COLUMNS,
) -> Tensor:
    """See `Function.words`: int32 of shape (rows, columns), where `like` lies."""
    import torch

    out = torch.empty((len(states), columns), dtype=torch.int32, device=like.device)
    places = to_device(states.view(np.int32), like), to_device(candidates, like)
    launch("token_words", out, function.code, function.key, *places, columns)
    return out


def choose(
    function: Function, states: NDArray[np.uint32], logits: Tensor, candidates: NDArray[np.int64] = ALL_COLUMNS
) -> NDArray[np.bool_]:
    """See `token.choose`."""
    import torch

    values, number = _values(logits)
    rows = len(states)
    places = to_device(states.view(np.int32), logits), to_device(candidates, logits)
    scratch = torch.empty((rows, _PARTS, 2), dtype=torch.int64, device=logits.device)
    chosen = torch.empty(rows, dtype=torch.int64, device=logits.device)
    launch("gumbel", values, number, logits.shape[1], function.code, function.key, *places, scratch, chosen)
    return np.asarray(to_host(chosen) >= 0)


def tournament(
    function: Function,
    states: NDArray[np.uint32],
    depth: int,
    logits: Tensor,
    candidates: NDArray[np.int64] = ALL_COLUMNS,
) -> NDArray[np.bool_]:
    """See `token.tournament`."""
    import torch

    values, number = _values(logits)
    drawn = words(function, states, logits.shape[1], logits, candidates)
    done = torch.empty(len(states), dtype=torch.uint8, device=logits.device)
    scratch = torch.empty(drawn.shape, dtype=torch.float32, device=logits.device)
    launch("tournament", values, number, drawn, depth, scratch, done)
    return to_host(done).astype(np.bool_)


def _values(logits: Tensor) -> tuple[Tensor, str]:
    """Logits as the bindings take them, and what their numbers are."""
    import torch

    number = str(logits.dtype).removeprefix("torch.")
    return (logits if number == "float32" else logits.view(torch.int16)), number
