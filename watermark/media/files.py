"""Pictures in files: bounded reading, atomic writing, finding."""

from __future__ import annotations

import errno
import glob
import io
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import PIL.Image
import PIL.ImageFile
import PIL.ImageOps
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ExifTags import Base as ExifTag
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile, get_sampling
from PIL.PngImagePlugin import PngImageFile, PngInfo
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from watermark.errors import MediaError, ParameterError
from watermark.media.pixels import DEEP_MODE, Pixels, to_pillow

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    import torch
    from numpy.typing import NDArray

MAX_SIDE = 65_535
"""Longest side that is read, in pixels: the limit of JPEG."""

_READERS = (JpegImageFile, PngImageFile, WebPImageFile, TiffImageFile, AvifImageFile, BmpImageFile, GifImageFile)
_WRITABLE = {
    ".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF",
    ".avif": "AVIF", ".bmp": "BMP",
}  # fmt: skip
SUFFIXES = frozenset(_WRITABLE) | {".gif"}
"""Suffixes of the files that `find` picks from folders, in lower case."""

_DEFAULT_QUALITY = {"JPEG": 95, "WEBP": 95, "AVIF": 90}
_WITHOUT_ALPHA = ("JPEG", "BMP")
_WITH_16_BITS = ("PNG", "TIFF")
_GREY_MODES = ("L", "LA", DEEP_MODE)
_METADATA_BYTES = 32 << 20
_AVIF_HIGH_BIT_DEPTH = 0x40
_DEEP = (
    "{name}: {found} bits per channel; more than 8 are read as 16 bits of grey without alpha only, and reducing them "
    "unasked would lose detail: convert the file to 8 bits, or decode it yourself and pass a uint16 or float array"
)

# The TIFF tags that describe the picture; the others lay out the file and would be wrong in any other file.
_DESCRIPTIVE_TAGS = frozenset(
    {
        ExifTag.ImageDescription,
        ExifTag.Make,
        ExifTag.Model,
        ExifTag.Software,
        ExifTag.DateTime,
        ExifTag.Artist,
        ExifTag.HostComputer,
        ExifTag.Copyright,
        ExifTag.Orientation,
        ExifTag.ExifOffset,
        ExifTag.GPSInfo,
    }
)
_XMP_TAG = 700
_EXIF_SIGNATURE = b"Exif\0\0"


def read(source: str | os.PathLike[str] | IO[bytes] | bytes, *, max_pixels: int = 64_000_000) -> PIL.Image.Image:
    """Reads a picture, fully decoded and upright.

    Sizes and formats are checked in the header, before anything is decoded. JPEG, PNG, WebP, TIFF, AVIF, BMP and GIF
    are read, of one frame and 8 bits per channel, PNG and TIFF also of 16 bits if they are grey without alpha. Of a
    JPEG with several pictures (a gain map or a preview beside the photo) the first is read.

    Args:
        source: a path, a binary file object, or the bytes of a file.
        max_pixels: most pixels that are decoded, width x height.

    Returns:
        A picture of mode L, LA, RGB, RGBA or, of 16 bits, I;16. Palettes, 1-bit and colour-keyed pictures become these,
        CMYK, YCbCr and LAB become RGB. The EXIF orientation is applied to the pixels and removed. ``format`` is kept;
        ``info`` holds what the file had of ``exif`` (unless damaged), ``icc_profile``, ``xmp``, ``dpi``, and of a JPEG
        its quantisation tables and subsampling under ``jpeg``, for `write`.

    Raises:
        MediaError: if the content is no picture, damaged, too large, animated, deeper than Pillow can keep it, or of
            another format.
        OSError: if the file system does not give the file, such as FileNotFoundError.
    """
    data, name = _load_bytes(source, 4 * max_pixels + _METADATA_BYTES)
    try:
        opened = PIL.Image.open(io.BytesIO(data), formats=[reader.format for reader in _READERS])
        _check_header(opened, data, name, max_pixels)
        opened.load()
        return _normalise(opened)
    except MediaError:
        raise
    except PIL.UnidentifiedImageError as error:
        raise MediaError(
            f"{name}: not a picture that can be read, or its header is damaged; "
            "JPEG, PNG, WebP, TIFF, AVIF, BMP and GIF are read"
        ) from error
    except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning) as error:
        raise MediaError(f"{name}: more pixels than PIL.Image.MAX_IMAGE_PIXELS allows; scale it down first") from error
    except Exception as error:  # damaged files make Pillow and its codecs raise nearly any type
        raise MediaError(f"{name}: damaged or truncated, cannot be decoded ({error}); get an intact copy") from error


