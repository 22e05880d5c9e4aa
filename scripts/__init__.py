"""What a user runs: one module per command of the Makefile."""

import gc
import re
import signal
import sys
from types import TracebackType

# A command imports for a second before it can answer Ctrl-C in a line; until then it ends without a traceback.
_is_command = sys.argv[:1] == ["-m"] and any(re.fullmatch(r"scripts\.\w+", word) for word in sys.orig_argv)
_NO_MEMORY = re.compile("start new thread|failed to map segment|Cannot allocate memory")
_OURS = re.compile(r"(scripts|inference|handlers)\b")


def _say_what_is_damaged(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """End in a line where a package of .venv cannot be imported, whoever damaged it."""
    if isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)):
        # Of numpy's page, the last line.
        said = (str(error).strip() or "Out of memory").splitlines()[-1]
        print(f"{said}. `ulimit -v`, `ulimit -u` or other programs leave too little.", file=sys.stderr)
    elif isinstance(error, ImportError) and not _OURS.match(error.name or ""):
        what = f"{error}. The packages in {sys.prefix} are incomplete or damaged"
        print(f"{what}: `make clean`, then the same command again, sets them up anew.", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


if _is_command:
    # What it imports stays: looking for garbage in it is an eighth of that second. `command.program` ends this.
    gc.disable()
    sys.excepthook = _say_what_is_damaged
if _is_command and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
