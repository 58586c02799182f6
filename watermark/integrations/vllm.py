"""vLLM: its own marks read and written, and any scheme of ours as its logits processor.

detector({"algorithm": "gumbel", "key": 42}, vocab_size=128_256)       # reads what `--watermark-config` wrote
config(watermark.load("llm.gumbel", key, vocab_size=128_256))           # what to give to `--watermark-config`

The processor `Mark` is found through the entry-point group ``vllm.logits_processors`` and does nothing unless the
engine is started with ``--additional-config '{"watermark": {"profile": "mark.json", "key": "studio.key"}}'``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from watermark._values import whole
from watermark.errors import MissingExtraError, ParameterError
from watermark.key import Key, Keyring
from watermark.llm.engine import Generation, TextScheme
from watermark.llm.keys import EngineKey
from watermark.scheme import load

try:
    import torch
except ImportError as error:
    raise MissingExtraError("torch", "llm") from error

try:
    from vllm.v1.sample.logits_processor import LogitsProcessor
except ImportError:  # a detector needs no vLLM
    LogitsProcessor = object

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["Mark", "config", "detector"]

PAYLOAD = "watermark_payload"
"""Name of a request's message, in hexadecimal digits, in ``SamplingParams.extra_args``."""
_SETTING = "watermark"
_COMMON = {"algorithm", "key", "context_width", "prf"}
_OWN: dict[str, set[str]] = {
    "gumbel": set(),
    "dual_key_gumbel": {"alpha", "allow_target_only_watermarking"},
    "sbw": {"sbw_scheme", "sbw_gamma", "sbw_delta"},
}
_GENERATION = {"deduplicate_contexts", "deduplicate_contexts_max_history"}  # of no matter to a detector
_SEEDINGS = {"selfhash": "self", "lefthash": "left"}
_MAX_PROFILE_BYTES = 65_536
_GREEDY = 1e-5  # temperature below which vLLM takes the largest logit


def detector(config: Mapping[str, Any], *, vocab_size: int, tokenizer: str | None = None) -> TextScheme:
    """The scheme that reads, and writes, the marks of vLLM's own watermark.

    Args:
        config: The settings of ``--watermark-config``: ``algorithm`` ("gumbel", "dual_key_gumbel" or "sbw"), ``key``,
            and what else they hold.
        vocab_size: Number of tokens of the model.
        tokenizer: Its tokenizer's fingerprint, if it shall be compared.

    Returns:
        `llm.gumbel`, or `llm.greenlist` with prf "sbw". Its key is an `EngineKey`. Two keys become a ring of them: the
        detector tests both and pays for it, and what the scheme writes itself carries the first, which vLLM's detector
        weighs with 1 - alpha.

    Raises:
        ParameterError: An unknown algorithm or setting, or a value out of range.
    """
    if not isinstance(config, Mapping) or not all(isinstance(name, str) for name in config):
        raise ParameterError(f"vLLM's settings are a mapping by name, not {type(config).__name__}")
    settings = dict(config)
    algorithm = settings.get("algorithm", "gumbel")
    if not isinstance(algorithm, str) or algorithm not in _OWN:
        raise ParameterError(f"vLLM's algorithms are {', '.join(_OWN)}, not {algorithm!r}")
    known = _COMMON | _GENERATION | set().union(*_OWN.values())
    if unknown := settings.keys() - known:
        raise ParameterError(f"vLLM's watermark has no setting '{min(unknown)}'; it has {', '.join(sorted(known))}")
    if settings.get("prf", "philox") != "philox":
        raise ParameterError(f"of vLLM's functions, philox is read, not {settings['prf']!r}")
    if "key" not in settings:
        raise ParameterError("vLLM's watermark needs its key")
    try:
        number = whole(settings["key"], "key", 0, 2**64 - 1)
    except ParameterError:
        number = -1
    if number < 0:  # raised here, and not above, so that no error holds what was given
        raise ParameterError("vLLM's key is a whole number from 0 to 2^64 - 1")
    key: Key | Keyring = EngineKey([number])
    parameters: dict[str, Any]
    if algorithm == "sbw":
        seeding = settings.get("sbw_scheme", "selfhash")
        if not isinstance(seeding, str) or seeding not in _SEEDINGS:
            raise ParameterError(f"sbw_scheme is selfhash or lefthash, not {seeding!r}")
        name, width = "llm.greenlist", 4 if seeding == "selfhash" else 1
        parameters = {
            "prf": "sbw",
            "seeding": _SEEDINGS[seeding],
            "gamma": settings.get("sbw_gamma", 0.5),
            "delta": settings.get("sbw_delta", 2.0),
            "top": None,
        }
    else:
        name, width, parameters = "llm.gumbel", 4, {"prf": "philox4x32-10-v1"}
        if algorithm == "dual_key_gumbel":
            key = _two_keys(number, settings.get("alpha", 0.1))
    if settings.get("context_width") is not None:
        width = settings["context_width"]
    found: TextScheme = load(name, key, vocab_size=vocab_size, tokenizer=tokenizer, width=width, **parameters)
    return found


