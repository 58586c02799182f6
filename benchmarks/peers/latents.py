"""Our latent marks beside the published code of their methods: CPU time, key size and power on the same channel.

Pass the folders of checkouts that you have (XuandongZhao/PRC-Watermark, bsmhmmlf/Gaussian-Shading,
YuxinWenRick/tree-ring-watermark, showlab/RingID)::

    python benchmarks/peers/latents.py --seed 1 --prc DIR --gaussian-shading DIR --tree-ring DIR --ringid DIR

Their functions are imported from there and run as their scripts call them, on the CPU, beside ours: one process, one
thread, shape (4, 64, 64), z' = sqrt(1 - s^2) z + s eps with the same eps for all. A checkout that is broken, or lacks a
package, is left out with the reason. Prints a Markdown table and writes ``benchmarks/results/peers_latents.json``.

Three things are changed from outside, since the code does not run as it is. PRC-Watermark: the belief propagation of
ldpc returns floats, which galois refuses; they are cast to integers. Gaussian-Shading: `Tensor.cuda()`, which it calls
everywhere, stays on the CPU. Tree-Ring and RingID: torchvision and datasets are imported for parts that are not used
here; where they are not installed, placeholders stand in, and Pillow turns the plane from which RingID makes its rings.

SEAL has no row: its scripts have no detector, and import caption models together with their functions.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import itertools
import math
import os
import pickle
import statistics
import sys
import tempfile
import time
import warnings
from abc import ABC, abstractmethod
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import mock

import numpy as np
from PIL import Image

import watermark

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

ONE_THREAD = dict.fromkeys(["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"], "1")
SHAPE = (4, 64, 64)
FPR = 1e-6
REPEATS = 5
"""Calls in a row of what is quick; the median counts."""
PACKAGES = ["torch", "scipy", "galois", "ldpc", "numba", "pycryptodome", "torchvision", "datasets"]


class Verdict(NamedTuple):
    """What a detector says of one latent; None where it has nothing to say."""

    detected: bool | None
    exact: bool | None


class System(ABC):
    """One system under test, with one key."""

    name: str
    payload: str
    key_bytes: int
    slow: tuple[str, ...] = ()
    """Methods that are called once instead of REPEATS times; pure noise goes to slow detectors once per trial."""
    makes_key = True
    """Whether a key is made apart from the samples."""

    @abstractmethod
    def make_key(self) -> None:
        """Key generation, with all tables that belong to a key."""

    @abstractmethod
    def sample(self) -> tuple[NDArray[np.float32], Any]:
        """A marked latent, and what was sent."""

    @abstractmethod
    def detect(self, latent: NDArray[np.float32], sent: Any) -> Verdict:
        """The whole call that a user would make."""


class Ours(System):
    """A scheme of ours through its public calls. Its tables are expanded from the key when first used."""

    def __init__(self, scheme: str, payload: str, rng: np.random.Generator, **parameters: int) -> None:
        self.name, self.payload, self.rng = f"watermarking {scheme}", payload, rng
        self.scheme, self.parameters, self.bits = scheme, parameters, parameters.get("payload_bits", 0)
        with tempfile.TemporaryDirectory() as folder:
            watermark.Key.generate().save(Path(folder) / "key")
            self.key_bytes = (Path(folder) / "key").stat().st_size

    def make_key(self) -> None:
        """With the first sample and detection, which make the tables."""
        self.mark = watermark.load(self.scheme, watermark.Key.from_bytes(self.rng.bytes(32)), **self.parameters)
        self.mark.detect(self.sample()[0])

    def sample(self) -> tuple[NDArray[np.float32], Any]:
        """One call."""
        if self.bits < 24:  # an index
            message = int(self.rng.integers(1 << self.bits)).to_bytes(-(-self.bits // 8))
        else:
            message = self.rng.bytes(self.bits // 8)
        return self.mark.sample(message, rng=self.rng), message

    def detect(self, latent: NDArray[np.float32], sent: Any) -> Verdict:
        """One call; no message without a verdict."""
        found = self.mark.detect(latent)
        exact = bool(found.payload_ok) and found.payload == sent if self.bits else None
        return Verdict(found.detected(fpr=FPR), exact)


class Prc(System):
    """PRC-Watermark at t = 3: accepted when its Detect or its Decode says so, as in its decode.py."""

    payload = "512 bits"
    slow = ("make_key", "detect")

    def __init__(self, checkout: Path, rng: np.random.Generator) -> None:
        import torch

        self.name, self.torch, self.rng = "PRC-Watermark", torch, rng
        self.code = load(checkout, "src/prc.py")
        self.normals = load(checkout, "src/pseudogaussians.py")

        class Integers(self.code.bp_decoder):  # type: ignore[name-defined,misc]
            def decode(self, word: NDArray[np.float64]) -> NDArray[np.uint8]:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    return np.asarray(super().decode(word)).astype(np.uint8)

        self.code.bp_decoder = Integers

    def make_key(self) -> None:
        """KeyGen."""
        self.encoding, self.decoding = self.code.KeyGen(math.prod(SHAPE), 512, FPR, 3)
        self.key_bytes = len(pickle.dumps((self.encoding, self.decoding)))  # so its encode.py saves it

    def sample(self) -> tuple[NDArray[np.float32], Any]:
        """Encode and sample."""
        message = self.rng.integers(0, 2, 512)
        return self.normals.sample(self.code.Encode(self.encoding, message)).numpy().reshape(SHAPE), message

    def posteriors(self, latent: NDArray[np.float32]) -> Any:
        """Of the signs, at the variance that its scripts use."""
        return self.normals.recover_posteriors(self.torch.from_numpy(latent.astype(float).ravel()), variances=1.5)

    def detect(self, latent: NDArray[np.float32], sent: Any) -> Verdict:
        """Both detectors."""
        posteriors = self.posteriors(latent)
        detected = bool(self.code.Detect(self.decoding, posteriors))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # ldpc's on its old syntax
            read = self.code.Decode(self.decoding, posteriors)
        return Verdict(detected or read is not None, read is not None and bool((read == sent).all()))


class PrcDetect(System):
    """Detect without Decode, with the same key."""

    payload = "-"
    makes_key = False

    def __init__(self, prc: Prc) -> None:
        self.name, self.prc = f"{prc.name}, Detect alone", prc

    def make_key(self) -> None:
        """The other's."""
        self.key_bytes = self.prc.key_bytes

    def sample(self) -> tuple[NDArray[np.float32], Any]:
        """As with Decode."""
        return self.prc.sample()

    def detect(self, latent: NDArray[np.float32], sent: Any) -> Verdict:
        """The first detector."""
        return Verdict(bool(self.prc.code.Detect(self.prc.decoding, self.prc.posteriors(latent))), None)


