"""The command ``watermark``: one file per command.

Nothing heavy is imported before a command runs, so that help and completion answer at once.
"""

import typer

from watermark.cli.common import Commands
from watermark.cli.demo import demo
from watermark.cli.detect import detect
from watermark.cli.embed import embed
from watermark.cli.evaluate import evaluate
from watermark.cli.info import info
from watermark.cli.keygen import keygen

__all__ = ["app", "main"]

app = typer.Typer(
    name="watermark",
    cls=Commands,
    help="Marks AI-generated media with a secret key, and proves the mark later with a valid p-value.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # boxes around the help would cost a quarter of its time
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (keygen, embed, detect, evaluate, demo, info):
    app.command()(command)


def main() -> None:
    """Entry point of the command."""
    app(prog_name="watermark")
