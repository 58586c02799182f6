"""What multi-bit token marks share: a polar code over the colours of tokens, and the p-value of a message.

A context speaks for a site and colours the vocabulary; the code word of the message says which colours are green at
each site. Without the key, each unit of context and token is green with the share of the green colours, independently
of all others, whatever the message: so for each message the number of green units has an exact law, and the best of M
messages pays M times.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from watermark._cache import cached_property
from watermark._values import whole
from watermark.detection import MAX_LOG10_P_OF_PAYLOAD, Detection
from watermark.llm.engine import CONTEXT_PRFS, SECURE_PRF, Step, TextScheme, TokenParameters, number, prf_name
from watermark.llm.keys import function_key
from watermark.ops import polar
from watermark.ops.token import PRFS, SITE, Colouring, Function, Texts, bias_colours, tally, upper
from watermark.payload import SoftCode
from watermark.stats import LN10, log_two_binomials_tail

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from watermark.key import Key

_PATHS = 32
_AT_ONCE = 1 << 14
"""Cells of the tables of the texts that are decoded at once."""
_DOUBT = 2.0**-10
"""An index is vouched for only if all other messages together are less likely than this."""
_MORE_ALIKE = 1.0
"""Standard deviations above chance from which a list of paths is decoded. A text that stays below keeps the word of a
single path, whose p-value is valid as that of any word. Marks of which a message can be read lie above 2."""
_REMAINS, _MOST_LIFT = 0.7, 3.0
"""Share of delta that low entropy and edits leave to the log-odds of green tokens, and the most that they leave. They
weigh evidence; no p-value rests on them."""


@dataclass(frozen=True, slots=True)
class MultiBitParameters(TokenParameters):
    """What multi-bit token marks share.

    Attributes:
        payload_bits: Net message bits, 1 to 1024. From 24 bits on a frame with length and CRC comes on top.
        delta: What is added to the logits of green tokens, above 0.
        width: Tokens of a context, 1 to 64. Wide contexts leave fewer marks after an edit, narrow ones are easier to
            learn.
        prf: Function of tokens: the secure "chacha8-v1", or vLLM's.
    """

    payload_bits: int = 16
    delta: float = 2.0
    width: int = 1
    prf: str = SECURE_PRF

    def __post_init__(self) -> None:
        TokenParameters.__post_init__(self)
        object.__setattr__(self, "payload_bits", whole(self.payload_bits, "payload_bits", 1, 1024))
        object.__setattr__(self, "delta", number(self.delta, "delta", 0, 1000))
        object.__setattr__(self, "width", whole(self.width, "width", 1, 64))
        prf_name(self.prf, CONTEXT_PRFS)


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a decoder makes of a text.

    Attributes:
        payload: Message of the most likely word on its list; None if no checksum holds.
        weight: Probability of that word, if one of those listed was sent.
        confidence: The same of each bit of its frame: float32 of shape (frame.size,).
        word: That word: uint8 of shape (symbols,), 0 or 1.
    """

    payload: bytes | None
    weight: float
    confidence: NDArray[np.float32]
    word: NDArray[np.uint8]


