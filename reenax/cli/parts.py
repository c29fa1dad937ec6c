"""What the commands' parsers share. Imports nothing heavy, so that `reenax --help` is instant."""

import argparse
from collections.abc import Callable
from typing import Any


def command(commands: Any, name: str, run: Callable[..., Any], summary: str, example: str) -> argparse.ArgumentParser:
    """A command's parser with what all have; `run` gets the options and the overrides of a config."""
    parser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"examples:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(run=run, parser=parser)
    return parser
