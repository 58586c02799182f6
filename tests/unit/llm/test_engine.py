from __future__ import annotations

import numpy as np
import pytest

import watermark
from watermark import InvalidKeyError, Key, MediaError, ParameterError, PayloadError
from watermark.llm.keys import EngineKey, function_key
from watermark.ops.token import Function, Texts

VOCABULARY = 100
CONTEXT = [5, 6, 7]


def load(key: Key, name: str = "llm.greenlist", **parameters):
    return watermark.load(name, key, vocab_size=VOCABULARY, **parameters)


@pytest.fixture
def green(key):
    """The green tokens after CONTEXT[2] as the first own token, per prompt length 2."""
    scheme = load(key)
    function: Function = scheme._tables[0]
    words = function.words(function.states(Texts.of([np.array(CONTEXT[2:])])), VOCABULARY)[0]
    return words < 2**7


def logits(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)


def second_step(scheme, lines=None, **settings):
    """Logits after the second step of a text whose prompt has two tokens."""
    generation = scheme.start()
    contexts = CONTEXT if lines is None else [CONTEXT] * lines
    shape = (VOCABULARY,) if lines is None else (lines, VOCABULARY)
    generation.apply(np.array(contexts)[..., :2], logits(*shape))
    row = logits(*shape)
    assert generation.apply(contexts, row, **settings) is row
    return row


def test_logits_change_in_place(key, green):
    expected = logits(VOCABULARY) + np.float32(2) * green
    assert np.array_equal(second_step(load(key)), expected)


def test_lines_are_marked_one_by_one(key, green):
    assert np.array_equal(second_step(load(key), 3), logits(3, VOCABULARY) + np.float32(2) * green)


def test_the_prompt_does_not_enter(key):
    scheme, rows = load(key), []
    for prompt in ([], [1, 2], [3]):
        generation = scheme.start()
        generation.apply(prompt, logits(VOCABULARY))
        rows.append(generation.apply([*prompt, 7], logits(VOCABULARY)))
    assert np.array_equal(rows[0], rows[1])
    assert np.array_equal(rows[0], rows[2])


def test_contexts_of_different_lengths(key, green):
    generation = load(key).start()
    generation.apply([[1], [1, 2, 3]], logits(2, VOCABULARY))
    row = generation.apply([[1, 7], np.array([1, 2, 3, 7])], logits(2, VOCABULARY))
    assert np.array_equal(row, logits(2, VOCABULARY) + np.float32(2) * green)


@pytest.mark.parametrize("name", ["llm.greenlist", "llm.gumbel", "llm.synthid", "llm.unbiased"])
def test_tensors_are_arrays(key, name):
    torch = pytest.importorskip("torch")
    scheme = load(key, name)
    marked = []
    for convert in (np.array, torch.tensor):
        generation = scheme.start(rng=1)
        rows = [convert(logits(2, 120)) for _ in range(3)]
        for step, row in enumerate(rows):
            generation.apply(convert([[1, 2, 3, 3, 3][: 3 + step], [4, 5, 6, 7, 8][: 3 + step]]), row)
        marked.append([np.asarray(row) for row in rows])
    assert np.array_equal(marked[0], marked[1])


def test_the_last_position_of_a_model(key, green):
    """What generate() hands over: a view with gaps between its rows."""
    torch = pytest.importorskip("torch")
    every = torch.tensor(logits(2, 4, VOCABULARY))
    before = every.clone()
    generation = load(key).start()
    generation.apply([[1], [2]], every[:, 0].clone())
    generation.apply([[1, 7], [2, 7]], every[:, -1])
    assert torch.equal(every[:, :3], before[:, :3])
    assert np.array_equal(every[:, -1].numpy(), before[:, -1].numpy() + np.float32(2) * green)


def test_columns_that_are_not_contiguous(key, green):
    wide = np.asfortranarray(logits(3, VOCABULARY))
    generation = load(key).start()
    generation.apply([[1]] * 3, logits(3, VOCABULARY))
    generation.apply([[1, 7]] * 3, wide)
    assert np.array_equal(wide, logits(3, VOCABULARY) + np.float32(2) * green)


def test_padded_vocabularies(key):
    for name, rest in (("llm.greenlist", None), ("llm.synthid", None), ("llm.gumbel", -np.inf)):
        row = logits(VOCABULARY + 28)
        before = row.copy()
        load(key, name).start(rng=1).apply([1], row)
        assert not np.array_equal(row[:VOCABULARY], before[:VOCABULARY])
        assert np.array_equal(row[VOCABULARY:], before[VOCABULARY:] if rest is None else np.full(28, rest))


