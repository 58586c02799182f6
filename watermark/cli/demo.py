"""``watermark demo``: marks a photo, edits it, and shows what the detector says.

The bundled photo ``demo.jpg`` ("coffee", by Rachel Michetti) is dedicated to the public domain under CC0 by its
photographer; it comes from the data of scikit-image.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from watermark.cli.common import console, shown, to_message, to_payload, to_power
from watermark.errors import MediaError, ParameterError

if TYPE_CHECKING:
    from watermark.cli.sheet import Look

DEFAULT_SHEET = Path("watermark-demo.png")
SMALLEST_SIDE = 256


def demo(
    kind: Annotated[str, typer.Argument(help="What to mark: image.")] = "image",
    photo: Annotated[Path | None, typer.Option(help="Picture to mark.", show_default="a bundled photo")] = None,
    message: Annotated[str, typer.Option("--payload", "-p", metavar="MESSAGE", help="Text, or hex:...")] = "order-42",
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Picture sheet to write; the default one may be replaced.")
    ] = DEFAULT_SHEET,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing sheet.")] = False,
) -> None:
    """Marks a photo, edits it in many ways, and shows what is detected.

    Prints a table and writes a picture sheet: the original, the marked photo, their amplified difference, and each
    edited version with its verdict.
    """
    import watermark
    from watermark import media
    from watermark.cli import sheet

    if kind != "image":
        raise ParameterError(f"there is no demo '{kind}' in this version; there is: image")
    overwrite = force or output == DEFAULT_SHEET
    if output.exists() and not overwrite:
        raise FileExistsError(f"{shown(output)} exists; --force replaces it")
    payload = to_payload(message)
    original = sheet.eight_bits(media.read(photo or Path(__file__).with_name("demo.jpg")))
    if min(original.size) < SMALLEST_SIDE:
        raise MediaError(
            f"{photo}: too small to be cut and halved: take a photo of {SMALLEST_SIDE} pixels a side or more"
        )
    key = watermark.Key.generate()
    mark = watermark.load("image.spectral", key, payload_bits=max(64, 8 * len(payload)))
    marked = mark.embed(original, payload)

    looks = [sheet.Look(name, picture := edit(marked), mark.detect(picture)) for name, edit in sheet.EDITS.items()]
    stranger = watermark.load("image.spectral", watermark.Key.generate(), payload_bits=mark.parameters.payload_bits)
    looks.append(sheet.Look("seen with a wrong key", marked, stranger.detect(marked), faded=True))
    looks.append(sheet.Look("the unmarked original", original, mark.detect(original)))

    psnr = sheet.psnr(original, marked)
    _print_table(looks, psnr)
    title = f"Marked with “{to_message(payload)}”"
    size = f"{original.width} x {original.height} pixels"
    facts = "   ·   ".join([mark.name, f"key {key.id}", size, f"PSNR {psnr:.1f} dB"])
    media.write(sheet.draw(title, facts, original, marked, looks), output, overwrite=overwrite)
    console().print(f"Picture sheet: {shown(output)}")


def _print_table(looks: "list[Look]", psnr: float) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, title=f"Marked at PSNR {psnr:.1f} dB", title_justify="left")
    for column in ("edit", "size", "verdict", "p", "message"):
        table.add_column(column, justify="right" if column == "p" else "left")
    for look in looks:
        verdict = Text("marked", "bold green") if look.marked else Text("no mark", "dim")
        size = f"{look.picture.width} x {look.picture.height}"
        table.add_row(look.name, size, verdict, to_power(look.detection.log10_p), look.message)
    console().print(table)
