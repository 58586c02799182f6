"""Items: found, told apart by content, split."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest

from watermark import MediaError, ParameterError, media
from watermark.evaluation.corpus import SPLITS, Corpus


def test_a_split_is_a_partition_and_repeats_itself():
    corpus = Corpus.of(1000, "latent", "numbers")
    splits = corpus.split((0.25, 0.25, 0.5), 16, seed=1)
    assert [len(splits[name]) for name in SPLITS] == [246, 246, 492, 16]
    names = [item.name for items in splits.values() for item in items]
    assert sorted(names, key=int) == [str(number) for number in range(1000)]
    assert splits == corpus.split((0.25, 0.25, 0.5), 16, seed=1)
    assert splits != corpus.split((0.25, 0.25, 0.5), 16, seed=2)


def test_the_split_does_not_depend_on_names(tmp_path, photos):
    for folder, names in (("a", range(12)), ("b", range(11, -1, -1))):
        (tmp_path / folder).mkdir()
        for name, picture in zip(names, photos(12), strict=True):
            media.write(picture, tmp_path / folder / f"{name:02}.png")
    one, other = (Corpus.of(tmp_path / folder, "image", "media") for folder in "ab")
    assert one.digest == other.digest
    digests = [{n: [i.digest for i in s] for n, s in c.split((0.3, 0.3, 0.4), 2, 0).items()} for c in (one, other)]
    assert digests[0] == digests[1]


def test_pictures_come_as_eight_bits_of_rgb(tmp_path):
    rng = np.random.default_rng(1)
    grey = rng.integers(0, 256, (40, 60), np.uint8)
    alpha = PIL.Image.fromarray(rng.integers(0, 256, (40, 60, 4), np.uint8), "RGBA")
    deep = rng.random((40, 60, 3)).astype(np.float32)
    corpus = Corpus.of([grey, alpha, deep], "image", "media", size=32)
    for item in corpus.items:
        picture = corpus.read(item)
        assert (picture.shape, picture.dtype) == ((32, 32, 3), np.uint8)
    whole = Corpus.of([deep], "image", "media")
    assert np.array_equal(whole.read(whole.items[0]), np.rint(deep * 255).astype(np.uint8))


def test_prompts_and_texts(tmp_path):
    (tmp_path / "prompts.txt").write_text("a cat\n\n a dog \na cat\n", encoding="utf-8")
    prompts = Corpus.of(tmp_path / "prompts.txt", "image", "prompts")
    assert {prompts.read(item) for item in prompts.items} == {"a cat", "a dog"}
    assert prompts.repeated == 1
    texts = Corpus.of(tmp_path, "text", "media")
    assert texts.read(texts.items[0]) == "a cat\n\n a dog \na cat\n"
    (tmp_path / "long.txt").write_bytes(b"x" * ((1 << 20) + 1))
    long = Corpus.of([tmp_path / "long.txt"], "text", "media")
    with pytest.raises(MediaError, match="1 MiB"):
        long.read(long.items[0])


def test_fewer_items_are_chosen_by_content(photos):
    pictures = photos(10)
    some = Corpus.of(pictures, "image", "media", most=4)
    again = Corpus.of(pictures[::-1], "image", "media", most=4)
    assert [item.digest for item in some.items] == [item.digest for item in again.items]


@pytest.mark.parametrize(
    ("given", "error"), [("nowhere", FileNotFoundError), ([], ParameterError), (7, ParameterError), ([3], MediaError)]
)
def test_what_is_no_corpus_is_refused(given, error, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error):
        Corpus.of(given, "image", "media")


def test_names_of_files_are_no_texts(tmp_path, photos):
    for number, picture in enumerate(photos(3)):
        media.write(picture, tmp_path / f"{number}.png")
    paths = sorted(tmp_path.iterdir())
    assert Corpus.of([str(path) for path in paths], "image", "media") == Corpus.of(paths, "image", "media")
    assert Corpus.of(["a.txt"], "text", "media").items[0].content == "a.txt"
