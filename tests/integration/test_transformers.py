"""The adapter of transformers: its marks and ours, in both directions."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

import watermark
from watermark import attacks
from watermark.errors import MediaError, ParameterError, PayloadError
from watermark.integrations.tokenizer import fingerprint, load

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
tiny_models = pytest.importorskip("tiny_models")
adapter = pytest.importorskip("watermark.integrations.transformers")

VOCAB = tiny_models.VOCAB
KEY = watermark.Key.from_bytes(bytes(range(32)))
PROMPTS = ["the lighthouse", "it was a dark and stormy night when"]
OURS = {
    "llm.greenlist": {"delta": 4.0},
    "llm.gumbel": {},
    "llm.synthid": {},
    "llm.unigram": {"delta": 4.0},
    "llm.dipmark": {},
}


@pytest.fixture(scope="module")
def model():
    return tiny_models.model()


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_models.tokenizer()


@pytest.fixture
def inputs(tokenizer):
    return tokenizer(PROMPTS, return_tensors="pt", padding=True, padding_side="left", return_token_type_ids=False)


def write(model, inputs, config, **named):
    """What was written, with and without prompts. Never token 0, after which transformers' lists need no key."""
    torch.manual_seed(3)
    given = {"do_sample": True, "max_new_tokens": 120, "suppress_tokens": [0]} | named
    out = model.generate(**inputs, watermarking_config=config, **given)
    return out, out[:, inputs["input_ids"].shape[1] :]


GREEN = [
    transformers.WatermarkingConfig(),
    transformers.WatermarkingConfig(greenlist_ratio=0.5, bias=3.0, hashing_key=99, context_width=2),
    transformers.WatermarkingConfig(seeding_scheme="selfhash", context_width=4, bias=4.0),
]


@pytest.mark.parametrize("config", GREEN, ids=["left", "left, 2", "self"])
def test_green_lists_of_transformers_are_counted_as_there(model, inputs, config):
    out, _ = write(model, inputs, config)
    scheme = adapter.detector(config, vocab_size=VOCAB)
    peer = transformers.WatermarkDetector(
        transformers.LlamaConfig(vocab_size=VOCAB, bos_token_id=VOCAB - 1), "cpu", config, ignore_repeated_ngrams=True
    )
    expected, found = peer(out, return_dict=True), scheme.detect_batch(out)
    seeds_of_grams = config.seeding_scheme == "lefthash" and config.context_width == 1
    if seeds_of_grams:  # else several of their n-grams are one of our units
        assert found.n.tolist() == expected.num_tokens_scored.tolist()
        assert [d.details["green"] for d in found] == expected.num_green_tokens.tolist()
    processor = config.construct_processor(VOCAB, "cpu")
    width = config.context_width - (config.seeding_scheme == "selfhash")
    for text, detection in zip(out, found, strict=True):
        scores = detection.details["token_scores"]
        assert np.isnan(scores[:width]).all()
        for i in np.flatnonzero(~np.isnan(scores)).tolist():
            context = text[: i + 1] if config.seeding_scheme == "selfhash" else text[:i]
            assert (text[i] in processor._get_greenlist_ids(context)) == bool(scores[i])
        assert detection.n <= expected.num_tokens_scored.max()
        assert detection.detected(1e-6)
    unmarked = model.generate(**inputs, do_sample=True, max_new_tokens=120)
    assert (scheme.detect_batch(unmarked).p_value > 1e-3).all()


@pytest.mark.parametrize("config", GREEN, ids=["left", "left, 2", "self"])
def test_our_green_lists_are_found_by_transformers(model, inputs, config):
    scheme = adapter.detector(config, vocab_size=VOCAB)
    ours, continued = write(model, inputs, adapter.MarkingConfig(scheme))
    theirs, _ = write(model, inputs, config)
    assert torch.equal(ours, theirs)
    peer = transformers.WatermarkDetector(
        transformers.LlamaConfig(vocab_size=VOCAB, bos_token_id=VOCAB - 1), "cpu", config
    )
    assert peer(continued.contiguous()).all()


