"""What holds for every test: one thread, no screen, no luck."""

from __future__ import annotations

import os
import signal
import threading

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch or numba is imported
os.environ.setdefault("NUMBA_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("USE_PYTORCH_KERNEL_CACHE", "0")  # processes that make its folder at once warn, and warnings fail

# A shell starts what runs in its background deaf to Ctrl-C, and our children would be, too: some tests interrupt them.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)

from hypothesis import HealthCheck, settings

# The same examples on every machine; a slow machine is no reason to fail.
settings.register_profile("simnet", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("simnet")
