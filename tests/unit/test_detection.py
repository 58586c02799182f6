from __future__ import annotations

import copy
import dataclasses
import json
import math
import pickle

import numpy as np
import pytest

from watermark import Detection, Detections, ParameterError, ThresholdError, combine
from watermark.detection import MAX_LOG10_P_OF_PAYLOAD, over_keys
from watermark.stats import LN10, log_fisher


def detection(log10_p: float = -8.0, **changes) -> Detection:
    fields = {"scheme": "a.b", "key_id": "wm-1", "log10_p": log10_p, "score": 2.0, "n": 10} | changes
    return Detection(**fields)


class TestDetection:
    def test_p_value_underflows_and_its_logarithm_does_not(self):
        assert detection(-3.0).p_value == pytest.approx(1e-3)
        deep = detection(-5000.0)
        assert (deep.p_value, deep.log10_p) == (0.0, -5000.0)
        assert deep.detected(1e-300)

    @pytest.mark.parametrize(
        ("log10_p", "fpr", "verdict"), [(-6.0, 1e-6, True), (-5.9, 1e-6, False), (0.0, 0.999, False)]
    )
    def test_detected_is_p_at_most_fpr(self, log10_p, fpr, verdict):
        assert detection(log10_p).detected(fpr) is verdict

    def test_a_threshold_may_come_from_numpy(self):
        assert detection(-6.0).detected(np.float32(1e-5))
        assert not detection(-6.0).detected(np.float64(1e-7))

    @pytest.mark.parametrize("log10_p", [math.nan, math.inf, -math.inf, 1e-9, "-8", None, 1j])
    def test_log10_p_is_the_logarithm_of_a_probability(self, log10_p):
        with pytest.raises(ParameterError, match="log10_p"):
            detection(log10_p)

    def test_log10_p_becomes_a_plain_number(self):
        assert type(detection(np.float32(-8)).log10_p) is float
        assert type(detection(0).log10_p) is float

    @pytest.mark.parametrize(
        "fpr", [0, 1, -1e-3, 2, math.nan, math.inf, "1e-6", None, True, np.float32(0), np.bool_(True)]
    )
    def test_a_threshold_is_a_probability(self, fpr):
        with pytest.raises(ThresholdError):
            detection().detected(fpr)

    def test_no_verdict_below_the_floor(self):
        coarse = detection(-2.0, details={"p_floor": 1e-2})
        assert coarse.detected(1e-2)
        with pytest.raises(ThresholdError, match=r"0\.01"):
            coarse.detected(1e-3)

    def test_equality_leaves_details_out(self):
        assert detection(details={"map": np.zeros(3)}) == detection()
        assert detection() != detection(-9.0)

    def test_frozen(self):
        with pytest.raises(AttributeError):
            detection().log10_p = -100.0

    def test_details_are_frozen(self):
        figures = np.zeros(3)
        given = {"map": figures, "scale": 0.5}
        found = detection(details=given)
        changes = [
            lambda d: d.__setitem__("scale", 1),
            lambda d: d.__delitem__("scale"),
            lambda d: d.update(scale=1),
            lambda d: d.__ior__({"scale": 1}),
            lambda d: d.setdefault("p_floor", 0.5),
            lambda d: d.pop("scale"),
            lambda d: d.popitem(),
            lambda d: d.clear(),
        ]
        for change in changes:
            with pytest.raises(TypeError, match="cannot be changed"):
                change(found.details)
        with pytest.raises(ValueError, match="read-only"):
            found.details["map"][0] = 1
        given["scale"], figures[0] = 2, 1  # the caller's own stay as they were
        assert found.details["scale"] == 0.5

    def test_pickle_and_copy(self):
        found = detection(payload=b"x", details={"map": np.arange(3), "scale": 0.5})
        for same in (pickle.loads(pickle.dumps(found)), copy.deepcopy(found), copy.copy(found)):  # noqa: S301 (ours)
            assert same == found
            assert same.details["map"].tolist() == [0, 1, 2]
            with pytest.raises(TypeError):
                same.details["scale"] = 1
        assert dataclasses.asdict(found)["details"]["scale"] == 0.5

    def test_json(self):
        d = detection(payload=b"\x00\xff", payload_ok=True, details={"map": np.zeros(3), "scale": 0.5, "nested": {}})
        assert json.loads(json.dumps(d.to_dict())) == {
            "version": 1,
            "scheme": "a.b",
            "key_id": "wm-1",
            "p_value": d.p_value,
            "log10_p": -8.0,
            "score": 2.0,
            "n": 10,
            "payload": "00ff",
            "payload_ok": True,
            "details": {"scale": 0.5},
        }


