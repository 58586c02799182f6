"""llama-cpp-python's logits processor, without llama-cpp-python."""

from __future__ import annotations

import numpy as np
import pytest

import watermark
from watermark.errors import ParameterError
from watermark.integrations.llama_cpp import Mark

VOCAB = 400
KEY = watermark.Key.from_bytes(bytes(range(32)))


def complete(mark: Mark, prompt: list[int], tokens: int, seed: int) -> list[int]:
    rng, context = np.random.default_rng(seed), list(prompt)
    for _ in range(tokens):
        scores = rng.standard_normal(VOCAB).astype(np.float32)
        before = scores.copy()
        logits = mark(np.array(context, np.intc), scores)
        assert np.array_equal(scores, before)
        assert logits.dtype == np.float32
        p = np.exp(logits - logits.max())
        context.append(int(rng.choice(VOCAB, p=p / p.sum())))
    return context[len(prompt) :]


@pytest.mark.parametrize(("name", "parameters"), [("llm.greenlist", {"delta": 4.0}), ("llm.gumbel", {})])
def test_completions_one_after_the_other_are_marked(name, parameters):
    scheme = watermark.load(name, KEY, vocab_size=VOCAB, **parameters)
    mark = Mark(scheme)
    texts = [complete(mark, prompt, 80, seed) for seed, prompt in enumerate([[1, 2], [1, 2], [1, 2, 3, 4, 5], [7]])]
    assert (scheme.detect_batch(texts).p_value < 1e-6).all()


def test_the_temperature_is_that_of_the_choice():
    mark = Mark(watermark.load("llm.gumbel", KEY, vocab_size=VOCAB), temperature=1e-3)
    scores = np.random.default_rng(1).standard_normal(VOCAB).astype(np.float32)
    assert int(np.argmax(mark(np.array([1], np.intc), scores))) == int(np.argmax(scores))


def test_bad_arguments_are_refused():
    with pytest.raises(ParameterError, match="scheme for tokens"):
        Mark(watermark.load("latent.prc", KEY))
    with pytest.raises(ParameterError, match="temperature"):
        Mark(watermark.load("llm.gumbel", KEY, vocab_size=VOCAB), temperature=0)
