"""Work on many files by the workers of a cluster, with dask.distributed: one back end of `upicker.run.batch.each`.

The scheduler runs in this process. Connections are encrypted, with certificates made for this run, because whoever can
talk to a dask worker can run anything on it. Outputs are written by workers, whole or not at all, so that a file that
is done twice, as after a lost connection, is as if it were done once.
"""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upicker.errors import ConfigError, DeviceError, InputError
from upicker.run.allocator import keep_freed_memory
from upicker.run.outputs import writable
from upicker.run.pool import MOST_DEATHS, Reply
from upicker.run.site import Site

if TYPE_CHECKING:
    from distributed import Client, Future, Security

# Files that wait at the scheduler for each worker: it is never without one, and a run of any length takes no memory.
WAITING = 3
# Seconds until the first worker must be there, unless a job may wait in a queue.
PATIENCE = 120
# A job is ended by its worker so long before its walltime, after the file at work; they do not all end at once.
SPARE, STAGGER = 120, 60
# Where web pages of workers listen: every user of a node could read them otherwise.
NO_PAGES = "127.0.0.1:0"
REMEDY = "pip install 'upicker[cluster]'"


@dataclass(frozen=True)
class Cluster:
    """Workers elsewhere.

    Attributes
    ----------
    client : distributed.Client
        The connection to the scheduler.
    site : Site
        What it is like.
    """

    client: Client
    site: Site

    @property
    def threads(self) -> int:
        """The cores that each worker has."""
        return self.site.cores

    @property
    def bfloat16(self) -> bool:
        """Whether networks are computed in bfloat16: all workers do the same, or scores would differ."""
        return self.site.gpus > 0 if self.site.bfloat16 is None else self.site.bfloat16

    def replies(
        self, paths: Sequence[Path], work: Callable[[Iterator[Path]], Generator]
    ) -> Generator[Reply[Any], None, None]:
        """Work on files, see `upicker.run.pool.replies`, for what is yielded and raised, too.

        A file is tried once more on another worker if the one that had it dies. A worker whose GPU fails starts again;
        the run ends if that happens to all of them without a result in between.
        """
        # A task of its own, so that each worker gets it once, and another one makes it again where a worker is lost.
        shared = self.client.submit(_same, work, pure=False)
        left, suspects = iter(paths), dict[Path, DeviceError | None]()
        try:
            for reply in self._several(left, shared):
                if reply.deaths:
                    suspects[reply.path] = reply.failure
                else:
                    yield reply
            # Any of the files that a dead worker had may have been the cause: now each is alone.
            for path, failure in suspects.items():
                before = MOST_DEATHS if failure is None else 1
                for reply in self._several(iter([path]), shared):
                    yield replace(reply, deaths=reply.deaths + before, failure=reply.failure or failure)
        finally:
            with suppress(Exception):  # The scheduler may be gone.
                self.client.cancel([shared], force=True)

    def _several(self, left: Iterator[Path], work: Future) -> Generator[Reply[Any], None, None]:
        """Work on files, of which a few are known to the scheduler at a time."""
        from distributed import as_completed

        waiting, found = dict[Any, Path](), as_completed([], loop=self.client.loop)
        workers = max(self.site.jobs, len(self.client.scheduler_info(n_workers=-1)["workers"]))
        wanted, failed = WAITING * workers, 0

        def fill() -> None:
            while len(waiting) < wanted and (path := next(left, None)) is not None:
                future = self.client.submit(_attempt, work, path, pure=False)
                waiting[future] = path
                found.add(future)

        try:
            fill()
            while waiting:
                future = next(found)
                reply = _reply(waiting.pop(future), future, self.client)
                failed = 0 if reply.value is not None else failed + (reply.failure is not None)
                if reply.failure is not None and failed >= MOST_DEATHS * workers:
                    raise reply.failure
                fill()
                yield reply
        finally:
            with suppress(Exception):
                self.client.cancel([*waiting], force=True)


@dataclass(frozen=True)
class _Broken:
    """A worker whose GPU failed, and how."""

    worker: str
    failure: DeviceError


