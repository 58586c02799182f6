"""``watermark detect`` on texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import watermark
from watermark.cli import app, highlight

tokenizers = pytest.importorskip("tokenizers")
from watermark.integrations.tokenizer import fingerprint, load  # noqa: E402

KEY = watermark.Key.from_bytes(bytes(range(32)))
WORDS = 512


def make_tokenizer(words: int = WORDS) -> Any:
    """One token per word of three letters."""
    from tokenizers import models, pre_tokenizers

    vocabulary = {f"{chr(97 + i // 100)}{chr(97 + i // 10 % 10)}{chr(97 + i % 10)}": i for i in range(words - 1)}
    made = tokenizers.Tokenizer(models.WordLevel(vocabulary | {"?": words - 1}, unk_token="?"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key, a tokenizer, a profile, and texts with and without the mark."""
    root = tmp_path_factory.mktemp("texts")
    tokenizer = make_tokenizer()
    (root / "model").mkdir()
    tokenizer.save(str(root / "model" / "tokenizer.json"))
    scheme = watermark.load("llm.gumbel", KEY, vocab_size=WORDS, tokenizer=fingerprint(tokenizer))
    (root / "mark.json").write_text(scheme.profile())
    KEY.save(root / "studio.key")
    rng = np.random.default_rng(1)
    ids: list[int] = []
    generation = scheme.start(rng=1)
    for _ in range(120):
        logits = rng.standard_normal(WORDS).astype(np.float32)
        logits[-1] = -np.inf
        ids.append(int(np.argmax(generation.apply(np.array(ids, np.int64), logits))))
    words = {i: word for word, i in tokenizer.get_vocab().items()}
    marked = " ".join(words[i] for i in ids)
    plain = " ".join(words[i] for i in rng.integers(0, WORDS - 1, 120).tolist())
    (root / "in" / "deep").mkdir(parents=True)
    (root / "in" / "marked.txt").write_text(marked)
    (root / "in" / "deep" / "plain.md").write_text(f"<b>\n{plain}\n\x1b[31m")
    (root / "in" / "other.png").write_bytes(b"no text")
    lines = [json.dumps({"text": plain, "id": 1}), "", json.dumps({"text": marked}), "{", json.dumps({"words": 1})]
    (root / "in" / "many.jsonl").write_text("\n".join(lines))
    return root


def detect(folder: Path, *arguments: object, tokenizer: str | None = "model") -> tuple[int, str, str]:
    command = ["detect", *map(str, arguments), "-k", str(folder / "studio.key"), "--profile", str(folder / "mark.json")]
    command += ["--tokenizer", str(folder / tokenizer)] if tokenizer else []
    result = CliRunner().invoke(app, command)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_folders_hold_texts_and_lines_of_texts(folder: Path) -> None:
    code, output, _ = detect(folder, folder / "in", "--jsonl")
    rows = [json.loads(line) for line in output.splitlines()]
    by_name = {Path(row["path"]).name: row for row in rows}
    assert code == 2
    assert sorted(by_name) == ["many.jsonl:1", "many.jsonl:3", "many.jsonl:4", "many.jsonl:5", "marked.txt", "plain.md"]
    assert [name for name, row in by_name.items() if row.get("detected")] == ["many.jsonl:3", "marked.txt"]
    assert by_name["marked.txt"]["n"] == 120
    assert by_name["marked.txt"]["log10_p"] < -12
    assert by_name["many.jsonl:3"]["log10_p"] == by_name["marked.txt"]["log10_p"]
    assert "no line of JSON" in by_name["many.jsonl:4"]["error"]
    assert 'no field "text"' in by_name["many.jsonl:5"]["error"]


def test_exit_codes(folder: Path) -> None:
    assert detect(folder, folder / "in" / "marked.txt")[0] == 0
    code, output, _ = detect(folder, folder / "in" / "deep" / "plain.md")
    assert code == 1
    assert "no mark" in output


def test_texts_are_shown(folder: Path) -> None:
    code, output, _ = detect(folder, folder / "in" / "marked.txt", folder / "in" / "deep" / "plain.md", "--show")
    assert code == 0
    assert (folder / "in" / "marked.txt").read_text()[:60] in output
    assert "<b>" in output
    assert "\x1b" not in output