def _two_keys(number: int, alpha: Any) -> Key | Keyring:
    """Keys A and B of the dual-key mark, the one that writes more often first."""
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not 0 <= alpha <= 1:
        raise ParameterError(f"alpha is a probability, not {alpha!r}")
    octets = number.to_bytes(8, "big")
    digests = [hashlib.sha256(domain + octets).digest() for domain in (b"key_a", b"key_b")]
    first, second = (EngineKey([int.from_bytes(digest[:8], "big")]) for digest in digests)
    if alpha in (0, 1):
        return second if alpha else first
    return Keyring([first, second] if alpha <= 0.5 else [second, first])


def config(scheme: TextScheme) -> dict[str, Any]:
    """The settings with which vLLM itself writes the marks of a scheme; they hold its secret.

    Args:
        scheme: `llm.gumbel` with prf "philox4x32-10-v1", or `llm.greenlist` with prf "sbw" and seeding "left" or
            "self", not hard and without windows.

    Returns:
        What ``--watermark-config`` takes: 64 bits, derived from the key if it is none of vLLM's.

    Raises:
        ParameterError: vLLM has no such mark.
    """
    parameters = _for_tokens(scheme).parameters
    prf = getattr(parameters, "prf", None)
    words = scheme._tables[0].key[:2].tolist() if prf in ("philox4x32-10-v1", "sbw") else [0, 0]
    common = {"key": words[0] | words[1] << 32, "context_width": getattr(parameters, "width", 0)}
    if scheme.name == "llm.gumbel" and prf == "philox4x32-10-v1":
        return {"algorithm": "gumbel", **common}
    plain = prf == "sbw" and not parameters.hard and parameters.window is None
    if scheme.name == "llm.greenlist" and plain and parameters.seeding in ("left", "self"):
        own = {"sbw_scheme": f"{parameters.seeding}hash", "sbw_gamma": parameters.gamma}
        return {"algorithm": "sbw", **common, **own, "sbw_delta": parameters.delta}
    raise ParameterError(
        f"vLLM itself writes llm.gumbel with prf philox4x32-10-v1, and llm.greenlist with prf sbw, not {scheme!r}: "
        "use the logits processor"
    )


class _Request:
    """A request in the batch.

    Attributes:
        slot: Its slot in the generation.
        params: Its ``SamplingParams``.
        prompt: Its prompt.
        output: The engine's own list of what was written, which grows.
    """

    __slots__ = ("output", "params", "prompt", "slot")

    def __init__(self, slot: int, params: Any, prompt: Sequence[int] | None, output: Sequence[int]) -> None:
        self.slot, self.params, self.prompt, self.output = slot, params, list(prompt or ()), output

    @property
    def greedy(self) -> bool:
        return bool(self.params.temperature < _GREEDY)

    def context(self) -> NDArray[np.int64]:
        return np.array([*self.prompt, *self.output], np.int64)