def _reply(path: Path, future: Future, client: Client) -> Reply[Any]:
    """Return what came of a file, if need be once it is done again elsewhere; raises what the work raised.

    A worker whose GPU failed is started again.
    """
    from distributed import CancelledError, KilledWorker

    try:
        found = future.result()
        if not isinstance(found, _Broken):
            return Reply(path, found, 0)
        with suppress(Exception):  # It may have gone by itself.
            client.restart_workers([found.worker], timeout=PATIENCE, raise_for_error=False)
        return Reply(path, None, 1, found.failure)
    except KilledWorker:
        return Reply(path, None, MOST_DEATHS)
    except CancelledError as error:  # Nobody here cancels what is waited for.
        remedy = "What is written is complete: start it again, and go on with --skip-existing"
        raise InputError("--cluster", "the scheduler is gone", remedy) from error


def _same(work: Callable[[Iterator[Path]], Generator]) -> Callable[[Iterator[Path]], Generator]:
    return work


def _attempt(work: Callable[[Iterator[Path]], Generator], path: Path) -> Any:
    """Work on one file, in a worker."""
    import cv2

    keep_freed_memory()
    cv2.setNumThreads(0)
    try:
        [outcome] = work(iter([path]))
    except DeviceError as failure:
        from distributed import get_worker

        failure.__cause__ = None  # Its frames hold what was on the device.
        return _Broken(get_worker().address, failure.with_traceback(None))
    return outcome


@contextmanager
def started(site: Site, output: Path, insecure: bool = False) -> Iterator[Cluster]:
    """Start a cluster, or connect to one; at the end all its jobs are ended, whatever happened.

    Parameters
    ----------
    site : Site
        What it is like.
    output : Path
        Certificates and logs go beside it, unless the site has a folder.
    insecure : bool
        Allow connections that are not encrypted.

    Raises
    ------
    ConfigError
        If dask is not installed, or the site does not allow a safe connection.
    InputError
        If no scheduler can be started or reached, or no worker comes.
    """
    try:
        import distributed
    except ImportError as error:
        raise ConfigError("--cluster", f"dask.distributed is not installed ({error})", REMEDY) from error
    with ExitStack() as stack:
        import dask.config

        stack.enter_context(dask.config.set(_SETTINGS))
        security = _security(site, insecure)
        try:
            address = site.address or stack.enter_context(_scheduler(site, security, output))
            client = distributed.Client(address, security=security, timeout=30, set_as_default=False)
            stack.enter_context(client)
        except (OSError, TimeoutError, ValueError, RuntimeError) as error:
            raise InputError("--cluster", f"{site.address or site.kind}: {_line(error)}", "docs/slurm.md") from error
        if site.kind != "slurm":  # A job may wait in a queue for hours.
            _wait(client, site)
        if site.kind == "running":
            _require_same_folder(client, site)
        yield Cluster(client, site)


_SETTINGS = {
    "distributed.scheduler.allowed-failures": MOST_DEATHS - 1,
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.daemon": True,
}


_PARTS = ("client", "scheduler", "worker")


def _security(site: Site, insecure: bool) -> Security | None:
    """Return the certificates: those given, or new ones; None for connections that are not encrypted."""
    from distributed.security import Security

    given = (site.ca, site.certificate, site.key)
    if any(given):
        if not all(given):
            raise ConfigError("--cluster", "some of ca, certificate and key are missing", "Give all three")
        ca, certificate, key = (str(Path(str(one)).expanduser()) for one in given)
        mine = {f"tls_{who}_cert": certificate for who in _PARTS} | {f"tls_{who}_key": key for who in _PARTS}
        return Security(tls_ca_file=ca, require_encryption=True, **mine)
    if site.address and site.address.startswith("tls://"):
        remedy = "Give a TOML file with address, ca, certificate and key"
        raise ConfigError("--cluster", f"{site.address} needs certificates", remedy)
    if insecure:
        return None
    if site.address:
        found = f"connections to {site.address} are not encrypted: whoever reaches a worker can run anything there"
        raise ConfigError("--cluster", found, "Use tls://, or add --insecure")
    try:
        return Security.temporary()
    except ImportError as error:
        raise ConfigError("--cluster", f"no certificates can be made ({error})", REMEDY) from error


