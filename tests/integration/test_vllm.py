"""vLLM's marks, and ours in its engine (a stub of which plays the part)."""

from __future__ import annotations

import hashlib
from importlib.metadata import entry_points

import numpy as np
import pytest

import watermark
from watermark.errors import MediaError, ParameterError, PayloadError
from watermark.llm.engine import Generation
from watermark.llm.keys import EngineKey

torch = pytest.importorskip("torch")
vllm = pytest.importorskip("watermark.integrations.vllm")
stub = pytest.importorskip("vllm_engine")

VOCAB = 500
KEY = watermark.Key.from_bytes(bytes(range(32)))


def model(context: list[int]) -> torch.Tensor:
    """Logits of a language that depends on the last token; two columns pad them."""
    generator = torch.Generator().manual_seed(context[-1])
    return torch.cat([torch.randn(VOCAB, generator=generator), torch.full((2,), -50.0)])


@pytest.fixture
def engine_config(tmp_path):
    """Configuration of an engine that marks with a scheme."""

    def make(scheme):
        KEY.save(tmp_path / "studio.key", overwrite=True)
        (tmp_path / "mark.json").write_text(scheme.profile())
        files = {"profile": str(tmp_path / "mark.json"), "key": str(tmp_path / "studio.key")}
        return stub.VllmConfig({"watermark": files})

    return make


def test_words_are_those_of_the_specification():
    scheme = vllm.detector({"algorithm": "gumbel", "key": 42}, vocab_size=VOCAB)
    function = scheme._tables[0]
    from watermark.ops.token import Texts

    states = function.states(Texts.of(np.array([[1, 2, 3, 4], [4, 5, 6, 7]])))
    words = function.words(states, 2, np.array([[7, 8]]))
    assert words.tolist() == [[425429266, 2706218805], [2494036831, 3424185538]]


@pytest.mark.parametrize(
    ("settings", "name", "parameters"),
    [
        ({"key": 1}, "llm.gumbel", {"width": 4, "prf": "philox4x32-10-v1"}),
        ({"key": 1, "algorithm": "gumbel", "context_width": 2, "prf": "philox"}, "llm.gumbel", {"width": 2}),
        ({"key": 1, "algorithm": "sbw"}, "llm.greenlist", {"width": 4, "seeding": "self", "gamma": 0.5, "delta": 2.0}),
        (
            {"key": 1, "algorithm": "sbw", "sbw_scheme": "lefthash", "sbw_gamma": 0.25, "sbw_delta": 1.0},
            "llm.greenlist",
            {"width": 1, "seeding": "left", "gamma": 0.25, "delta": 1.0, "prf": "sbw"},
        ),
    ],
)
def test_settings_become_schemes_and_back(settings, name, parameters):
    scheme = vllm.detector(settings, vocab_size=VOCAB)
    assert scheme.name == name
    assert {p: getattr(scheme.parameters, p) for p in parameters} == parameters
    assert scheme.key == EngineKey([1])
    assert vllm.detector(vllm.config(scheme), vocab_size=VOCAB).parameters == scheme.parameters
    assert vllm.config(scheme)["key"] == 1


def test_two_keys_are_derived_as_there():
    first = int.from_bytes(hashlib.sha256(b"key_a" + bytes(7) + b"\x2a").digest()[:8], "big")
    second = int.from_bytes(hashlib.sha256(b"key_b" + bytes(7) + b"\x2a").digest()[:8], "big")
    settings = {"algorithm": "dual_key_gumbel", "key": 42}
    for alpha, keys in ((0.1, [first, second]), (0.9, [second, first]), (0, [first]), (1, [second])):
        scheme = vllm.detector(settings | {"alpha": alpha}, vocab_size=VOCAB)
        assert [key.numbers for key in scheme.keyring] == [(key,) for key in keys]


def test_a_text_of_two_keys_is_detected():
    rng = np.random.default_rng(1)
    both = vllm.detector({"algorithm": "dual_key_gumbel", "key": 42}, vocab_size=VOCAB)
    one = [watermark.load("llm.gumbel", key, vocab_size=VOCAB) for key in both.keyring]
    text: list[int] = []
    generations = [scheme.start(rng=1) for scheme in one]
    for _ in range(100):
        chosen = generations[int(rng.random() < 0.1)]
        logits = rng.standard_normal(VOCAB).astype(np.float32)
        text.append(int(np.argmax(chosen.apply(np.array(text, np.int64), logits))))
    assert both.detect(text).detected(1e-6)
    assert both.detect(text).key_id == both.key.id
    assert not both.detect(rng.integers(0, VOCAB, 100)).detected(1e-3)