class GaussianShading(System):
    """Gaussian-Shading with its defaults: ChaCha20, 256 bits, a fresh key for each latent, a message that is known."""

    payload = "256 bits, compared"
    slow = ("sample",)
    makes_key = False

    def __init__(self, checkout: Path) -> None:
        import torch

        self.name, self.torch = "Gaussian-Shading", torch
        self.mark = load(checkout, "watermark.py").Gaussian_Shading_chacha(1, 8, FPR, 1_000_000)

    def make_key(self) -> None:
        """Nothing: every sample makes its own."""
        self.key_bytes = 32 + 12 + 256 // 8  # key, nonce, message

    def on_cpu(self) -> contextlib.AbstractContextManager[Any]:
        """Its tensors stay where they are."""
        return mock.patch.object(self.torch.Tensor, "cuda", lambda tensor: tensor)

    def sample(self) -> tuple[NDArray[np.float32], Any]:
        """Key and message are drawn with the latent."""
        with self.on_cpu():
            latent = self.mark.create_watermark_and_return_w()
        return latent[0].float().numpy(), (self.mark.key, self.mark.nonce, self.mark.watermark)

    def detect(self, latent: NDArray[np.float32], sent: Any) -> Verdict:
        """Share of equal bits against its threshold for one bit."""
        self.mark.key, self.mark.nonce, self.mark.watermark = sent
        with self.on_cpu():
            correct = self.mark.eval_watermark(self.torch.from_numpy(latent)[None])
        return Verdict(correct >= self.mark.tau_onebit, correct == 1)


