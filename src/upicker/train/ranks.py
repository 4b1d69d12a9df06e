"""Data-parallel training: the processes ("ranks") that ``torchrun`` starts, one per GPU; or a single process.

All ranks hold the same weights and take the same steps. They differ in which tiles of a step they use, and in which
micrographs they validate on. Each step's gradients are summed over the ranks by one plain all-reduce, after which all
ranks update their weights identically. `torch.nn.parallel.DistributedDataParallel` is not used: it averages gradients,
although losses are divided by a number of objects that differs from rank to rank; it has to search for parameters
without a gradient (those of the denoising queries, in a step without objects); and it needs care with gradient
accumulation. Overlapping communication and computation gains little for networks of 20 to 200 MB.
"""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from types import FrameType
from typing import TypeVar

import torch
import torch.distributed as dist

# Imported before there is a group, which is a default of its functions: the optimizer imports it later, and it would
# keep the group alive, with threads of gloo that may abort the process as Python ends.
import torch.distributed.nn.functional
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from upicker.errors import ConfigError, InputError, UPickerError

Item = TypeVar("Item")
Result = TypeVar("Result")

# How long a rank waits for the others: they prepare micrographs and validate at different speeds.
PATIENCE = timedelta(hours=1)
# How long a rank with an error waits to learn whether the first rank has the same one.
ERROR_WAIT_S = 5.0


class LostRankError(UPickerError):
    """Another rank has stopped; it reports the reason itself."""