class MultiBit(TextScheme):
    """A mark that carries a message in the colours of tokens.

    A scheme says how many colours and seedings there are, and which colours a code word makes green. Code words are
    hidden under a keyed pad, so that no message is marked better than others for all keys.
    """

    Parameters: ClassVar[type[Any]] = MultiBitParameters
    seedings: ClassVar[int] = 1
    """Ways to colour the vocabulary after one context, of which the code word picks one."""
    most_symbols: ClassVar[int] = 1 << 15
    """Largest length of the code."""

    @cached_property
    def code(self) -> SoftCode:
        """The code of the messages."""
        return SoftCode(self.frame, self._symbols, _PATHS, even=self._group)

    @property
    def _symbols(self) -> int:
        """Length of the code, of which a fifth to two fifths are information."""
        return min(self.most_symbols, 1 << max(5, (5 * self.frame.size - 1 >> 1).bit_length()))

    @property
    def _group(self) -> int:
        """Symbols of a site of which an odd number are 1; 0 if any number may be."""
        return 0

    @property
    @abstractmethod
    def colours(self) -> int:
        """Colours of the vocabulary, a power of two up to 64."""

    @property
    @abstractmethod
    def sites(self) -> int:
        """Number of sites."""

    @abstractmethod
    def _green(self, words: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """What code words make green.

        Args:
            words: uint8 of shape (words, symbols).

        Returns:
            The seeding at each site, int64 of shape (words, sites), and bool of shape (words, sites, colours).
        """

    @abstractmethod
    def _soft(self, table: NDArray[np.int64], lift: float) -> NDArray[np.float32]:
        """Log-likelihood ratios of the symbols, positive where one looks like 0.

        Args:
            table: Units of each colour: int64 of shape (texts, sites, seedings, colours).
            lift: Logarithm of the odds ratio of green units between marked and other texts.

        Returns:
            float32 of shape (texts, symbols), new.
        """

    def _bind(self, key: Key) -> tuple[Function, NDArray[np.uint8]]:
        """The keyed function, and the pad: uint8 of shape (symbols,)."""
        function = Function(
            PRFS.index(self.parameters.prf),
            function_key(key, f"{self.name}/1/{self.parameters.prf}"),
            self.parameters.width,
        )
        pad = key.derive(f"{self.name}/1/pad").bits(self.code.symbols)
        if self._group:  # code words have an even number of ones in each group
            groups = pad.reshape(-1, self._group)
            groups[:, 0] ^= 1 ^ groups.sum(axis=1, dtype=np.uint8) & 1
        return function, pad

    def _message(self, payload: bytes | None) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
        """The seeding and the mask of green colours at each site."""
        seedings, green = self._green((self.code.encode(payload) ^ self._tables[0][1])[None])
        return seedings[0], green[0] @ (np.uint64(1) << np.arange(self.colours, dtype=np.uint64))

    def _mark(self, step: Step) -> None:
        function: Function = self._tables[0][0]
        states = function.states(step.texts)
        sites = upper(function.words(states, 1, np.array([[SITE]]))[:, 0], self.sites).tolist()
        plans = [slot.message for slot in step.slots]
        masks = np.array([mask[site] for (_, mask), site in zip(plans, sites, strict=True)], np.uint64)
        if self.seedings > 1:
            picks = np.array([seeding[site] for (seeding, _), site in zip(plans, sites, strict=True)], np.int64)
            states = function.states(step.texts, picks[:, None])
        bias_colours(function, states, step.logits, masks, self.colours, self.parameters.delta, step.candidates)

    def _read(self, tables: Any, texts: Texts, starts: list[int], key_id: str) -> list[Detection]:
        function, pad = tables
        coloured = function.read_colours(texts, self.seedings)
        at_once = max(1, _AT_ONCE // (self.sites * self.seedings * self.colours))
        scores = np.empty(len(texts.tokens), np.float32)
        parts = [coloured[first : first + at_once] for first in range(0, len(texts), at_once)]
        return [verdict for part in parts for verdict in self._verdicts_of(part, pad, scores, key_id)]

    def _verdicts_of(
        self, coloured: Colouring, pad: NDArray[np.uint8], scores: NDArray[np.float32], key_id: str
    ) -> Iterator[Detection]:
        """The verdicts on some texts under one key.

        Args:
            coloured: The texts.
            pad: What code words are hidden under.
            scores: Takes what each token is worth: float32 of shape (tokens,).
            key_id: Id of the key.
        """
        lift = min(_REMAINS * self.parameters.delta, _MOST_LIFT)
        tables = coloured.table(self.sites, self.colours)
        soft = self._soft(tables, lift)
        np.negative(soft, out=soft, where=pad.view(np.bool_))
        decoded = [self._decode(table, row, pad, lift) for table, row in zip(tables, soft, strict=True)]
        choice = self._green(np.array([found.word for found in decoded]) ^ pad)
        coloured.score(*choice, scores)
        hits, units = (counts.tolist() for counts in tally(tables, *choice))
        ends = zip(coloured.texts.begin.tolist(), coloured.texts.end.tolist(), strict=True)
        for found, green, counts, (first, last) in zip(decoded, hits, units, ends, strict=True):
            yield self._verdict(found, green, counts, scores[first:last], key_id)

    def _verdict(
        self, decoded: Decoded, hits: int, units: list[int], scores: NDArray[np.float32], key_id: str
    ) -> Detection:
        """The verdict on one text.

        Args:
            decoded: What the decoder makes of it.
            hits: Green units.
            units: Units by the number of green colours at their site: two numbers at most, in all code words.
            scores: What each token is worth: float32 of shape (tokens,).
            key_id: Id of the key.
        """
        kinds = [(count, size / self.colours) for size, count in enumerate(units) if count] or [(0, 0.5)]
        (first, low), (second, high) = kinds if len(kinds) > 1 else (kinds[0], (0, 0.5))
        log_p = log_two_binomials_tail(hits, (first, second), (low, high)) + self._log_words(
            decoded.payload is not None
        )
        log10_p = min(0.0, log_p / LN10)
        mean, variance = first * low + second * high, first * low * (1 - low) + second * high * (1 - high)
        vouched = decoded.payload is not None and (self.frame.framed or decoded.weight > 1 - _DOUBT)
        return Detection(
            self.name,
            key_id,
            log10_p,
            (hits - mean) / math.sqrt(max(variance, 1.0)),
            first + second,
            decoded.payload,
            vouched and log10_p <= MAX_LOG10_P_OF_PAYLOAD,
            {"token_scores": scores, "green": hits, "bit_confidence": decoded.confidence},
        )

    def _log_words(self, holds: bool) -> float:
        """What the choice among code words costs, as a logarithm.

        Half of the chance of error goes to the messages, whose checksum holds, and half to all words of the code, so
        that a mark is seen whose message is lost. Without checksums all words are messages.
        """
        if not self.frame.framed:
            return self.frame.log_messages
        return math.log(2) + (self.frame.log_messages if holds else self.frame.size * math.log(2))

    def _decode(
        self, table: NDArray[np.int64], soft: NDArray[np.float32], pad: NDArray[np.uint8], lift: float
    ) -> Decoded:
        """The most likely word on the list of a soft decoder; those whose checksum holds come first.

        Args:
            table: Units of each colour in a text: int64 of shape (sites, seedings, colours).
            soft: Log-likelihood ratios of the symbols: float32 of shape (symbols,).
            pad: What code words are hidden under.
            lift: As of `_soft`.
        """
        payload, packed, words = None, *polar.decode(soft, self.code.information, 1 if self.frame.framed else _PATHS)
        if self.frame.framed:
            payload = self.frame.decode(packed[0].tobytes())
            if payload is None and (self.seedings > 1 or _agrees(table[:, 0])):
                packed, words = polar.decode(soft, self.code.information, _PATHS)
        if len(words) == 1:
            confidence = np.full(self.frame.size, 0.5 if payload is None else 1.0, np.float32)
            return Decoded(payload, 1.0, confidence, words[0])
        # The decoder takes symbols one by one: words as a whole, with their green lists, know better.
        hits, units = tally(table[None], *self._green(words ^ pad))
        likelihood = lift * hits - units @ np.log1p(np.arange(self.colours + 1) / self.colours * math.expm1(lift))
        weights = np.exp(likelihood - likelihood.max())
        weights /= weights.sum()
        order = np.argsort(-weights, kind="stable").tolist()
        payloads = ((row, self.frame.decode(packed[row].tobytes())) for row in order)
        best, payload = next((found for found in payloads if found[1] is not None), (order[0], None))
        bits = np.unpackbits(packed, axis=1, count=self.frame.size)
        confidence = (weights @ (bits == bits[best])).astype(np.float32)
        return Decoded(payload, float(weights[best]), confidence, words[best])


def _agrees(table: NDArray[np.int64]) -> bool:
    """Whether colours agree within sites more often than by chance, as they must before a list is decoded.

    Of the pairs of units of one site in a text made without the key, each agrees in its colour with probability
    1 / colours, and any two of them do so independently. (Where each unit has several seedings, those that the text was
    not marked with would blur the count.)

    Args:
        table: Units of each colour: int64 of shape (sites, colours).
    """
    units, cells, chance = table.sum(axis=1), table.ravel(), 1 / table.shape[1]
    n = int(units.sum())
    pairs, alike = (int(units @ units) - n) / 2, (int(cells @ cells) - n) / 2
    return bool(alike > pairs * chance + _MORE_ALIKE * math.sqrt(pairs * chance * (1 - chance)))