class TreeRing(System):
    """Tree-Ring with the key type `rand`, channel 0 and radius 10, by its p-value."""

    payload = "-"

    def __init__(self, checkout: Path, seed: int) -> None:
        import torch

        self.name, self.torch = "tree-ring-watermark", torch
        self.code = load(checkout, "optim_utils.py")
        self.options = SimpleNamespace(
            w_seed=seed, w_pattern="rand", w_radius=10, w_channel=0, w_mask_shape="circle", w_injection="complex"
        )

    def make_key(self) -> None:
        """Pattern and mask."""
        self.pattern = self.code.get_watermarking_pattern(None, self.options, "cpu", (1, *SHAPE))
        self.mask = self.code.get_watermarking_mask(self.pattern, self.options, "cpu")
        self.key_bytes = len(pickle.dumps(self.pattern))

    def sample(self) -> tuple[NDArray[np.float32], Any]:
        """Noise with the disc."""
        noise = self.torch.randn(1, *SHAPE)
        return self.code.inject_watermark(noise, self.mask, self.pattern, self.options)[0].numpy(), None

    def detect(self, latent: NDArray[np.float32], sent: Any) -> Verdict:
        """It takes two latents, and gets the same one twice."""
        both = self.torch.from_numpy(latent)[None]
        p, _ = self.code.get_p_value(both, both, self.mask, self.pattern, self.options)
        return Verdict(bool(p <= FPR), None)


class RingId(System):
    """RingID with all 2,048 keys, as in its verify.py: identification only, since it has no threshold."""

    payload = "11 bits"
    slow = ("make_key", "detect")

    def __init__(self, checkout: Path, rng: np.random.Generator) -> None:
        import torch

        self.name, self.torch, self.rng = "RingID", torch, rng
        self.code = load(checkout, "utils.py")

    def make_key(self) -> None:
        """All patterns."""
        torch, code, rings = self.torch, self.code, self.code.RING_WATERMARK_CHANNEL
        mask = torch.tensor(code.ring_mask(size=SHAPE[-1], r_out=code.RADIUS, r_in=code.RADIUS_CUTOFF))
        self.masks = torch.stack([mask] * len(code.WATERMARK_CHANNEL))
        base = torch.randn(1, *SHAPE, dtype=torch.float64)
        self.patterns = []
        for values in itertools.product([[-64.0], [64.0]], repeat=code.RADIUS - code.RADIUS_CUTOFF):
            pattern = code.make_Fourier_ringid_pattern(
                "cpu", list(values), base, radius=code.RADIUS, radius_cutoff=code.RADIUS_CUTOFF,
                ring_watermark_channel=rings, heter_watermark_channel=code.HETER_WATERMARK_CHANNEL,
                heter_watermark_region_mask=mask[None],
            )  # fmt: skip
            plane = code.ifft(pattern).real  # its fix_gt
            plane[:, rings] = torch.fft.fftshift(plane[:, rings], dim=(-1, -2))  # its time_shift
            self.patterns.append(code.fft(plane))
        self.key_bytes = sum(p.numel() * p.element_size() for p in self.patterns)

    def sample(self) -> tuple[NDArray[np.float32], Any]:
        """Noise with one of the patterns."""
        index, code = int(self.rng.integers(len(self.patterns))), self.code
        latent = code.generate_Fourier_watermark_latents(
            "cpu", code.RADIUS, code.RADIUS_CUTOFF, self.masks, code.WATERMARK_CHANNEL,
            original_latents=self.torch.randn(1, *SHAPE), watermark_pattern=self.patterns[index],
        )  # fmt: skip
        return latent[0].float().numpy(), index

    def detect(self, latent: NDArray[np.float32], sent: Any) -> Verdict:
        """The nearest of all."""
        plane = self.code.fft(self.torch.from_numpy(latent)[None])
        distances = [
            self.code.get_distance(
                p, plane, self.masks, p=1, mode="complex", channel_min=True, channel=self.code.WATERMARK_CHANNEL
            )
            for p in self.patterns
        ]
        return Verdict(None, int(np.argmin(distances)) == sent)