class TestDetections:
    ITEMS = (detection(-8.0, payload=b"x", payload_ok=True), detection(-1.0, key_id="wm-2"), detection(-400.0, n=3))

    def test_sequence(self):
        batch = Detections.of(self.ITEMS)
        assert len(batch) == 3
        assert tuple(batch) == self.ITEMS
        assert batch[-1] == self.ITEMS[-1]
        assert batch[:2] == Detections.of(self.ITEMS[:2])
        assert batch[::-1][0] == self.ITEMS[2]
        assert self.ITEMS[1] in batch
        with pytest.raises(IndexError):
            batch[3]

    def test_columns(self):
        batch = Detections.of(self.ITEMS)
        assert batch.log10_p.tolist() == [-8.0, -1.0, -400.0]
        assert batch.p_value == pytest.approx([1e-8, 0.1, 0.0])
        assert batch.score.tolist() == [2.0, 2.0, 2.0]
        assert batch.n.tolist() == [10, 10, 3]
        assert batch.payload == (b"x", None, None)
        assert batch.payload_ok.tolist() == [True, False, False]
        assert batch.key_id == ("wm-1", "wm-2", "wm-1")
        assert batch.detected(1e-6).tolist() == [True, False, True]

    def test_no_verdict_below_a_floor(self):
        batch = Detections.of([*self.ITEMS, detection(details={"p_floor": 1e-2})])
        assert batch.detected(0.5).tolist() == [True] * 4
        with pytest.raises(ThresholdError, match=r"0\.01"):
            batch.detected(1e-3)
        with pytest.raises(ThresholdError, match="probability"):
            Detections.of(self.ITEMS).detected(1)

    def test_immutable(self):
        batch = Detections.of(self.ITEMS)
        for column in (batch.log10_p, batch.score, batch.n, batch.payload_ok):
            with pytest.raises(ValueError, match="read-only"):
                column[0] = 0
        for name in ("scheme", "key_id", "log10_p", "score", "n", "payload", "payload_ok", "other"):
            with pytest.raises(AttributeError):
                setattr(batch, name, None)
        with pytest.raises(AttributeError):
            del batch.log10_p
        with pytest.raises(TypeError):
            hash(batch)

    def test_the_callers_columns_stay_writable(self):
        columns = [np.array([-8.0]), np.array([2.0]), np.array([10]), np.array([True])]
        log10_p, score, n, payload_ok = columns
        Detections("a.b", ["wm-1"], log10_p, score, n, [None], payload_ok, [{}])
        assert all(column.flags.writeable for column in columns)

    def test_pickle(self):
        batch = Detections.of([*self.ITEMS, detection(details={"map": np.zeros(2)})])
        same = pickle.loads(pickle.dumps(batch))  # noqa: S301 (our own bytes)
        assert same == batch
        assert (same.scheme, same.payload) == (batch.scheme, batch.payload)
        assert same[3].details["map"].tolist() == [0, 0]
        with pytest.raises(ValueError, match="read-only"):
            same.score[0] = 0

    def test_equality(self):
        assert Detections.of(self.ITEMS) == Detections.of(self.ITEMS)
        assert Detections.of(self.ITEMS) != Detections.of(self.ITEMS[:2])
        assert Detections.of(self.ITEMS) != self.ITEMS

    def test_an_empty_batch_keeps_its_scheme(self):
        empty = Detections.of([], "a.b")
        assert (len(empty), empty.scheme, empty.detected().shape) == (0, "a.b", (0,))
        assert empty[:] == empty


