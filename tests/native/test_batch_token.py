"""The GPU's kernels for rows of logits give what the CPU's do.

Each test runs twice: on the CPU, which plays all threads of a GPU, and on a GPU where there is one.
"""

from __future__ import annotations

import numpy as np
import pytest

import watermark
from watermark.ops import batch_token, token
from watermark.ops.token import PRFS, Function, Texts

torch = pytest.importorskip("torch")

KEY = np.random.default_rng(1).integers(0, 2**32, 8, dtype=np.uint32)
FUNCTIONS = [Function(prf, KEY, 2) for prf in range(3)] + [Function(prf, KEY, 2, octets=True) for prf in range(2)]
NUMBERS = [torch.float32, torch.float16, torch.bfloat16]


@pytest.fixture(params=["emulated", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request: pytest.FixtureRequest) -> str:
    return "cpu" if request.param == "emulated" else "cuda"


@pytest.fixture(params=FUNCTIONS, ids=lambda f: f"{PRFS[f.prf]}{'-octets' * f.octets}")
def function(request: pytest.FixtureRequest) -> Function:
    return request.param


TEXTS = Texts.of([np.array([1, 2, 3]), np.array([9]), np.array([4, 4])])


@pytest.fixture
def states(function):
    return function.states(TEXTS)


def rows(columns: int, device: str, number=torch.float32):
    """Three rows of logits with a gap between them."""
    logits = 3 * torch.randn(3, columns + 7, generator=torch.Generator().manual_seed(columns))
    logits[1, : columns // 2] = -torch.inf
    return logits.to(device, number)[:, :columns]


@pytest.mark.parametrize("columns", [1, 100, 1030, 5000])
def test_words_are_the_same_bits(function, states, columns, device):
    like = torch.empty(0, device=device)
    found = batch_token.words(function, states, columns, like).cpu().numpy().view(np.uint32)
    assert np.array_equal(found, function.words(states, columns))
    candidates = np.random.default_rng(1).integers(0, 100_000, (3, columns))
    found = batch_token.words(function, states, columns, like, candidates).cpu().numpy().view(np.uint32)
    assert np.array_equal(found, function.words(states, columns, candidates))


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("hard", [False, True])
def test_bias(function, number, hard, device):
    below = 100 if function.octets else 2**31
    logits = rows(1500, device, number)
    expected = logits.float().cpu().numpy()
    token.bias(function, TEXTS, expected, below, 1.5, hard=hard)
    batch_token.bias(function, TEXTS, logits, below, 1.5, hard=hard)
    assert torch.equal(logits.cpu(), torch.from_numpy(expected).to(number))


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("listed", [False, True])
def test_choose(function, states, number, listed, device):
    logits = rows(3000, device, number)
    candidates = np.random.default_rng(2).permutation(3000)[None] if listed else token.ALL_COLUMNS
    expected = logits.float().cpu().numpy()
    assert token.choose(function, states, expected, candidates).all()
    assert batch_token.choose(function, states, logits, candidates).all()
    assert np.array_equal(logits.float().cpu().numpy(), expected)


def test_rows_without_a_choice_stay(function, states, device):
    logits = rows(300, device)
    logits[0, 299], logits[1, 3] = torch.nan, torch.inf
    before = logits.cpu().numpy().copy()
    assert batch_token.choose(function, states, logits).tolist() == [False, False, True]
    assert np.array_equal(logits.cpu().numpy()[:2], before[:2], equal_nan=True)
    logits[2] = -torch.inf
    assert batch_token.tournament(function, states, 30, logits).tolist() == [False, False, False]
    assert np.array_equal(logits.cpu().numpy()[:2], before[:2], equal_nan=True)


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 30, 32])
@pytest.mark.parametrize("listed", [False, True])
def test_tournament(depth, listed, device):
    function = FUNCTIONS[0]
    states = function.states(TEXTS)
    candidates = np.random.default_rng(2).permutation(9000)[None, :2000] if listed else token.ALL_COLUMNS
    logits = rows(2000, device)
    expected = logits.cpu().numpy().copy()
    assert token.tournament(function, states, depth, expected, candidates).all()
    assert batch_token.tournament(function, states, depth, logits, candidates).all()
    total = np.exp(expected).sum(axis=1, keepdims=True)
    found = np.exp(logits.cpu().numpy()) / total
    np.testing.assert_allclose(found, np.exp(expected) / total, rtol=5e-5, atol=1e-8)


@pytest.mark.parametrize("number", NUMBERS[1:])
def test_halves_round_as_torch_does(number, device):
    """Zero is added to every number there is, and a small one to some."""
    every = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(number)[None].to(device)
    finite = torch.isfinite(every.float())
    for delta in (0.0, 1e-3, 0.7):
        logits = every.clone()
        batch_token.bias(FUNCTIONS[0], Texts.of([np.array([1])]), logits, 2**32 - 1, delta)
        expected = (every.float() + torch.tensor(delta)).to(number)
        assert torch.equal(logits[finite], expected[finite])


@pytest.mark.cuda
@pytest.mark.parametrize("name", ["llm.greenlist", "llm.gumbel", "llm.synthid", "llm.unbiased"])
@pytest.mark.parametrize("number", NUMBERS)
def test_a_generation_on_a_gpu(key, name, number):
    """Rows that repeat a context, padded columns, candidates, and schemes that work on the host."""
    scheme = watermark.load(name, key, vocab_size=1000)
    contexts = torch.tensor([[1, 7, 8, 7], [1, 7, 8, 9]], device="cuda")
    marked = []
    for where in ("cpu", "cuda"):
        generation = scheme.start(rng=1)
        logits = rows(1024, "cpu", number).float()[:2].to(where)
        logits = logits.to(number) if where == "cuda" else logits
        generation.apply(contexts[:, :1], logits.clone())
        generation.apply(contexts, logits)
        marked.append(logits.float().cpu().numpy())
    np.testing.assert_allclose(*marked, rtol=1e-2, atol=1e-2)