def write(
    picture: PIL.Image.Image | NDArray[Any] | torch.Tensor,
    path: str | os.PathLike[str],
    *,
    like: PIL.Image.Image | None = None,
    quality: int | None = None,
    overwrite: bool = True,
) -> None:
    """Writes a picture in the format that the suffix names: JPEG, PNG, WebP, TIFF, AVIF or BMP.

    The file appears complete or not at all: it is written beside its place and then moved there.

    Args:
        picture: a PIL.Image, a NumPy array (H, W, C) or a tensor (C, H, W), uint8; for PNG and TIFF also of 16 bits, if
            it is grey without alpha.
        path: where to; its folder must exist.
        like: the picture as `read`, whose EXIF, ICC profile, XMP and resolution the new file takes over, and from JPEG
            to JPEG its quantisation tables and subsampling. The pixels must stand as in ``like``. Without it only the
            ICC profile of ``picture`` itself is kept, without which its colours would change.
        quality: 1 to 100, of JPEG, WebP and AVIF; default the tables of ``like``, else 95 (AVIF 90). JPEG and AVIF keep
            the full resolution of colour, unless the tables of ``like`` are kept; WebP always halves it.
        overwrite: whether an existing file is replaced.

    Raises:
        MediaError: if the picture has no accepted type, or the format cannot hold it or is unknown.
        ParameterError: if the quality is out of range, or the format has none.
        FileExistsError: if the file exists and ``overwrite`` is false. The file is not touched.
        OSError: if the file system refuses.
    """
    target = Path(os.path.realpath(path))
    file_format = _WRITABLE.get(target.suffix.lower())
    if file_format is None:
        raise MediaError(f"{path}: no format for the suffix '{target.suffix}': use one of {', '.join(_WRITABLE)}")
    if not overwrite and target.exists():
        raise FileExistsError(f"{path} exists already")
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "No such folder", str(target.parent))
    pixels = Pixels.of(picture)
    if pixels.has_alpha and file_format in _WITHOUT_ALPHA:
        raise MediaError(f"{path}: {file_format} has no transparency: write a PNG, or flatten the picture to RGB first")
    image = to_pillow(pixels.array)
    if image.mode == DEEP_MODE and file_format not in _WITH_16_BITS:
        raise MediaError(f"{path}: {file_format} holds 8 bits per channel: write a PNG or TIFF, or reduce it to uint8")
    own_profile = picture.info.get("icc_profile") if isinstance(picture, PIL.Image.Image) else None
    encoding = _encoding(file_format, image.mode, like, quality)
    buffer = io.BytesIO()
    try:
        image.save(buffer, file_format, **encoding, **_metadata(file_format, image.mode, like, own_profile))
    except Exception as error:  # as when reading: a picture too large for the format, or metadata that it cannot hold
        raise MediaError(f"{path}: cannot be written as {file_format} ({error})") from error
    _replace(target, buffer.getbuffer(), overwrite)


@dataclass(frozen=True, slots=True)
class Found:
    """What `find` found.

    Attributes:
        files: each file, sorted, with its path relative to the folder or the fixed part of the glob it was found under;
            just the name for a file that was named itself.
        unmatched: the paths that gave no file.
    """

    files: dict[Path, Path]
    unmatched: list[str]


def find(
    paths: Iterable[str | os.PathLike[str]] | str | os.PathLike[str], *, suffixes: Collection[str] | None = None
) -> Found:
    """Expands files, folders (with all below) and globs (``**`` included) into media files.

    Folders and globs give the files with a known suffix and no leading dot; a file named itself is always taken.
    One path may stand alone.

    Args:
        paths: what to expand.
        suffixes: the suffixes that are known, in lower case; None stands for those of pictures.
    """
    if isinstance(paths, (str, os.PathLike)):
        paths = [paths]
    files: dict[Path, Path] = {}
    unmatched: list[str] = []
    for path in paths:
        matches = _expand(os.fspath(path), SUFFIXES if suffixes is None else suffixes)
        if not matches:
            unmatched.append(os.fspath(path))
        for file, relative in matches.items():
            files.setdefault(file, relative)
    return Found(dict(sorted(files.items())), unmatched)


