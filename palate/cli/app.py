"""The command line: runs a command, and turns a user's mistakes into one clear line."""

from __future__ import annotations

import atexit
import os
import sys
import traceback
from contextlib import suppress

from palate.cli.commands import learn_completion, root
from palate.cli.shared.ending import INTERRUPTED, TERMINATED, command_of, end_like_ctrl_c, exit_code_of, last_words
from palate.cli.shared.output import print_json_error, start_clock
from palate.cli.shared.places import urls_named
from palate.console import open_console, quiet_kept
from palate.errors import PalateError
from palate.storage.exhausted import disk_full, full, out_of_memory


def run() -> None:
    """Entry point of the ``palate`` command: :func:`main`; a command that was interrupted then ends at once.

    Threads of libraries that an interruption leaves at work can abort an interpreter that tidies itself up, and the
    exit code would be that of a crash. By then files are closed and what was half-written is removed.
    """
    try:
        main()
    except SystemExit as end:
        if end.code not in (INTERRUPTED, TERMINATED):
            raise
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(end.code)


# EX_SOFTWARE of sysexits.h.
_BUG = 70


def main() -> None:
    """Run the command of ``sys.argv``. ``PALATE_TRACEBACK=1`` shows tracebacks for debugging."""
    with urls_named():
        _main()


def _main() -> None:
    command = command_of(sys.argv[1:])
    end_like_ctrl_c(command)
    start_clock()
    as_json = "--json" in sys.argv[1:]
    try:
        if "--install-completion" in sys.argv[1:2]:
            learn_completion()
        with quiet_kept():
            # On its own it would draw a box around a mistyped option, and end the process.
            code = root()(standalone_mode=not as_json)
        if code:
            sys.exit(code)
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        last = last_words(exit_code_of(error), command)
        if last is not None:
            code, sentence = last
            if as_json:
                print_json_error(code, sentence)
            else:
                print(sentence, file=sys.stderr)
            sys.exit(code)
        line = message_of(error) if isinstance(error, Exception) else None
        if line is None and not isinstance(error, Exception):
            raise
        if line is None or os.environ.get("PALATE_TRACEBACK"):
            # Not as Python would: its exit code is 1, by which `palate gate` says "worse".
            traceback.print_exception(error)
            sys.exit(_BUG if line is None else 2)
        if as_json:
            message, remedy = (error.message, error.remedy) if isinstance(error, PalateError) else (line, None)
            print_json_error(2, message, remedy)
        else:
            console = open_console(stderr=True, soft_wrap=True, highlight=False)
            console.print("Error: ", style="bold red", end="")
            console.print(line)
        sys.exit(2)


def message_of(error: Exception) -> str | None:
    """The line that an error is reported in; None for one that only a traceback explains."""
    if isinstance(error, PalateError):
        return str(error)
    if hasattr(error, "format_message"):  # of an option that is unknown, or has a value that it cannot have
        return str(error.format_message())
    where = "(PALATE_TRACEBACK=1 shows where.)"
    problem = disk_full(error)
    if problem is not None:
        return f"{full(problem, getattr(error, 'filename', None))} {where}"
    problem = out_of_memory(error)
    if problem is not None:
        return f"{problem}. Choose smaller sizes or batches, or a machine with more memory. {where}"
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}. {where}" if error.filename else f"{error}. {where}"
    return None
