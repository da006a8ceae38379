"""What the processes of one run do together: succeed or fail, and evaluate one and the same model."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.dist import all_gather_object, broadcast, get_world_size
from torch import nn

from visionpatch.errors import VisionpatchError


@contextmanager
def together() -> Iterator[None]:
    """What fails in one process fails in every one, so that none waits for another that is gone.

    Every process must enter the context; it ends when all of them have come to its end.

    Raises:
        VisionpatchError: what another process raised, of its class where that is one of ours.
    """
    error: Exception | None = None
    try:
        yield
    except Exception as caught:
        error = caught
    failures = all_gather_object(error and (type(error), str(error)))
    if error is not None:
        raise error
    for rank, failure in enumerate(failures):
        if failure is not None:
            kind, text = failure
            raise (kind if issubclass(kind, VisionpatchError) else VisionpatchError)(f"process {rank}: {text}")


@contextmanager
def buffers_of_first(model: nn.Module) -> Iterator[None]:
    """Within the context every process has the first one's buffers: the running statistics that checkpoints hold."""
    if get_world_size() == 1:
        yield
        return
    own = {}
    for name, buffer in model.named_buffers():
        first = buffer.detach().clone(memory_format=torch.contiguous_format)
        broadcast(first, 0)
        if not torch.equal(first, buffer):
            own[name] = buffer.clone()
            buffer.copy_(first)
    try:
        yield
    finally:
        for name, buffer in model.named_buffers():
            if name in own:
                buffer.copy_(own[name])