def test_maps_are_pages_of_marked_texts(folder: Path, tmp_path: Path) -> None:
    code, output, errors = detect(folder, folder / "in", "--maps", tmp_path / "maps")
    assert code == 2
    assert "Wrote 2 maps" in output
    assert "warning" not in errors
    written = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*"))
    assert written == ["maps/many.jsonl.3.tokens.html", "maps/marked.txt.tokens.html"]
    page = (tmp_path / written[1]).read_text()
    assert page.count("<span") == page.count("</span>") > 120
    assert not [word for word in ("http", "src=", "<script", "url(") if word in page]
    again = detect(folder, folder / "in" / "marked.txt", "--maps", tmp_path / "maps")
    assert again[0] == 2
    assert "--force" in again[2]
    assert detect(folder, folder / "in" / "marked.txt", "--maps", tmp_path / "maps", "--force")[0] == 0


def test_another_tokenizer_is_refused(folder: Path) -> None:
    (folder / "another").mkdir(exist_ok=True)
    make_tokenizer(WORDS - 1).save(str(folder / "another" / "tokenizer.json"))
    code, _, errors = detect(folder, folder / "in", tokenizer="another")
    assert code == 2
    assert "for the tokenizer sha256:" in errors
    assert "no such folder" in detect(folder, folder / "in", tokenizer="nowhere")[2]


def test_options_that_do_not_fit(folder: Path) -> None:
    assert "add --tokenizer" in detect(folder, folder / "in", tokenizer=None)[2]
    assert "--show" in detect(folder, folder / "in", "--show", "--json")[2]
    picture = ["detect", str(folder), "-k", str(folder / "studio.key")]
    for option in (["--tokenizer", str(folder / "model")], ["--show"]):
        assert CliRunner().invoke(app, [*picture, *option]).exit_code == 2


def test_files_that_are_no_texts(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_bytes(b"a " * (1 << 19) + b"b")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "long.jsonl").write_bytes(b'{"text": "' + b"a " * (5 << 20) + b'"}\n{"text": "aaa"}\n')
    (tmp_path / "rather.jsonl").write_bytes(b'{"text": "' + b"a " * (1 << 19) + b'b"}\n')
    code, output, _ = detect(folder, tmp_path, "--jsonl")
    rows = {Path(row["path"]).name: row for row in map(json.loads, output.splitlines())}
    assert code == 2
    assert "1 MiB" in rows["long.txt"]["error"]
    assert "UTF-8" in rows["binary.txt"]["error"]
    assert "1 MiB" in rows["long.jsonl:1"]["error"]
    assert "1 MiB" in rows["rather.jsonl:1"]["error"]
    assert rows["long.jsonl:2"]["n"] == 1
    assert rows["empty.txt"]["p_value"] == 1
    assert rows["empty.txt"]["n"] == 0


def test_embed_takes_no_scheme_for_tokens(folder: Path) -> None:
    command = ["embed", str(folder / "in"), "-k", str(folder / "studio.key"), "--profile", str(folder / "mark.json")]
    result = CliRunner().invoke(app, [*command, "-p", "x", "-o", str(folder / "out")])
    assert result.exit_code == 2
    assert "marks tokens, not pictures" in result.stderr


def test_spans_cover_the_text_once() -> None:
    text = "ab \N{GRINNING FACE}cd<"
    offsets = [(0, 2), (3, 4), (3, 4), (4, 6)]
    scores = np.array([np.nan, 1.0, 3.0, 2.0], np.float32)
    parts = list(highlight.spans(text, offsets, scores))
    assert "".join(part for part, _, _ in parts) == text
    assert [strength for _, strength, _ in parts] == [None, None, 0.0, pytest.approx(0.5), None]
    for same in (np.full(4, 2, np.float32), np.full(4, np.nan, np.float32)):
        assert {s for _, s, _ in highlight.spans(text, offsets, same)} <= {0.5, None}


def test_the_tokenizer_reads_as_in_the_command(folder: Path) -> None:
    encoded = load(folder / "model").encode("aaa zzz", add_special_tokens=False)
    assert encoded.ids == [0, WORDS - 1]
