"""Files: what is read, kept, written and refused."""

from __future__ import annotations

import io
import os
import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.ExifTags
import PIL.Image
import PIL.ImageCms
import PIL.ImageOps
import PIL.JpegImagePlugin
import PIL.PngImagePlugin
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watermark import media
from watermark.errors import MediaError, ParameterError

if TYPE_CHECKING:
    from pathlib import Path

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF", "BMP", "GIF")
XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>a note</x:xmpmeta>"
ICC = PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile("sRGB")).tobytes()


def gradient(width: int = 48, height: int = 32, mode: str = "RGB") -> PIL.Image.Image:
    y, x = np.mgrid[:height, :width]
    planes = np.stack([x * 255 // width, y * 255 // height, (x + y) * 255 // (width + height), 128 + x], axis=2)
    return PIL.Image.fromarray(planes.astype(np.uint8), "RGBA").convert(mode)


def encode(picture: PIL.Image.Image, file_format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, file_format, **options)
    return file.getvalue()


def exif(orientation: int | None = None, more: dict[int, Any] | None = None) -> bytes:
    tags = PIL.Image.Exif()
    tags.update(more or {})
    tags[PIL.ExifTags.Base.Artist] = "A. Photographer"
    if orientation:
        tags[PIL.ExifTags.Base.Orientation] = orientation
    return tags.tobytes()


def metadata(file_format: str, orientation: int | None = None) -> dict[str, Any]:
    options: dict[str, Any] = {"exif": exif(orientation), "icc_profile": ICC, "dpi": (300, 300)}
    if file_format == "PNG":
        options["pnginfo"] = PIL.PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", XMP.decode())
    elif file_format == "TIFF":
        options["exif"] = exif(orientation, {700: XMP})
    else:
        options["xmp"] = XMP
    return options


EXAMPLES = {name: encode(gradient(), name, **metadata(name)) for name in FORMATS if name not in ("BMP", "GIF")}
EXAMPLES |= {name: encode(gradient(), name) for name in ("BMP", "GIF")}
EXAMPLES_OF_16_BITS = {name: encode(PIL.Image.new("I;16", (48, 32), 4711), name) for name in ("PNG", "TIFF")}


@pytest.mark.parametrize("file_format", FORMATS)
def test_reads_paths_files_and_bytes(file_format: str, tmp_path: Path) -> None:
    path = tmp_path / "picture"
    path.write_bytes(EXAMPLES[file_format])
    pictures = [media.read(path), media.read(str(path)), media.read(EXAMPLES[file_format])]
    with path.open("rb") as file:
        pictures.append(media.read(file))
    for picture in pictures:
        assert picture.format == file_format
        assert picture.size == (48, 32)
        assert picture.mode == "RGB"
        assert picture.tobytes() == pictures[0].tobytes()


@pytest.mark.parametrize(
    ("picture", "file_format", "options", "mode"),
    [
        (gradient(mode="L"), "PNG", {}, "L"),
        (gradient(mode="LA"), "PNG", {}, "LA"),
        (gradient(mode="RGBA"), "PNG", {}, "RGBA"),
        (gradient(mode="RGBA"), "WEBP", {}, "RGBA"),
        (gradient(mode="1"), "PNG", {}, "L"),
        (gradient(mode="1"), "PNG", {"transparency": 0}, "LA"),
        (gradient(mode="L"), "PNG", {"transparency": 7}, "LA"),
        (gradient(), "PNG", {"transparency": (0, 0, 0)}, "RGBA"),
        (gradient().convert("P"), "PNG", {}, "RGB"),
        (gradient(mode="P"), "PNG", {"transparency": 3}, "RGBA"),
        (gradient(mode="P"), "GIF", {"transparency": 3}, "RGBA"),
        (gradient(mode="CMYK"), "JPEG", {"icc_profile": b"\0" * 16 + b"CMYK" + b"\0" * 108}, "RGB"),
        (gradient(mode="CMYK"), "TIFF", {}, "RGB"),
        (gradient(mode="YCbCr"), "TIFF", {}, "RGB"),
        (gradient(mode="LAB"), "TIFF", {}, "RGB"),
    ],
)
def test_modes(picture: PIL.Image.Image, file_format: str, options: dict[str, Any], mode: str) -> None:
    result = media.read(encode(picture, file_format, **options))
    assert result.mode == mode
    assert "icc_profile" not in result.info


def png_of_depth_16(colour: int, channels: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 8, 8, 16, colour, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\1\2" * 8 * channels) * 8)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def tiff_of_depth_16() -> bytes:
    tags = [(256, 8), (257, 8), (258, 16), (259, 1), (262, 2), (273, 200), (277, 3), (278, 8), (279, 384)]
    entries = b"".join(
        struct.pack("<HHII", tag, 3, 3, 180) if tag == 258 else struct.pack("<HHII", tag, 3, 1, value)
        for tag, value in tags
    )
    directory = struct.pack("<H", len(tags)) + entries + b"\0\0\0\0"
    depths = struct.pack("<HHH", 16, 16, 16).ljust(20, b"\0")
    return (b"II*\0\x08\0\0\0" + directory).ljust(180, b"\0") + depths + bytes(384)


GREY = np.random.default_rng(6).integers(0, 65536, (8, 8)).astype(np.uint16)


def grey_tiff(order: str = "<", photometric: int = 1, depth: int = 16, kind: int = 1, orientation: int = 1) -> bytes:
    """`GREY` in a TIFF as Pillow does not write it."""
    tags = [(256, 8), (257, 8), (258, depth), (259, 1), (262, photometric), (273, 150), (274, orientation), (277, 1),
            (278, 8), (279, 128), (339, kind)]  # fmt: skip
    # Two bytes of four: a short value stands at the start of its field.
    entries = b"".join(struct.pack(order + "HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HIH", 42, 8, len(tags))
    return (head + entries + b"\0\0\0\0").ljust(150, b"\0") + GREY.astype(order + "u2").tobytes()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(encode(PIL.Image.fromarray(GREY), "PNG"), GREY, id="PNG"),
        pytest.param(encode(PIL.Image.fromarray(GREY), "TIFF"), GREY, id="TIFF"),
        pytest.param(encode(PIL.Image.fromarray(GREY), "TIFF", compression="tiff_lzw"), GREY, id="packed TIFF"),
        pytest.param(grey_tiff("<"), GREY, id="little-endian TIFF"),
        pytest.param(grey_tiff(">"), GREY, id="big-endian TIFF"),
        pytest.param(grey_tiff("<", photometric=0), 65535 - GREY, id="negative TIFF"),
        pytest.param(grey_tiff(">", orientation=6), np.rot90(GREY, -1), id="turned TIFF"),
    ],
)
def test_grey_of_16_bits(data: bytes, expected: np.ndarray, tmp_path: Path) -> None:
    picture = media.read(data)
    assert picture.mode == "I;16"
    np.testing.assert_array_equal(np.asarray(picture), expected)
    for suffix in (".png", ".tif"):
        for copy in (picture, np.asarray(picture), np.asarray(picture)[:, :, None]):
            media.write(copy, tmp_path / f"a{suffix}", like=picture)
            np.testing.assert_array_equal(np.asarray(media.read(tmp_path / f"a{suffix}")), expected)


def test_metadata_of_16_bits(tmp_path: Path) -> None:
    profile = ICC[:16] + b"GRAY" + ICC[20:]
    for file_format, suffix in (("PNG", ".tif"), ("TIFF", ".png")):
        options = metadata(file_format) | {"icc_profile": profile}
        picture = media.read(encode(PIL.Image.fromarray(GREY), file_format, **options))
        media.write(picture, tmp_path / f"a{suffix}", like=picture)
        result = media.read(tmp_path / f"a{suffix}")
        assert result.mode == "I;16"
        assert result.getexif()[PIL.ExifTags.Base.Artist] == "A. Photographer"
        assert (result.info["icc_profile"], result.info["xmp"]) == (profile, XMP)
        assert result.info["dpi"] == pytest.approx((300, 300), abs=0.02)


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif", ".bmp"])
def test_formats_without_16_bits(suffix: str, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="8 bits"):
        media.write(GREY, tmp_path / f"a{suffix}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "picture", [np.zeros((8, 8, 3), np.uint16), np.zeros((8, 8, 2), np.uint16), np.zeros((8, 8), np.float32)]
)
def test_what_no_file_holds(picture: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="convert them to uint8"):
        media.write(picture, tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def avif_of_depth_10() -> bytes:
    """An 8-bit file that claims 10 bits, in both places where a header says so."""
    data = EXAMPLES["AVIF"].replace(b"\3\x08\x08\x08", b"\3\x0a\x0a\x0a")
    flags = data.index(b"av1C\x81") + 6
    return data[:flags] + bytes([data[flags] | 0x40]) + data[flags + 1 :]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(png_of_depth_16(2, 3), id="RGB PNG"),
        pytest.param(png_of_depth_16(4, 2), id="grey and alpha PNG"),
        pytest.param(png_of_depth_16(6, 4), id="RGBA PNG"),
        pytest.param(tiff_of_depth_16(), id="RGB TIFF"),
        pytest.param(encode(PIL.Image.new("I;16", (8, 8)), "PNG", transparency=3), id="colour-keyed grey PNG"),
        pytest.param(grey_tiff(depth=12), id="12-bit TIFF"),
        pytest.param(grey_tiff(kind=2), id="signed 16-bit TIFF"),
        pytest.param(encode(PIL.Image.new("F", (8, 8)), "TIFF"), id="float TIFF"),
        pytest.param(encode(PIL.Image.new("I", (8, 8)), "TIFF"), id="32-bit TIFF"),
        pytest.param(avif_of_depth_10(), id="10-bit AVIF"),
    ],
)
def test_deep_colour_is_refused_rather_than_reduced(data: bytes) -> None:
    with pytest.raises(MediaError, match="bits per channel"):
        media.read(data)


@pytest.mark.parametrize("file_format", ["GIF", "PNG", "WEBP", "TIFF", "AVIF"])
def test_animations_are_refused(file_format: str) -> None:
    data = encode(gradient(), file_format, save_all=True, append_images=[PIL.ImageOps.mirror(gradient())])
    with pytest.raises(MediaError, match="several frames"):
        media.read(data)


def test_first_picture_of_a_multi_picture_jpeg() -> None:
    data = encode(gradient(), "MPO", save_all=True, append_images=[gradient(24, 16)], exif=exif(6))
    picture = media.read(data)
    assert (picture.format, picture.size) == ("JPEG", (32, 48))
    assert picture.info["jpeg"]["qtables"]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_orientation_goes_into_the_pixels(file_format: str, orientation: int, tmp_path: Path) -> None:
    data = encode(gradient(), file_format, **metadata(file_format, orientation))
    picture = media.read(data)
    expected = PIL.ImageOps.exif_transpose(PIL.Image.open(io.BytesIO(data)))
    assert picture.tobytes() == expected.convert("RGB").tobytes()
    assert picture.getexif().get(PIL.ExifTags.Base.Orientation, 1) == 1
    path = tmp_path / "copy.png"
    media.write(picture, path, like=picture)
    assert media.read(path).tobytes() == picture.tobytes()


@pytest.mark.parametrize("block", [b"garbage", b"", exif(6)[6:-9]])
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_a_damaged_exif_block_spoils_nothing(file_format: str, block: bytes, tmp_path: Path) -> None:
    picture = media.read(encode(gradient(), file_format, exif=b"Exif\0\0" + block))
    assert sorted(picture.size) == [32, 48]
    for suffix in (".jpg", ".png", ".webp", ".tif", ".avif"):
        try:
            media.write(picture, tmp_path / f"a{suffix}", like=picture)
        except MediaError as error:
            raise AssertionError(suffix) from error


@pytest.mark.parametrize("source", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".avif"])
@pytest.mark.parametrize("kind", ["pillow", "numpy"])
def test_metadata_is_kept(source: str, suffix: str, kind: str, tmp_path: Path) -> None:
    picture = media.read(EXAMPLES[source])
    path = tmp_path / f"marked{suffix}"
    media.write(picture if kind == "pillow" else np.asarray(picture), path, like=picture)
    result = media.read(path)
    assert result.getexif()[PIL.ExifTags.Base.Artist] == "A. Photographer"
    assert result.info["icc_profile"] == ICC
    assert result.info["xmp"] == XMP
    if source in ("JPEG", "PNG", "TIFF") and suffix in (".jpg", ".png", ".tif"):
        assert result.info["dpi"] == pytest.approx((300, 300), abs=0.02)
    assert list(tmp_path.iterdir()) == [path]


