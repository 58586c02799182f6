"""A logits processor for llama-cpp-python.

mark = Mark(watermark.load("llm.gumbel", key, vocab_size=llm.n_vocab()))
out = llm.create_completion(prompt, logits_processor=LogitsProcessorList([mark]), temperature=1.0)
ids = llm.tokenize(out["choices"][0]["text"].encode(), add_bos=False)
found = mark.scheme.detect(ids)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from watermark.errors import ParameterError
from watermark.llm.engine import Generation, TextScheme

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Mark"]


class Mark:
    """Marks completions, one after the other: what llama-cpp-python calls for every token.

    It is given raw logits, before temperature and truncation. Biases pass through these. Samplers choose the token
    here, from the logits over `temperature`; what comes after has nothing left to choose.

    A completion is told from the one before by its context, which does not go on from where that one was. One object
    serves one completion at a time.

    Args:
        scheme: A scheme for tokens.
        payload: The message of every text; None leaves it empty.
        temperature: What samplers divide logits by, above 0.
        rng: Source of the fresh randomness, as in `TextScheme.start`.

    Raises:
        ParameterError: The scheme is for something else, or the temperature is not above 0.
        PayloadError: The message does not fit.
    """

    def __init__(
        self, scheme: TextScheme, payload: bytes | None = None, *, temperature: float = 1.0, rng: Any = None
    ) -> None:
        if not isinstance(scheme, TextScheme):
            raise ParameterError(f"texts are marked by a scheme for tokens, such as llm.gumbel: {scheme}")
        if isinstance(temperature, bool) or not isinstance(temperature, (int, float)) or not temperature > 0:
            raise ParameterError(f"temperature is a number above 0, not {temperature!r}")
        self.scheme = scheme
        self._temperature = float(temperature)
        self._generation: Generation = scheme.start(payload, rng=rng)
        self._last: NDArray[np.int64] | None = None

    def __call__(self, input_ids: NDArray[np.intc], scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """The logits of the next token, marked.

        Args:
            input_ids: Prompt and what was written so far, of shape (tokens,).
            scores: float32 of shape (vocabulary,); left as they are.

        Returns:
            float32 of shape (vocabulary,).

        Raises:
            MediaError: The logits are not finite, or fewer than the scheme has tokens.
        """
        context = np.array(input_ids, np.int64)
        goes_on = self._last is not None and np.array_equal(context[:-1], self._last)
        if self._last is not None and not goes_on:
            self._generation.reset(0)
        self._last = context
        logits = np.array(scores, np.float32)
        if self.scheme.samples:
            logits /= np.float32(self._temperature)
        self._generation.apply(context, logits)
        return logits
