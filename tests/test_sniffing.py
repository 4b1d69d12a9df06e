"""The rules of tests/sniffing.py are tried on small sources: what they must see, and what they must not."""

import ast

import pytest
from sniffing import CHANGES_DIRECTORY, EXITS, PRINTS, READS_CLOCKS, RULES, SEEDS, STARTS_PROCESSES, UNPICKLES, Rule

SINS = {
    STARTS_PROCESSES: [
        "import subprocess\nsubprocess.run(['ls'])",
        "import subprocess as sp\nsp.Popen(['ls'])",
        "from subprocess import run as r\nr(['ls'])",
        "from subprocess import check_output",
        "def later():\n    import subprocess\n    return subprocess.call",
        "import os\nos.system('ls')",
        "import os as o\no.popen('ls')",
        "from os import execvp as go\ngo('ls', [])",
        "import os\nif os.fork() == 0: pass",
        "import os\nos.forkpty()",
        "import os\nos.spawnlp(os.P_WAIT, 'ls')",
        "import os\nos.posix_spawn('ls', [], {})",
        "import os\nlist(map(os.system, ['ls']))",
        "import os\nshell = os\nshell.system('ls')",
        "import os\ngetattr(os, 'system')('ls')",
        "__import__('subprocess').run(['ls'])",
        "import importlib\nimportlib.import_module('subprocess').run(['ls'])",
        "import pty\npty.spawn('ls')",
        "import multiprocessing\nmultiprocessing.get_context('spawn').Process(target=work)",
        "import multiprocessing as mp\nmp.Pool(2)",
        "from multiprocessing import Process\nProcess(target=work).initial_sample()",
        "from multiprocessing.pool import Pool",
        "from concurrent.futures import ProcessPoolExecutor as Pool\nPool(2)",
        "import concurrent.futures as cf\ncf.ProcessPoolExecutor(2)",
        "from concurrent import futures\nfutures.ProcessPoolExecutor(2)",
        "import torch\ntorch.multiprocessing.spawn(work)",
        "import torch.multiprocessing as mp\nmp.spawn(work)",
        "from torch import multiprocessing",
        "from torch.utils.data import DataLoader\nDataLoader(tiles, num_workers=2)",
        "from torch.utils import data\ndata.DataLoader(tiles)",
        "import torch\ntorch.utils.data.DataLoader(tiles)",
        "import asyncio\nasyncio.create_subprocess_exec('ls')",
        "from asyncio import create_subprocess_shell as shell\nshell('ls')",
        "async def go(loop): await loop.subprocess_exec(protocol, 'ls')",
        "import anyio\nanyio.run_process(['ls'])",
        "from anyio import to_process",
        "import webbrowser\nwebbrowser.open('page')",
    ],
    PRINTS: [
        "print('x')",
        "print('x', file=file)",
        "def work(say=print): say('x')",
        "import builtins\nbuiltins.print('x')",
        "input('x')",
        "import sys\nsys.stderr.write('x')",
        "import sys as s\ns.stdout.write('x')",
        "from sys import stderr as e\ne.write('x')",
        "import sys\nprint_to = getattr(sys, 'stdout')",
        "import sys\nsys.__stderr__.write('x')",
        "import sys\nsys.stdout.buffer.write(b'x')",
        "import os\nos.write(1, b'x')",
        "from os import write\nwrite(2, b'x')",
        "open('/dev/stderr', 'w').write('x')",
        "open(1, 'w').write('x')",
        "import logging\nlogging.basicConfig()",
        "import logging\nlogging.getLogger().addHandler(logging.StreamHandler())",
        "from logging import warning\nwarning('x')",
        "import traceback\ntraceback.print_exc()",
        "from pprint import pprint\npprint('x')",
        "from rich.console import Console\nConsole(stderr=True)",
        "import rich\nrich.print('x')",
        "from tqdm import tqdm",
    ],
    EXITS: [
        "exit(1)",
        "quit()",
        "import sys\nsys.exit(1)",
        "from sys import exit as leave\nleave(1)",
        "raise SystemExit(1)",
        "import os\nos._exit(1)",
        "from os import abort\nabort()",
    ],
    CHANGES_DIRECTORY: [
        "import os\nos.chdir('x')",
        "from os import chdir as cd\ncd('x')",
        "import contextlib\nwith contextlib.chdir('x'): pass",
        "import os\nos.fchdir(3)",
    ],
    SEEDS: [
        "import numpy as np\nnp.random.seed(0)",
        "from numpy.random import normal\nnormal()",
        "import numpy\nnumpy.random.randint(3)",
        "from numpy import random\nrandom.shuffle(x)",
        "import random\nrandom.seed(0)",
        "import random as r\nr.choice(x)",
    ],
    READS_CLOCKS: [
        "import time\nstart = time.perf_counter()\nassert time.perf_counter() - start < 1",
        "from time import monotonic as now\nnow()",
        "import time as t\nt.process_time()",
        "import time\ntime.time_ns()",
        "import timeit\ntimeit.timeit(work)",
        "from datetime import datetime\ndatetime.now()",
        "import resource\nresource.getrusage(resource.RUSAGE_SELF)",
    ],
    UNPICKLES: [
        "import pickle\npickle.load(file)",
        "from pickle import loads as read\nread(b'')",
        "import pickle\npickle.Unpickler(file)",
    ],
}
INNOCENT = [
    "from upicker.run import pick\npick.run()",
    "def run(): pass\nrun()",
    "'subprocess.run'  # os.system",
    "import os\nos.path.join('a', 'b')\nos.environ.get('x')\nos.write(descriptor, b'x')\nos.cpu_count()",
    "from concurrent.futures import ThreadPoolExecutor\nThreadPoolExecutor(2)",
    "from torch.utils.data import Dataset",
    "import anyio\nanyio.to_thread.run_sync(work)",
    "import sys\nsys.argv\nsys.executable\nsys.platform",
    "def work(input, print): return print(input)",
    "exit = 'exit'\nopen(exit)",
    "self.print('x')\njob.exit()\nresult.stdout.read()\nnode.fork()",
    "import logging\nlogging.getLogger('x').disabled = True",
    "import traceback\ntraceback.extract_tb(bug)",
    "import warnings\nwarnings.warn('x')",
    "open('x', 'w').write('x')\nopen('/dev/null')",
    "import numpy as np\nrng = np.random.default_rng(0)\nrng.normal()\nrng.choice(3)\nnp.random.Generator",
    "import pickle\npickle.dumps(x)",
    "import time\ntime.sleep(0.01)\nthread.join(timeout=60)\ntime.strftime('%Y')",
    "import torch\ntorch.load('x', weights_only=True)\ntorch.distributed.init_process_group()",
]