def test_without_like_only_the_profile_of_the_picture_itself_is_kept(tmp_path: Path) -> None:
    picture = media.read(EXAMPLES["JPEG"])
    for suffix in (".jpg", ".png", ".tif", ".webp", ".avif"):
        media.write(picture, tmp_path / f"a{suffix}")
        assert set(media.read(tmp_path / f"a{suffix}").info) & {"exif", "xmp", "icc_profile"} == {"icc_profile"}
        media.write(np.asarray(picture), tmp_path / f"b{suffix}")
        assert not set(media.read(tmp_path / f"b{suffix}").info) & {"exif", "xmp", "icc_profile"}


def test_a_profile_of_another_colour_space_is_dropped(tmp_path: Path) -> None:
    colour = media.read(EXAMPLES["JPEG"])
    media.write(colour.convert("L"), tmp_path / "grey.png", like=colour)
    assert "icc_profile" not in media.read(tmp_path / "grey.png").info


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_jpeg_tables_and_subsampling_are_kept(subsampling: int, mode: str, tmp_path: Path) -> None:
    data = encode(gradient(mode=mode), "JPEG", quality=63, subsampling=subsampling)
    picture = media.read(data)
    media.write(np.asarray(picture), tmp_path / "a.jpg", like=picture)
    before, after = PIL.Image.open(io.BytesIO(data)), PIL.Image.open(tmp_path / "a.jpg")
    assert isinstance(before, PIL.JpegImagePlugin.JpegImageFile)
    assert isinstance(after, PIL.JpegImagePlugin.JpegImageFile)
    assert after.quantization == before.quantization
    assert PIL.JpegImagePlugin.get_sampling(after) == PIL.JpegImagePlugin.get_sampling(before)
    after.close()


