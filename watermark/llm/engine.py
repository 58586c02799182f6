"""The engine of token marks: texts, slots, logits and verdicts. A scheme marks rows and scores tokens."""

from __future__ import annotations

import sys
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from watermark._cache import cached_property
from watermark._values import whole
from watermark.detection import MAX_LOG10_P_OF_PAYLOAD, Detection, Detections, over_keys
from watermark.errors import MediaError, ParameterError, PayloadError
from watermark.llm.keys import EngineKey, function_key
from watermark.ops import batch_token, token
from watermark.ops._native import is_cuda
from watermark.ops.batch import to_device
from watermark.ops.token import ALL_COLUMNS, PRFS, Function, Scores, Seeding, Texts, repeated
from watermark.payload import Frame
from watermark.prf import Prf, seed
from watermark.scheme import Scheme
from watermark.stats import LN10

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from watermark.key import Key

MAX_VOCABULARY = 1 << 24
_MAX_TOKENS, _MAX_SLOTS = 1 << 24, 1 << 20
_ANY_TOKEN = 2**63 - 1
_FLOAT32 = np.dtype(np.float32)
SECURE_PRF = "chacha8-v1"
CONTEXT_PRFS = ("philox4x32-10-v1", SECURE_PRF)
"""The functions whose words are uniform on all of their 32 bits."""
Tail: TypeAlias = tuple[float, float, dict[str, Any]]
"""ln p, the score, and further details of a verdict."""


def number(value: Any, name: str, low: float, high: float) -> float:
    """`value` as a float.

    Raises:
        ParameterError: It is no number between `low` and `high`, these excluded.
    """
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float, np.integer, np.floating))
        or not low < value < high
    ):
        raise ParameterError(f"{name} must be a number between {low:g} and {high:g}, not {value!r}")
    return float(value)


def prf_name(name: Any, known: tuple[str, ...]) -> str:
    """The name of a function of tokens.

    Raises:
        ParameterError: It is none of those known.
    """
    if name not in known:
        raise ParameterError(f"prf is one of {', '.join(known)}, not {name!r}")
    return str(name)


@dataclass(frozen=True, slots=True)
class TokenParameters:
    """What all token marks share.

    Attributes:
        vocab_size: Number of tokens, 2 to 2^24. Logits may have more columns: what pads them is never chosen or
            changed.
        tokenizer: Fingerprint of the tokenizer, if it is known; only compared.
    """

    vocab_size: int = 0
    tokenizer: str | None = None

    def __post_init__(self) -> None:
        if self.vocab_size == 0:
            raise ParameterError("vocab_size is missing: the number of tokens that the model knows")
        object.__setattr__(self, "vocab_size", whole(self.vocab_size, "vocab_size", 2, MAX_VOCABULARY))
        if self.tokenizer is not None and not isinstance(self.tokenizer, str):
            raise ParameterError(f"tokenizer is a fingerprint as text, not {type(self.tokenizer).__name__}")


@dataclass(slots=True)
class Slot:
    """State of one text that is being written.

    Attributes:
        message: What the scheme made of its message.
        stream: Number of its fresh randomness.
        prompt: Tokens before its first own one; None before the first step.
        private: What else the scheme keeps about it.
    """

    message: Any
    stream: int
    prompt: int | None = None
    private: dict[str, Any] = field(default_factory=dict)

    def copy(self, stream: int) -> Slot:
        """The same text, to go on by itself."""
        return Slot(self.message, stream, self.prompt, dict(self.private))


