"""Who does the work of a batch: processes on this machine, or the workers of a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from upicker.cli.console import note
from upicker.errors import ConfigError

if TYPE_CHECKING:
    from upicker.run.batch import Workers


@contextmanager
def workers(
    cluster: str | None, insecure: bool, jobs: int | None, default: int, output: Path
) -> Iterator[int | Workers]:
    """Start the cluster that is asked for, and end its jobs at the end; or return the number of processes here.

    Parameters
    ----------
    cluster : str or None
        As given; None: this machine.
    insecure : bool
        Whether connections may be unencrypted.
    jobs : int or None
        As given: processes here, or workers.
    default : int
        Processes here if none are given.
    output : Path
        What is written.

    Raises
    ------
    ConfigError, InputError
        See `upicker.run.site.read` and `upicker.run.cluster.started`.
    """
    if cluster is None:
        if insecure:
            raise ConfigError("--insecure", "there is no cluster", "Give --cluster, or leave it out")
        yield jobs or default
        return
    from upicker.run.cluster import started
    from upicker.run.site import read

    site = read(cluster, jobs)
    with started(site, output, insecure) as found:
        where = site.address or site.kind
        note(f"cluster: {where}, {site.jobs} workers of {site.cores} cores" + (", a GPU each" if site.gpus else ""))
        yield found