@pytest.mark.parametrize("modes", [("RGB", "L"), ("L", "RGB"), ("CMYK", "RGB")])
def test_jpeg_like_a_jpeg_of_other_channels(modes: tuple[str, str], tmp_path: Path) -> None:
    like = media.read(encode(gradient(mode=modes[0]), "JPEG", quality=63))
    media.write(gradient(mode=modes[1]), tmp_path / "a.jpg", like=like)
    assert media.read(tmp_path / "a.jpg").mode == modes[1]


def test_like_may_be_a_picture_opened_by_pillow(tmp_path: Path) -> None:
    opened = PIL.Image.open(io.BytesIO(encode(gradient(), "JPEG", quality=63, exif=exif(6))))
    media.write(opened, tmp_path / "a.jpg", like=opened)
    with PIL.Image.open(tmp_path / "a.jpg") as result:
        assert result.quantization == opened.quantization  # type: ignore[attr-defined]
        assert result.getexif()[PIL.ExifTags.Base.Orientation] == 6  # the pixels were not turned either


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff", ".bmp", ".PNG"])
def test_lossless_formats_keep_every_pixel(suffix: str, tmp_path: Path) -> None:
    picture = gradient()
    media.write(picture, tmp_path / f"a{suffix}")
    assert media.read(tmp_path / f"a{suffix}").tobytes() == picture.tobytes()