@dataclass(slots=True)
class Step:
    """The next token of some texts.

    Attributes:
        texts: What was written so far: with the prompt, if the scheme sees it.
        slots: State of each text.
        logits: float32 of shape (texts, columns), columns contiguous; changed in place.
        candidates: Tokens of the columns, int64 of shape (1 | texts, columns), or `ALL_COLUMNS`.
        noise: A function whose words are fresh randomness for each text and position.
    """

    texts: Texts
    slots: list[Slot]
    logits: Any
    candidates: NDArray[np.int64]
    noise: Function

    def fresh_states(self) -> NDArray[np.uint32]:
        """States of `noise` for this step: uint32 of shape (texts, 8)."""
        salt = np.stack([np.array([s.stream for s in self.slots]), self.texts.end - self.texts.begin], axis=1)
        return self.noise.states(self.texts, salt)

    def is_new(self, width: int) -> NDArray[np.bool_]:
        """Whether the context of each text is new to it: bool of shape (texts,)."""
        return ~repeated(self.texts, width)

    def bias(self, function: Function, threshold: int, delta: float, **settings: Any) -> None:
        """Raises the logits of tokens whose words are below a threshold; settings as in `token.bias`."""
        self._kernels().bias(
            function, self.texts, self.logits, threshold, delta, candidates=self.candidates, **settings
        )

    def sample(self, function: Function, states: NDArray[np.uint32], where: NDArray[np.bool_]) -> None:
        """Chooses a token in some rows, by the Gumbel trick with the words of these states.

        Raises:
            MediaError: A row has no logits to choose from.
        """
        module = self._kernels()
        self._on_rows(where, lambda rows, logits, listed: module.choose(function, states[rows], logits, listed))

    def tournament(self, function: Function, depth: int, where: NDArray[np.bool_]) -> None:
        """Lets tokens compete in some rows, by the bits of their words.

        Raises:
            MediaError: A row has no logits to choose from.
        """
        module, states = self._kernels(), function.states(self.texts)
        self._on_rows(
            where, lambda rows, logits, listed: module.tournament(function, states[rows], depth, logits, listed)
        )

    def reshape(
        self,
        function: Any,
        kernel: Callable[[NDArray[np.uint32], Any], NDArray[np.bool_]],
        where: NDArray[np.bool_],
    ) -> None:
        """Lets a kernel change some rows.

        Args:
            function: Function of tokens.
            kernel: Changes logits of shape (rows, columns) with words of shape (rows, 1, columns); says which it could.
            where: Which rows.

        Raises:
            MediaError: It could not.
        """
        states = function.states(self.texts)

        def work(rows: NDArray[np.intp] | slice, logits: Any, listed: NDArray[np.int64]) -> NDArray[np.bool_]:
            return kernel(function.words(states[rows], logits.shape[1], listed)[:, None], logits)

        self._on_rows(where, work)

    def _kernels(self) -> Any:
        return batch_token if is_cuda(self.logits) else token

    def _on_rows(self, where: NDArray[np.bool_], work: Callable[[Any, Any, Any], NDArray[np.bool_]]) -> None:
        """Calls work(rows, their logits, their candidates) and puts the logits back."""
        if where.all():
            _check_rows(work(slice(None), self.logits, self.candidates), np.arange(len(where)))
            return
        rows = np.flatnonzero(where)
        if not len(rows):
            return
        some = self.logits[rows]  # a copy
        _check_rows(work(rows, some, self.candidates[rows] if len(self.candidates) > 1 else self.candidates), rows)
        self.logits[rows] = some


def _check_rows(good: NDArray[np.bool_], rows: NDArray[np.intp]) -> None:
    """Refuses rows that kernels could not work on.

    Raises:
        MediaError: A row has a logit that is NaN or plus infinity, or none above minus infinity.
    """
    if not good.all():
        raise MediaError(f"logits of line {rows[np.argmin(good)]} are not finite, or exclude every token")


