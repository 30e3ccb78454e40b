"""The program `glassnet`: its commands, and the one place where errors become messages."""

from __future__ import annotations

import io
import signal
import sys
import traceback
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from glassnet import __version__
from glassnet.cli.curve import curve
from glassnet.cli.data import data
from glassnet.cli.doctor import doctor
from glassnet.cli.evaluate import evaluate
from glassnet.cli.explain import explain
from glassnet.cli.gradcheck import gradcheck
from glassnet.cli.lr import lr
from glassnet.cli.plan import plan
from glassnet.cli.predict import predict
from glassnet.cli.profile import profile
from glassnet.cli.recipe import recipe
from glassnet.cli.report import report
from glassnet.cli.resume import resume
from glassnet.cli.summary import summary
from glassnet.cli.train import train
from glassnet.cli.warmup import warmup
from glassnet.errors import GlassnetError
from glassnet.train import Interrupted


class Commands(TyperGroup):
    """Turns errors of ours, and files that cannot be opened, into one message and exit status 2."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Interrupted as error:
            return fail(str(error), 128 + error.signal)  # as the shell counts a program ended by a signal
        except KeyboardInterrupt:
            return fail("Interrupted.", 128 + signal.SIGINT)
        except (GlassnetError, OSError) as error:
            if ctx.params["debug"]:
                traceback.print_exc()
            return fail(f"Error: {described(error)}", 2)


def described(error: Exception) -> str:
    """Our own errors as they are; the system's with the file first and no number."""
    if isinstance(error, OSError) and error.strerror is not None:
        return f"{error.filename}: {error.strerror}."
    return str(error)


def fail(message: str, status: int) -> None:
    """Say why on stderr, and end."""
    print(message, file=sys.stderr)
    raise typer.Exit(status)


app = typer.Typer(
    cls=Commands,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for command in (
    train,
    resume,
    evaluate,
    report,
    curve,
    predict,
    lr,
    summary,
    gradcheck,
    explain,
    plan,
    profile,
    warmup,
    doctor,
):
    app.command()(command)
app.add_typer(recipe)
app.add_typer(data)


def show_version(wanted: bool) -> None:
    """Print the version and end, where --version was given."""
    if wanted:
        print(f"glassnet {__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error was raised.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=show_version, is_eager=True)
    ] = False,
) -> None:
    """Convolutional networks you can see through: train, evaluate, look inside."""


def main() -> None:
    """Run the program. Letters that a terminal lacks become escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # and not None, as in a program without a terminal
            stream.reconfigure(errors="backslashreplace")
    app(prog_name="glassnet")
