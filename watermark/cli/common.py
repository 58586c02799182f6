"""What the commands share: errors, keys, messages, and running over many files."""

from __future__ import annotations

import errno
import os
import sys
import traceback
import warnings
from typing import TYPE_CHECKING, Any, TypeVar

import typer
from typer.core import TyperGroup

from watermark.errors import MediaError, ParameterError, WatermarkError, WatermarkWarning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from rich.console import Console

    from watermark import Key

Result = TypeVar("Result")

_MAX_PROFILE_BYTES = 1 << 20
_CONTROL: tuple[type[Exception], ...] = (typer.Exit, typer.Abort, typer.BadParameter.__mro__[2])
"""How typer ends a command; the last is ClickException, wherever typer takes it from."""
HEX = "hex:"
"""What a message starts with that is given in hexadecimal digits."""


class Commands(TyperGroup):
    """The group of commands: expected errors become one line on standard error and exit code 2."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command that the user named."""
        with warnings.catch_warnings():
            warnings.simplefilter("default", WatermarkWarning)
            warnings.showwarning = lambda message, *_, **__: report(f"warning: {message}")
            try:
                return super().invoke(ctx)
            except (WatermarkError, OSError) as error:
                if isinstance(error, OSError) and error.errno == errno.EPIPE:
                    raise  # the reader of a pipe has had enough, which is no error of ours
                report(f"error: {explain(error)}")
            except _CONTROL:
                raise
            except Exception:
                # Not 1, which says that nothing is marked.
                traceback.print_exc()
                report("error: this is a defect of watermark; please report the lines above")
            raise typer.Exit(2)


def report(line: str) -> None:
    """Writes one line to standard error."""
    typer.echo(" ".join(line.split()), err=True)


def explain(error: BaseException, path: Path | None = None) -> str:
    """One line about an error, which names the file."""
    if isinstance(error, OSError) and error.strerror:
        named = error.filename if error.filename is not None else path
        return error.strerror if named is None else f"{shown(named)}: {error.strerror}"
    text = str(error)
    return text if path is None or str(path) in text else f"{shown(path)}: {text}"


def shown(path: str | bytes | os.PathLike[str]) -> str:
    """A path as text that any terminal takes."""
    return os.fsencode(path).decode("utf-8", "replace")


def console() -> Console:
    """Where results go. File names and messages are shown as they are, brackets included."""
    from rich.console import Console

    return Console(highlight=False, markup=False)


def load_keys(paths: Sequence[Path]) -> list[Key]:
    """The keys in these files."""
    from watermark import Key

    return [Key.load(path) for path in paths]


def load_mark(
    keys: Sequence[Path], scheme: str, payload_bits: int, profile: Path | None, modalities: Sequence[str] = ("image",)
) -> Any:
    """The scheme that the user asked for, by name or by a profile; the first key marks, all detect.

    Raises:
        ParameterError: There is no such scheme, it is for another modality, or the file is no profile.
    """
    import watermark

    ring = watermark.Keyring(load_keys(keys))
    if profile is None:
        mark = watermark.load(scheme, ring, payload_bits=payload_bits)
    else:
        text = profile.read_bytes()[:_MAX_PROFILE_BYTES].decode("utf-8", "replace")
        if not text.lstrip().startswith("{"):
            raise ParameterError(f"{shown(profile)} is no profile: save what scheme.profile() returns")
        mark = watermark.load(text, ring)
    if mark.info.modality not in modalities:
        things = mark.info.modality.removesuffix("s") + "s"
        raise ParameterError(f"{mark.name} marks {things}, not pictures: use it from Python")
    return mark


def to_payload(message: str) -> bytes:
    """The bytes of a message: UTF-8, or what follows ``hex:``.

    Raises:
        ParameterError: if these are no hexadecimal digits, two per byte.
    """
    if not message.startswith(HEX):
        return message.encode("utf-8", "surrogateescape")
    try:
        return bytes.fromhex(message.removeprefix(HEX))
    except ValueError:
        raise ParameterError(f"'{message}' needs pairs of hexadecimal digits after '{HEX}', such as hex:00ff") from None


def to_message(payload: bytes | None) -> str:
    """The message as a user would have given it: text if it is printable, else ``hex:`` and digits."""
    if payload is None:
        return ""
    try:
        text = payload.decode("utf-8")
    except UnicodeDecodeError:
        return HEX + payload.hex()
    return text if text.isprintable() and not text.startswith(HEX) else HEX + payload.hex()


def to_power(log10_p: float) -> str:
    """A p-value for reading: a plain number, or a power of ten where it is small."""
    return f"{10.0**log10_p:.2g}" if log10_p > -2 else f"10^{log10_p:.1f}"


def for_each(
    files: Iterable[Path], work: Callable[[Path], Result], label: str
) -> Iterator[tuple[Path, Result | MediaError | OSError]]:
    """Does the work for every file, in threads, in order; a file's error takes the place of its result.

    Shows a progress bar if there are several files and somebody is watching.
    """
    from concurrent.futures import ThreadPoolExecutor

    import watermark

    def guarded(file: Path) -> Result | MediaError | OSError:
        try:
            return work(file)
        except (MediaError, OSError) as error:
            return error

    queue = list(files)
    pool = ThreadPoolExecutor(watermark.threads())
    try:
        results = zip(queue, pool.map(guarded, queue), strict=True)
        yield from _with_progress(results, len(queue), label) if len(queue) > 1 and sys.stderr.isatty() else results
    finally:
        pool.shutdown(cancel_futures=True)


def _with_progress(
    results: Iterable[tuple[Path, Result | MediaError | OSError]], total: int, label: str
) -> Iterator[tuple[Path, Result | MediaError | OSError]]:
    from rich.console import Console
    from rich.progress import track

    yield from track(results, label, total, console=Console(stderr=True), transient=True)
