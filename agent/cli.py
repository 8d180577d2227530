"""The ``gpu-finops`` command: reads the arguments, calls one module, turns errors into one sentence and a status."""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import Final, NoReturn

from agent import __version__
from agent.errors import ConfigError, FinOpsError, UsageError

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


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


def main(arguments: list[str] | None = None) -> int:
    """Run one command. 0 good, 1 failed, 2 wrong usage or configuration."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
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
        options = parser.parse_args(given)
        status: int = options.run(options)
    except FinOpsError as error:
        print(error if isinstance(error, ConfigError) else f"gpu-finops: {error}", file=sys.stderr)
        return error.exit_status
    except BrokenPipeError:
        return 1
    except (OSError, UnicodeDecodeError, ArithmeticError) as error:
        print(f"gpu-finops: {_sentence(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return status


def _sentence(error: OSError | UnicodeDecodeError | ArithmeticError) -> str:
    """What a fault of the machine or of a file means to the person who named the file."""
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}; name another file or place"
    if isinstance(error, UnicodeDecodeError):
        return f"a file that was named is not UTF-8 text ({error.reason}); convert it first"
    return f"a number is too large or too small to reckon with ({type(error).__name__}); check the amounts"