class Mark(LogitsProcessor):  # type: ignore[misc]
    """Logits processor of vLLM's V1 engine: marks every request with one scheme.

    It runs before vLLM's temperature and truncation. Biases pass through these. Samplers choose the token here, by the
    request's own temperature, top-k, top-p and min-p, after which nothing is left to choose; penalties have no effect
    on them. Greedy requests are marked by biases only.

    A request's message stands in ``SamplingParams.extra_args["watermark_payload"]``, in hexadecimal digits.

    Args:
        vllm_config: The engine's configuration. Of ``additional_config["watermark"]``, ``profile`` and ``key`` name the
            files of a scheme's profile and of its key; without them nothing is marked.
        device: Where logits lie.
        is_pin_memory: Whether the engine pins memory.

    Raises:
        ParameterError: The files hold no scheme for tokens, or the engine schedules asynchronously, so that the last
            tokens are not known when they are needed.
        InvalidKeyError: There is no key in that file.
        OSError: A file cannot be read.
    """

    def __init__(self, vllm_config: Any, device: Any, is_pin_memory: bool) -> None:
        self._requests: dict[int, _Request] = {}
        self._marking: tuple[TextScheme, Generation] | None = None
        if (scheme := _scheme_of(vllm_config)) is not None:
            if getattr(vllm_config.scheduler_config, "async_scheduling", False):
                raise ParameterError("a mark needs the last tokens: start vLLM with --no-async-scheduling")
            self._marking = scheme, scheme.start()

    @classmethod
    def validate_params(cls, sampling_params: Any) -> None:
        """Refuses a request whose message is none.

        Raises:
            ParameterError: The message is not written in hexadecimal digits.
        """
        _payload_of(sampling_params)

    def is_argmax_invariant(self) -> bool:
        """False: a mark may change which logit is the largest."""
        return False

    def update_state(self, batch_update: Any) -> None:
        """Follows requests that come, go and move within the batch.

        Args:
            batch_update: vLLM's ``BatchUpdate``, or None.

        Raises:
            PayloadError: A message does not fit the scheme.
        """
        if self._marking is None or batch_update is None:
            return
        requests = self._requests
        for index in batch_update.removed:
            requests.pop(index, None)
        for index, params, prompt, output in batch_update.added:
            requests.pop(index, None)
            requests[index] = self._begin(*self._marking, params, prompt, output)
        for source, target, direction in batch_update.moved:
            moved, replaced = requests.pop(source, None), requests.pop(target, None)
            if moved is not None:
                requests[target] = moved
            if replaced is not None and direction.name == "SWAP":
                requests[source] = replaced

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Marks the next token of each request, in place.

        Args:
            logits: Of shape (requests, vocabulary).

        Returns:
            `logits`.

        Raises:
            MediaError: Logits are not finite, or fewer than the scheme has tokens.
        """
        if self._marking is None:
            return logits
        scheme, generation = self._marking
        marked = [(row, r) for row, r in sorted(self._requests.items()) if not (scheme.samples and r.greedy)]
        if not marked:
            return logits
        rows = torch.tensor([row for row, _ in marked], device=logits.device)
        work = logits[rows].to("cpu", torch.float32)
        if scheme.samples:
            for row, (_, request) in zip(work, marked, strict=True):
                _truncate(row, request.params)
        contexts = [request.context() for _, request in marked]
        generation.apply(contexts, work, rows=[request.slot for _, request in marked])
        logits[rows] = work.to(logits.device, logits.dtype)
        return logits

    def _begin(
        self,
        scheme: TextScheme,
        generation: Generation,
        params: Any,
        prompt: Sequence[int] | None,
        output: Sequence[int],
    ) -> _Request:
        """A request in a slot that is free."""
        used = {request.slot for request in self._requests.values()}
        request = _Request(next(i for i in range(len(used) + 1) if i not in used), params, prompt, output)
        generation.reset(request.slot, _payload_of(params))
        if output:  # it was interrupted: its text began behind the prompt
            logits = np.zeros((1, scheme.parameters.vocab_size), np.float32)
            generation.apply([np.array(request.prompt, np.int64)], logits, rows=[request.slot])
        return request


def _scheme_of(vllm_config: Any) -> TextScheme | None:
    """The scheme that the engine's configuration names, if it does.

    Raises:
        ParameterError: It names it wrongly.
    """
    additional = getattr(vllm_config, "additional_config", None)
    settings = additional.get(_SETTING) if isinstance(additional, dict) else None
    if settings is None:
        return None
    if not isinstance(settings, dict) or settings.keys() != {"profile", "key"}:
        raise ParameterError(f'additional_config["{_SETTING}"] names two files, "profile" and "key"')
    with open(Path(settings["profile"]), "rb") as file:
        text = file.read(_MAX_PROFILE_BYTES + 1).decode("utf-8", "replace")
    return _for_tokens(load(text, Key.load(settings["key"])))


def _payload_of(params: Any) -> bytes | None:
    """The message of a request.

    Raises:
        ParameterError: It is not written in hexadecimal digits.
    """
    digits = (getattr(params, "extra_args", None) or {}).get(PAYLOAD)
    try:
        return None if digits is None else bytes.fromhex(digits)
    except (TypeError, ValueError):
        raise ParameterError(f"{PAYLOAD} is a message in hexadecimal digits, such as '00ff', not {digits!r}") from None


def _truncate(row: torch.Tensor, params: Any) -> None:
    """Temperature, min-p, top-k and top-p of a request, in vLLM's order; in place."""
    row /= params.temperature
    if params.min_p > 0:
        row[row < row.max() + float(np.log(params.min_p))] = -torch.inf
    if 0 < params.top_k < len(row):
        row[row < row.topk(params.top_k).values[-1]] = -torch.inf
    if params.top_p < 1:
        values, order = row.sort()
        gone = values.softmax(0).cumsum(0) <= 1 - params.top_p
        gone[-1] = False
        row[order[gone]] = -torch.inf


def _for_tokens(scheme: Any) -> TextScheme:
    if not isinstance(scheme, TextScheme):
        raise ParameterError(f"texts are marked by a scheme for tokens, such as llm.gumbel: {scheme}")
    return scheme
