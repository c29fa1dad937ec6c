"""The commands. Imports stay inside each command, so that `reenax --help` is instant."""

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from reenax import __version__
from reenax.cli.data import add_prepare, add_prepare_synthetic
from reenax.cli.planning import add_plan
from reenax.cli.training import add_import, add_train
from reenax.cli.using import add_animate, add_evaluate, add_methods, add_quickstart
from reenax.commands import EXIT_USER_ERROR, run_command, start_logging

SYNTHETIC = ["prepare", "synthetic"]  # two words that are one command; a folder of that name is ./synthetic

CONFIGURED = ("train", "plan", "import")  # commands that take --config.KEY=VALUE


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, and where the usage is: some commands have twenty lines of it."""

    def error(self, message: str) -> NoReturn:
        text = " ".join(message.split())
        self.exit(EXIT_USER_ERROR, f"{self.prog}: error: {text}; see `{self.prog} --help`\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code: 0 done, 2 an error of the user's, 75 stopped by SIGTERM and saved."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments[:2] == SYNTHETIC:
        arguments = ["prepare-synthetic", *arguments[2:]]
    parser = build_parser()
    options, rest = parser.parse_known_args(arguments)
    if options.command is None:
        parser.print_help()
        return 0
    overrides, unknown = split_overrides(rest) if options.command in CONFIGURED else ([], rest)
    if unknown:
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    start_logging()
    return run_command(lambda: options.run(options, overrides), debug=options.debug)


def split_overrides(rest: Sequence[str]) -> tuple[list[str], list[str]]:
    """``--config.KEY=VALUE`` and ``--config.KEY VALUE`` on one side, all else on the other."""
    overrides, unknown, words = [], [], iter(rest)
    for word in words:
        if not word.startswith("--config."):
            unknown.append(word)
        elif "=" in word:
            overrides.append(word)
        else:
            overrides.append(f"{word}={next(words, '')}")
    return overrides, unknown


def build_parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    parser = _Parser(
        prog="reenax",
        description="Face reenactment: make a portrait move like a driving video. "
        "Prepare a folder of videos, train a method on it, animate a picture with it.",
        epilog="`reenax COMMAND --help` explains a command. Start with `reenax quickstart`.",
    )
    parser.add_argument("--version", action="version", version=f"reenax {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for add in (
        add_quickstart,
        add_prepare,
        add_prepare_synthetic,
        add_train,
        add_plan,
        add_animate,
        add_evaluate,
        add_import,
        add_methods,
    ):
        add(commands)
    return parser