@dataclass(frozen=True)
class Ranks:
    """The ranks, as seen by one of them. The default is a single process.

    Attributes
    ----------
    rank : int
        Number of this rank, from 0; only the first one writes files and prints.
    world_size : int
        Number of ranks.
    store : Store or None
        Key-value store shared by the ranks; None for a single process.
    """

    rank: int = 0
    world_size: int = 1
    store: Store | None = field(default=None, compare=False, repr=False)

    @property
    def is_first(self) -> bool:
        """Whether this rank writes files and prints."""
        return self.rank == 0

    def parts(self, tiles: int, accumulate: int) -> list[slice]:
        """Return which of a step's `tiles` this rank uses, as `accumulate` slices.

        The slices of all ranks cover the step's tiles, each once.
        """
        pieces = self.world_size * accumulate
        assert tiles % pieces == 0, f"{tiles} tiles cannot be divided among {pieces}"
        size, start = tiles // pieces, self.rank * accumulate
        return [slice(size * i, size * (i + 1)) for i in range(start, start + accumulate)]

    def map(self, work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """Return the result of each item, in order: the items are divided among the ranks, and all get all results."""
        results = self.all_gather([work(item) for item in items[self.rank :: self.world_size]])
        return [results[i % self.world_size][i // self.world_size] for i in range(len(items))]

    def all_gather(self, own: Result) -> list[Result]:
        """Return the values that all ranks pass, in order of rank."""
        if self.world_size == 1:
            return [own]
        values: list = [None] * self.world_size
        with _communicating():
            dist.all_gather_object(values, own)
        return values

    def all_reduce_gradients(self, model: nn.Module, values: Mapping[str, Tensor]) -> dict[str, float]:
        """Replace the gradients by their sums over the ranks; return the sums of `values` over the ranks.

        A parameter without a gradient on any rank keeps none, so that the optimizer skips it as it does in a single
        process.
        """
        if self.world_size > 1:
            trained = [p for p in model.parameters() if p.requires_grad]
            has_grad = torch.tensor(
                [p.grad is not None for p in trained], dtype=torch.float32, device=trained[0].device
            )
            grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
            scalars = torch.stack([v.float() for v in values.values()])
            self._all_reduce([*grads, has_grad, scalars])
            for parameter, grad, used in zip(trained, grads, has_grad.tolist(), strict=True):
                parameter.grad = grad if used else None
            values = dict(zip(values, scalars, strict=True))
        return {name: float(value) for name, value in values.items()}

    def require_equal(self, facts: Mapping[str, object]) -> None:
        """Check that all ranks pass equal values, where a difference would silently spoil the training.

        Raises
        ------
        InputError
            Listing the names of the values that differ.
        """
        own = {name: hashlib.sha256(repr(fact).encode()).hexdigest() for name, fact in facts.items()}
        differing = sorted({name for other in self.all_gather(own) for name in own if other[name] != own[name]})
        if differing:
            raise InputError(
                f"the {self.world_size} processes of this training",
                f"they read different files (different: {', '.join(differing)})",
                "Keep micrographs, labels and the output on a file system that all nodes share",
            )

    @contextmanager
    def deferring_signals(self) -> Iterator[Callable[[], None]]:
        """Defer Ctrl-C and termination until all ranks can stop at the same step.

        Yields
        ------
        callable
            To be called by all ranks between two steps: it raises on all of them if one of them received a signal.
            A single process is interrupted immediately, as usual, and the callable does nothing.
        """
        if self.world_size == 1 or threading.current_thread() is not threading.main_thread():
            yield lambda: None
            return
        received: list[int] = []

        def note(number: int, frame: FrameType | None) -> None:
            received.append(number)

        # A signal that is ignored stays ignored.
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        before = {number: handler for number, handler in handlers.items() if callable(handler)}
        for number in before:
            signal.signal(number, note)

        def raise_deferred() -> None:
            highest = torch.tensor([max(received, default=0)])
            with _communicating():
                dist.all_reduce(highest, dist.ReduceOp.MAX)
            if number := int(highest):
                if handler := before.get(signal.Signals(number)):
                    handler(number, None)
                raise KeyboardInterrupt

        try:
            yield raise_deferred
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def reported_by_first(self, error: UPickerError) -> bool:
        """Whether the first rank ends with this error, too, and prints it; the first rank publishes its own."""
        if self.store is None or isinstance(error, LostRankError):
            return True
        if self.is_first:
            self.store.set("error", str(error))
            return True
        until = time.monotonic() + ERROR_WAIT_S
        try:
            while not self.store.check(["error"]):
                if time.monotonic() > until:
                    return False
                time.sleep(0.1)
            return self.store.get("error").decode() == str(error)
        except RuntimeError:  # The store has gone.
            return False

    def _all_reduce(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their sums over the ranks, in one operation."""
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        with _communicating():
            dist.all_reduce(flat)
        for tensor, total in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(total.view(tensor.shape))


SINGLE_PROCESS = Ranks()


@contextmanager
def join() -> Iterator[Ranks]:
    """Join the processes that ``torchrun`` started; without torchrun, this is a single process.

    Each rank uses the GPU of its local number. Tensors on the CPU are sent by gloo, those on a GPU by NCCL.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1 or "RANK" not in os.environ:
        yield SINGLE_PROCESS
        return
    gpus = torch.cuda.device_count()
    if gpus:
        torch.cuda.set_device(_local_rank() % gpus)
    store, rank, world_size = next(rendezvous("env://"))
    backend = "cpu:gloo,cuda:nccl" if gpus and dist.is_nccl_available() else "gloo"
    group = PrefixStore("group", store)
    dist.init_process_group(backend, store=group, rank=rank, world_size=world_size, timeout=PATIENCE)
    yield Ranks(rank, world_size, PrefixStore("errors", store))
    # It ends the group's threads. Not after an error: it may wait for other ranks, and they for this one. They notice
    # when a process ends.
    dist.destroy_process_group()


def require_gpus(ranks: Ranks, device: str) -> None:
    """Require a GPU for each rank of a machine.

    Raises
    ------
    ConfigError
        If there are fewer GPUs than ranks, or one GPU is given for all of them.
    """
    if ranks.world_size == 1 or device == "cpu":
        return
    if ":" in device:
        remedy = "Leave it out: each process uses a GPU of its own"
        raise ConfigError("train.device", f"'{device}' is one GPU for {ranks.world_size} processes", remedy)
    gpus = torch.cuda.device_count()
    local_world_size = int(os.environ.get("LOCAL_WORLD_SIZE", ranks.world_size))
    if gpus and local_world_size > gpus:
        remedy = f"Give --nproc-per-node {gpus}, or --set train.device=cpu"
        raise ConfigError("torchrun", f"there are {local_world_size} processes for {gpus} GPUs on a machine", remedy)


def _local_rank() -> int:
    """Return the number of this rank among those of its machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


@contextmanager
def _communicating() -> Iterator[None]:
    """Report clearly that another rank has stopped."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).strip().splitlines() or ["no reason given"]
        raise LostRankError(
            "training on several processes",
            f"another process has stopped or cannot be reached ({reason[0].rstrip('.')})",
            "See its own message; written files are complete, continue with --resume",
        ) from error