def test_padding_is_not_favoured(key):
    """Marked columns keep their scale beside those that pad the vocabulary."""
    for name in ("llm.greenlist", "llm.synthid", "llm.unbiased", "llm.dipmark", "llm.prc"):
        row = np.zeros(VOCABULARY + 28, np.float32)
        row[:VOCABULARY] = 10 + logits(VOCABULARY)
        load(key, name).start(rng=1).apply([1], row)
        assert row[:VOCABULARY].max() > 9


def test_a_hard_list_leaves_something(key):
    row = np.full((200, 3), 1, np.float32)
    load(key, hard=True).start().apply([[1]] * 200, row, candidates=[4, 5, 6])
    assert (row > -np.inf).any(axis=1).all()


def test_what_failed_leaves_the_slot(key):
    generation = load(key, "llm.gumbel").start()
    with pytest.raises(MediaError):
        generation.apply([1, 2, 3], np.full(VOCABULARY, np.nan, np.float32))
    generation.apply([1], logits(VOCABULARY))
    with pytest.raises(MediaError, match="twice"):
        generation.apply([1], logits(3), candidates=[5, 5, 7])
    for use in (
        lambda: load(key).start().reorder([0]),
        lambda: generation.reorder([[0], [0, 1]]),
        lambda: generation.apply([[1]], logits(1, VOCABULARY), rows=[[0], [1, 2]]),
    ):
        with pytest.raises(ParameterError):
            use()


@pytest.mark.parametrize("name", ["llm.greenlist", "llm.unigram", "llm.gumbel", "llm.synthid", "llm.dipmark"])
def test_candidates_are_columns(key, name):
    scheme = load(key, name)
    candidates = np.array([[9, 3, 77, 50], [1, 2, 3, 4]])
    row = np.full((2, VOCABULARY), -np.inf, np.float32)
    some = logits(2, 4)
    np.put_along_axis(row, candidates, some, axis=1)
    scheme.start(rng=1).apply([[1], [2]], row)
    scheme.start(rng=1).apply([[1], [2]], some, candidates=candidates)
    np.testing.assert_allclose(np.take_along_axis(row, candidates, axis=1), some, rtol=1e-5, atol=1e-5)
    one = logits(2, 4)
    scheme.start(rng=1).apply([[1], [2]], one, candidates=candidates[0])
    assert one.shape == (2, 4)


@pytest.mark.parametrize("name", ["llm.greenlist", "llm.gumbel", "llm.synthid", "llm.unbiased"])
def test_no_lines(key, name):
    rows = np.empty((0, VOCABULARY), np.float32)
    assert load(key, name).start().apply(np.empty((0, 5), int), rows) is rows


def test_samplers_leave_one_token(key):
    row = logits(5, VOCABULARY)
    load(key, "llm.gumbel").start().apply([[1]] * 5, row)
    assert ((row == 0).sum(axis=1) == 1).all()
    assert (row == -np.inf).sum() == 5 * (VOCABULARY - 1)


def test_repeated_contexts_are_left_to_chance(key):
    """Gumbel: the same context, with the same logits, gives the same token only where it is new."""
    scheme = load(key, "llm.gumbel", width=1)
    flat = np.zeros((200, VOCABULARY), np.float32)
    generation = scheme.start(rng=3)
    generation.apply([[1]] * 200, flat.copy())
    first = generation.apply([[1, 7]] * 200, flat.copy()).argmax(axis=1)
    again = generation.apply([[1, 7, 8, 7]] * 200, flat.copy()).argmax(axis=1)
    assert len(set(first.tolist())) == 1
    assert len(set(again.tolist())) > 50
    other = scheme.start(rng=4)
    other.apply([[1]] * 200, flat.copy())
    assert not np.array_equal(other.apply([[1, 7, 8, 7]] * 200, flat.copy()).argmax(axis=1), again)


@pytest.mark.parametrize("name", ["llm.synthid", "llm.unbiased", "llm.dipmark"])
def test_repeated_contexts_are_left_alone(key, name):
    generation = load(key, name, width=1).start()
    generation.apply([[1], [1]], logits(2, VOCABULARY))
    row = generation.apply([[1, 7, 8, 7], [1, 7, 8, 9]], logits(2, VOCABULARY))
    assert np.array_equal(row[0], logits(2, VOCABULARY)[0])
    assert not np.array_equal(row[1], logits(2, VOCABULARY)[1])


