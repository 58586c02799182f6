"""Marks in texts that models of transformers write, and the marks of transformers itself.

model, tokenizer = AutoModelForCausalLM.from_pretrained(...), AutoTokenizer.from_pretrained(...)
scheme = watermark.load("llm.gumbel", key, vocab_size=model.config.vocab_size, tokenizer=fingerprint(tokenizer))
model.generate(**inputs, watermarking_config=MarkingConfig(scheme))

marked = MarkedModel(model, tokenizer, scheme)
texts = marked.generate(["Once upon a time"], do_sample=True, max_new_tokens=200)
found = marked.detect(texts)
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from watermark import prf
from watermark.errors import MediaError, MissingExtraError, ParameterError, PayloadError
from watermark.integrations.tokenizer import MAX_TEXT_BYTES, fingerprint, require
from watermark.llm.engine import Generation, TextScheme
from watermark.llm.keys import EngineKey
from watermark.scheme import load

try:
    import torch
    import transformers
    from transformers.generation.configuration_utils import BaseWatermarkingConfig
except ImportError as error:
    raise MissingExtraError("transformers", "llm") from error

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from watermark.detection import Detections

__all__ = ["MarkProcessor", "MarkedModel", "MarkingConfig", "detector", "fingerprint"]


def detector(config: Any, *, vocab_size: int, tokenizer: str | None = None) -> TextScheme:
    """The scheme that reads, and writes, the marks of a configuration of transformers.

    Green lists are those of a model on the CPU: torch shuffles in another way on other devices, and transformers'
    detector, too, reads only what was written on its device.

    Args:
        config: `transformers.WatermarkingConfig` or `transformers.SynthIDTextWatermarkingConfig`.
        vocab_size: ``model.config.vocab_size`` of the model that wrote, on which green lists depend.
        tokenizer: Its tokenizer's fingerprint, if it shall be compared.

    Returns:
        `llm.greenlist` with prf "hf-kgw", or `llm.synthid` with prf "hf-synthid". Its key is an `EngineKey` of the
        configuration's own numbers.

    Raises:
        ParameterError: It is another configuration, or not a valid one.
        InvalidKeyError: A key of it is out of range.
    """
    name, key, parameters = _settings(config)
    found: TextScheme = load(name, key, vocab_size=vocab_size, tokenizer=tokenizer, **parameters)
    return found


def _settings(config: Any) -> tuple[str, EngineKey, dict[str, Any]]:
    """A scheme's name, key and parameters."""
    green = isinstance(config, transformers.WatermarkingConfig)
    if not green and not isinstance(config, transformers.SynthIDTextWatermarkingConfig):
        raise ParameterError(
            f"a WatermarkingConfig or SynthIDTextWatermarkingConfig is read, not {type(config).__name__}"
        )
    try:
        config.validate()
    except ValueError as error:
        raise ParameterError(f"transformers refuses this configuration: {error}") from error
    if green:
        return (
            "llm.greenlist",
            EngineKey([config.hashing_key]),
            {
                "prf": "hf-kgw",
                "gamma": config.greenlist_ratio,
                "delta": config.bias,
                "seeding": {"lefthash": "left", "selfhash": "self"}[config.seeding_scheme],
                "width": config.context_width,
            },
        )
    return (
        "llm.synthid",
        EngineKey(config.keys),
        {
            "prf": "hf-synthid",
            "depth": len(config.keys),
            "width": config.ngram_len - 1,
            "table_size": config.sampling_table_size,
            "table_seed": config.sampling_table_seed,
        },
    )