@pytest.mark.parametrize(("suffix", "least"), [(".jpg", 40), (".jpeg", 40), (".webp", 34), (".avif", 38)])
def test_default_quality_is_high(suffix: str, least: float, tmp_path: Path) -> None:
    picture = gradient(256, 256)
    media.write(picture, tmp_path / f"a{suffix}")
    difference = np.asarray(media.read(tmp_path / f"a{suffix}"), float) - np.asarray(picture)
    assert 10 * np.log10(255**2 / np.mean(difference**2)) > least


def test_quality_overrides_like(tmp_path: Path) -> None:
    picture = media.read(EXAMPLES["JPEG"])
    media.write(picture, tmp_path / "a.jpg", like=picture, quality=20)
    assert (tmp_path / "a.jpg").stat().st_size < len(EXAMPLES["JPEG"])


@pytest.mark.parametrize(
    ("name", "quality"), [("a.jpg", 0), ("a.jpg", 101), ("a.webp", 9.5), ("a.png", 90), ("a.jpg", True)]
)
def test_quality_out_of_range(name: str, quality: Any, tmp_path: Path) -> None:
    with pytest.raises(ParameterError):
        media.write(gradient(), tmp_path / name, quality=quality)
    assert not list(tmp_path.iterdir())


def test_transparency_survives_or_is_refused(tmp_path: Path) -> None:
    picture = gradient(mode="RGBA")
    for suffix in (".png", ".tif"):
        media.write(picture, tmp_path / f"a{suffix}")
        assert media.read(tmp_path / f"a{suffix}").tobytes() == picture.tobytes()
    for name in ("b.jpg", "b.bmp"):
        with pytest.raises(MediaError, match="PNG"):
            media.write(picture, tmp_path / name)
        assert not (tmp_path / name).exists()


@pytest.mark.parametrize("name", ["a.gif", "a.xyz", "a"])
def test_unknown_suffix_lists_the_known_ones(name: str, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"\.jpg.*\.png.*\.webp"):
        media.write(gradient(), tmp_path / name)


