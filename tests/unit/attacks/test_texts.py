"""What the attacks on text do to words."""

from __future__ import annotations

import os
import sys
import tarfile
import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from watermark.attacks import Given, texts
from watermark.errors import MediaError, MissingExtraError, ParameterError

WORDS = [f"w{n}" for n in range(200)]
TEXT = " ".join(WORDS)
IDS = np.arange(200, dtype=np.int32)


def test_words_are_found_and_joined_without_loss():
    for text in ("  a  b\nc ", "猫は 動く。Yes!", "", " \n", "one", "x\u3000y"):
        assert "".join(texts._words(text)) == text
    assert texts._words(" a b猫は。 c") == [" a ", "b", "猫", "は", "。 ", "c"]


def test_shares_of_words():
    assert len(texts.Delete.at(share=0.3)(TEXT, 1).split()) == 140
    assert len(texts.Insert.at(share=0.3)(TEXT, 1).split()) == 260
    assert len(texts.Truncate.at(keep=0.25)(TEXT, 1).split()) == 50
    replaced = texts.Substitute.at(share=0.3)(TEXT, 1).split()
    assert len(replaced) == 200
    assert 55 <= sum(a != b for a, b in zip(replaced, WORDS, strict=True)) <= 60
    assert set(replaced) <= set(WORDS)
    assert texts.Truncate.at(keep=0.5)(TEXT, 1).split() == WORDS[:100]


@pytest.mark.parametrize("attack", [texts.Delete(0.4), texts.Insert(0.4), texts.Substitute(0.4), texts.Truncate(0.4)])
def test_token_ids_are_edited_as_words_are(attack):
    result = attack(IDS, 1)
    assert result.dtype == np.int32
    assert [f"w{n}" for n in result] == attack(TEXT, 1).split()


def test_substitutes_take_the_blanks_of_their_place():
    blanks = [word for word in texts.Substitute(1.0)("a\n\nb  c\td", 1) if word.isspace()]
    assert "".join(blanks) == "\n\n  \t"


@pytest.mark.parametrize(("media", "clean"), [(TEXT, "clean " * 300), (IDS, np.full(30, 999))])
def test_dilution_keeps_length_and_share(media, clean):
    result = texts.Dilute.at(keep=0.25)(media, 4, Given(clean=[clean]))
    units = result.split() if isinstance(result, str) else result.tolist()
    source = WORDS if isinstance(media, str) else IDS.tolist()
    kept = [place for place, unit in enumerate(units) if unit in set(source)]
    assert len(units) == 200
    assert [units[place] for place in kept] == source[:50]
    assert 2 <= 1 + sum(b - a > 1 for a, b in pairwise(kept)) <= 3


def test_dilution_wants_media_of_the_same_kind():
    for clean in (np.arange(5), "", 3):
        with pytest.raises(MediaError):
            texts.Dilute()(TEXT, 1, Given(clean=[clean]))
    with pytest.raises(MediaError, match="int32"):
        texts.Dilute()(IDS, 1, Given(clean=[np.array([2**40])]))
    with pytest.raises(ParameterError, match="clean"):
        texts.Dilute()(TEXT, 1)


def test_sentences_move_whole():
    text = "One is here. Is two? Yes!\nThree. 四です。五です。Six"
    result = texts.ShuffleSentences(1.0)(text, 3)
    assert result != text
    assert sorted(result.split()) == sorted(f"{text} ".split()) or len(result) in (len(text), len(text) + 1)
    assert texts.ShuffleSentences(0.0)(text, 3).rstrip() == text
    for sentence in ("One is here.", "Is two?", "Yes!", "Three.", "四です。", "五です。", "Six"):
        assert sentence in result


def test_lookalikes_and_characters_without_width():
    assert len(texts._LOOKALIKES) == 26
    glyphs = texts.Homoglyphs(1.0)("Some plain copy", 1)
    assert len(glyphs) == len("Some plain copy")
    # S o e p a i c o p y have a lookalike; the strongest attack takes half of them.
    assert sum(a != b for a, b in zip(glyphs, "Some plain copy", strict=True)) == 5
    hidden = texts.ZeroWidth.at(share=0.5)(TEXT, 1)
    assert hidden.translate(dict.fromkeys(map(ord, texts.ZeroWidth._CHARACTERS))) == TEXT
    assert len(hidden) == len(TEXT) + round(len(TEXT) / 2)


def test_models_of_others():
    attack = texts.Paraphrase(model=str.upper)
    assert attack("some text", 1) == "SOME TEXT"
    assert "upper" not in repr(attack)
    with pytest.raises(ParameterError, match="callable"):
        texts.Translate(model="model")
    with pytest.raises(MediaError, match="returned list"):
        texts.Translate(model=str.split)("some text", 1)


