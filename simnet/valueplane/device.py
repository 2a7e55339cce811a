"""Getting host arrays to where the values are, without waiting for work that is still under way there.

On a GPU the host runs ahead of the device: it hands over kernels and never asks for a result within a round. A plain
copy from the host waits for everything handed over before; a `non_blocking` one does not (from pageable memory the
numbers are staged before the call returns, so the array may be changed or freed at once).
"""

from __future__ import annotations

import numpy as np
import torch

SMALL_ON_CPU = 2 << 20  # bytes of a chunk of rows: what stays in a core's cache
SMALL_ON_GPU = 1 << 30  # a GPU wants few large kernels
LEAST_ON_GPU, PIECES_OF_FREE = 1 << 24, 16


def on(device: torch.device, array: np.ndarray, dtype: torch.dtype | None = None) -> torch.Tensor:
    """The array as a tensor on `device` (in `dtype`, by default its own)."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor.to(device, dtype or tensor.dtype, non_blocking=device.type != "cpu")


def chunk_bytes(device: torch.device) -> int:
    """How many bytes of one operand a piece of work should hold."""
    if device.type != "cuda":
        return SMALL_ON_CPU
    return most_on_gpu(torch.cuda.mem_get_info(device)[0])


def most_on_gpu(free_bytes: int) -> int:
    """The same for a GPU with so much memory free, of which a piece of work may take a few times this."""
    return max(LEAST_ON_GPU, min(SMALL_ON_GPU, free_bytes // PIECES_OF_FREE))


def exact_float32() -> None:
    """Convolutions in float32 as written, not in TensorFloat-32, which keeps 10 bits of the mantissa."""
    settings = getattr(torch.backends.cudnn, "conv", None)
    if settings is not None and hasattr(settings, "fp32_precision"):
        settings.fp32_precision = "ieee"
    else:
        torch.backends.cudnn.allow_tf32 = False
