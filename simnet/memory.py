"""How much memory this machine has to give."""

from __future__ import annotations

import os


def free_memory() -> int:
    """Bytes of memory that can be had, by the kernel's own count where there is one."""
    try:
        with open("/proc/meminfo") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