def test_slots(key, green):
    generation = load(key).start()
    generation.apply([[1, 2], [1]], logits(2, VOCABULARY), rows=[4, 2])
    for context, slot in (([1, 7], 2), ([1, 2, 7], 4)):
        row = generation.apply([context], logits(1, VOCABULARY), rows=[slot])
        assert np.array_equal(row, logits(1, VOCABULARY) + np.float32(2) * green)
    generation.reset(2)  # whose prompt is now longer
    generation.apply([[1, 7, 7, 7]], logits(1, VOCABULARY), rows=[2])
    row = generation.apply([[1, 7, 7, 7, 7]], logits(1, VOCABULARY), rows=[2])
    assert np.array_equal(row, logits(1, VOCABULARY) + np.float32(2) * green)
    with pytest.raises(MediaError, match="reset"):
        generation.apply([[1]], logits(1, VOCABULARY), rows=[4])


def test_reordering_copies_slots(key):
    generation = load(key).start()
    generation.apply([[1], [1, 2, 3]], logits(2, VOCABULARY))
    generation.reorder([1, 1])
    assert [slot.prompt for slot in generation._slots] == [3, 3]
    assert len({slot.stream for slot in generation._slots}) == 2


def test_messages_belong_to_slots(key):
    scheme = load(key)
    with pytest.raises(PayloadError):
        scheme.start(b"too long")
    generation = scheme.start([b"", None])
    with pytest.raises(PayloadError, match="slot 2"):
        generation.apply([[1]] * 3, logits(3, VOCABULARY))
    with pytest.raises(PayloadError):
        generation.reset(0, b"x")


@pytest.mark.parametrize(
    ("context", "row", "settings"),
    [
        ("text", logits(VOCABULARY), {}),
        ([1.5], logits(VOCABULARY), {}),
        ([-1], logits(VOCABULARY), {}),
        ([[1], [2]], logits(VOCABULARY), {}),
        (np.zeros((1, 1, 1), int), logits(VOCABULARY), {}),
        ([1], logits(VOCABULARY - 1), {}),
        ([1], logits(VOCABULARY).astype(np.float64), {}),
        ([1], logits(VOCABULARY).astype(np.float16), {}),
        ([1], logits(VOCABULARY).tolist(), {}),
        ([1], logits(1, 1, VOCABULARY), {}),
        ([1], np.float32(1), {}),
        ([1], logits(3), {"candidates": [1, 2]}),
        ([1], logits(3), {"candidates": [1, 2, VOCABULARY]}),
        ([1], logits(3), {"candidates": [-1, 2, 3]}),
        ([1], logits(3), {"candidates": [0.5, 2, 3]}),
        ([1], logits(0), {"candidates": np.empty(0, int)}),
    ],
)
def test_bad_steps(key, context, row, settings):
    generation = load(key).start()
    with pytest.raises(MediaError):
        generation.apply(context, row, **settings)


def test_logits_that_cannot_be_changed(key):
    row = logits(VOCABULARY)
    row.setflags(write=False)
    with pytest.raises(MediaError, match="written"):
        load(key).start().apply([1], row)
    torch = pytest.importorskip("torch")
    for tensor in (
        torch.zeros(VOCABULARY, requires_grad=True),
        torch.zeros(VOCABULARY, dtype=torch.bfloat16),
    ):
        with pytest.raises(MediaError):
            load(key).start().apply([[1], [1]][: max(1, tensor.ndim)], tensor)