class MarkProcessor(transformers.LogitsProcessor):  # type: ignore[misc]
    """A logits processor that marks the texts of one call of ``generate``.

    It must come last, after temperature, top-k and the like; `MarkingConfig` sees to that. Rows may be reordered
    (beams), tokens may be taken back (assisted generation), and padding may stand on the left.

    Args:
        scheme: A scheme for tokens.
        payload: The message; bytes for all texts, or one for each prompt, which is repeated for its beams and its
            ``num_return_sequences``. None leaves it empty.
        rng: Source of the fresh randomness, as in `TextScheme.start`.

    Raises:
        ParameterError: The scheme is for something else.
        PayloadError: A message does not fit.
    """

    def __init__(
        self, scheme: TextScheme, payload: bytes | Sequence[bytes | None] | None = None, rng: Any = None
    ) -> None:
        self.scheme = _for_tokens(scheme)
        self._payload, self._rng = payload, rng
        self._generation: Generation | None = None
        scheme.start(payload)  # refuses what does not fit before the model runs

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """The scores of the next token, marked.

        Args:
            input_ids: Prompts and what was written so far, integers of shape (rows, length).
            scores: Logits of shape (rows, vocabulary); left as they are.

        Returns:
            A tensor like `scores`.

        Raises:
            PayloadError: The number of messages does not divide the number of rows.
            MediaError: The scores are not finite, or fewer than the scheme has tokens.
        """
        if self._generation is None:
            self._generation = self.scheme.start(self._payload_of_rows(len(scores)), rng=self._rng)
        # On the CPU the engine takes float32 only.
        dtype = scores.dtype if scores.is_cuda else torch.float32
        logits = scores.detach().to(dtype, copy=True, memory_format=torch.contiguous_format)
        return self._generation.apply(input_ids, logits).to(scores.dtype)  # type: ignore[no-any-return]

    def _payload_of_rows(self, rows: int) -> bytes | Sequence[bytes | None] | None:
        if not isinstance(self._payload, (list, tuple)):
            return self._payload
        if not self._payload or rows % len(self._payload):
            raise PayloadError(f"pass one message as bytes, or one per prompt: {len(self._payload)} do not fit {rows}")
        return [message for message in self._payload for _ in range(rows // len(self._payload))]


class MarkingConfig(BaseWatermarkingConfig):  # type: ignore[misc]
    """What ``model.generate(..., watermarking_config=...)`` takes, for any scheme for tokens.

    Its dictionary names the scheme without the secret, so a saved generation configuration cannot be loaded again: set
    the mark anew in every process.

    Args:
        scheme: A scheme for tokens.
        payload: As in `MarkProcessor`.
        rng: As in `MarkProcessor`.

    Raises:
        ParameterError: The scheme is for something else.
        PayloadError: A message does not fit.
    """

    def __init__(
        self, scheme: TextScheme, payload: bytes | Sequence[bytes | None] | None = None, rng: Any = None
    ) -> None:
        self.scheme, self.payload, self.rng = scheme, payload, rng
        self.validate()

    def validate(self) -> None:
        """Checks the settings.

        Raises:
            ParameterError: The scheme is for something else.
            PayloadError: A message does not fit.
        """
        MarkProcessor(self.scheme, self.payload)

    def construct_processor(self, vocab_size: int, device: Any = None) -> MarkProcessor:
        """The processor of one call of ``generate``.

        Args:
            vocab_size: Number of columns of the model's logits.
            device: Where they lie; the processor follows them anywhere.

        Raises:
            ParameterError: The scheme has more tokens than the model.
        """
        if vocab_size < self.scheme.parameters.vocab_size:
            raise ParameterError(
                f"the scheme has {self.scheme.parameters.vocab_size} tokens, and the model has {vocab_size}"
            )
        return MarkProcessor(self.scheme, self.payload, self.rng)

    @classmethod
    def from_dict(cls, config_dict: Any, **_: Any) -> NoReturn:
        """There is no way back from a dictionary, which holds no secret.

        Raises:
            ParameterError: Always.
        """
        raise ParameterError("a MarkingConfig is made from a scheme: its dictionary does not hold the secret")

    def to_dict(self) -> dict[str, Any]:
        """The scheme's profile, which holds no secret."""
        return {"watermark_profile": json.loads(self.scheme.profile())}

    def to_json_string(self) -> str:
        """The same as JSON."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

    def __iter__(self) -> Any:
        yield from self.to_dict().items()

    def __repr__(self) -> str:
        return f"MarkingConfig({self.scheme!r})"

    def __deepcopy__(self, memo: Any) -> MarkingConfig:
        return self  # transformers copies configurations freely; the tables of a scheme need not be made again


class MarkedModel:
    """A language model whose texts carry a mark, and the detector of such texts.

    Args:
        model: A model of transformers that has ``generate``.
        tokenizer: Its tokenizer.
        scheme: A scheme for tokens.

    Raises:
        ParameterError: The scheme is for something else, for another tokenizer, or has more tokens than the model.
    """

    modality, source = "text", "prompts"
    """What `watermark.evaluation` marks with it, and from what."""

    def __init__(self, model: Any, tokenizer: Any, scheme: TextScheme) -> None:
        self.scheme = _for_tokens(scheme)
        require(scheme, tokenizer)
        MarkingConfig(scheme).construct_processor(model.config.get_text_config().vocab_size)
        self.model, self.tokenizer = model, tokenizer

    def generate(
        self,
        prompts: str | Sequence[str],
        payload: bytes | Sequence[bytes | None] | None = None,
        *,
        rng: Any = None,
        **named: Any,
    ) -> list[str]:
        """Writes marked texts.

        Args:
            prompts: One prompt or several.
            payload: The message; bytes for all texts, or one for each prompt. None leaves it empty.
            rng: Source of the mark's fresh randomness, as in `TextScheme.start`. What transformers samples it draws
                from torch's global generator.
            **named: Arguments of the model's ``generate``, such as ``do_sample=True`` and ``max_new_tokens=200``.

        Returns:
            The texts without their prompts and special tokens: of the first prompt, then of the second.

        Raises:
            PayloadError: A message does not fit, or their number is not that of the prompts.
            ParameterError: Several prompts, and a tokenizer that cannot pad.
        """
        texts = [prompts] if isinstance(prompts, str) else list(prompts)
        if isinstance(payload, (list, tuple)) and len(payload) != len(texts):
            raise PayloadError(f"there are {len(texts)} prompts and {len(payload)} messages")
        return self._write(texts, watermarking_config=MarkingConfig(self.scheme, payload, rng), **named)

    def _write(self, texts: list[str], **named: Any) -> list[str]:
        if len(texts) > 1 and self.tokenizer.pad_token_id is None:
            raise ParameterError("the tokenizer cannot pad: set tokenizer.pad_token = tokenizer.eos_token first")
        inputs = self.tokenizer(texts, return_tensors="pt", padding=len(texts) > 1, padding_side="left")
        written = self.model.generate(
            input_ids=inputs["input_ids"].to(self.model.device),
            attention_mask=inputs["attention_mask"].to(self.model.device),
            **named,
        )
        rows = written if isinstance(written, torch.Tensor) else written.sequences
        begin = 1 if self.model.config.is_encoder_decoder else inputs["input_ids"].shape[1]
        found: list[str] = self.tokenizer.batch_decode(
            rows[:, begin:], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return found

    def detect(self, texts: Iterable[str]) -> Detections:
        """The verdicts on texts, in their order.

        Args:
            texts: Texts without their prompts.

        Raises:
            MediaError: `texts` is one text instead of many, or an item is no text, or one of more than 1 MiB.
        """
        if isinstance(texts, (str, bytes)):
            raise MediaError("pass a list of texts, not one text")
        return self.scheme.detect_batch([self._tokens(text) for text in texts])

    def detect_batch(self, media: Iterable[str]) -> Detections:
        """The same: the seam of the evaluation."""
        return self.detect(media)

    def mark(self, item: str, payload: bytes | None = None, rng: Any = None) -> str:
        """One marked text for a prompt: the seam of the evaluation.

        Args:
            item: The prompt.
            payload: The message.
            rng: Source of all randomness, that of sampling included; torch's own generator is left as it was.

        Returns:
            The text, as the model's generation configuration shapes it.
        """
        if rng is None:
            return self.generate(item, payload)[0]
        with _seeded(source := prf.seed(rng)):
            return self.generate(item, payload, rng=int(source.wide(1, stream=1)[0]))[0]

    def clean(self, item: str, rng: int) -> str:
        """One text for a prompt without a mark: what `mark` is compared with.

        Args:
            item: The prompt.
            rng: Seed of sampling; torch's own generator is left as it was.
        """
        with _seeded(prf.seed(rng)):
            return self._write([item])[0]

    def _tokens(self, text: str) -> list[int]:
        if not isinstance(text, str):
            raise MediaError(f"a text is a str, not {type(text).__name__}")
        if len(text.encode("utf-8", "surrogatepass")) > MAX_TEXT_BYTES:
            raise MediaError("texts of up to 1 MiB are read: split it")
        found: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return found


@contextmanager
def _seeded(source: prf.Prf) -> Iterator[None]:
    """Lets torch's global generator start from a source, and puts it back."""
    with torch.random.fork_rng():
        torch.manual_seed(int(source.wide(1)[0]) >> 1)
        yield


def _for_tokens(scheme: Any) -> TextScheme:
    if not isinstance(scheme, TextScheme):
        raise ParameterError(f"texts are marked by a scheme for tokens, such as llm.gumbel: {scheme}")
    return scheme
