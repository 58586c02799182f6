"""PRC: a pseudorandom error-correcting code decides the signs of the noise (Gunn, Zhao and Song, ICLR 2025).

The code, the decoder and the verdict are this library's own. Message and tag are encrypted under fresh random bits, so
that the information bits of every latent are uniform and never repeat; the code turns them into signs, of which a small
share is flipped. To one who does not know its sparse parity checks, marked noise looks like noise: how long that takes
to break is `Prc.security_bits`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from watermark._cache import cached_property
from watermark._values import whole
from watermark.detection import Detections
from watermark.errors import MediaError, ParameterError
from watermark.latent.noise import LatentScheme, check_shape
from watermark.ops._native import to_host
from watermark.ops.normal import signed_normal, unpack_bits
from watermark.payload import Frame
from watermark.prc_code import Code, Envelope, base_size, flips_of
from watermark.prf import Prf
from watermark.scheme import FixedKey, SchemeInfo
from watermark.stats import LN10, log_sidak

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from watermark.key import Key

_DEGREE = {"robust": 3, "hardened": 8}
_FRESH_BITS, _TAG_BITS = 128, 64
_LEAST = 320  # information bits: from fewer, an attacker could solve for all of them
_SHARE_OF_TAG = 2.0**-10  # of alpha; the syndrome test has the rest
_GATE = math.log(0.1)  # decoding is tried below this p of the syndrome test
_ROWS = 256  # latents sampled at a time


@dataclass(frozen=True, slots=True)
class PrcParameters:
    """Parameters of `latent.prc`.

    Attributes:
        shape: Shape of one latent, such as (4, 64, 64).
        payload_bits: Net message bits, 0 to 4096.
        preset: "robust" (t = 3) or "hardened" (t = 8): how many coordinates a parity check has. Fewer survive more
            noise, more resist cryptanalysis; see `Prc.security_bits`.
        t: Coordinates of a check, 3 to 8, in place of the preset's.
        subkeys: 1 to 1024 keys that rotate: every latent is marked under one of them, chosen at random, and the
            detector tries all of them and pays for it. What an attacker learns from many latents is spread over all.
    """

    shape: tuple[int, ...] = (4, 64, 64)
    payload_bits: int = 256
    preset: str = "robust"
    t: int | None = None
    subkeys: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", check_shape(self.shape))
        object.__setattr__(self, "payload_bits", Frame(self.payload_bits).payload_bits)
        object.__setattr__(self, "subkeys", whole(self.subkeys, "subkeys", 1, 1024))
        if self.preset not in _DEGREE:
            raise ParameterError(f"preset must be one of {', '.join(_DEGREE)}, not {self.preset!r}")
        if self.t is not None:
            object.__setattr__(self, "t", whole(self.t, "t", 3, 8))
        needed = 2 * base_size(self.information)
        if needed > math.prod(self.shape):
            raise ParameterError(
                f"payload_bits={self.payload_bits} needs latents of at least {needed} elements, and {self.shape} has "
                f"{math.prod(self.shape)}"
            )

    @property
    def degree(self) -> int:
        """Coordinates of a check."""
        return _DEGREE[self.preset] if self.t is None else self.t

    @property
    def information(self) -> int:
        """Information bits of the code: fresh ones, tag and message."""
        return max(_LEAST, _FRESH_BITS + _TAG_BITS + Frame(self.payload_bits, checksum=False).size)

    @property
    def fresh(self) -> int:
        """Fresh random bits: 128, and more beside a short message."""
        return self.information - _TAG_BITS - Frame(self.payload_bits, checksum=False).size


class _SubKey(Envelope):
    """The secrets of one sub-key: its code, made when it is first needed, and the encryption of what it carries."""

    def __init__(self, key: Key, label: str, elements: int, parameters: PrcParameters) -> None:
        super().__init__(key, label, parameters.fresh, _TAG_BITS)
        self._prf = key.derive(f"{label}/code")
        self._elements, self._parameters = elements, parameters

    @cached_property
    def code(self) -> Code:
        return Code(self._prf, self._elements, self._parameters.information, self._parameters.degree)


class Prc(LatentScheme):
    """The mark `latent.prc`.

    The null is exact: every check owns a coordinate, so the signs of the checks under the key's pad are fair coins for
    any latent made without the key, and their weights follow from magnitudes only. The syndrome test sums them; if its
    p is at most 0.1, belief propagation reads the information bits, whose 64-bit tag holds with probability 2^-64. The
    two share alpha, (1 - 2^-10) and 2^-10.
    """

    info = SchemeInfo(
        name="latent.prc",
        modality="latent",
        null="exact",
        fixed_key=FixedKey(1.0, 1.0, "iid normal latents, on which every key has one law: benchmarks/null.py"),
        distortion_free=True,
        payload="0 to 4096 bits",
        security_bits=12,
    )
    Parameters = PrcParameters
    parameters: PrcParameters

    @property
    def security_bits(self) -> int:
        """Logarithm to base 2 of the steps of the best attack known that needs few latents, for these parameters.

        It looks for one sparse check among sums of coordinates that agree on some twenty exact latents or more. Any two
        lists of sums of t/2 coordinates make C(n, t) / r pairs per check, so one needs lists of (C(n, t) / r)^(1/2).
        """
        return int((_log2_choose(self._elements, self.parameters.degree) - math.log2(self._checks)) / 2)

    @property
    def latents_per_subkey(self) -> int:
        """Latents from which counting apparent checks, without bound on effort, gets one standard deviation.

        log2 C(n, t) - 2 log2 r, rounded down. Beyond it, undetectability rests on `security_bits`.
        """
        return max(0, int(_log2_choose(self._elements, self.parameters.degree) - 2 * math.log2(self._checks)))

    @property
    def latents_in_pairs(self) -> int:
        """Exact latents of one sub-key from which a test of all pairs of latents gets one standard deviation.

        (2 C(n, t))^(1/2) / r. It adds up what all checks do to the products of two latents, without finding any; errors
        of signs make it need more latents, but not more time for each.
        """
        return math.ceil(2 ** ((1 + _log2_choose(self._elements, self.parameters.degree)) / 2) / self._checks)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the primary key's first code tables: equal wherever the key is expanded alike."""
        return str(self._tables[0][0].code.fingerprint)

    @cached_property
    def _elements(self) -> int:
        return math.prod(self.shape)

    @cached_property
    def _checks(self) -> int:
        return self._elements - base_size(self.parameters.information)

    @cached_property
    def _frame(self) -> Frame:
        return Frame(self.parameters.payload_bits, checksum=False)

    @cached_property
    def _fresh(self) -> int:
        return self.parameters.fresh

    def _bind(self, key: Key) -> tuple[_SubKey, ...]:
        parameters = self.parameters
        label = f"latent.prc/1/{self._elements}/{parameters.information}/{parameters.degree}"
        return tuple(_SubKey(key, f"{label}/{i}", self._elements, parameters) for i in range(parameters.subkeys))

    def _fill(self, out: Any, payloads: Sequence[bytes | None], one_payload: bool, noise: NDArray[np.uint32]) -> None:
        distinct = payloads[:1] if one_payload else payloads
        messages = [self._frame.encode(payload) for payload in distinct]
        random = Prf(noise.tobytes())
        subkeys = self._tables[0]
        flips, fresh = flips_of(self._elements), self._fresh
        for first in range(0, len(out), _ROWS):
            rows = range(first, min(first + _ROWS, len(out)))
            sent = [messages[0 if one_payload else row] for row in rows]
            # Of row and message, so that a seed that is used again meets another message with other bits.
            words = np.empty((len(rows), 1 + flips + -(-fresh // 32)), np.uint32)
            for drawn, row, bits in zip(words, rows, sent, strict=True):
                drawn[:] = random.child(b"%d/" % row + bits.tobytes()).words(drawn.size)
            new = unpack_bits(words[:, 1 + flips :], fresh)
            rows_of: dict[int, list[int]] = {}
            for row, word in enumerate(words[:, 0].tolist()):
                rows_of.setdefault(word * len(subkeys) >> 32, []).append(row)
            signs = np.empty((len(rows), -(-self._elements // 32)), np.uint32)
            for i, mine in rows_of.items():
                bits = np.array([subkeys[i].seal(new[row], sent[row]) for row in mine])
                signs[mine] = subkeys[i].code.signs(bits, words[mine, 1 : 1 + flips])
            signed_normal(noise, first, signs, out[first : rows.stop])

    def _read(self, tables: tuple[_SubKey, ...], z: Any, key_id: str) -> Detections:
        by_subkey = [self._read_subkey(subkey, z) for subkey in tables]
        best = [min(found, key=lambda read: read[0]) for found in zip(*by_subkey, strict=True)]
        return Detections(
            self.name,
            [key_id] * len(best),
            [log_sidak(log_p, len(tables)) / LN10 for log_p, _, _, _ in best],
            [score for _, score, _, _ in best],
            [self._checks] * len(best),
            [payload for _, _, payload, _ in best],
            [payload is not None for _, _, payload, _ in best],
            [{"syndrome_log10_p": log_sidak(syndrome, len(tables)) / LN10} for _, _, _, syndrome in best],
        )

    def _read_subkey(self, subkey: _SubKey, z: Any) -> list[tuple[float, float, bytes | None, float]]:
        """Of each row: ln p, score, message, and ln p of the syndrome test alone."""
        scales, *tested = subkey.code.test(z)
        if bool((scales != scales).any()):
            raise MediaError("the latent holds values that are not finite")
        scores, log_p = map(to_host, tested)
        messages: dict[int, bytes | None] = {}
        tried = np.flatnonzero(log_p <= _GATE)
        if tried.size:
            for row, bits in zip(tried.tolist(), subkey.code.decode(z[tried], scales[tried]), strict=True):
                message = subkey.unseal(bits)
                messages[row] = None if message is None else self._frame.decode(np.packbits(message).tobytes())
        return [
            (_verdict(log_t, messages.get(row) is not None), score, messages.get(row), log_t)
            for row, (log_t, score) in enumerate(zip(log_p.tolist(), scores.tolist(), strict=True))
        ]


def _verdict(log_syndrome: float, tag_holds: bool) -> float:
    """Logarithm of min(1, p_T / (1 - w), p_D / w) for the share w."""
    tag = -_TAG_BITS * math.log(2) - math.log(_SHARE_OF_TAG) if tag_holds else 0.0
    return min(0.0, log_syndrome - math.log1p(-_SHARE_OF_TAG), tag)


def _log2_choose(n: int, k: int) -> float:
    return (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)) / math.log(2)