@pytest.mark.parametrize("name", ["llm.gumbel", "llm.synthid", "llm.dipmark"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_no_numbers(key, name, bad):
    rows = logits(2, VOCABULARY)
    rows[1, 3] = bad
    with pytest.raises(MediaError, match="line 1"):
        load(key, name).start().apply([[1], [1]], rows)


@pytest.mark.parametrize("rows", [[0], [0, 0], [-1, 0], [0, 1, 2], ["a", 1], [0.5, 1]])
def test_bad_slots(key, rows):
    with pytest.raises(ParameterError):
        load(key).start().apply([[1], [1]], logits(2, VOCABULARY), rows=rows)


def test_short_texts_say_nothing(key):
    for name in ("llm.greenlist", "llm.unigram", "llm.gumbel", "llm.synthid", "llm.unbiased", "llm.dipmark"):
        found = load(key, name).detect([])
        assert (found.log10_p, found.n, found.payload_ok) == (0.0, 0, False)
        assert found.details["token_scores"].shape == (0,)
        assert load(key, name).detect([1]).log10_p > -8


def test_batches_take_many_forms(key):
    scheme, text = load(key), [1, 2, 3, 4]
    expected = scheme.detect(text)
    for batch in ([text, text], np.array([text, text]), iter([text, np.array(text)]), ((1, 2, 3, 4),) * 2):
        assert list(scheme.detect_batch(batch)) == [expected, expected]
    assert len(scheme.detect_batch(np.zeros((0, 5), int))) == 0
    for one in (text, np.array(text), "text", 5, None):
        with pytest.raises(MediaError):
            scheme.detect_batch(one)


def test_the_prompt_is_never_scored(key):
    scheme = load(key)
    assert scheme.detect([1, 2, 3], prompt_ids=[4, 5]) == scheme.detect([1, 2, 3])
    found = scheme.detect_batch([[1, 2, 3], [1]], prompt_ids=[[4], None])
    assert list(found) == [scheme.detect([1, 2, 3]), scheme.detect([1])]
    with pytest.raises(MediaError, match="2 texts and 1 prompts"):
        scheme.detect_batch([[1], [2]], prompt_ids=[[4]])
    with pytest.raises(MediaError):
        scheme.detect([1], prompt_ids=[VOCABULARY])


def test_scores_of_tokens(key):
    text = np.array([1, 2, 3, 1, 2, 3, 1])
    scheme = load(key, width=2)
    found = scheme.detect(text)
    scores = found.details["token_scores"]
    # Contexts: (-,-) (-,1) (1,2) (2,3) (3,1) (1,2) again (2,3) again.
    assert np.isnan(scores).tolist() == [False] * 5 + [True] * 2
    assert found.n == 5
    assert found.details["green"] == np.nansum(scores)


@pytest.mark.parametrize("vocab_size", [1, 2**24 + 1, 2.5, "many", None])
def test_bad_vocabularies(key, vocab_size):
    with pytest.raises(ParameterError):
        watermark.load("llm.gumbel", key, vocab_size=vocab_size)


def test_a_vocabulary_is_needed(key):
    with pytest.raises(ParameterError, match="vocab_size is missing"):
        watermark.load("llm.gumbel", key)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("llm.greenlist", {"gamma": 0}),
        ("llm.greenlist", {"gamma": 1.0}),
        ("llm.greenlist", {"gamma": "half"}),
        ("llm.greenlist", {"delta": -1}),
        ("llm.greenlist", {"delta": float("nan")}),
        ("llm.greenlist", {"prf": "md5"}),
        ("llm.greenlist", {"seeding": "right"}),
        ("llm.greenlist", {"width": 0}),
        ("llm.greenlist", {"top": 0}),
        ("llm.greenlist", {"window": 3}),
        ("llm.gumbel", {"prf": "sbw"}),
        ("llm.gumbel", {"width": 65}),
        ("llm.synthid", {"depth": 33}),
        ("llm.dipmark", {"alpha": 0.6}),
        ("llm.dipmark", {"alpha": 0}),
        ("llm.unigram", {"tokenizer": 5}),
    ],
)
def test_bad_parameters(key, name, parameters):
    with pytest.raises(ParameterError):
        load(key, name, **parameters)


class TestEngineKey:
    def test_numbers_are_used_as_they_are(self):
        assert function_key(EngineKey([42]), "any").tolist() == [42, 0, 0, 0, 0, 0, 0, 0]
        assert function_key(EngineKey([2**64 - 1]), "any").tolist() == [2**32 - 1] * 2 + [0] * 6
        assert function_key(EngineKey([-1]), "any")[:2].tolist() == [2**32 - 1] * 2

    def test_a_key_is_expanded(self, key):
        assert function_key(key, "a").tolist() == key.derive("a").words(8).tolist()

    def test_it_is_a_key(self):
        import pickle

        key = EngineKey([42])
        assert key == EngineKey([42]) != EngineKey([42, 0])
        assert pickle.loads(pickle.dumps(key)).numbers == (42,)  # noqa: S301
        assert "42" not in repr(key).replace(key.id, "")
        scheme = load(key, "llm.gumbel")
        assert scheme.security_bits == 64
        assert watermark.load(scheme.profile(), key).key == key

    def test_it_has_no_secret_bytes(self, tmp_path):
        for use in (lambda k: k.to_bytes(), lambda k: k.save(tmp_path / "key")):
            with pytest.raises(InvalidKeyError, match="engine"):
                use(EngineKey([1]))

    @pytest.mark.parametrize("numbers", [[], 5, [2**64], [1.5], ["a"], None])
    def test_bad_numbers(self, numbers):
        with pytest.raises(InvalidKeyError):
            EngineKey(numbers)

    def test_too_many_numbers(self):
        with pytest.raises(InvalidKeyError, match="one number"):
            load(EngineKey([3, 1]), "llm.gumbel").detect([1])


def test_the_secure_function_has_the_whole_key(key):
    assert load(key, "llm.gumbel").security_bits == 64
    assert load(key, "llm.gumbel", prf="chacha8-v1").security_bits == 256
    assert load(key, "llm.greenlist").security_bits == 256
