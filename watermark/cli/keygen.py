"""``watermark keygen``."""

from pathlib import Path
from typing import Annotated

import typer

from watermark.cli.common import shown


def keygen(
    path: Annotated[Path, typer.Argument(help="Key file to write.", show_default=False)],
    force: Annotated[bool, typer.Option("--force", help="Replace an existing key. Its marks are lost.")] = False,
) -> None:
    """Makes a secret key."""
    from watermark import Key

    key = Key.generate()
    try:
        key.save(path, overwrite=force)
    except FileExistsError:
        message = f"{shown(path)} exists; --force replaces it, and nothing marked with it can be detected any more"
        raise FileExistsError(message) from None
    typer.echo(f"Wrote {shown(path)} with key {key.id}.")
    typer.echo("Keep it secret, and keep a copy: without it nobody can detect its marks.")