class TextScheme(Scheme):
    """A mark in the tokens of a language model: `start` marks while a text is written, `detect` reads token ids."""

    sees_prompt = False
    """Whether contexts reach into the prompt."""
    samples = False
    """Whether marking chooses the token, instead of changing its odds."""
    on_device = False
    """Whether `_mark` takes logits in GPU memory. Otherwise they make a trip through the host's."""
    parameters: Any

    def start(self, payload: bytes | Sequence[bytes | None] | None = None, *, rng: Any = None) -> Generation:
        """Starts a generation: a table of texts that are being written.

        Args:
            payload: One message for all texts, or one per slot.
            rng: Source of the fresh randomness: None asks the operating system; an int, a NumPy Generator or a
                torch.Generator is read once.

        Raises:
            PayloadError: A message does not fit.
            ParameterError: `rng` is of an unknown type.
        """
        return Generation(self, payload, rng)

    def detect(self, media: Any, prompt_ids: Any = None) -> Detection:
        """The verdict on one text.

        Args:
            media: Token ids without the prompt: a list, or an integer array or tensor of one dimension.
            prompt_ids: The prompt, which gives context to schemes that see it, and is never scored.

        Raises:
            MediaError: These are no token ids.
        """
        return self._verdicts([media], None if prompt_ids is None else [prompt_ids])[0]

    def detect_batch(self, items: Any, prompt_ids: Any = None) -> Detections:
        """The verdicts on many texts, in their order. Uses `watermark.threads()` threads.

        Args:
            items: A list or an iterator of texts, or an integer array of shape (texts, tokens).
            prompt_ids: One prompt (or None) per text.

        Raises:
            MediaError: `items` is one text instead of many, or an item is none; the number of prompts is another.
        """
        return Detections.of(self._verdicts(_each(items), prompt_ids), self.name)

    def _verdicts(self, items: Iterable[Any], prompt_ids: Any) -> list[Detection]:
        texts = [self.tokens(text) for text in items]
        lengths = [0] * len(texts)
        if prompt_ids is not None:
            prompts = [None if p is None else self.tokens(p) for p in _each(prompt_ids)]
            if len(prompts) != len(texts):
                raise MediaError(f"there are {len(texts)} texts and {len(prompts)} prompts")
            if self.sees_prompt:
                lengths = [0 if p is None else len(p) for p in prompts]
                pairs = zip(prompts, texts, strict=True)
                texts = [text if p is None else np.concatenate([p, text]) for p, text in pairs]
        joined = Texts.of(texts)
        starts = [begin + length for begin, length in zip(joined.begin.tolist(), lengths, strict=True)]
        by_key = [self._read(t, joined, starts, k.id) for t, k in zip(self._tables, self.keyring, strict=True)]
        if len(by_key) == 1:
            return by_key[0]
        return list(over_keys([Detections.of(rows, self.name) for rows in by_key]))

    def tokens(self, token_ids: Any) -> NDArray[np.int64]:
        """Token ids as int64 of shape (tokens,).

        Raises:
            MediaError: They are none of this vocabulary.
        """
        ids = as_tokens(token_ids)
        if not token.within(ids, self.parameters.vocab_size):
            raise MediaError(f"token ids of this scheme are from 0 to {self.parameters.vocab_size - 1}")
        return ids

    @cached_property
    def frame(self) -> Frame:
        """What turns messages into bits."""
        return Frame(getattr(self.parameters, "payload_bits", 0))

    def _message(self, payload: bytes | None) -> Any:
        """What marking needs of a message: its bits, uint8 of shape (frame.size,)."""
        return self.frame.encode(payload)

    @property
    def security_bits(self) -> int:
        """Logarithm to base 2 of the best known attack on the secret of these parameters."""
        prf = getattr(self.parameters, "prf", SECURE_PRF)
        if any(isinstance(key, EngineKey) for key in self.keyring) or prf != SECURE_PRF:
            return 64
        return 256

    @abstractmethod
    def _mark(self, step: Step) -> None:
        """Marks the next token of some texts: changes the logits in place.

        Raises:
            MediaError: Logits are not finite.
        """

    @abstractmethod
    def _read(self, tables: Any, texts: Texts, starts: list[int], key_id: str) -> list[Detection]:
        """One key's verdicts on texts, whose own tokens start here, behind their prompts if the scheme sees those."""

    def _present(self, key_id: str, tail: Tail, n: int, token_scores: NDArray[np.float32]) -> Detection:
        """The verdict of a mark that carries its presence only."""
        log_p, score, details = tail
        log10_p = min(0.0, log_p / LN10)
        ok = log10_p <= MAX_LOG10_P_OF_PAYLOAD
        details = {"token_scores": token_scores, **details}
        return Detection(self.name, key_id, log10_p, score, n, b"" if ok else None, ok, details)