def test_our_own_key_can_be_given_to_vllm():
    scheme = watermark.load("llm.gumbel", KEY, vocab_size=VOCAB)
    settings = vllm.config(scheme)
    assert 0 <= settings["key"] < 2**64
    theirs = vllm.detector(settings, vocab_size=VOCAB)
    text = np.arange(50)
    assert theirs.detect(text).score == scheme.detect(text).score


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"algorithm": "gumbel"}, "needs its key"),
        ({"algorithm": "red_green", "key": 1}, "not 'red_green'"),
        ({"key": 1, "colour": 2}, "no setting 'colour'"),
        ({"key": -1}, "vLLM's key"),
        ({"key": 2**64}, "vLLM's key"),
        ({"key": 1, "prf": "hmac_sha256"}, "philox is read"),
        ({"key": 1, "algorithm": "dual_key_gumbel", "alpha": 2}, "alpha"),
        ({"key": 1, "algorithm": "sbw", "sbw_scheme": "minhash"}, "sbw_scheme"),
        ({"key": 1, "context_width": 0}, "width"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ParameterError, match=message):
        vllm.detector(settings, vocab_size=VOCAB)


def test_what_vllm_cannot_write_has_no_settings():
    for name, parameters in (
        ("llm.gumbel", {"prf": "chacha8-v1"}),
        ("llm.greenlist", {}),
        ("llm.greenlist", {"prf": "sbw", "hard": True}),
        ("llm.synthid", {}),
    ):
        with pytest.raises(ParameterError, match="vLLM itself writes"):
            vllm.config(watermark.load(name, KEY, vocab_size=VOCAB, **parameters))
    with pytest.raises(ParameterError, match="scheme for tokens"):
        vllm.config(watermark.load("latent.prc", KEY))


def test_the_processor_is_an_entry_point():
    (found,) = (e for e in entry_points(group="vllm.logits_processors") if e.name == "watermark")
    assert found.load() is vllm.Mark


def test_the_processor_does_nothing_unasked():
    for config in (stub.VllmConfig(), stub.VllmConfig(None), stub.VllmConfig({"other": 1})):
        processor = vllm.Mark(config, "cpu", False)
        request = stub.Request([1], stub.SamplingParams(), 3)
        processor.update_state(stub.BatchUpdate(1, [], [(0, request.params, [1], [])], []))
        logits = torch.randn(1, VOCAB)
        assert torch.equal(processor.apply(logits.clone()), logits)
    assert not processor.is_argmax_invariant()


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize(
    ("name", "parameters"),
    [("llm.greenlist", {"delta": 4.0}), ("llm.gumbel", {}), ("llm.synthid", {}), ("llm.greenlist", {"prf": "hf-kgw"})],
)
def test_requests_are_marked_as_they_come_and_go(engine_config, name, parameters, shuffle):
    scheme = watermark.load(name, KEY, vocab_size=VOCAB, **parameters)
    processor = vllm.Mark(engine_config(scheme), "cpu", False)
    rng = np.random.default_rng(2)
    requests = [
        stub.Request(rng.integers(0, VOCAB, 3 + i).tolist(), stub.SamplingParams(), int(rng.integers(60, 90)))
        for i in range(6)
    ]
    stub.Engine(processor, model, slots=3).run(requests, shuffle=shuffle)
    found = scheme.detect_batch([r.output for r in requests], [r.prompt for r in requests])
    assert (found.p_value < 1e-3).all()
    assert np.median(found.log10_p) < -5
    assert all(max(request.output) < VOCAB for request in requests)


def test_interrupted_requests_go_on_as_before(engine_config):
    scheme = watermark.load("llm.gumbel", KEY, vocab_size=VOCAB)
    outputs = []
    for interrupt_at in (None, 2):
        processor = vllm.Mark(engine_config(scheme), "cpu", False)
        requests = [stub.Request([5, 6, 7], stub.SamplingParams(), 40), stub.Request([8, 9], stub.SamplingParams(), 40)]
        stub.Engine(processor, model, slots=2).run(requests, interrupt_at=interrupt_at)
        outputs.append([request.output for request in requests])
    assert (scheme.detect_batch([o for run in outputs for o in run]).p_value < 1e-6).all()
    # Both runs write the same, as long as no context comes back and fresh randomness chooses.
    assert outputs[0][0][:20] == outputs[1][0][:20]


