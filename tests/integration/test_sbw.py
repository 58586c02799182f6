"""The function `sbw` against the package of its authors, which vLLM's implementation repeats."""

from __future__ import annotations

import numpy as np
import pytest

from watermark.ops.token import PRFS, Function, Seeding, Texts, bias

torch = pytest.importorskip("torch")
peer = pytest.importorskip("sbw.batch")

VOCAB = 1003
CONTEXTS = np.random.default_rng(1).integers(0, VOCAB, (5, 4))
CONTEXTS[0, :3] = -1  # vLLM's for a text that starts


@pytest.mark.parametrize("seeding", [Seeding.LEFT, Seeding.SELF])
@pytest.mark.parametrize("gamma", [0.5, 0.25, 0.1])
@pytest.mark.parametrize("key", [42, 15485863, 2**62 + 12345, 0])
def test_green_lists_are_those_of_the_package(key, gamma, seeding):
    contexts, logits = torch.from_numpy(CONTEXTS), torch.zeros(len(CONTEXTS), VOCAB)
    threshold = int(gamma * 0x7FFFFFFF)
    if seeding == Seeding.LEFT:
        expected = peer._simple_fused_inner(contexts, logits, gamma, 2.0, key)
    else:
        expected = peer._selfsalt_fullvocab_inner(contexts, logits, threshold, 2.0, key, VOCAB)
    words = np.zeros(8, np.uint32)
    words[:2] = np.array([key], np.uint64).view(np.uint32)
    function = Function(PRFS.index("sbw"), words, CONTEXTS.shape[1], seeding)
    found, texts = np.zeros((len(CONTEXTS), VOCAB), np.float32), Texts.of(CONTEXTS)
    bias(function, texts, found, 2 * threshold, 2.0)
    assert np.array_equal(found, expected.numpy())
    assert 0 < (found > 0).mean() < 1