class TestOnADevice:
    """Columns as tensors; a CPU's stand for those of a GPU."""

    @pytest.fixture
    def batch(self):
        pytest.importorskip("torch")
        return Detections.of(TestDetections.ITEMS).to("cpu")

    def test_columns_are_tensors(self, batch):
        torch = pytest.importorskip("torch")
        dtypes = {"log10_p": torch.float64, "score": torch.float64, "n": torch.int64, "payload_ok": torch.bool}
        for name, dtype in dtypes.items():
            column = getattr(batch, name)
            assert isinstance(column, torch.Tensor)
            assert column.dtype == dtype
            assert column.tolist() == getattr(Detections.of(TestDetections.ITEMS), name).tolist()
        assert batch.p_value.tolist() == pytest.approx([1e-8, 0.1, 0.0])
        assert isinstance(batch.detected(1e-6), torch.Tensor)
        assert batch.detected(1e-6).tolist() == [True, False, True]
        assert len(Detections.of([], "a.b").to("cpu").detected()) == 0

    def test_items_are_plain(self, batch):
        assert tuple(batch) == TestDetections.ITEMS
        assert type(batch[0].log10_p) is float
        assert batch == Detections.of(TestDetections.ITEMS)
        assert Detections.of(TestDetections.ITEMS) == batch
        batch.log10_p[0] = 0.0  # a tensor cannot be locked: what it does not reach is the verdicts
        assert batch[0].log10_p == -8.0

    def test_slices_stay_there(self, batch):
        torch = pytest.importorskip("torch")
        backwards = batch[::-1]
        assert isinstance(backwards.score, torch.Tensor)
        assert backwards.n.tolist() == [3, 10, 10]
        assert tuple(backwards) == TestDetections.ITEMS[::-1]

    def test_pickles_hold_the_hosts_columns(self, batch):
        same = pickle.loads(pickle.dumps(batch))  # noqa: S301 (our own bytes)
        assert same == batch
        assert isinstance(same.log10_p, np.ndarray)


def with_keys(*keys: Detection) -> Detection:
    """`over_keys` on one item."""
    return over_keys([Detections.of([found]) for found in keys])[0]


class TestOverKeys:
    def test_one_key_is_free(self):
        assert with_keys(detection(-5.0)) == detection(-5.0)

    def test_several_are_paid_for(self):
        found = with_keys(detection(-1.0, key_id="wm-1"), detection(-9.0, key_id="wm-2"), detection(0.0))
        assert found.key_id == "wm-2"
        assert found.log10_p == pytest.approx(-9 + math.log10(3), abs=1e-6)
        assert found.details["keys_tried"] == 3

    def test_every_row_has_a_winner_of_its_own(self):
        first = [detection(-9.0, score=1.0), detection(-1.0, n=4), detection(-3.0, payload=b"x"), detection(-3.0)]
        second = [
            detection(-8.0, key_id="wm-2"),
            detection(-7.0, key_id="wm-2", score=5.0, payload=b"y", payload_ok=True, details={"shift": 2}),
            detection(-3.0, key_id="wm-2", payload=b"z", payload_ok=True),
            detection(-3.0, key_id="wm-2"),
        ]
        batch = over_keys([Detections.of(first), Detections.of(second)])
        assert list(batch) == [with_keys(*row) for row in zip(first, second, strict=True)]
        assert batch.key_id == ("wm-1", "wm-2", "wm-2", "wm-1")  # who read a message goes first, then who came first
        assert batch.log10_p == pytest.approx(np.log10(-np.expm1(2 * np.log1p(-(10.0 ** np.array([-9, -7, -3, -3]))))))
        assert batch.score.tolist() == [1.0, 5.0, 2.0, 2.0]
        assert batch.payload == (None, b"y", b"z", None)
        assert batch.payload_ok.tolist() == [False, True, False, False]
        assert batch[1].details == {"shift": 2, "keys_tried": 2}
        assert len(over_keys([Detections.of([]), Detections.of([])])) == 0

    def test_the_floor_is_paid_for_too(self):
        coarse = detection(-6.0, details={"p_floor": 1e-6})
        ring = with_keys(coarse, detection(-1.0, details={"p_floor": 1e-6}))
        assert ring.details["p_floor"] == pytest.approx(2e-6, rel=1e-5)
        assert ring.log10_p == pytest.approx(math.log10(ring.details["p_floor"]))
        with pytest.raises(ThresholdError):
            ring.detected(1.5e-6)
        assert "p_floor" not in with_keys(coarse, detection(-1.0)).details

    def test_the_payment_can_cost_the_payload_its_word(self):
        edge = detection(MAX_LOG10_P_OF_PAYLOAD, payload=b"x", payload_ok=True)
        assert with_keys(edge).payload_ok
        assert not with_keys(edge, detection(0.0)).payload_ok