class TokenScheme(TextScheme):
    """A mark that scores tokens one by one, each unit of context and token once."""

    def _width(self) -> int:
        """Tokens of a context."""
        width: int = self.parameters.width
        return width

    def _bind(self, key: Key) -> Function:
        """The keyed function of tokens."""
        parameters = self.parameters
        label = f"{self.name}/1/{parameters.prf}"
        seeding = Seeding[getattr(parameters, "seeding", "left").upper()]
        return Function(PRFS.index(parameters.prf), function_key(key, label), self._width(), seeding)

    @abstractmethod
    def _score(self, tables: Any, texts: Texts, starts: list[int]) -> Scores:
        """What the tokens of texts are worth under one key; a unit counts once.

        Args:
            tables: What `_bind` made of the key.
            texts: The texts, behind their prompts if the scheme sees those.
            starts: Where each text starts behind its prompt, whose tokens do not count.
        """

    @abstractmethod
    def _tail(self, n: int, total: float, scores: NDArray[np.float32]) -> Tail:
        """How probable so high a total is in a text made without the key.

        Args:
            n: Number of units.
            total: What they are worth.
            scores: What each token is worth, NaN where it does not count: float32 of shape (tokens,).
        """

    def _read(self, tables: Any, texts: Texts, starts: list[int], key_id: str) -> list[Detection]:
        scores = self._score(tables, texts, starts)
        found = []
        for start, end, n, total in zip(starts, texts.end.tolist(), scores.units, scores.totals, strict=True):
            own = scores.tokens[start:end]
            found.append(self._present(key_id, self._tail(n, total, own), n, own))
        return found


class Generation:
    """Texts that are being written, one per slot.

    A slot holds the message, the length of its prompt (what the first `apply` is given) and a stream of fresh
    randomness. All else is read off the context at every step, so that beams may be reordered and drafts be taken back.
    """

    def __init__(self, scheme: TextScheme, payload: bytes | Sequence[bytes | None] | None, rng: Any) -> None:
        if payload is not None and not isinstance(payload, (bytes, bytearray, memoryview, list, tuple)):
            raise PayloadError(f"pass one message as bytes, or a list of one per slot, not {type(payload).__name__}")
        self._scheme = scheme
        self._several = isinstance(payload, (list, tuple))
        payloads: list[Any] = list(payload) if isinstance(payload, (list, tuple)) else [payload]
        self._streams = 0
        self._noise = Function(PRFS.index(SECURE_PRF), _fresh(scheme, rng).key_words, 0)
        self._messages = [scheme._message(p) for p in payloads]
        self._slots: list[Slot] = []

    def apply(self, context_ids: Any, logits: Any, *, rows: Any = None, candidates: Any = None) -> Any:
        """Marks the next token of each line, in place.

        Args:
            context_ids: Prompt and tokens so far: (tokens,), (lines, tokens), or a list of contexts, of integers.
            logits: (columns,) or (lines, columns), float32 (on CUDA also float16 and bfloat16), at least `vocab_size`
                columns; NumPy or a tensor. Biases keep what they do not change; samplers leave 0 at the chosen token
                and minus infinity elsewhere.
            rows: Slot of each line; line i belongs to slot i by default.
            candidates: Tokens of the columns, (columns,) or (lines, columns), if logits hold those only.

        Returns:
            `logits`.

        Raises:
            MediaError: Shapes or dtypes do not fit, ids are no tokens, or logits are not finite.
            ParameterError: `rows` are no slots, or name one twice.
        """
        matrix = _matrix(logits)
        if len(matrix) == 0:
            return logits
        tokens, lengths = _contexts(context_ids, len(matrix))
        slots = self._lines(rows, len(matrix))
        scheme = self._scheme
        starts: list[int] = []
        ends: list[int] = []
        fresh: list[tuple[Slot, int]] = []
        end = 0
        for slot, length in zip(slots, lengths, strict=True):
            prompt = slot.prompt
            if prompt is None:
                prompt = length
                fresh.append((slot, prompt))
            elif prompt > length:
                line = len(ends)
                raise MediaError(f"the context of line {line} is shorter than its prompt: reset(row) starts a new text")
            starts.append(end if scheme.sees_prompt else end + prompt)
            ends.append(end := end + length)
        contexts = Texts(tokens, np.array(starts), np.array(ends))
        vocabulary = scheme.parameters.vocab_size
        listed = _candidates(candidates, matrix, vocabulary)
        padded = listed is ALL_COLUMNS and matrix.shape[1] > vocabulary
        work = matrix[:, :vocabulary] if padded else matrix
        target = _workable(work, scheme.on_device)
        scheme._mark(Step(contexts, slots, target, listed, self._noise))
        if target is not work:
            work[:] = to_device(target, work) if is_cuda(work) and isinstance(target, np.ndarray) else target
        if padded and scheme.samples:
            matrix[:, vocabulary:] = -np.inf
        for slot, prompt in fresh:
            slot.prompt = prompt
        return logits

    def reset(self, row: int, payload: bytes | None = None) -> None:
        """Starts a new text in a slot.

        Args:
            row: Number of the slot.
            payload: Its message; None takes the one that the generation was started with.

        Raises:
            ParameterError: There is no such slot.
            PayloadError: The message does not fit.
        """
        row = whole(row, "row", 0, _MAX_SLOTS - 1)
        message = self._message_of(row) if payload is None else self._scheme._message(payload)
        self._grow(row)
        self._slots[row : row + 1] = [Slot(message, self._stream())]

    def reorder(self, rows: Any) -> None:
        """Slot i takes a copy of slot rows[i], as when beams are picked.

        Raises:
            ParameterError: `rows` are no slots.
        """
        chosen = [whole(row, "each row", 0, len(self._slots) - 1) for row in _listed(rows)]
        self._slots[: len(chosen)] = [self._slots[row].copy(self._stream()) for row in chosen]

    def _lines(self, rows: Any, lines: int) -> list[Slot]:
        if rows is None:
            self._grow(lines)
            return self._slots[:lines]
        numbers = [whole(row, "each row", 0, _MAX_SLOTS - 1) for row in _listed(rows)]
        if len(numbers) != lines or len(set(numbers)) != lines:
            raise ParameterError(f"rows must name {lines} different slots, one per line")
        self._grow(max(numbers, default=-1) + 1)
        return [self._slots[row] for row in numbers]

    def _grow(self, slots: int) -> None:
        while len(self._slots) < slots:
            self._slots.append(Slot(self._message_of(len(self._slots)), self._stream()))

    def _message_of(self, row: int) -> Any:
        if self._several and row >= len(self._messages):
            raise PayloadError(f"slot {row} has no message: {len(self._messages)} were given")
        return self._messages[row if self._several else 0]

    def _stream(self) -> int:
        self._streams += 1
        return self._streams - 1