def load(checkout: Path, file: str) -> Any:
    """A module of a checkout, under a name of its own: one of them is called as our package is."""
    path = checkout / file
    if not path.is_file():
        raise FileNotFoundError(f"the checkout has no {file}")
    spec = importlib.util.spec_from_file_location(f"peer_{checkout.name}_{path.stem}".replace("-", "_"), path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    with placeholders():
        spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def placeholders() -> Iterator[None]:
    """Modules that peers import and do not use here, as far as they are not installed."""
    vision, data = ModuleType("torchvision"), ModuleType("datasets")
    vision.transforms = SimpleNamespace(functional=SimpleNamespace(rotate=turned))  # type: ignore[attr-defined]
    data.load_dataset = None  # type: ignore[attr-defined]
    missing = {m.__name__: m for m in (vision, data) if importlib.util.find_spec(m.__name__) is None}
    sys.modules.update(missing)
    try:
        yield
    finally:
        for name in missing:
            del sys.modules[name]


def turned(planes: Any, angle: float) -> Any:
    """Turned about the centre, nearest neighbour: what torchvision's `rotate` does by default."""
    plane = Image.fromarray(planes[0, 0].numpy()).rotate(angle, Image.Resampling.NEAREST)
    return planes.new_tensor(np.asarray(plane))[None, None]


def main() -> None:
    """Measures everything."""
    options = parse()
    watermark.set_threads(1)
    pairs = systems(options)
    if not pairs:
        raise SystemExit("no peer is left")
    results = {
        "seed": options.seed, "trials": options.trials, "fpr": FPR, "levels": options.levels,
        "systems": [row for pair in pairs for row in measure(pair, options)],
    }  # fmt: skip
    markdown = table(results)
    print(markdown)
    if not options.no_record:
        path = _record.save("peers_latents", results, markdown=markdown, packages=PACKAGES, out=options.out)
        print(f"\nwritten: {path.name}")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("prc", "gaussian-shading", "tree-ring", "ringid"):
        parser.add_argument(f"--{name}", type=Path, metavar="DIR", help="a checkout")
    parser.add_argument("--levels", type=float, nargs="+", default=[0.5, 0.8, 0.85, 0.9, 0.95])
    parser.add_argument("--trials", type=int, default=20, help="marked latents, each at every level")
    parser.add_argument("--noise", type=int, default=10_000, help="pure noise for detectors that are quick")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--out", help="where to write the record")
    parser.add_argument("--no-record", action="store_true", help="print only")
    options = parser.parse_args()
    if not (options.prc or options.gaussian_shading or options.tree_ring or options.ringid):
        parser.error("pass the folder of at least one checkout")
    return options


def systems(options: argparse.Namespace) -> list[list[System]]:
    """For every checkout that works: ours and the peer's."""
    rng = np.random.default_rng([options.seed, 0])
    theirs: dict[str, Callable[[], System]] = {
        "prc": lambda: Prc(options.prc, rng),
        "gaussian_shading": lambda: GaussianShading(options.gaussian_shading),
        "tree_ring": lambda: TreeRing(options.tree_ring, options.seed),
        "ringid": lambda: RingId(options.ringid, rng),
    }
    ours: dict[str, Callable[[], System]] = {
        "prc": lambda: Ours("latent.prc", "512 bits", rng, payload_bits=512),
        "gaussian_shading": lambda: Ours("latent.gaussian_shading", "256 bits", rng, payload_bits=256),
        "tree_ring": lambda: Ours("latent.tree_ring", "-", rng),
        "ringid": lambda: Ours("latent.ring_id", "11 bits", rng, payload_bits=11),
    }
    pairs = []
    for name, make in theirs.items():
        if getattr(options, name) is None:
            continue
        try:
            seed_peers(options.seed)
            peer = make()
            peer.make_key()
            peer.detect(*peer.sample())  # the first calls compile
        except Exception as error:  # whatever other people's code raises
            hint = " (install it in this environment)" if isinstance(error, ImportError) else ""
            print(f"left out: --{name.replace('_', '-')}: {type(error).__name__}: {error}{hint}", file=sys.stderr)
            continue
        mine = ours[name]()
        mine.make_key()
        pairs.append([mine, peer, *([PrcDetect(peer)] if isinstance(peer, Prc) else [])])
    return pairs


def seed_peers(seed: int) -> None:
    """The global generators that peers draw from; galois and pycryptodome have others, which cannot be fixed."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the peers' own


def measure(pair: list[System], options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each system, run in turn within every trial."""
    rng = np.random.default_rng([options.seed, 1])
    key_ms = [timed(system, "make_key")[1] for system in pair]
    times: list[dict[str, list[float]]] = [{} for _ in pair]
    power: list[dict[str, list[Verdict]]] = [{f"{s:g}": [] for s in options.levels} for _ in pair]
    noise: list[list[Verdict]] = [[] for _ in pair]
    sent: list[Any] = [None] * len(pair)

    def detect(index: int, latent: NDArray[np.float32], what: str) -> Verdict:
        verdict: Verdict
        verdict, ms = timed(pair[index], "detect", latent, sent[index])
        times[index].setdefault(what, []).append(ms)
        return verdict

    for _ in range(options.trials):
        latents = []
        for i, system in enumerate(pair):
            (latent, sent[i]), ms = timed(system, "sample")
            latents.append(latent)
            times[i].setdefault("sample_ms", []).append(ms)
        for s in options.levels:
            eps = rng.standard_normal(SHAPE)
            for i, z in enumerate(latents):
                noisy = (math.sqrt(1 - s**2) * z + s * eps).astype(np.float32)
                power[i][f"{s:g}"].append(detect(i, noisy, f"detect_ms at {s:g}"))
        pure = rng.standard_normal(SHAPE, dtype=np.float32)
        for i in range(len(pair)):
            noise[i].append(detect(i, pure, "detect_noise_ms"))
    for _ in range(options.noise - options.trials):
        pure = rng.standard_normal(SHAPE, dtype=np.float32)
        for i, system in enumerate(pair):
            if "detect" not in system.slow:
                noise[i].append(system.detect(pure, sent[i]))
    return [
        {
            "name": system.name,
            "payload": system.payload,
            "key_ms": key_ms[i] if system.makes_key else None,
            "key_bytes": system.key_bytes,
            "times": {what: summary(ms, times[0][what]) for what, ms in times[i].items()},
            "power": {s: counts(verdicts) for s, verdicts in power[i].items()},
            "noise": counts(noise[i]),
        }
        for i, system in enumerate(pair)
    ]


def summary(numbers: list[float], ours: list[float]) -> dict[str, float]:
    """Median in milliseconds, and how many times our time it is."""
    ratios = [a / b for a, b in zip(numbers, ours, strict=True)]
    return {"median": statistics.median(numbers), "median_of_ratios": statistics.median(ratios), "runs": len(numbers)}


def counts(verdicts: list[Verdict]) -> dict[str, int | None]:
    """How many were detected and read exactly; None where the system does not say."""
    told = {what: [getattr(v, what) for v in verdicts] for what in Verdict._fields}
    return {what: None if None in said else sum(said) for what, said in told.items()} | {"trials": len(verdicts)}


def table(results: dict[str, Any]) -> str:
    """The results in Markdown."""
    first = f"{results['levels'][0]:g}"
    heads = ["", "message", "key, ms", "key, bytes", "sample, ms", f"detect at s = {first}, ms", "detect noise, ms"]
    costs = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    heads = ["detected / exact at s =", *(f"{s:g}" for s in results["levels"]), "noise accepted"]
    power = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for row in results["systems"]:
        spent = [_time(row["times"][what]) for what in ("sample_ms", f"detect_ms at {first}", "detect_noise_ms")]
        key = _short(row["key_ms"]) if row["key_ms"] else "-"
        cells = [row["name"], row["payload"], key, f"{row['key_bytes']:,}", *spent]
        costs.append(f"| {' | '.join(cells)} |")
        said = [f"{_count(c['detected'])} / {_count(c['exact'])}" for c in row["power"].values()]
        accepted = f"{_count(row['noise']['detected'])} of {row['noise']['trials']}"
        power.append(f"| {' | '.join([row['name'], *said, accepted])} |")
    intro = (
        f"CPU time on one thread, medians of {results['trials']} runs (a quick call counts as the median of "
        f"{REPEATS} in a row); in brackets: times as long as ours (median of the "
        f"ratios within a run). Detection at {results['fpr']:g}, as each system computes it."
    )
    return "\n".join([intro, "", *costs, "", f"Of {results['trials']} latents each:", "", *power])


def _time(row: dict[str, float]) -> str:
    ratio = row["median_of_ratios"]
    return _short(row["median"]) + ("" if ratio == 1 else f" ({_short(ratio)}x)")


def _short(number: float) -> str:
    return f"{number:.3g}" if number < 100 else f"{number:,.0f}"


def _count(number: int | None) -> str:
    return "-" if number is None else str(number)


def timed(system: System, method: str, *arguments: Any) -> tuple[Any, float]:
    """The last result and the median CPU time in milliseconds, over all threads of the process."""
    spent = []
    for _ in range(1 if method in system.slow else REPEATS):
        started = time.process_time()
        result = getattr(system, method)(*arguments)
        spent.append(1000 * (time.process_time() - started))
    return result, statistics.median(spent)


if __name__ == "__main__":
    if not ONE_THREAD.items() <= os.environ.items():  # NumPy reads these when it is imported
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | ONE_THREAD)
    main()
