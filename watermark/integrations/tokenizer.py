"""Tokenizers of texts: reading one from its folder, and its fingerprint.

A mark of an LLM lies in its tokens, and only the tokenizer that made them finds them again. A scheme can hold the
fingerprint of its tokenizer (`watermark.load(..., tokenizer=fingerprint(tokenizer))`); it goes into the profile, and a
detector refuses any other.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from watermark.errors import MissingExtraError, ParameterError

if TYPE_CHECKING:
    import os

__all__ = ["MAX_TEXT_BYTES", "fingerprint", "load", "require"]

MAX_TEXT_BYTES = 1 << 20
"""Longest text that is read, in UTF-8."""
_MAX_BYTES = 256 << 20
_STATE = ("padding", "truncation")  # what calls leave behind in a tokenizer


def load(folder: str | os.PathLike[str]) -> Any:
    """The tokenizer in a folder, as the package tokenizers knows it.

    Args:
        folder: What ``save_pretrained`` wrote. Read is its ``tokenizer.json``; where there is none, transformers makes
            the tokenizer of what there is. Nothing is downloaded, and no code from the folder is run.

    Returns:
        A `tokenizers.Tokenizer` that neither pads nor truncates.

    Raises:
        ParameterError: There is no tokenizer in the folder, or it cannot be read.
        MissingExtraError: The package tokenizers, or transformers, is missing.
    """
    path = Path(folder)
    if not path.is_dir():
        raise ParameterError(f"{path}: no such folder; pass the one that holds tokenizer.json")
    try:
        import tokenizers
    except ImportError as error:
        raise MissingExtraError("tokenizers", "llm") from error
    file = path / "tokenizer.json"
    try:
        if file.exists():
            if file.stat().st_size > _MAX_BYTES:
                raise ParameterError(f"{file}: larger than {_MAX_BYTES >> 20} MiB, which no tokenizer is")
            tokenizer = tokenizers.Tokenizer.from_file(str(file))
        else:
            tokenizer = _backend(_from_transformers(path))
    except (MissingExtraError, ParameterError):
        raise
    except Exception as error:  # tokenizers raises bare exceptions
        raise ParameterError(f"{path}: no tokenizer that can be read ({error})") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def fingerprint(tokenizer: Any) -> str:
    """SHA-256 of a tokenizer in its serialised form, without what calls leave behind in it (padding, truncation).

    Args:
        tokenizer: A `tokenizers.Tokenizer`, or a fast tokenizer of transformers.

    Returns:
        ``sha256:`` and 64 hexadecimal digits.

    Raises:
        ParameterError: It is neither.
    """
    fields = json.loads(_backend(tokenizer).to_str())
    lasting = {name: value for name, value in fields.items() if name not in _STATE}
    text = json.dumps(lasting, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def require(scheme: Any, tokenizer: Any) -> None:
    """Checks that a scheme is for this tokenizer, if it names one.

    Raises:
        ParameterError: It is for another.
    """
    expected = scheme.parameters.tokenizer
    if expected is not None and (found := fingerprint(tokenizer)) != expected:
        raise ParameterError(f"the scheme is for the tokenizer {expected}, and this one is {found}")


def _backend(tokenizer: Any) -> Any:
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if not hasattr(backend, "to_str"):
        raise ParameterError(
            f"a fast tokenizer is needed, one of the package tokenizers or based on it, not {type(tokenizer).__name__}"
        )
    return backend


def _from_transformers(path: Path) -> Any:
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise MissingExtraError("transformers", "llm") from error
    return AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