def _fresh(scheme: Scheme, rng: Any) -> Prf:
    # Keyed, too: whoever knows a seed that was published must not know what was drawn from it.
    return scheme.key.derive(f"{scheme.name}/1/randomness").child(seed(rng))


def as_tokens(token_ids: Any) -> NDArray[np.int64]:
    """Ids as int64 of shape (tokens,).

    Raises:
        MediaError: They are no whole numbers in one dimension, or too many.
    """
    if isinstance(token_ids, (str, bytes, bytearray)):
        raise MediaError("token marks live in token ids: tokenise the text with the model's tokenizer first")
    ids = _integers(token_ids)
    if ids is None or ids.ndim != 1:
        raise MediaError(f"a text is a list, array or tensor of token ids in one dimension, not {_named(token_ids)}")
    if ids.size > _MAX_TOKENS:
        raise MediaError(f"a text has up to {_MAX_TOKENS} tokens, not {ids.size}")
    return ids


def _integers(values: Any) -> NDArray[np.int64] | None:
    """Whole numbers as a contiguous int64 array; None if they are none."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(values, torch.Tensor):
        values = values if values.is_cpu else values.cpu()
    elif values is None or isinstance(values, (str, bytes, dict, set, np.ma.MaskedArray)):
        return None
    try:
        array = values.numpy() if hasattr(values, "numpy") else np.asarray(values)
    except (TypeError, ValueError, RuntimeError):
        return None
    kind = array.dtype.kind
    if array.size and (kind not in "iu" or (kind == "u" and int(array.max()) > np.iinfo(np.int64).max)):
        return None
    return np.ascontiguousarray(array, np.int64) if array.size or array.ndim == 1 else array.astype(np.int64)


def _listed(rows: Any) -> list[Any]:
    """Numbers of slots as a list.

    Raises:
        ParameterError: They are not in one dimension.
    """
    numbers = _integers(rows)
    if numbers is None or numbers.ndim != 1:
        raise ParameterError(f"rows are numbers of slots in one dimension, not {_named(rows)}")
    return list(numbers.tolist())


def _named(value: Any) -> str:
    shape = getattr(value, "shape", None)
    dtype = getattr(value, "dtype", None)
    return type(value).__name__ + (f" of {dtype} with shape {tuple(shape)}" if shape is not None else "")


def _each(items: Any) -> Iterator[Any]:
    """The items of a batch: never those of one text."""
    one = isinstance(items, (str, bytes, bytearray, dict)) or getattr(items, "ndim", 2) == 1
    if isinstance(items, (list, tuple)) and items and isinstance(items[0], (int, np.integer)):
        one = True
    try:
        if not one:
            return iter(items)
    except TypeError:
        pass
    raise MediaError("a batch is a list or an iterator of texts (each a list of token ids), or a matrix of token ids")


def _matrix(logits: Any) -> Any:
    """Logits as a view of shape (lines, columns): NumPy, unless they are on a GPU."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(logits, torch.Tensor):
        if is_cuda(logits):
            numbers = (torch.float32, torch.float16, torch.bfloat16)
            if logits.dtype not in numbers or logits.ndim not in (1, 2) or logits.requires_grad:
                raise MediaError(f"logits are floats of shape (columns,) or (lines, columns), not {_named(logits)}")
            return logits[None] if logits.ndim == 1 else logits
        try:
            logits = logits.numpy()
        except (RuntimeError, TypeError):
            raise MediaError(
                "logits are changed in place: pass a dense float32 tensor on the CPU or on CUDA that needs no gradient"
            ) from None
    if type(logits) is not np.ndarray or logits.dtype != _FLOAT32 or logits.ndim not in (1, 2):
        raise MediaError(f"logits are float32 of shape (columns,) or (lines, columns), not {_named(logits)}")
    if not (logits.flags.writeable and logits.flags.aligned):
        raise MediaError("logits are changed in place, and this array cannot be written to")
    return logits[None] if logits.ndim == 1 else logits


