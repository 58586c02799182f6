"""Attacks on text. Those on words work on arrays of token ids as well, each id being a word."""

from __future__ import annotations

import re
from abc import abstractmethod
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from watermark.attacks.attack import Attack, Given, Span
from watermark.errors import MediaError, MissingExtraError, ParameterError

if TYPE_CHECKING:
    from collections.abc import Callable

    from watermark.attacks.attack import Need

# Scripts that set no spaces between words: each character counts as one.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_WORD = re.compile(rf"(?:[{_UNSPACED}]|[^\s{_UNSPACED}]++)\s*+")
_LETTERS = re.compile(r"\w++(?:['’-]\w++)*+")
_SENTENCE_END = re.compile(r"(?<![.!?])[.!?]++[\"'”’)\]]*+\s++|[。！？]++\s*+|\n++")


class WordAttack(Attack):
    """An attack on a text (str) or on its token ids (a one-dimensional NumPy array of whole numbers)."""

    def _attack(self, media: Any, rng: np.random.Generator, given: Given) -> Any:
        edited = self._edit(_words(media), rng, given)
        if isinstance(media, str):
            return "".join(edited)
        try:
            return np.array(edited, dtype=media.dtype)
        except OverflowError as error:
            raise MediaError(f"token ids of the clean texts do not fit into {media.dtype}") from error

    @abstractmethod
    def _edit(self, words: list[Any], rng: np.random.Generator, given: Given) -> list[Any]:
        """Attacks a list of words, each with the blanks around it, or of ids."""


class TextAttack(Attack):
    """An attack on a text (str)."""

    def _attack(self, media: Any, rng: np.random.Generator, given: Given) -> Any:
        if not isinstance(media, str):
            raise MediaError(f"{self.name} takes a str, not {type(media).__name__}")
        return self._rewrite(media, rng)

    @abstractmethod
    def _rewrite(self, text: str, rng: np.random.Generator) -> str:
        """Attacks a text."""


def _words(media: Any) -> list[Any]:
    if isinstance(media, str):
        first = len(media) - len(media.lstrip())
        words: list[Any] = _WORD.findall(media, first) or [""] * bool(media)
        return [media[:first] + words[0], *words[1:]] if words else []
    if isinstance(media, np.ndarray) and media.ndim == 1 and media.dtype.kind in "iu":
        ids: list[Any] = media.tolist()
        return ids
    raise MediaError("a text is a str, or a one-dimensional NumPy array of token ids")


def _chosen(count: int, share: float, rng: np.random.Generator) -> list[int]:
    """A share of `count` places in rising order. Larger shares contain smaller ones."""
    return sorted(rng.permutation(count)[: round(share * count)].tolist())


def _spliced(word: Any, like: Any) -> Any:
    """A word with the blanks of the place that it is put in."""
    if not isinstance(word, str):
        return word
    bare = like.strip()
    start = like.index(bare)
    return like[:start] + word.strip() + like[start + len(bare) :]


def _apart(word: Any) -> Any:
    """A word with the blank that its script sets between words."""
    if not isinstance(word, str):
        return word
    bare = word.strip()
    return bare if re.match(f"[{_UNSPACED}]", bare) else f"{bare} "


class Delete(WordAttack):
    """Deletes a share of the words."""

    name = "text.delete"
    source = "MarkLLM"
    share = Span(0, 0.5)

    def _edit(self, words: list[Any], rng: np.random.Generator, given: Given) -> list[Any]:
        gone = set(_chosen(len(words), self.share, rng))
        return [word for place, word in enumerate(words) if place not in gone]


class Insert(WordAttack):
    """Inserts words of the text itself, a share of their number, at random places."""

    name = "text.insert"
    share = Span(0, 0.5)

    def _edit(self, words: list[Any], rng: np.random.Generator, given: Given) -> list[Any]:
        places = set(_chosen(len(words), self.share, rng))
        drawn = rng.integers(0, max(1, len(words)), len(words))
        result: list[Any] = []
        for place, word in enumerate(words):
            if place in places:
                result.append(_apart(words[drawn[place]]))
            result.append(word)
        return result


