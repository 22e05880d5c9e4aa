"""What every test may count on."""

import signal

# A shell without job control starts background programs with Ctrl-C ignored, and children inherit that: tests that
# interrupt a program would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