class TestCombine:
    def test_one(self):
        assert combine([detection(-5.0)]).log10_p == pytest.approx(-5.0)

    def test_dependent_looks_pay_bonferroni(self):
        joined = combine(d for d in (detection(-5.0), detection(-7.0), detection(-1.0)))
        assert joined.log10_p == pytest.approx(-7 + math.log10(3))
        assert joined.n == 30
        assert joined.details["combined"] == 3

    def test_p_never_exceeds_one(self):
        assert combine([detection(-0.1)] * 4).log10_p == 0.0

    def test_independent_looks_join_their_evidence(self):
        joined = combine([detection(-4.0, scheme="a"), detection(-4.0, scheme="b")], independent=True)
        assert joined.log10_p == pytest.approx(log_fisher([-4 * LN10] * 2) / LN10)
        assert joined.log10_p < -6
        assert joined.scheme == "a + b"

    def test_the_payload_comes_from_who_read_one(self):
        read = detection(-10.0, payload=b"x", payload_ok=True)
        joined = combine([detection(-20.0, score=9.0), read])
        assert (joined.payload, joined.payload_ok, joined.score) == (b"x", True, 9.0)

    def test_a_message_stays_with_its_key(self):
        """The strongest verdict names the key: another key's message is not its."""
        read = detection(-20.0, key_id="wm-2", payload=b"x", payload_ok=True)
        for independent in (False, True):
            joined = combine([detection(-50.0), read], independent=independent)
            assert (joined.key_id, joined.payload, joined.payload_ok) == ("wm-1", None, False)
        joined = combine([detection(-10.0), read])
        assert (joined.key_id, joined.payload, joined.payload_ok) == ("wm-2", b"x", True)

    @pytest.mark.parametrize("independent", [False, True])
    def test_a_message_pays_for_itself(self, independent):
        """Evidence of another verdict does not vouch for a message."""
        edge = detection(MAX_LOG10_P_OF_PAYLOAD - math.log10(2) - 1e-9, payload=b"x", payload_ok=True)
        assert combine([edge, detection(-50.0)], independent=independent).payload_ok
        joined = combine([edge, detection(-50.0), detection(-50.0)], independent=independent)
        assert (joined.payload, joined.payload_ok) == (None, False)

    def test_a_message_is_never_vouched_for_above_its_limit(self):
        """Fisher's p-value of many empty looks can lie above that of the one that read a message."""
        read = detection(-7.0, payload=b"x", payload_ok=True)
        joined = combine([read, *[detection(0.0)] * 9], independent=True)
        assert joined.log10_p > MAX_LOG10_P_OF_PAYLOAD
        assert (joined.payload, joined.payload_ok) == (b"x", False)

    def test_floors(self):
        coarse = detection(-2.0, details={"p_floor": 1e-2})
        assert combine([coarse, coarse]).details["p_floor"] == pytest.approx(2e-2)
        assert combine([coarse, coarse], independent=True).details["p_floor"] == pytest.approx(
            math.exp(log_fisher([math.log(1e-2)] * 2))
        )
        assert combine([coarse, detection(-9.0)]).detected(1e-8)
        assert not combine([coarse, detection(-1.0)]).detected(1e-8)  # the other could have gone there
        again = combine([combine([coarse, coarse]), coarse])
        assert again.details["p_floor"] == pytest.approx(2e-2)

    @pytest.mark.parametrize("items", [[], [1], ["a"], [None], None, 7, detection()])
    def test_nothing_else(self, items):
        with pytest.raises(ParameterError):
            combine(items)

    @pytest.mark.parametrize("independent", [False, True])
    def test_the_joined_p_value_is_valid(self, independent):
        """Three uniform p-values (for Bonferroni also three times the same) give at most the nominal rate."""
        rng = np.random.default_rng(2)
        trials = 20_000
        p = rng.random((trials, 3))
        if not independent:
            p[: trials // 2] = p[: trials // 2, :1]
        joined = np.array([combine(map(detection, row), independent=independent).p_value for row in np.log10(p)])
        for alpha in (0.1, 0.01):
            rate, spread = (joined <= alpha).mean(), math.sqrt(alpha * (1 - alpha) / trials)
            assert rate <= alpha + 3.3 * spread
            if independent:
                assert rate >= alpha - 3.3 * spread