def test_synonyms_come_from_wordnet(monkeypatch):
    table = {"Big": ["big", "large", "great_deal"], "cat": ["cat", "feline"], "in": ["In", "indium"]}
    synsets = [SimpleNamespace(lemma_names=lambda n=n: table[n]) for n in table]
    wordnet = SimpleNamespace(synsets=lambda word: [s for n, s in zip(table, synsets, strict=True) if n == word])
    monkeypatch.setitem(sys.modules, "nltk", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "nltk.corpus", SimpleNamespace(wordnet=wordnet))
    texts._synonyms.cache_clear()
    assert texts.Synonyms(1.0)("(Big)  cat, sat in.", 1) == "(Large)  feline, sat in."
    assert texts.Synonyms(0.0)("(Big)  cat, sat in.", 1) == "(Big)  cat, sat in."
    for error in (LookupError, OSError):

        def fail(word, error=error):
            raise error

        texts._synonyms.cache_clear()
        wordnet.synsets = fail
        with pytest.raises(MediaError, match=r"nltk\.downloader wordnet; offline, .*NLTK_DATA"):
            texts.Synonyms(1.0)("cat", 1)
    monkeypatch.setitem(sys.modules, "nltk.corpus", None)
    with pytest.raises(MissingExtraError, match="text"):
        texts.Synonyms(1.0)("cat", 1)


@pytest.fixture
def wordnet(tmp_path, monkeypatch):
    """NLTK with the real WordNet 3.0 in the layout that it looks for."""
    nltk = pytest.importorskip("nltk")
    packed = Path(os.environ.get("WATERMARK_DATA", "/nonexistent")) / "lexical" / "wordnet30_db.tar.xz"
    if not packed.is_file():
        pytest.skip("no WordNet in $WATERMARK_DATA")
    folder = tmp_path / "corpora" / "wordnet"
    folder.mkdir(parents=True)
    with tarfile.open(packed) as archive:
        for member in archive:
            if member.isfile():
                (folder / Path(member.name).name).write_bytes(archive.extractfile(member).read())
    # What NLTK opens besides: names of groups of senses, and a map between versions, neither of which is used.
    (folder / "lexnames").write_text("".join(f"{n:02} group.{n} 1\n" for n in range(45)))
    (folder / "index.sense").touch()
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    from nltk.corpus import wordnet

    wordnet._unload()
    texts._synonyms.cache_clear()
    yield folder
    wordnet._unload()
    texts._synonyms.cache_clear()


def test_synonyms_of_the_real_wordnet(wordnet):
    assert texts._synonyms("car") == ("auto", "automobile", "gondola", "machine", "motorcar", "railcar")
    assert texts._synonyms("Cars") == ("Auto", "Automobile", "Car", "Gondola", "Machine", "Motorcar", "Railcar")
    # Nothing of indium, astatine, Oregon, the United States, Charles Darwin, the month, and the letter a.
    assert texts._synonyms("in") == ("inch", "inward", "inwards")
    assert [texts._synonyms(word) for word in ("at", "or", "us", "Darwin", "xyzzy")] == [()] * 5
    assert texts._synonyms("may") == ("whitethorn",)
    assert texts._synonyms("as") == ("equally",)
    text = "The old car was standing near the small house, and a young woman quickly opened its heavy door. " * 5
    for share in (0.25, 0.5, 1.0):
        result = texts.Synonyms.at(share=share)(text, 1)
        pairs = list(zip(text.split(), result.split(), strict=True))
        changed = [(old.strip(".,"), new.strip(".,")) for old, new in pairs if old != new]
        assert all(new in texts._synonyms(old) for old, new in changed)
        able = sum(bool(texts._synonyms(old.strip(".,"))) for old, _ in pairs)
        assert len(changed) <= min(able, round(share * len(pairs)))
        assert len(changed) >= share * len(pairs) / 3
    assert len(changed) == able


def test_an_incomplete_wordnet_is_named(wordnet):
    (wordnet / "lexnames").unlink()
    with pytest.raises(MediaError, match="complete WordNet"):
        texts.Synonyms(1.0)("cat", 1)


@pytest.mark.parametrize("unit", [" ", "!", "a", '." ', "猫", "。", "\n"])
@pytest.mark.parametrize("cls", [texts.Delete, texts.Insert, texts.Substitute, texts.ShuffleSentences])
def test_time_is_linear(cls, unit):
    started = time.process_time()
    cls(0.5)(unit * (100_000 // len(unit)), 1)
    assert time.process_time() - started < 5