@pytest.mark.parametrize(("rule", "source"), [(rule, source) for rule, sources in SINS.items() for source in sources])
def test_a_rule_sees(rule, source):
    tree = ast.parse(source)
    assert rule.found_in(tree, "io/atomic.py")
    if rule.room is not None:
        assert not rule.found_in(tree, f"{rule.room}/any.py")
        assert rule.found_in(tree, f"io/{rule.room}.py")
    assert not [other for other in RULES if other is not rule and other.found_in(tree, "io/atomic.py")]


@pytest.mark.parametrize("source", INNOCENT)
def test_no_rule_sees(source):
    assert not [found for rule in (*RULES, READS_CLOCKS) for found in rule.found_in(ast.parse(source), "io/atomic.py")]


def test_every_rule_is_tried():
    assert set(SINS) == {*RULES, READS_CLOCKS}


def test_an_exception_holds_for_its_place_and_its_names_only():
    rule = Rule("x", ("os.system", "subprocess"), "run", {"train": ("os.system", "a reason"), "web/a.py": ("*", "a")})
    tree = ast.parse("import os, subprocess\nos.system('ls')\nsubprocess.run(['ls'])")
    assert rule.found_in(tree, "run/any.py") == []
    assert len(rule.found_in(tree, "io/any.py")) == 4
    assert rule.found_in(tree, "train/any.py") == ["line 1: subprocess", "line 3: subprocess", "line 3: subprocess.run"]
    assert rule.found_in(tree, "web/a.py") == []
    assert rule.found_in(tree, "web/b.py")
    assert rule.exceptions_used_in(tree, "train/any.py") == {"train"}
    assert rule.exceptions_used_in(ast.parse("import subprocess"), "train/any.py") == set()
