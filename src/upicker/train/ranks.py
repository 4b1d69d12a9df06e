"""The processes that train together ("ranks"), as ``torchrun`` starts them, one per GPU; or the only one.

All ranks hold the same weights and do the same steps. They differ in which tiles of a step they learn from, and in
which micrographs they validate on. After each step's gradients their sum is formed once, with a plain all-reduce, and
everything else follows from it alike. `torch.nn.parallel.DistributedDataParallel` is not used: it averages where losses
are divided by a number of objects that differs from rank to rank, has to search for parameters without a gradient
(those of the denoising queries, in a step without objects), and needs care with several batches a step; what it gains
by sending while it computes is little for networks of 20 to 200 MB.
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
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from upicker.errors import ConfigError, InputError, UPickerError

Item = TypeVar("Item")
Result = TypeVar("Result")

# How long a rank waits for the others: they prepare micrographs and validate at different speeds.
PATIENCE = timedelta(hours=1)
# How long a rank that met an error waits to hear whether the first one met the same.
HEARSAY_S = 5.0


class DesertedError(UPickerError):
    """Another rank is not there any more; why, it says itself."""


@dataclass(frozen=True)
class Ranks:
    """Who trains together, seen by one of them. The default is a process on its own.

    Attributes
    ----------
    number : int
        This rank, from 0; the first one alone writes files and prints.
    count : int
        Ranks in all.
    board : Store or None
        Where ranks leave notes; None for a process on its own.
    """

    number: int = 0
    count: int = 1
    board: Store | None = field(default=None, compare=False, repr=False)

    @property
    def first(self) -> bool:
        """Whether this rank writes and prints."""
        return self.number == 0

    def parts(self, tiles: int, accumulate: int) -> list[slice]:
        """Return which tiles of a step's `tiles` this rank learns from: `accumulate` parts, one after the other.

        All ranks' parts together are the step's tiles, each once.
        """
        pieces = self.count * accumulate
        assert tiles % pieces == 0, f"{tiles} tiles cannot be divided among {pieces}"
        size, start = tiles // pieces, self.number * accumulate
        return [slice(size * i, size * (i + 1)) for i in range(start, start + accumulate)]

    def map(self, work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """Return the result of each item, in their order: each rank works on some, and all learn all results."""
        everybodys = self.gather([work(item) for item in items[self.number :: self.count]])
        return [everybodys[i % self.count][i // self.count] for i in range(len(items))]

    def gather(self, own: Result) -> list[Result]:
        """Return what each rank has to give, by their numbers."""
        if self.count == 1:
            return [own]
        everybodys: list = [None] * self.count
        with _talking():
            dist.all_gather_object(everybodys, own)
        return everybodys

    def add_gradients(self, model: nn.Module, values: Mapping[str, Tensor]) -> dict[str, float]:
        """Replace the gradients by their sums over the ranks; return the sums of some values.

        A parameter that has no gradient on any rank keeps none, so that the optimizer passes it over as it does on
        a process of its own.
        """
        if self.count > 1:
            learning = [p for p in model.parameters() if p.requires_grad]
            there = torch.tensor([p.grad is not None for p in learning], dtype=torch.float32, device=learning[0].device)
            grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in learning]
            scalars = torch.stack([v.float() for v in values.values()])
            self._add([*grads, there, scalars])
            for parameter, grad, somewhere in zip(learning, grads, there.tolist(), strict=True):
                parameter.grad = grad if somewhere else None
            values = dict(zip(values, scalars, strict=True))
        return {name: float(value) for name, value in values.items()}

    def agree(self, facts: Mapping[str, object]) -> None:
        """See that all ranks know the same; call it where a difference would silently spoil the training.

        Raises
        ------
        InputError
            Naming the facts that differ.
        """
        own = {name: hashlib.sha256(repr(fact).encode()).hexdigest() for name, fact in facts.items()}
        differing = sorted({name for other in self.gather(own) for name in own if other[name] != own[name]})
        if differing:
            raise InputError(
                f"the {self.count} processes of this training",
                f"they do not see the same files (different: {', '.join(differing)})",
                "Keep micrographs, labels and the output where every node sees them",
            )

    @contextmanager
    def listening(self) -> Iterator[Callable[[], None]]:
        """Let Ctrl-C and termination wait until all ranks can stop at the same step.

        Yields
        ------
        callable
            To be called by all ranks between two steps: it raises on all of them if a signal reached one.
            A process on its own is interrupted at once, as ever, and the callable does nothing.
        """
        if self.count == 1 or threading.current_thread() is not threading.main_thread():
            yield lambda: None
            return
        heard: list[int] = []

        def note(number: int, frame: FrameType | None) -> None:
            heard.append(number)

        # Where nobody listens, nothing changes: a signal that is ignored stays so.
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        before = {number: handler for number, handler in handlers.items() if callable(handler)}
        for number in before:
            signal.signal(number, note)

        def heed() -> None:
            loudest = torch.tensor([max(heard, default=0)])
            with _talking():
                dist.all_reduce(loudest, dist.ReduceOp.MAX)
            if number := int(loudest):
                if handler := before.get(signal.Signals(number)):
                    handler(number, None)
                raise KeyboardInterrupt

        try:
            yield heed
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def met_by_first(self, error: UPickerError) -> bool:
        """Whether the first rank ends with this error, too, and will say it; the first one leaves word of its own."""
        if self.board is None or isinstance(error, DesertedError):
            return True
        if self.first:
            self.board.set("error", str(error))
            return True
        until = time.monotonic() + HEARSAY_S
        try:
            while not self.board.check(["error"]):
                if time.monotonic() > until:
                    return False
                time.sleep(0.1)
            return self.board.get("error").decode() == str(error)
        except RuntimeError:  # The board has gone.
            return False

    def _add(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their sums over the ranks, in one go."""
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        with _talking():
            dist.all_reduce(flat)
        for tensor, total in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(total.view(tensor.shape))


