"""Which errors mean that the memory is full, for torch has no single class for them."""

from __future__ import annotations

import re

import torch

_ALLOCATION = re.compile(
    r"DefaultCPUAllocator: can't allocate memory"  # the CPU's allocator has no error of its own
    r"|CUDA error: out of memory"  # the driver, as pinned memory and the start of a kernel meet it
    r"|CU[A-Z]+_STATUS_(?:[A-Z]+_)*ALLOC(?:ATION)?_FAILED"  # cuDNN, cuBLAS, cuSOLVER, cuSPARSE
)
_NO_KERNEL = re.compile(r"CUDNN_STATUS_NOT_SUPPORTED|unable to find an engine|Unable to find a valid cuDNN algorithm")
"""What cuDNN says where no algorithm fits, be it the layer or the memory that is left for a workspace."""
FULL_SHARE = 0.1
"""A GPU with a smaller share of free memory is full: there the lack of an algorithm is taken for the lack of memory."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that the memory of an accelerator or of the machine does not hold the work.

    Errors of cuDNN that may mean something else count only where a GPU is nearly full at this moment.
    """
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    if not isinstance(error, RuntimeError):
        return False
    text = str(error)
    return bool(_ALLOCATION.search(text)) or (bool(_NO_KERNEL.search(text)) and _is_a_gpu_full())


def _is_a_gpu_full() -> bool:
    states = (torch.cuda.mem_get_info(index) for index in range(torch.cuda.device_count()))
    return any(free < FULL_SHARE * total for free, total in states)
