"""``watermark embed``."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from watermark.cli.common import explain, for_each, load_mark, report, shown, to_payload
from watermark.errors import MediaError

if TYPE_CHECKING:
    from watermark.media import Found


def embed(
    inputs: Annotated[
        list[str], typer.Argument(metavar="IN...", help="Files, folders or globs to mark.", show_default=False)
    ],
    key: Annotated[Path, typer.Option("--key", "-k", help="Key file.", show_default=False)],
    message: Annotated[
        str, typer.Option("--payload", "-p", metavar="MESSAGE", help="Text, or hex:...", show_default=False)
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File for one input, folder for several.", show_default=False)
    ],
    scheme: Annotated[str, typer.Option(help="How to mark.")] = "image.spectral",
    payload_bits: Annotated[int, typer.Option(help="Longest message, in bits.")] = 64,
    profile: Annotated[
        Path | None, typer.Option(help="File of a scheme's profile, instead of both.", show_default=False)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace existing files.")] = False,
) -> None:
    """Marks pictures with a key and a message.

    Metadata is kept. A bad file among many is reported and the rest goes on; the exit code is then 2.
    """
    from watermark import media

    payload = to_payload(message)
    mark = load_mark([key], scheme, payload_bits, profile)
    found = media.find(inputs)
    single = len(inputs) == 1 and Path(inputs[0]).is_file()
    targets = _targets(found, output, single=single)
    uses = Counter(targets.values())

    def work(source: Path) -> None:
        target = targets[source]
        if uses[target] > 1:
            raise FileExistsError(f"{shown(source)}: another input would become {shown(target)} too")
        if target.exists() and not force:
            raise FileExistsError(f"{shown(target)} exists; --force replaces it")
        picture = media.read(source)
        marked = mark.embed(picture, payload)
        if not single:
            target.parent.mkdir(parents=True, exist_ok=True)
        media.write(marked, target, like=picture, overwrite=force)

    failures = [f"{path}: no such file, or no pictures in it" for path in found.unmatched]
    for source, result in for_each(targets, work, "Marking"):
        if isinstance(result, (MediaError, OSError)):
            failures.append(explain(result, source))
    for failure in failures:
        report(f"error: {failure}")
    done = len(targets) + len(found.unmatched) - len(failures)
    if done:
        files = shown(targets.popitem()[1]) if single else f"{done} file{'s' * (done > 1)} in {shown(output)}"
        typer.echo(f"Wrote {files} with key {mark.key.id}.")
    if failures:
        raise typer.Exit(2)


def _targets(found: "Found", output: Path, *, single: bool) -> dict[Path, Path]:
    if single and not output.is_dir():
        return dict.fromkeys(found.files, output)
    return {source: output / relative for source, relative in found.files.items()}