ALONE = Ranks()


@contextmanager
def together() -> Iterator[Ranks]:
    """Join the processes that ``torchrun`` started with this one; without it, this one is on its own.

    Each rank of a machine takes the GPU of its number there. What belongs to the CPU travels by gloo, what belongs to
    a GPU by NCCL.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1 or "RANK" not in os.environ:
        yield ALONE
        return
    gpus = torch.cuda.device_count()
    if gpus:
        torch.cuda.set_device(_place() % gpus)
    store, number, count = next(rendezvous("env://"))
    backend = "cpu:gloo,cuda:nccl" if gpus and dist.is_nccl_available() else "gloo"
    dist.init_process_group(backend, store=PrefixStore("group", store), rank=number, world_size=count, timeout=PATIENCE)
    yield Ranks(number, count, PrefixStore("board", store))
    # Not after an error: taking leave may wait for others, and they for this one. A process that ends is noticed.
    dist.destroy_process_group()


def refuse_crowding(ranks: Ranks, device: str) -> None:
    """Refuse more ranks on a machine than it has GPUs, or all of them on one.

    Raises
    ------
    ConfigError
        Saying what to change.
    """
    if ranks.count == 1 or device == "cpu":
        return
    if ":" in device:
        remedy = "Leave it out: each process takes a GPU of its own"
        raise ConfigError("train.device", f"'{device}' is one GPU for {ranks.count} processes", remedy)
    gpus = torch.cuda.device_count()
    here = int(os.environ.get("LOCAL_WORLD_SIZE", ranks.count))
    if gpus and here > gpus:
        remedy = f"Give --nproc-per-node {gpus}, or --set train.device=cpu"
        raise ConfigError("torchrun", f"there are {here} processes for {gpus} GPUs on a machine", remedy)


def _place() -> int:
    """The number of this rank among those of its machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


@contextmanager
def _talking() -> Iterator[None]:
    """Say in plain words that another rank is not there any more."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).strip().splitlines() or ["no reason given"]
        raise DesertedError(
            "training on several processes",
            f"another process has stopped or cannot be reached ({reason[0].rstrip('.')})",
            "Its own message says why; what is written is whole, go on with --resume",
        ) from error