SYNTHID = [
    transformers.SynthIDTextWatermarkingConfig(ngram_len=5, keys=[654, 400, 836, 123, 340, 443, 597, 160, 57]),
    transformers.SynthIDTextWatermarkingConfig(
        ngram_len=3, keys=list(range(33)), sampling_table_size=2**20, sampling_table_seed=7
    ),
]


@pytest.mark.parametrize("config", SYNTHID, ids=["one plane", "two planes"])
def test_synthid_of_transformers_is_read_as_there(model, inputs, config):
    _, text = write(model, inputs, config)
    found = adapter.detector(config, vocab_size=VOCAB).detect_batch(text)
    processor = config.construct_processor(VOCAB, "cpu")
    won, new = processor.compute_g_values(text).sum(dim=-1), processor.compute_context_repetition_mask(text)
    for detection, expected, counts in zip(found, won.numpy(), new.numpy(), strict=True):
        scores = detection.details["token_scores"][config.ngram_len - 1 :]
        scored = ~np.isnan(scores)
        assert np.array_equal(scores[scored], expected[scored])
        assert not (scored & ~counts).any()  # what they do not count, we do not
        assert (counts & ~scored).sum() <= 3  # tokens that share an entry of the table
        assert detection.detected(1e-6)
    unmarked = model.generate(**inputs, do_sample=True, max_new_tokens=120)[:, -120:]
    assert (adapter.detector(config, vocab_size=VOCAB).detect_batch(unmarked).p_value > 1e-3).all()


@pytest.mark.parametrize("config", SYNTHID, ids=["one plane", "two planes"])
def test_our_synthid_is_that_of_transformers(model, inputs, config):
    ours, text = write(model, inputs, adapter.MarkingConfig(adapter.detector(config, vocab_size=VOCAB)))
    theirs, _ = write(model, inputs, config)
    same = (ours == theirs).all(dim=1)
    processor = config.construct_processor(VOCAB, "cpu")
    mean = processor.compute_g_values(text).float().mean(dim=(1, 2))
    assert (mean > 0.55).all()
    assert same.any()  # a rounding that tips one choice changes all that follows


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize(
    "named",
    [
        {},
        {"temperature": 1.3, "top_k": 50},
        {"num_beams": 3},
        {"num_return_sequences": 2},
        {"do_sample": False, "no_repeat_ngram_size": 2},
    ],
    ids=["plain", "warped", "beams", "several", "greedy"],
)
def test_generate_writes_marks_unpatched(model, inputs, name, named):
    scheme = watermark.load(name, KEY, vocab_size=VOCAB, **OURS[name])
    if "do_sample" in named and scheme.info.distortion_free and not scheme.samples:
        pytest.skip("greedy decoding takes no mark that leaves the law as it is")
    _, text = write(model, inputs, adapter.MarkingConfig(scheme), **named)
    if "num_beams" in named and scheme.info.distortion_free:
        return  # beams search for likely texts, among which a mark of this kind prefers none
    found = scheme.detect_batch(text)
    assert len(found) == 2 * named.get("num_return_sequences", 1)
    assert (found.p_value < 1e-4).all()
    other = watermark.load(name, KEY.child("other"), vocab_size=VOCAB, **OURS[name])
    assert (other.detect_batch(text).p_value > 1e-4).all()


def test_padding_on_the_left_changes_nothing(model, tokenizer, inputs):
    scheme = watermark.load("llm.gumbel", KEY, vocab_size=VOCAB)
    together, _ = write(model, inputs, adapter.MarkingConfig(scheme, rng=1), max_new_tokens=20)
    alone = tokenizer(PROMPTS[:1], return_tensors="pt", return_token_type_ids=False)
    single, _ = write(model, alone, adapter.MarkingConfig(scheme, rng=1), max_new_tokens=20)
    assert torch.equal(together[0, -20:], single[0, -20:])