def _expand(path: str, suffixes: Collection[str]) -> dict[Path, Path]:
    if os.path.isdir(path):
        return {file: file.relative_to(path) for file in _walk(path, suffixes)}
    if os.path.exists(path):
        return {Path(path): Path(Path(path).name)}
    fixed = list(Path(path).parts)
    while fixed and glob.has_magic(os.path.join(*fixed)):
        fixed.pop()
    root = Path(*fixed)
    found: dict[Path, Path] = {}
    for match in map(Path, glob.iglob(path, recursive=True)):
        for file in _walk(match, suffixes) if match.is_dir() else [match]:
            if _is_media(file, suffixes):
                found[file] = file.relative_to(root)
    return found


def _walk(folder: str | Path, suffixes: Collection[str]) -> Iterable[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (file for name in names if _is_media(file := Path(place, name), suffixes))


def _is_media(file: Path, suffixes: Collection[str]) -> bool:
    return file.suffix.lower() in suffixes and not file.name.startswith(".")


def _load_bytes(source: str | os.PathLike[str] | IO[bytes] | bytes, limit: int) -> tuple[bytes, str]:
    """Takes the whole file into memory, so that decoding cannot meet errors of the file system, nor a changing file."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        data, name = bytes(source), f"the picture of {len(source)} bytes"
    elif isinstance(source, (str, os.PathLike)):
        name = os.fspath(source)
        with open(source, "rb") as file:
            data = file.read(limit + 1)
    elif hasattr(source, "read"):
        name = str(getattr(source, "name", "the picture"))
        data = source.read(limit + 1)
        if not isinstance(data, bytes):
            raise MediaError(f"{name}: read() gave {type(data).__name__}; open the file in binary mode")
    else:
        raise MediaError(f"{type(source).__name__} cannot be read: pass a path, a binary file or bytes")
    if len(data) > limit:
        raise MediaError(f"{name}: larger than {limit} bytes, more than max_pixels allows: raise max_pixels")
    return data, name


def _check_header(opened: PIL.ImageFile.ImageFile, data: bytes, name: str, max_pixels: int) -> None:
    width, height = opened.size
    if width * height > max_pixels or max(width, height) > MAX_SIDE:
        raise MediaError(
            f"{name}: {width} x {height} pixels are more than the limit of {max_pixels} (sides up to {MAX_SIDE}): "
            "scale it down, or raise max_pixels"
        )
    if opened.format != "MPO" and getattr(opened, "is_animated", False):
        raise MediaError(f"{name}: has several frames or pages; pass them one by one, as single pictures")
    depth = _bits_per_channel(opened, data)
    if depth > 8 and not (depth == 16 and opened.mode.startswith(DEEP_MODE) and "transparency" not in opened.info):
        raise MediaError(_DEEP.format(name=name, found=depth))


def _bits_per_channel(opened: PIL.ImageFile.ImageFile, data: bytes) -> int:
    """Depth in the file: Pillow reduces 16-bit colour to 8 bits without a word."""
    if isinstance(opened, TiffImageFile):
        return int(max(opened.tag_v2.get(ExifTag.BitsPerSample, (1,))))
    if isinstance(opened, PngImageFile):
        return 16 if str(opened.tile[0].args).endswith("16B") else 8
    if isinstance(opened, AvifImageFile):
        configuration = data.find(b"av1C\x81")
        return 10 if configuration >= 0 and data[configuration + 6] & _AVIF_HIGH_BIT_DEPTH else 8
    return 8


def _normalise(opened: PIL.ImageFile.ImageFile) -> PIL.Image.Image:
    """Gives a decoded picture the modes, the orientation and the ``info`` that `read` promises."""
    try:
        PIL.ImageOps.exif_transpose(opened, in_place=True)
        exif = _exif(opened)
    except Exception:  # a damaged EXIF block makes no viewer refuse the picture
        exif = None
    info = opened.info | {"exif": exif, "jpeg": _jpeg_settings(opened)}
    picture = _deep_grey(opened) if opened.mode.startswith(DEEP_MODE) else opened.convert(_mode(opened))
    if not _profile_fits(info.get("icc_profile"), picture.mode):
        info["icc_profile"] = None
    picture.info = {key: info[key] for key in ("exif", "icc_profile", "xmp", "dpi", "jpeg") if info.get(key)}
    picture.format = "JPEG" if opened.format == "MPO" else opened.format
    return picture


def _mode(opened: PIL.Image.Image) -> str:
    transparent = opened.has_transparency_data
    if opened.mode in ("1", "L", "LA", "La"):
        return "LA" if transparent else "L"
    return "RGBA" if transparent else "RGB"


def _deep_grey(opened: PIL.ImageFile.ImageFile) -> PIL.Image.Image:
    """What convert() would do, if it did not clip at 255 and knew TIFF's negatives of 16 bits."""
    array = np.asarray(opened).astype(np.uint16)[:, :, np.newaxis]
    if isinstance(opened, TiffImageFile) and opened.tag_v2.get(ExifTag.PhotometricInterpretation) == 0:
        array = 65535 - array
    return to_pillow(array)


def _exif(opened: PIL.Image.Image) -> bytes | None:
    if "exif" not in opened.info:
        exif = _descriptive(opened.getexif())
        return exif.tobytes() if exif else None
    # WebP stores the block without this signature, JPEG needs it.
    block = _EXIF_SIGNATURE + bytes(opened.info["exif"]).removeprefix(_EXIF_SIGNATURE)
    exif = PIL.Image.Exif()
    exif.load(block)  # raises if it is damaged
    return block if exif else None


def _descriptive(exif: PIL.Image.Exif) -> PIL.Image.Exif:
    for tag in set(exif) - _DESCRIPTIVE_TAGS:
        del exif[tag]
    return exif


def _jpeg_settings(picture: PIL.Image.Image) -> dict[str, Any] | None:
    """Quantisation tables and subsampling as the arguments of Pillow's encoder."""
    if "jpeg" in picture.info:
        return dict(picture.info["jpeg"])
    if isinstance(picture, JpegImageFile) and picture.mode in ("L", "RGB"):
        return {
            "qtables": {index: list(table) for index, table in picture.quantization.items()},
            "subsampling": get_sampling(picture),
        }
    return None


def _profile_fits(profile: bytes | None, mode: str) -> bool:
    """Whether an ICC profile is for this mode's colour space (bytes 16 to 19 of its header name it)."""
    return profile is not None and profile[16:20] == (b"GRAY" if mode in _GREY_MODES else b"RGB ")


def _encoding(file_format: str, mode: str, like: PIL.Image.Image | None, quality: int | None) -> dict[str, Any]:
    default = _DEFAULT_QUALITY.get(file_format)
    if quality is not None:
        if default is None:
            raise ParameterError(f"{file_format} is lossless and takes no quality: leave it out")
        if isinstance(quality, bool) or not isinstance(quality, int) or not 1 <= quality <= 100:
            raise ParameterError(f"quality must be an integer from 1 to 100, not {quality!r}")
    if file_format == "JPEG":
        settings = _jpeg_settings(like) if like is not None and quality is None else None
        return {"optimize": True} | (settings or {"quality": quality or default, "subsampling": "4:4:4"})
    if file_format == "AVIF":
        return {"quality": quality or default, "subsampling": "4:0:0" if mode == "L" else "4:4:4"}
    if file_format == "WEBP":
        # "exact" keeps the colours below full transparency, where they may be marked as well.
        return {"quality": quality or default, "exact": True}
    if file_format == "TIFF":
        return {"compression": "tiff_lzw"}
    return {}


def _metadata(file_format: str, mode: str, like: PIL.Image.Image | None, profile: bytes | None) -> dict[str, Any]:
    info = {} if like is None else like.info
    profile = info.get("icc_profile", profile)
    # An explicit None stops Pillow from taking the profile out of the picture itself.
    options: dict[str, Any] = {"icc_profile": profile if _profile_fits(profile, mode) else None}
    if "dpi" in info:
        options["dpi"] = info["dpi"]
    exif, xmp = info.get("exif"), info.get("xmp")
    if file_format == "TIFF":
        tags = PIL.Image.Exif()
        tags.load(exif or b"")
        options["exif"] = _descriptive(tags)
        if xmp:
            options["exif"][_XMP_TAG] = xmp
        return options
    if exif:
        options["exif"] = exif
    if xmp and file_format == "PNG":
        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode("utf-8", "replace"))
    elif xmp:
        options["xmp"] = xmp
    return options


def _replace(target: Path, content: memoryview, overwrite: bool) -> None:
    # Written by open() rather than tempfile, whose files only their owner may read.
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    claimed = False
    try:
        with open(temporary, "xb") as file:
            file.write(content)
        if not overwrite:
            open(target, "xb").close()  # takes the name, so that no other process can have written it in between
            claimed = True
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        if claimed:
            target.unlink(missing_ok=True)
        raise