def test_existing_files_are_safe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        media.write(gradient(), path, overwrite=False)
    with pytest.raises(MediaError):
        media.write(PIL.Image.new("F", (4, 4)), path)

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        with pytest.raises(OSError, match="No space"):
            media.write(gradient(), path)
        with pytest.raises(OSError, match="No space"):
            media.write(gradient(), tmp_path / "new.png", overwrite=False)
    assert path.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [path]
    media.write(gradient(), path)
    assert media.read(path).tobytes() == gradient().tobytes()
    media.write(gradient(), tmp_path / "new.png", overwrite=False)
    assert path.stat().st_mode == (tmp_path / "new.png").stat().st_mode


def test_writing_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "link.png").symlink_to("real.png")
    media.write(gradient(), tmp_path / "link.png")
    assert (tmp_path / "link.png").is_symlink()
    assert media.read(tmp_path / "real.png").size == (48, 32)


def test_errors_of_the_file_system_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        media.read(tmp_path / "none.png")
    with pytest.raises(IsADirectoryError):
        media.read(tmp_path)
    with pytest.raises(FileNotFoundError):
        media.write(gradient(), tmp_path / "none" / "a.png")


@pytest.mark.parametrize(
    "source", [None, 3, io.StringIO("text"), b"", b"GIF89a", b"\x89PNG\r\n\x1a\n" + bytes(40), b"text"]
)
def test_what_is_no_picture(source: Any) -> None:
    with pytest.raises(MediaError):
        media.read(source)


def test_too_many_pixels_are_refused_by_the_header() -> None:
    with pytest.raises(MediaError, match="48 x 32"):
        media.read(EXAMPLES["PNG"], max_pixels=48 * 32 - 1)
    media.read(EXAMPLES["PNG"], max_pixels=48 * 32)
    for width, height in [(60_000, 60_000), (70_000, 10), (12_000, 10_000)]:
        bomb = bytearray(png_of_depth_16(2, 3))
        bomb[16:24] = struct.pack(">II", width, height)
        bomb[29:33] = struct.pack(">I", zlib.crc32(bomb[12:29]))
        with pytest.raises(MediaError, match=r"pixels|limit"):
            media.read(bytes(bomb))


def test_large_files_are_not_taken_into_memory() -> None:
    class Endless(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            assert 0 <= size < 1 << 27
            return bytes(size)

    with pytest.raises(MediaError, match="larger than"):
        media.read(Endless(), max_pixels=1000)  # type: ignore[arg-type]


@pytest.mark.parametrize("example", [*EXAMPLES.values(), *EXAMPLES_OF_16_BITS.values()])
@given(st.data())
@settings(max_examples=40, deadline=None)
def test_damaged_files_raise_only_media_errors(example: bytes, data: st.DataObject) -> None:
    damaged = bytearray(example)
    for _ in range(data.draw(st.integers(0, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        picture = media.read(bytes(damaged[: data.draw(st.integers(0, len(damaged)))]), max_pixels=1_000_000)
    except MediaError:
        return
    assert picture.mode in ("L", "LA", "RGB", "RGBA", "I;16")


def test_find(tmp_path: Path) -> None:
    names = ["a.jpg", "b.PNG", "notes.txt", ".hidden.png", "deep/c.webp", "deep/er/d.tif", ".git/e.png"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    def relative(*paths: object) -> list[str]:
        return [str(path) for path in media.find(map(str, paths)).files.values()]

    assert relative(tmp_path) == ["a.jpg", "b.PNG", "deep/c.webp", "deep/er/d.tif"]
    assert relative(tmp_path / "notes.txt", tmp_path / "deep" / "c.webp") == ["c.webp", "notes.txt"]
    assert relative(tmp_path / "*.*") == ["a.jpg", "b.PNG"]
    assert relative(tmp_path / "**" / "*.tif", tmp_path / "**" / "*.tif") == ["deep/er/d.tif"]
    assert relative(tmp_path / "d*") == ["deep/c.webp", "deep/er/d.tif"]
    found = media.find([tmp_path / "none.png", tmp_path / "*.bmp", tmp_path / "a.jpg"])
    assert found.unmatched == [str(tmp_path / "none.png"), str(tmp_path / "*.bmp")]
    assert list(found.files) == [tmp_path / "a.jpg"]


def test_find_takes_one_path(tmp_path: Path) -> None:
    PIL.Image.new("L", (8, 8)).save(tmp_path / "a.png")
    for one in (tmp_path, str(tmp_path)):
        assert list(media.find(one).files) == [tmp_path / "a.png"]