def _workable(rows: Any, on_device: bool) -> Any:
    """The rows themselves if kernels can work on them, else a copy of them that they can."""
    if is_cuda(rows):
        if not on_device:
            return rows.float().cpu().numpy()
        return rows if rows.shape[1] <= 1 or rows.stride(1) == 1 else rows.contiguous()
    return rows if rows.shape[1] <= 1 or rows.strides[1] == rows.itemsize else np.ascontiguousarray(rows)


def _contexts(context_ids: Any, lines: int) -> tuple[NDArray[np.int64], list[int]]:
    """Contexts of the lines, one after the other, and their lengths."""
    ragged = isinstance(context_ids, (list, tuple)) and bool(context_ids)
    if ragged and all(isinstance(c, (list, tuple)) or getattr(c, "ndim", 0) == 1 for c in context_ids):
        rows = [as_tokens(context) for context in context_ids]
        tokens, lengths = np.concatenate(rows), [len(row) for row in rows]
    else:
        ids = _integers(context_ids)
        if ids is None or ids.ndim not in (1, 2):
            raise MediaError(f"contexts are token ids of shape (tokens,) or (lines, tokens), not {_named(context_ids)}")
        tokens, lengths = ids.reshape(-1), [len(ids)] if ids.ndim == 1 else [ids.shape[1]] * len(ids)
    if len(lengths) != lines:
        raise MediaError(f"there are {len(lengths)} contexts and {lines} lines of logits")
    if not token.within(tokens, _ANY_TOKEN):
        raise MediaError("a context holds a negative number, which is no token (a placeholder of the engine, perhaps)")
    return tokens, lengths


def _candidates(candidates: Any, matrix: Any, vocabulary: int) -> NDArray[np.int64]:
    if candidates is None:
        if matrix.shape[1] < vocabulary:
            raise MediaError(f"logits have {matrix.shape[1]} columns and vocab_size is {vocabulary}: pass candidates=")
        return ALL_COLUMNS
    ids = _integers(candidates)
    if ids is None or ids.ndim not in (1, 2):
        raise MediaError(f"candidates are token ids of shape (columns,) or (lines, columns), not {_named(candidates)}")
    ids = ids[None] if ids.ndim == 1 else ids
    if len(ids) not in (1, len(matrix)) or ids.shape[1] != matrix.shape[1] or not ids.size:
        raise MediaError(
            f"candidates of shape {ids.shape} do not name the columns of logits of shape {tuple(matrix.shape)}"
        )
    if not token.distinct(ids, vocabulary):
        wrong = (
            "name a token twice"
            if token.within(ids.reshape(-1), vocabulary)
            else f"are tokens from 0 to {vocabulary - 1}"
        )
        raise MediaError(f"candidates {wrong}")
    return ids