class Substitute(WordAttack):
    """Replaces a share of the words by random words of the text itself."""

    name = "text.substitute"
    share = Span(0, 0.5)

    def _edit(self, words: list[Any], rng: np.random.Generator, given: Given) -> list[Any]:
        drawn = rng.integers(0, max(1, len(words)), len(words))
        result = list(words)
        for place in _chosen(len(words), self.share, rng):
            result[place] = _spliced(words[drawn[place]], words[place])
        return result


class Truncate(WordAttack):
    """Keeps the first words."""

    name = "text.truncate"
    keep = Span(1, 0.1)

    def _edit(self, words: list[Any], rng: np.random.Generator, given: Given) -> list[Any]:
        return words[: max(1, round(self.keep * len(words)))]


class Dilute(WordAttack):
    """Copy and paste: the first words of the text in three pieces, spread over a clean one; the length stays.

    The clean words come from one of ``given.clean``, from a random place on, and around to its start where it is short.
    Kirchenbauer et al., "On the reliability of watermarks for large language models", ICLR 2024.
    """

    name = "text.dilute"
    source = "Kirchenbauer et al. 2024"
    needs = frozenset({"references"})
    keep = Span(0.8, 0.1)

    _PIECES = 3

    def _edit(self, words: list[Any], rng: np.random.Generator, given: Given) -> list[Any]:
        texts = self._require(given.clean, "clean")
        clean = _words(texts[int(rng.integers(len(texts)))])
        if not clean or (words and isinstance(words[0], str) != isinstance(clean[0], str)):
            raise MediaError("the clean texts must hold words, and be what the text is: str or token ids")
        count = round(self.keep * len(words))
        start = int(rng.random() * len(clean))
        cover = [clean[(start + n) % len(clean)] for n in range(len(words) - count)]
        cuts = np.sort(rng.random(self._PIECES))
        result: list[Any] = []
        for piece in range(self._PIECES + 1):
            low, high = (round(len(cover) * edge) for edge in (0, *cuts, 1)[piece : piece + 2])
            result += cover[low:high]
            result += words[count * piece // self._PIECES : count * (piece + 1) // self._PIECES]
        return [
            word if not isinstance(word, str) or word[-1].isspace() else f"{word} " for word in result[: len(words)]
        ]


class Synonyms(TextAttack):
    """Replaces a share of the words by a synonym from WordNet, where it has one. Needs NLTK and its WordNet corpus."""

    name = "text.synonyms"
    source = "MarkLLM"
    share = Span(0, 1)

    def _rewrite(self, text: str, rng: np.random.Generator) -> str:
        words = _words(text)
        draws = rng.random(len(words))
        for place in _chosen(len(words), self.share, rng):
            word = words[place]
            core = _LETTERS.search(word)
            synonyms = _synonyms(core[0]) if core else ()
            if core and synonyms:
                new = synonyms[int(draws[place] * len(synonyms))]
                words[place] = word[: core.start()] + new + word[core.end() :]
        return "".join(words)


@lru_cache(maxsize=2**15)
def _synonyms(word: str) -> tuple[str, ...]:
    """Single words that share a meaning with a word, in the alphabet's order and the word's case."""
    try:
        from nltk.corpus import wordnet
    except ImportError as error:
        raise MissingExtraError("nltk", "text") from error
    try:
        senses = [set(synset.lemma_names()) for synset in wordnet.synsets(word)]
    except (LookupError, OSError) as error:  # no corpus, or one that lacks files
        raise MediaError(
            "NLTK finds no complete WordNet: python -m nltk.downloader wordnet; offline, put its wordnet.zip into a "
            "folder corpora, and the path of the folder around that into the environment variable NLTK_DATA"
        ) from error
    lower = word.lower()
    # Names and symbols are other words ("in" is no indium), and so is what a word of two letters were the plural of.
    meant = [s for s in senses if lower in s or (len(lower) > 2 and lower not in map(str.lower, s))]
    found = sorted({lemma for sense in meant for lemma in sense if lemma.isalpha() and lemma.islower()} - {lower})
    return tuple(lemma.capitalize() for lemma in found) if word[:1].isupper() else tuple(found)


class ShuffleSentences(TextAttack):
    """Moves a share of the sentences to each other's places."""

    name = "text.shuffle_sentences"
    share = Span(0, 1)

    def _rewrite(self, text: str, rng: np.random.Generator) -> str:
        ends = [match.end() for match in _SENTENCE_END.finditer(text)]
        sentences = [text[start:end] for start, end in zip([0, *ends], [*ends, len(text)], strict=True) if end > start]
        if sentences and not sentences[-1][-1].isspace() and len(sentences) > 1:
            sentences[-1] += " "
        places = _chosen(len(sentences), self.share, rng)
        result = list(sentences)
        for place, source in zip(places, rng.permutation(places).tolist(), strict=True):
            result[place] = sentences[source]
        return "".join(result)


_LOOKALIKES = str.maketrans(
    "ABCEHIJKMOPSTXYacehijopsxy",
    "\u0410\u0412\u0421\u0415\u041d\u0406\u0408\u041a\u041c\u041e\u0420\u0405\u0422\u0425\u03a5"
    "\u0430\u0441\u0435\u04bb\u0456\u0458\u043e\u0440\u0455\u0445\u0443",
)


class Homoglyphs(TextAttack):
    """Replaces a share of the letters that have a Cyrillic or Greek lookalike by it."""

    name = "text.homoglyphs"
    share = Span(0, 0.5)

    def _rewrite(self, text: str, rng: np.random.Generator) -> str:
        letters = list(text)
        able = [place for place, letter in enumerate(letters) if ord(letter) in _LOOKALIKES]
        for number in _chosen(len(able), self.share, rng):
            letters[able[number]] = letters[able[number]].translate(_LOOKALIKES)
        return "".join(letters)


class ZeroWidth(TextAttack):
    """Puts characters without width (zero-width space, non-joiner, joiner) behind a share of the letters."""

    name = "text.zero_width"
    share = Span(0, 0.5)

    _CHARACTERS = "\u200b\u200c\u200d"

    def _rewrite(self, text: str, rng: np.random.Generator) -> str:
        letters = list(text)
        drawn = rng.integers(0, len(self._CHARACTERS), len(letters))
        for place in _chosen(len(letters), self.share, rng):
            letters[place] += self._CHARACTERS[drawn[place]]
        return "".join(letters)


@dataclass(frozen=True, repr=False)
class Rewrite(TextAttack):
    """Hands the text to a model of yours, and checks that text comes back.

    The attack repeats itself, and goes to worker processes, as far as the model does. The strength means nothing.

    Args:
        model: Takes a text, returns a text.
    """

    model: Callable[[str], str] = field(kw_only=True)

    needs: ClassVar[frozenset[Need]] = frozenset({"model"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if not callable(self.model):
            raise ParameterError(f"{self.name} takes a callable from text to text, not {type(self.model).__name__}")

    def _rewrite(self, text: str, rng: np.random.Generator) -> str:
        result = self.model(text)
        if not isinstance(result, str):
            raise MediaError(f"the model of {self.name} returned {type(result).__name__}, not str")
        return result


class Translate(Rewrite):
    """Translation to another language and back, by a model of yours."""

    name = "text.translate"
    source = "MarkLLM"


class Paraphrase(Rewrite):
    """The same content in other words, by a model of yours: polishing, DIPPER, a language model with a prompt."""

    name = "text.paraphrase"
    source = "MarkLLM, DIPPER"


ATTACKS: tuple[type[Attack], ...] = (
    Delete, Insert, Substitute, Truncate, Dilute,
    Synonyms, ShuffleSentences, Homoglyphs, ZeroWidth, Translate, Paraphrase,
)  # fmt: skip
