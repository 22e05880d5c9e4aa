"""What a user runs: one module per command of the Makefile."""

import re
import signal
import sys

# A command imports for a second before it can answer Ctrl-C in a line; until then it ends without a traceback.
_is_command = sys.argv[:1] == ["-m"] and any(re.fullmatch(r"scripts\.\w+", word) for word in sys.orig_argv)
if _is_command and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
