"""A language model that is nothing but a formula: for tests, demonstrations and power curves at a stated entropy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from watermark._cache import cached_property
from watermark._values import whole
from watermark.errors import ParameterError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_MIX = np.uint64(0x9E3779B97F4A7C15)


class SyntheticLanguage:
    """A Zipf law over the vocabulary, whose order of tokens depends on the last two.

    Every next token has the same entropy, so that what a mark needs can be told in bits. The text is nonsense.

    Args:
        vocab_size: Number of tokens, 2 to 2^24.
        entropy: Entropy of the next token in nats, above 0 and below ln(vocab_size).
        seed: Number of the language.

    Raises:
        ParameterError: A value out of range.
    """

    def __init__(self, vocab_size: int = 4096, entropy: float = 4.0, seed: int = 0) -> None:
        self.vocab_size = whole(vocab_size, "vocab_size", 2, 1 << 24)
        if not isinstance(entropy, (int, float)) or not 0 < entropy < np.log(self.vocab_size):
            raise ParameterError(f"entropy must be between 0 and ln({self.vocab_size}) nats, not {entropy!r}")
        self.entropy = float(entropy)
        self.seed = whole(seed, "seed", 0, 2**32 - 1)

    @cached_property
    def _log_probabilities(self) -> NDArray[np.float32]:
        """By rank: the exponent of the law that has the entropy is found by bisection."""
        rank = np.log(np.arange(1, self.vocab_size + 1))
        low, high = 0.0, 64.0
        for _ in range(60):
            exponent = (low + high) / 2
            weights = np.exp(-exponent * rank)
            p = weights / weights.sum()
            low, high = (
                (exponent, high) if -(p * np.log(np.maximum(p, 1e-300))).sum() > self.entropy else (low, exponent)
            )
        return np.asarray(np.log(np.maximum(p, 1e-37)), np.float32)

    def logits(self, contexts: NDArray[np.int64]) -> NDArray[np.float32]:
        """Logarithms of the next token's probabilities.

        Args:
            contexts: Tokens so far, int64 of shape (lines, tokens).

        Returns:
            float32 of shape (lines, vocab_size).
        """
        last = np.zeros((len(contexts), 2), np.uint64)
        if reach := min(2, contexts.shape[1]):
            last[:, -reach:] = contexts[:, -reach:].astype(np.uint64) + np.uint64(1)
        mixed = np.full(len(contexts), self.seed + 1, np.uint64)
        for column in last.T:
            mixed = (mixed ^ column) * _MIX
            mixed ^= mixed >> np.uint64(29)
        size = self.vocab_size
        factor = 1 + (mixed % np.uint64(size)).astype(np.int64)
        while (bad := np.gcd(factor, size) != 1).any():
            factor = np.where(bad, factor % size + 1, factor)
        shift = (mixed >> np.uint64(32)).astype(np.int64) % size
        ranks = (np.arange(size) * factor[:, None] + shift[:, None]) % size
        return np.asarray(self._log_probabilities[ranks])

    def write(
        self,
        lines: int,
        length: int,
        scheme: Any = None,
        payload: bytes | Sequence[bytes | None] | None = None,
        *,
        seed: int = 0,
    ) -> NDArray[np.int64]:
        """Texts, marked by a scheme if one is given.

        Args:
            lines: Number of texts.
            length: Tokens of each.
            scheme: A scheme with `start`; its vocabulary must be that of the language.
            payload: Its message, or one per text.
            seed: What is drawn depends on it.

        Returns:
            int64 of shape (lines, length). The texts start from different prompts of two tokens, which are left out.
        """
        rng = np.random.default_rng(seed)
        texts = np.empty((lines, length + 2), np.int64)
        texts[:, :2] = rng.integers(0, self.vocab_size, (lines, 2))
        generation = scheme.start(payload, rng=int(rng.integers(2**62))) if scheme is not None else None
        for t in range(2, length + 2):
            logits = self.logits(texts[:, :t])
            if generation is not None:
                generation.apply(texts[:, :t], logits)
            noise = np.maximum(rng.standard_exponential(logits.shape, np.float32), np.float32(1e-30))
            texts[:, t] = np.argmax(logits - np.log(noise), axis=1)
        return texts[:, 2:]
