"""The ``gpu-finops`` command: reads the arguments, calls one module, turns errors into one sentence and a status."""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib
import sys
from typing import Any, Final, NoReturn

from agent import __version__
from agent.errors import ConfigError, FinOpsError, UsageError
from agent.files.printable import printable
from agent.files.streams import drop_output, flush_output, open_closed_streams

COMMANDS: Final = {
    "run": "the daemon: sample, price, keep, serve",
    "check": "validate a configuration and everything it names",
    "devices": "one look at what is there",
    "tariff": "prices and bills of a tariff",
    "report": "costs from the ledger",
    "rerate": "price a past period again with the tariffs now configured",
    "ledger": "back the ledger up; verify its sums",
    "plan": "total cost of ownership, break-even and what-if",
    "top": "live view in the terminal",
    "exec": "energy and cost of one command",
    "record": "record what the probe reads",
    "release": "let go of the driver, so that it can be upgraded",
    "resume": "take the driver up again after a release",
}

_OUTPUT_ERRORS: Final = frozenset({errno.ENOSPC, errno.EBADF, errno.EIO})       # of a write, which names no file


class _Parser(argparse.ArgumentParser):
    def _print_message(self, message: str, file: Any = None) -> None:
        (file or sys.stderr).write(message)          # argparse would not say that --help could not be written
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


def main(arguments: list[str] | None = None) -> int:
    """Run one command. 0 good, 1 failed, 2 wrong usage or configuration."""
    open_closed_streams()
    try:
        status = _run(sys.argv[1:] if arguments is None else arguments)
        flush_output()
    except FinOpsError as error:
        _tell(error.faults if isinstance(error, ConfigError) else [f"gpu-finops: {error}"])
        return error.exit_status
    except BrokenPipeError:
        drop_output()
        return 1
    except UnicodeEncodeError as error:
        _tell([f"gpu-finops: standard output is set to {error.encoding}, which has no {error.object[error.start]!r}; set "
               "PYTHONIOENCODING=utf-8"])
        return 1
    except (OSError, UnicodeDecodeError, ArithmeticError) as error:
        _tell([f"gpu-finops: {_sentence(error)}"])
        return 1
    except KeyboardInterrupt:
        return 130
    return status


def _run(given: list[str]) -> int:
    parser = _Parser(prog="gpu-finops", description="What GPUs cost, by project and model version, while they run.")
    parser.add_argument("--version", action="version", version=f"gpu-finops {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    # Only the command that is called is imported: the daemon does not carry the others' memory.
    wanted = next((word for word in given if not word.startswith("-")), None)
    for name, summary in COMMANDS.items():
        module = importlib.import_module(f"agent.commands.{name}") if name == wanted else None
        if module is None:
            commands.add_parser(name, help=summary)
        else:
            module.add_parser(commands)
    try:
        options = parser.parse_args(given)
    except SystemExit:                               # --help or --version was printed: not yet, where standard output is full
        return 0
    status: int = options.run(options)
    return status


def _tell(sentences: list[str]) -> None:
    with contextlib.suppress(OSError):               # nobody listens: the status tells
        sys.stderr.write("".join(f"{printable(sentence)}\n" for sentence in sentences))
        sys.stderr.flush()


def _sentence(error: OSError | UnicodeDecodeError | ArithmeticError) -> str:
    """What a fault of the machine or of a file means to the person who named the file."""
    if isinstance(error, OSError):
        if error.filename is None and error.errno in _OUTPUT_ERRORS:
            return f"standard output cannot be written ({error.strerror}); send it to another place"
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}; name another file or place"
    if isinstance(error, UnicodeDecodeError):
        return f"a file that was named is not UTF-8 text ({error.reason}); convert it first"
    return f"a number is too large or too small to reckon with ({type(error).__name__}); check the amounts"
