"""SLURM on this machine, for tests: a controller and two nodes, on the loopback interface, without systemd."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "squeue", "scancel", "sinfo", "munged")
CONF = """
ClusterName=toy
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/munge.sock
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
SchedulerParameters=batch_sched_delay=0,sched_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
KillWait=5
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=4 RealMemory=8000
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=4 RealMemory=8000
PartitionName=all Nodes=n1,n2 Default=YES State=UP
"""


def missing() -> str | None:
    """Return why there can be no SLURM here; None if there can."""
    lacking = [name for name in PROGRAMS if shutil.which(name) is None]
    if lacking:
        return f"{lacking[0]} is not installed (Debian's packages slurm-wlm and munge)"
    return None if os.geteuid() == 0 else "SLURM's daemons want to be root"


def running(folder: Path) -> Iterator[Path]:
    """Start it in an empty folder whose path is short, and yield its configuration file; stop it afterwards."""
    folder.chmod(0o711)
    (folder / "munge").mkdir(mode=0o711)
    for name in ("state", "spool-n1", "spool-n2"):
        (folder / name).mkdir()
    key = folder / "munge" / "key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    conf = folder / "slurm.conf"
    conf.write_text(CONF.format(folder=folder, host=socket.gethostname().split(".")[0], ports=free_ports(3)))
    (folder / "cgroup.conf").write_text("CgroupAutomount=no\n")
    munge = {"key-file": key, "socket": folder / "munge/munge.sock", "pid-file": folder / "munge/munged.pid"}
    munge |= {"log-file": folder / "munge/log", "seed-file": folder / "munge/seed"}
    environment = os.environ | {"SLURM_CONF": str(conf)}
    try:
        start(["munged", *(f"--{name}={value}" for name, value in munge.items())], environment)
        for command in (["slurmctld"], ["slurmd", "-N", "n1"], ["slurmd", "-N", "n2"]):
            start(command, environment)
        until_idle(environment)
        yield conf
    finally:
        for pid_file in (*folder.glob("*.pid"), folder / "munge/munged.pid"):
            with contextlib.suppress(OSError, ValueError):
                os.kill(int(pid_file.read_text()), signal.SIGTERM)
        time.sleep(1)


def start(command: list[str], environment: dict[str, str]) -> None:
    """Start a daemon; it goes to the background by itself."""
    subprocess.run(command, env=environment, check=True, timeout=60, stdout=subprocess.DEVNULL)


def until_idle(environment: dict[str, str]) -> None:
    """Wait for both nodes."""
    for _ in range(120):
        found = subprocess.run(["sinfo", "-N", "-h", "-o", "%t"], env=environment, capture_output=True, text=True)
        if found.stdout.split() == ["idle", "idle"]:
            return
        time.sleep(0.5)
    raise AssertionError(f"the nodes are not idle: {found.stdout}{found.stderr}")


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens at."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