def test_samplers_obey_the_truncation_of_a_request(engine_config):
    scheme = watermark.load("llm.gumbel", KEY, vocab_size=VOCAB)
    processor = vllm.Mark(engine_config(scheme), "cpu", False)
    for params, chosen in (
        (stub.SamplingParams(top_k=3), lambda row, token: token in row.topk(3).indices),
        (stub.SamplingParams(top_p=0.01), lambda row, token: token == row.argmax()),
        (stub.SamplingParams(min_p=0.5), lambda row, token: row[token] >= row.max() - 0.6932),
        (stub.SamplingParams(temperature=0.01), lambda row, token: row[token] >= row.max() - 0.2),
    ):
        request = stub.Request([1, 2], params, 60)
        stub.Engine(processor, model, slots=1).run([request])
        context = [1, 2]
        for token in request.output:
            assert chosen(model(context), token)
            context.append(token)


def test_greedy_requests_are_marked_by_biases_only(engine_config):
    for name, marked in (("llm.gumbel", False), ("llm.greenlist", True)):
        scheme = watermark.load(name, KEY, vocab_size=VOCAB)
        processor = vllm.Mark(engine_config(scheme), "cpu", False)
        request = stub.Request([1, 2], stub.SamplingParams(temperature=0.0), 3)
        stub.Engine(processor, model, slots=1).run([request])
        expected = [1, 2]
        for _ in range(3):
            expected.append(int(model(expected).argmax()))
        assert (request.output == expected[2:]) != marked


def test_messages_of_requests(engine_config, monkeypatch):
    given: list[tuple[int, bytes | None]] = []
    reset = Generation.reset
    scheme = watermark.load("llm.gumbel", KEY, vocab_size=VOCAB)
    processor = vllm.Mark(engine_config(scheme), "cpu", False)
    monkeypatch.setattr(Generation, "reset", lambda g, row, payload=None: given.append((row, payload)) or reset(g, row))
    params = stub.SamplingParams(extra_args={"watermark_payload": "00ff"})
    vllm.Mark.validate_params(params)
    processor.update_state(stub.BatchUpdate(1, [], [(0, params, [1], []), (1, stub.SamplingParams(), [1], [])], []))
    assert given == [(0, b"\x00\xff"), (1, None)]
    monkeypatch.undo()
    with pytest.raises(PayloadError):
        processor.update_state(stub.BatchUpdate(1, [], [(0, params, [1], [])], []))
    for wrong in ("0f0", 17, "order"):
        with pytest.raises(ParameterError, match="hexadecimal"):
            vllm.Mark.validate_params(stub.SamplingParams(extra_args={"watermark_payload": wrong}))


def test_engines_that_cannot_be_marked_are_refused(engine_config, tmp_path):
    config = engine_config(watermark.load("llm.gumbel", KEY, vocab_size=VOCAB))
    config.scheduler_config.async_scheduling = True
    with pytest.raises(ParameterError, match="async"):
        vllm.Mark(config, "cpu", False)
    with pytest.raises(ParameterError, match="two files"):
        vllm.Mark(stub.VllmConfig({"watermark": {"key": "a"}}), "cpu", False)
    with pytest.raises(ParameterError, match="scheme for tokens"):
        vllm.Mark(engine_config(watermark.load("latent.prc", KEY)), "cpu", False)
    with pytest.raises(FileNotFoundError):
        vllm.Mark(stub.VllmConfig({"watermark": {"key": "a", "profile": str(tmp_path / "none")}}), "cpu", False)
    processor = vllm.Mark(engine_config(watermark.load("llm.gumbel", KEY, vocab_size=VOCAB)), "cpu", False)
    processor.update_state(stub.BatchUpdate(1, [], [(0, stub.SamplingParams(), [1], [-1])], []))
    with pytest.raises(MediaError, match="placeholder"):
        processor.apply(torch.zeros(1, VOCAB))
