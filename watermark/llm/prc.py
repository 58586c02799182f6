"""PRC for text: a pseudorandom code word decides between halves of the vocabulary (Christ and Gunn, CRYPTO 2024).

At every position the key gives each token a label of a few bits. Bit by bit, the model's own probabilities of the two
values are met by a bit of the code: with p = P(1) and the code's bit c, the text's bit is 1 with probability
max(0, min(1, 2p - 1 + c)), which is p on average over a fair c. So a text has the model's law as far as code words look
random, and each bit of it agrees with the code's with probability 1 - |p - 1/2|. The code is that of `latent.prc`.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from watermark._cache import cached_property
from watermark._values import whole
from watermark.detection import MAX_LOG10_P_OF_PAYLOAD, Detection
from watermark.errors import MediaError, ParameterError
from watermark.llm.engine import SECURE_PRF, Slot, Step, TextScheme, TokenParameters
from watermark.ops import parity
from watermark.ops.normal import unpack_bits
from watermark.ops.token import PRFS, Function, Texts
from watermark.payload import Frame
from watermark.prc_code import FLIPPED, Code, Envelope, base_size, flips_of
from watermark.scheme import FixedKey, SchemeInfo
from watermark.stats import LN10

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from watermark.key import Key

_FRESH_BITS, _TAG_BITS = 128, 40
_SHARE_OF_TAG = 2.0**-10  # of alpha; the syndrome test has the rest
_SHARE_OF_START = 0.5  # of the syndrome test's, for a text that starts where it did
_GATE = math.log(0.1)  # decoding is tried below this p of the syndrome test
_FALL = 0.85  # agreement of a label's bit with the code, over that of the bit before it
_TOP = 64  # weight of a check of first bits
_SCRATCH = 1 << 24  # label bits that are looked at together
_NOWHERE = Texts.of([np.empty(0, np.int64)])


@dataclass(frozen=True, slots=True)
class PrcParameters(TokenParameters):
    """Parameters of `llm.prc`.

    Attributes:
        payload_bits: Net message bits, 0 to 4096. Each costs the beginning of a text 1.25 label bits.
        block: Tokens of a code word, 64 to 65536. A longer text has further ones, each with the whole message.
        bits: Bits of a token's label, 1 to 8. The first ones say most; more of them suit text of high entropy.
        shift: How many tokens a text may have lost, or gained, at its beginning, 0 to 4096: so many positions to
            either side are searched, and paid for.
        t: Label bits of a parity check, 3 to 8. Fewer survive more edits, more resist cryptanalysis; see
            `Prc.security_bits`.
    """

    payload_bits: int = 0
    block: int = 512
    bits: int = 4
    shift: int = 8
    t: int = 3

    def __post_init__(self) -> None:
        TokenParameters.__post_init__(self)
        object.__setattr__(self, "payload_bits", Frame(self.payload_bits).payload_bits)
        object.__setattr__(self, "block", whole(self.block, "block", 64, 1 << 16))
        object.__setattr__(self, "bits", whole(self.bits, "bits", 1, 8))
        object.__setattr__(self, "shift", whole(self.shift, "shift", 0, 4096))
        object.__setattr__(self, "t", whole(self.t, "t", 3, 8))
        needed = -(-2 * base_size(self.information) // self.bits)
        if needed > self.block:
            raise ParameterError(
                f"payload_bits={self.payload_bits} needs block={needed} or more, at {self.bits} bits a token, "
                f"and it is {self.block}"
            )

    @property
    def coordinates(self) -> int:
        """Bits of a code word."""
        return self.block * self.bits

    @property
    def information(self) -> int:
        """Information bits of a code word: fresh ones, tag and message."""
        return _FRESH_BITS + _TAG_BITS + Frame(self.payload_bits, checksum=False).size


class _Tables:
    """The secrets of one key. The code is made when it is first needed."""

    def __init__(self, key: Key, parameters: PrcParameters) -> None:
        label = f"llm.prc/1/{parameters.coordinates}/{parameters.information}/{parameters.t}"
        self.labels = Function(PRFS.index(SECURE_PRF), key.derive(f"{label}/labels").words(8), 0)
        self.envelope = Envelope(key, label, _FRESH_BITS, _TAG_BITS)
        self._prf, self._parameters = key.derive(f"{label}/code"), parameters

    @cached_property
    def code(self) -> Code:
        parameters = self._parameters
        return Code(self._prf, parameters.coordinates, parameters.information, parameters.t, shuffled=False)

    @cached_property
    def pad(self) -> NDArray[np.uint8]:
        """Bits that are added to all code words: uint8 of shape (coordinates,)."""
        return unpack_bits(self.code.pad, self._parameters.coordinates)

    @cached_property
    def levels(self) -> NDArray[np.int64]:
        """Level of each check: how far down the labels its bits lie, together."""
        return np.asarray((self.code.inner % self._parameters.bits).sum(axis=1))

    @cached_property
    def columns(self) -> NDArray[np.int32]:
        """The first coordinates of all checks, the second ones, and so on: int32 of shape (t, checks)."""
        return np.ascontiguousarray(self.code.inner.T)


class _Evidence(NamedTuple):
    """What a text says if its first token had one of some positions, the starts.

    Attributes:
        starts: int64 of shape (starts,).
        labels: Label bits, uint8 of shape (blocks, coordinates, starts); 0 where the text has none.
        odd: Whether a check does not add up: uint8 of shape (blocks, checks, starts).
        complete: Whether the text has all bits of a check: bool.
        scores: Weighted sums of checks in standard deviations: float64 of shape (starts,).
        log_p: Their ln p, paid for: float64 of shape (starts,).
    """

    starts: NDArray[np.int64]
    labels: NDArray[np.uint8]
    odd: NDArray[np.uint8]
    complete: NDArray[np.bool_]
    scores: NDArray[np.float64]
    log_p: NDArray[np.float64]


class Prc(TextScheme):
    """The mark `llm.prc`.

    The null is exact. Labels of different positions, and of different tokens, are independent, and no position counts
    twice: so label bits are fair coins for any text made without the key. Every check owns a bit, so that the checks
    under these bits are fair coins, too, with weights that are fixed beforehand. Half of alpha is for the text as it
    stands, half for all other starts together. If that p is at most 0.1, belief propagation reads the information bits
    at the best start, whose 40-bit tag holds with probability 2^-40 per code word.
    """

    info = SchemeInfo(
        name="llm.prc",
        modality="tokens",
        null="exact",
        fixed_key=FixedKey(1.2, 1.2, "200 tokens of English or Chinese prose: benchmarks/null.py"),
        distortion_free=True,
        payload="0 to 4096 bits",
        security_bits=9,
    )
    Parameters = PrcParameters
    parameters: PrcParameters

    @property
    def security_bits(self) -> int:
        """Logarithm to base 2 of the steps of the best attack known, for these parameters.

        There are two. That on `latent.prc` looks for one sparse check in lists of (C(n, t) / r)^(1/2) sums of t/2 bits.
        The other solves for what a bit is of the k information bits, and needs k code words in which no flipped bit
        spoils the equation. Both need exact bits of code words, which a text shows only to one who knows the labels, or
        where the model was made to toss coins.
        """
        n, t, k = self.parameters.coordinates, self.parameters.t, self.parameters.information
        ways = math.lgamma(n + 1) - math.lgamma(t + 1) - math.lgamma(n - t + 1)
        join = (ways / math.log(2) - math.log2(n - base_size(k))) / 2
        solve = -k * math.log2((1 + (1 - 2 * FLIPPED) ** (k / 2 + 1)) / 2)
        return int(min(join, solve))

    @cached_property
    def frame(self) -> Frame:
        """What turns messages into bits: the tag vouches for them."""
        return Frame(self.parameters.payload_bits, checksum=False)

    def _bind(self, key: Key) -> _Tables:
        return _Tables(key, self.parameters)

    def _mark(self, step: Step) -> None:
        parameters, tables = self.parameters, self._tables[0]
        logits = step.logits
        top = logits.max(axis=1, keepdims=True)
        if not np.isfinite(top).all():
            bad = int(np.argmin(np.isfinite(top)))
            raise MediaError(f"logits of line {bad} are not finite, or exclude every token")
        position = step.texts.end - step.texts.begin
        states = tables.labels.states(step.texts, position[:, None])
        words = tables.labels.words(states, logits.shape[1], step.candidates)
        labels = (words >> np.uint32(32 - parameters.bits)).astype(np.intp)
        rows = zip(labels, np.exp(logits - top), strict=True)
        masses = np.array([np.bincount(*row, 1 << parameters.bits) for row in rows], np.float64)
        wanted = np.empty((len(logits), parameters.bits), np.uint8)
        for line, (slot, place) in enumerate(zip(step.slots, position.tolist(), strict=True)):
            block, first = divmod(place, parameters.block)
            word = self._code_word(step, slot, block)
            wanted[line] = word[first * parameters.bits : (first + 1) * parameters.bits]
        with np.errstate(divide="ignore"):
            shift = np.log(reweighted(masses, wanted) / np.where(masses > 0, masses, 1)).astype(np.float32)
        shift += np.log(masses.sum(axis=1, keepdims=True)).astype(np.float32)
        for row, move, label in zip(logits, shift, labels, strict=True):
            row += move.take(label)

    def _code_word(self, step: Step, slot: Slot, block: int) -> NDArray[np.uint8]:
        """A code word of a text: uint8 of shape (coordinates,). Kept, so that copies of the text go on with it."""
        name = f"code word {block}"
        if name not in slot.private:
            tables: _Tables = self._tables[0]
            flips = flips_of(self.parameters.coordinates)
            # Of the message, too, so that a seed that is used again meets another message with other bits.
            salt = np.array([[slot.stream, block, *np.packbits(slot.message)]], np.int64)
            words = step.noise.words(step.noise.states(_NOWHERE, salt), flips + _FRESH_BITS // 32)
            sealed = tables.envelope.seal(unpack_bits(words[0, flips:], _FRESH_BITS), slot.message)
            signs = tables.code.signs(sealed[None], words[:, :flips])
            slot.private[name] = unpack_bits(signs[0], self.parameters.coordinates)
        word: NDArray[np.uint8] = slot.private[name]
        return word

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        """Positions that the first token of a text may have had: where it is, and then those next to it."""
        return np.array(sorted(range(-self.parameters.shift, self.parameters.shift + 1), key=abs))

    @cached_property
    def _log_shares(self) -> NDArray[np.float64]:
        """Logarithm of each start's share of alpha."""
        others = self._starts.size - 1
        if not others:
            return np.zeros(1)
        return np.log(np.where(self._starts == 0, _SHARE_OF_START, (1 - _SHARE_OF_START) / others))

    @cached_property
    def _values(self) -> NDArray[np.int32]:
        """Weight of a check at each level: its agreement falls with every bit down the labels."""
        levels = np.arange(self.parameters.t * (self.parameters.bits - 1) + 1)
        return np.maximum(np.round(_TOP * _FALL**levels), 1).astype(np.int32)

    def _read(self, tables: _Tables, texts: Texts, starts: list[int], key_id: str) -> list[Detection]:
        longest = int((texts.end - texts.begin).max(initial=0))
        places = np.arange(longest + self.parameters.shift)
        nowhere = np.zeros(places.size, np.int64)
        states = tables.labels.states(Texts(_NOWHERE.tokens, nowhere, nowhere), places[:, None])
        return [self._verdict(tables, texts[i], states, key_id) for i in range(len(texts))]

    def _verdict(
        self, tables: _Tables, tokens: NDArray[np.int64], states: NDArray[np.uint32], key_id: str
    ) -> Detection:
        if not tokens.size:
            return Detection(self.name, key_id, 0.0, 0.0, 0, details={"token_scores": np.empty(0, np.float32)})
        step = max(1, _SCRATCH // (len(states) * self.parameters.bits))
        parts = [slice(first, first + step) for first in range(0, self._starts.size, step)]
        tests = (self._test(tables, tokens, states, part) for part in parts)
        evidence = min(tests, key=lambda found: float(found.log_p.min()))
        best = int(np.argmin(evidence.log_p))
        log_syndrome, start = min(0.0, float(evidence.log_p[best])), int(evidence.starts[best])
        chosen: list[Any] = [column[..., best : best + 1] for column in evidence]
        evidence = _Evidence(*chosen)
        payload, tried = None, 0
        if log_syndrome <= _GATE:
            payload, tried = self._decode(tables, evidence, start, tokens.size)
        log_joint = log_syndrome - math.log1p(-_SHARE_OF_TAG)
        if payload is not None:
            log_joint = min(log_joint, math.log(tried) - _TAG_BITS * math.log(2) - math.log(_SHARE_OF_TAG))
        log10_p = min(0.0, log_joint / LN10)
        if payload is None and not self.frame.size and log10_p <= MAX_LOG10_P_OF_PAYLOAD:
            payload = b""
        details = {
            "token_scores": self._token_scores(tables, evidence, start, tokens.size),
            "syndrome_log10_p": log_syndrome / LN10,
            "start": start,
        }
        scored, score = int(evidence.complete.sum()), float(evidence.scores[0])
        return Detection(self.name, key_id, log10_p, score, scored, payload, payload is not None, details)

    def _test(self, tables: _Tables, tokens: NDArray[np.int64], states: NDArray[np.uint32], part: slice) -> _Evidence:
        """The syndrome test at some of the starts."""
        starts = self._starts[part]
        bits, size = self.parameters.bits, self.parameters.coordinates
        ends = starts + tokens.size
        places = max(1, int(ends.max()))
        token = np.arange(places)[:, None] - starts
        inside = (token >= 0) & (token < tokens.size)
        words = tables.labels.words(states[:places], starts.size, tokens[np.where(inside, token, 0)])
        words[~inside] = 0
        blocks = -(-places * bits // size)
        flat = np.zeros((blocks * size, starts.size), np.uint8)
        for bit in range(bits):
            flat[bit : places * bits : bits] = words >> np.uint32(31 - bit) & np.uint32(1)
        labels = flat.reshape(blocks, size, starts.size)
        columns = tables.columns[:, : max(0, min(size, places * bits) - base_size(self.parameters.information))]
        pad = np.bitwise_xor.reduce(tables.pad[columns])[:, None]
        odd = functools.reduce(np.bitwise_xor, (labels[:, column] for column in columns), pad)
        first = size * np.arange(blocks)[:, None, None]
        complete = columns.min(axis=0)[:, None] + first >= np.maximum(starts, 0) * bits
        complete &= columns[-1][:, None] + first < ends * bits
        levels = self._values.size
        cell = tables.levels[: columns.shape[1], None] + levels * odd + 2 * levels * np.arange(starts.size)
        counts = np.bincount(cell[complete], minlength=2 * levels * starts.size).astype(np.int32)
        scores, log_p = parity.rademacher_tail(counts.reshape(-1, 2 * levels), self._values)
        return _Evidence(starts, labels, odd, complete, scores, log_p - self._log_shares[part])

    def _decode(self, tables: _Tables, evidence: _Evidence, start: int, tokens: int) -> tuple[bytes | None, int]:
        """The message of the first code word whose tag holds, and how many were tried."""
        bits, t = self.parameters.bits, self.parameters.t
        complete, labels = evidence.complete[..., 0], evidence.labels[..., 0]
        # How well label bits agree with the code may be read off the checks: the tag alone decides.
        agreement = (1.0 - 2.0 * evidence.odd[..., 0])[complete].sum()
        levels = np.broadcast_to(tables.levels[: complete.shape[1]], complete.shape)[complete]
        first = np.clip(agreement / max((_FALL**levels).sum(), 1e-9), 0.03, 0.9) ** (1 / t)
        odds = np.zeros(parity.MAGNITUDES, np.float32)
        odds[1 : bits + 1] = 2 * np.arctanh(first * _FALL ** np.arange(bits))
        sizes = np.tile(np.arange(1, bits + 1, dtype=np.float32), labels.size // bits)
        sizes[: max(start, 0) * bits] = 0
        sizes[(start + tokens) * bits :] = 0
        z = sizes.reshape(labels.shape) * (1 - 2 * labels.astype(np.float32))
        z = np.ascontiguousarray(z[np.count_nonzero(z, axis=1) >= self.parameters.information])
        for tried, word in enumerate(tables.code.decode(z, np.ones(len(z), np.float32), odds), 1):
            message = tables.envelope.unseal(word)
            if message is not None:
                return self.frame.decode(np.packbits(message).tobytes()), tried
        return None, len(z)

    def _token_scores(self, tables: _Tables, evidence: _Evidence, start: int, tokens: int) -> NDArray[np.float32]:
        """What each token adds to the weighted sum: float32 of shape (tokens,), NaN where no check is complete."""
        bits, t = self.parameters.bits, self.parameters.t
        block, check = np.nonzero(evidence.complete[..., 0])
        value = self._values[tables.levels[check]] * (1.0 - 2.0 * evidence.odd[block, check, 0]) / t
        token = (tables.code.inner[check] // bits + (block * self.parameters.block)[:, None]).ravel() - start
        scores = np.bincount(token, value.repeat(t), tokens)
        return np.where(np.bincount(token, minlength=tokens) > 0, scores, np.nan).astype(np.float32)


def reweighted(masses: NDArray[np.float64], wanted: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Probabilities of labels when a code word has its say (Christ and Gunn, CRYPTO 2024).

    Args:
        masses: Probability of each label up to a factor, the first bit the most significant: float64 of shape
            (rows, 2^bits).
        wanted: Bits of the code: uint8 of shape (rows, bits).

    Returns:
        float64 of shape (rows, 2^bits), each row with sum 1. On average over fair bits they are those of `masses`.
    """
    rows, bits = wanted.shape
    out = np.ones((rows, 1))
    for bit in range(bits):
        halves = masses.reshape(rows, 1 << bit, 2, -1).sum(axis=-1)
        both = halves.sum(axis=-1)
        one = halves[..., 1] / np.where(both > 0, both, 1)
        one = np.clip(2 * one - 1 + wanted[:, bit, None], 0, 1)
        out = np.stack([out * (1 - one), out * one], axis=-1).reshape(rows, -1)
    return out