@contextmanager
def _scheduler(site: Site, security: Security | None, output: Path) -> Iterator[Any]:
    """Start a scheduler in this process, and its workers."""
    protocol = "tls://" if security else "tcp://"
    if site.kind == "local":
        from distributed import LocalCluster

        with LocalCluster(
            n_workers=site.jobs,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            protocol=protocol,
            security=security or False,
            dashboard_address=NO_PAGES,
            worker_dashboard_address=NO_PAGES,
            memory_limit=0,
            silence_logs=logging.CRITICAL,
        ) as cluster:
            yield cluster
        return
    heeded = signal.getsignal(signal.SIGINT)
    try:
        from dask_jobqueue.slurm import SLURMCluster
    except ImportError as error:
        raise ConfigError("--cluster", f"dask-jobqueue is not installed ({error})", REMEDY) from error
    finally:  # Its import makes Ctrl-C a success.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, heeded)
    _require_interface(site)
    folder = Path(site.folder).expanduser() if site.folder else output.absolute().parent
    writable(folder)
    with tempfile.TemporaryDirectory(prefix=".upicker-cluster-", dir=folder) as shared:
        lifetime = max(60, site.seconds - SPARE)
        directives = [*site.directives, *([f"--gpus={site.gpus}"] if site.gpus else [])]
        cluster = SLURMCluster(
            queue=site.partition,
            account=site.account,
            cores=site.cores,
            processes=1,
            memory=site.memory,
            walltime=site.walltime,
            job_extra_directives=directives,
            job_script_prologue=list(site.prologue),
            python=site.python or sys.executable,
            interface=site.interface,
            protocol=protocol,
            security=security,
            shared_temp_directory=shared,
            log_directory=shared,
            local_directory=tempfile.gettempdir(),
            job_name="upicker",
            scheduler_options={"dashboard_address": NO_PAGES},
            worker_extra_args=[
                *("--nthreads", "1"),
                *("--lifetime", f"{lifetime}s", "--lifetime-stagger", f"{min(STAGGER, lifetime // 4)}s"),
                *("--dashboard-address", NO_PAGES),
            ],
        )
        try:
            _try(cluster.job_script(), Path(shared))
            cluster.adapt(minimum=site.jobs, maximum=site.jobs)  # Replaces jobs that were cancelled.
            yield cluster
        finally:
            cluster.close()
            for name, file in vars(cluster).items():  # Certificates, which it would remove too late.
                if name.startswith("_job_") and hasattr(file, "close"):
                    file.close()


def _require_interface(site: Site) -> None:
    import psutil

    known = psutil.net_if_addrs()
    if site.interface and site.interface not in known:
        remedy = f"There are: {', '.join(known)}"
        raise ConfigError("--cluster", f"this machine has no network interface '{site.interface}'", remedy)


def _try(script: str, folder: Path) -> None:
    """Ask SLURM whether it would take such a job: otherwise none would ever come, and nobody would know why."""
    path = folder / "job.sh"
    path.write_text(script)
    try:
        done = subprocess.run(["sbatch", "--test-only", str(path)], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError("--cluster", f"SLURM cannot be asked ({_line(error)})", "Run it where sbatch works") from error
    if done.returncode:
        said = " ".join(done.stderr.replace("sbatch: error:", "").split())[:300]
        raise InputError("--cluster", f"SLURM refuses such jobs ({said})", "Change the site's file, see docs/slurm.md")


def _wait(client: Client, site: Site) -> None:
    try:
        client.wait_for_workers(1, timeout=PATIENCE)
    except TimeoutError as error:
        found = f"{site.address or site.kind}: no worker was there after {PATIENCE} s"
        raise InputError("--cluster", found, "Look at the cluster's log") from error


def _require_same_folder(client: Client, site: Site) -> None:
    """Paths are relative to the current folder, also for workers."""
    here = Path.cwd()
    folders: Any = client.run(Path.cwd)
    for worker, folder in folders.items():
        if folder != here:
            found = f"{site.address}: worker {worker} was started in {folder}, but this is {here}"
            raise InputError("--cluster", found, "Start workers in the folder in which you pick")


def _line(error: BaseException) -> str:
    """Return what an error says, in one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__