@pytest.mark.parametrize(
    ("name", "sampled"),
    [("llm.greenlist", True), ("llm.gumbel", True), ("llm.gumbel", False), ("llm.synthid", True)],
)
def test_assisted_generation_is_marked(model, tokenizer, name, sampled):
    scheme = watermark.load(name, KEY, vocab_size=VOCAB, **OURS[name])
    alone = tokenizer(PROMPTS[:1], return_tensors="pt", return_token_type_ids=False)
    config = adapter.MarkingConfig(scheme, rng=1)
    _, text = write(model, alone, config, assistant_model=tiny_models.model(seed=7), do_sample=sampled)
    assert scheme.detect(text[0]).p_value < 1e-4


def test_scores_are_left_as_they_are(model, inputs):
    scheme = watermark.load("llm.gumbel", KEY, vocab_size=VOCAB)
    processor = adapter.MarkProcessor(scheme)
    for dtype in (torch.float32, torch.bfloat16):
        scores = torch.randn(2, VOCAB).to(dtype)
        before = scores.clone()
        out = processor(inputs["input_ids"], scores)
        assert torch.equal(scores, before)
        assert out.dtype == dtype
        assert (out == 0).sum(dim=1).tolist() == [1, 1]


def test_settings_are_checked_before_the_model_runs(model, inputs):
    scheme = watermark.load("llm.gumbel", KEY, vocab_size=VOCAB + 1)
    with pytest.raises(ParameterError, match="the model has 600"):
        model.generate(**inputs, watermarking_config=adapter.MarkingConfig(scheme), max_new_tokens=5)
    with pytest.raises(ParameterError, match="scheme for tokens"):
        adapter.MarkingConfig(watermark.load("latent.prc", KEY))
    with pytest.raises(PayloadError):
        adapter.MarkingConfig(watermark.load("llm.gumbel", KEY, vocab_size=VOCAB), b"a message of a mark without")
    with pytest.raises(ParameterError, match="not GenerationConfig"):
        adapter.detector(transformers.GenerationConfig(), vocab_size=VOCAB)
    with pytest.raises(ParameterError, match="transformers refuses"):
        adapter.detector(transformers.WatermarkingConfig(seeding_scheme="righthash"), vocab_size=VOCAB)
    with pytest.raises(ParameterError, match="made from a scheme"):
        adapter.MarkingConfig.from_dict({})


def test_the_configuration_shows_no_secret():
    scheme = watermark.load("llm.gumbel", KEY, vocab_size=VOCAB)
    config = adapter.MarkingConfig(scheme)
    generation = transformers.GenerationConfig(watermarking_config=config)
    copied = copy.deepcopy(generation)
    assert copied.watermarking_config is config
    assert hash(copied) == hash(generation)
    for text in (generation.to_json_string(), repr(config), config.to_json_string(), json.dumps(dict(config))):
        assert KEY.id in text
        assert KEY.to_bytes().hex() not in text


def test_a_marked_model_writes_and_reads(model, tokenizer):
    mark = watermark.load("llm.greenlist", KEY, vocab_size=VOCAB, delta=6.0, tokenizer=fingerprint(tokenizer))
    marked = adapter.MarkedModel(model, tokenizer, mark)
    texts = marked.generate(PROMPTS, do_sample=True, max_new_tokens=300)
    assert len(texts) == 2
    assert not any(text.startswith(prompt) for text, prompt in zip(texts, PROMPTS, strict=True))
    found = marked.detect(texts)
    assert (found.p_value < 1e-6).all()
    assert marked.detect_batch(PROMPTS).p_value.min() > 1e-4
    assert len(marked.generate(PROMPTS[0], do_sample=True, max_new_tokens=5)) == 1
    with pytest.raises(MediaError, match="list of texts"):
        marked.detect(texts[0])
    with pytest.raises(MediaError, match="1 MiB"):
        marked.detect(["a" * (1 << 20) + "b"])
    with pytest.raises(MediaError, match="not bytes"):
        marked.detect([b"text"])
    with pytest.raises(PayloadError, match="2 prompts and 1 messages"):
        marked.generate(PROMPTS, [None])


