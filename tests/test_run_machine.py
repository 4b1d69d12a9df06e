"""The memory and the cores that a process may use, where a scheduler or a container limits them."""

import os
from pathlib import Path

import pytest

from upicker.run import machine

GIB = 2**30


@pytest.fixture(autouse=True)
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 64 cores with 256 GiB."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    sizes = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 256 * GIB // 4096}
    monkeypatch.setattr(os, "sysconf", sizes.__getitem__)


def files(root: Path, contents: dict[str, str]) -> Path:
    for name, text in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


V2, V1 = "sys/fs/cgroup", "sys/fs/cgroup/memory"
IN_V1 = {"proc/self/cgroup": "12:memory:/slurm/job_7/step_0\n3:cpu,cpuacct:/slurm/job_7\n1:name=systemd:/x\n"}
IN_V2 = {"proc/self/cgroup": "0::/slurm/job_7/step_0\n"}


@pytest.mark.parametrize(
    ("contents", "gib", "cores"),
    [
        ({}, 256, 64),
        ({**IN_V2, f"{V2}/slurm/job_7/step_0/memory.max": "max\n"}, 256, 64),
        ({**IN_V2, f"{V2}/slurm/job_7/step_0/memory.max": f"{4 * GIB}\n"}, 4, 64),
        # The limit of a group above counts, too.
        ({**IN_V2, f"{V2}/slurm/job_7/memory.max": f"{6 * GIB}", f"{V2}/slurm/job_7/step_0/memory.max": "max"}, 6, 64),
        ({**IN_V2, f"{V2}/slurm/memory.max": f"{9 * GIB}", f"{V2}/slurm/job_7/memory.max": f"{12 * GIB}"}, 9, 64),
        ({**IN_V2, f"{V2}/slurm/cpu.max": "250000 100000\n"}, 256, 2),
        ({**IN_V2, f"{V2}/slurm/cpu.max": "50000 100000\n"}, 256, 1),
        ({**IN_V2, f"{V2}/slurm/cpu.max": "max 100000\n"}, 256, 64),
        # A container's own namespace: the path is "/", or leads out of it.
        ({"proc/self/cgroup": "0::/\n", f"{V2}/memory.max": f"{2 * GIB}", f"{V2}/cpu.max": "300000 100000"}, 2, 3),
        ({"proc/self/cgroup": "0::/../host\n", f"{V2}/memory.max": f"{2 * GIB}"}, 2, 64),
        # The host's path, which the container does not see.
        ({"proc/self/cgroup": "0::/docker/4f\n", f"{V2}/memory.max": f"{2 * GIB}"}, 2, 64),
        ({**IN_V1, f"{V1}/slurm/job_7/step_0/memory.limit_in_bytes": f"{5 * GIB}\n"}, 5, 64),
        ({**IN_V1, f"{V1}/memory.limit_in_bytes": "9223372036854771712\n"}, 256, 64),
        ({**IN_V1, f"{V1}/slurm/memory.limit_in_bytes": f"{5 * GIB}", "sys/fs/cgroup/memory.max": "1"}, 5, 64),
        (
            {
                **IN_V1,
                "sys/fs/cgroup/cpu,cpuacct/slurm/job_7/cpu.cfs_quota_us": "400000\n",
                "sys/fs/cgroup/cpu,cpuacct/slurm/job_7/cpu.cfs_period_us": "100000\n",
            },
            256,
            4,
        ),
        (
            {
                **IN_V1,
                "sys/fs/cgroup/cpu/slurm/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/slurm/cpu.cfs_period_us": "100000\n",
            },
            256,
            64,
        ),
        ({**IN_V2, f"{V2}/slurm/job_7/step_0/memory.max": "what?\n", f"{V2}/slurm/cpu.max": "?"}, 256, 64),
    ],
)
def test_limits_of_groups_count(tmp_path, contents, gib, cores):
    root = files(tmp_path, contents)
    assert machine.memory_bytes(root) == gib * GIB
    assert machine.cores(root) == cores


def test_the_real_machine_has_something():
    assert machine.memory_bytes() > 0
    assert machine.cores() >= 1