def test_the_seam_of_the_evaluation_is_repeatable(model, tokenizer):
    marked = adapter.MarkedModel(model, tokenizer, watermark.load("llm.greenlist", KEY, vocab_size=VOCAB))
    before = model.generation_config
    model.generation_config = transformers.GenerationConfig(do_sample=True, max_new_tokens=30, pad_token_id=1)
    try:
        state = torch.get_rng_state()
        first = marked.mark(PROMPTS[0], rng=4)
        assert torch.equal(torch.get_rng_state(), state)
        assert marked.mark(PROMPTS[0], rng=4) == first
        assert marked.mark(PROMPTS[0], rng=5) != first
        assert isinstance(marked.mark(PROMPTS[0]), str)
    finally:
        model.generation_config = before


def test_models_are_evaluated(model, tokenizer, tmp_path):
    evaluation = pytest.importorskip("watermark.evaluation")
    marked = adapter.MarkedModel(model, tokenizer, watermark.load("llm.gumbel", KEY, vocab_size=VOCAB))
    before = model.generation_config
    model.generation_config = transformers.GenerationConfig(do_sample=True, max_new_tokens=200, pad_token_id=1)
    try:
        prompts = [
            f"it was a {kind} night" for kind in ("dark", "stormy", "cold", "long", "short", "wet", "dull", "mad")
        ]
        grid = [attacks.load("text.truncate", keep=0.5), attacks.load("text.zero_width", share=0.1)]
        report = evaluation.run(marked, grid, prompts, tmp_path, workers=1)
    finally:
        model.generation_config = before
    assert report.faults == []
    cells = {cell["attack"]: cell for cell in report.to_dict()["cells"]}
    assert cells["none"]["detected"]["0.001"]["value"] == 1
    assert cells["text.truncate@0.555556"]["median_log10_p"] > cells["none"]["median_log10_p"]
    assert report.tables.cells.column_names[-1] == "error", "texts have no metrics of pictures"


def test_models_with_an_encoder_are_marked(tokenizer):
    mark = watermark.load("llm.gumbel", KEY, vocab_size=VOCAB)
    marked = adapter.MarkedModel(tiny_models.encoder_decoder(), tokenizer, mark)
    rows = marked.model.generate(
        **tokenizer(PROMPTS[:1], return_tensors="pt", return_token_type_ids=False),
        watermarking_config=adapter.MarkingConfig(mark),
        max_new_tokens=100,
    )
    assert mark.detect(rows[0, 1:]).detected(1e-6)
    assert len(marked.generate(PROMPTS, max_new_tokens=5)) == 2


def test_a_scheme_for_another_tokenizer_is_refused(model, tokenizer):
    mark = watermark.load("llm.gumbel", KEY, vocab_size=VOCAB, tokenizer=fingerprint(tiny_models.tokenizer(500)))
    with pytest.raises(ParameterError, match="for the tokenizer sha256:"):
        adapter.MarkedModel(model, tokenizer, mark)


def test_fingerprints_do_not_depend_on_use(tokenizer, tmp_path):
    before = fingerprint(tokenizer)
    tokenizer(PROMPTS, padding=True, truncation=True, max_length=4)
    tokenizer.save_pretrained(tmp_path)
    assert fingerprint(tokenizer) == before == fingerprint(load(tmp_path))
    assert before.startswith("sha256:")
    with pytest.raises(ParameterError, match="fast tokenizer"):
        fingerprint("gpt2")


def test_folders_without_a_tokenizer_are_refused(tmp_path):
    with pytest.raises(ParameterError, match="no such folder"):
        load(tmp_path / "nothing")
    with pytest.raises(ParameterError, match="no tokenizer"):
        load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ParameterError, match="no tokenizer"):
        load(tmp_path)
