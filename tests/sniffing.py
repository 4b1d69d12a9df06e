"""What a source refers to, by full names: through import aliases, re-binding, ``getattr`` and imports at run time.

Read from the syntax tree; nothing runs. A reference counts, not a call, so that ``map(os.system, ...)`` does not slip
through. Names that a file binds itself (an argument called ``input``) are not the built-in ones.
"""

import ast
import builtins
import fnmatch
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

IMPORTERS = ("__import__", "importlib.import_module", "importlib.__import__")


@dataclass(frozen=True, eq=False)
class Rule:
    """What one room alone may do.

    Parameters
    ----------
    what : str
        For the message.
    patterns : tuple of str
        Full names that give it away, with the wildcards of `fnmatch`; a module's name stands for all that is in it.
    room : str or None
        The room that may; None: nobody.
    exceptions : dict
        Files or rooms that may refer to some names all the same: ``{place: (pattern, reason)}``.
    written_to : tuple of object
        Literals that give it away as the first argument of ``os.write`` or ``open``.
    """

    what: str
    patterns: tuple[str, ...]
    room: str | None = None
    exceptions: dict[str, tuple[str, str]] = field(default_factory=dict)
    written_to: tuple[object, ...] = ()

    @cache  # noqa: B019 (rules are few and stay)
    def gives_away(self, name: str) -> bool:
        """Tell whether a full name breaks the rule."""
        return any(matches(name, pattern) for pattern in self.patterns)

    def found_in(self, tree: ast.Module, file: str) -> list[str]:
        """Return what a file does against the rule; `file` is its path in the package, such as ``web/serve.py``."""
        return [f"line {line}: {name}" for line, name, place in self.broken_in(tree, file) if place is None]

    def exceptions_used_in(self, tree: ast.Module, file: str) -> set[str]:
        """Return the places whose exception a file makes use of."""
        return {place for _, _, place in self.broken_in(tree, file) if place is not None}

    def broken_in(self, tree: ast.Module, file: str) -> Iterator[tuple[int, str, str | None]]:
        """Yield line, name and the place of the exception that covers it."""
        room = file.split("/")[0].removesuffix(".py")
        if room == self.room:
            return
        allowed = {place: self.exceptions[place][0] for place in {file, room} & self.exceptions.keys()}
        for line, name in self._matches(tree):
            yield line, name, next((place for place, pattern in allowed.items() if matches(name, pattern)), None)

    def _matches(self, tree: ast.Module) -> Iterator[tuple[int, str]]:
        for line, name in references(tree):
            if self.gives_away(name):
                yield line, name
        if self.written_to:
            for line, function, first in literal_arguments(tree):
                if function in ("os.write", "os.open", "open", "io.open") and first in self.written_to:
                    yield line, f"{function}({first!r})"


@cache
def matches(name: str, pattern: str) -> bool:
    """Tell whether a full name is what a pattern means, or lies in it."""
    return fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name, f"{pattern}.*")


@cache
def nodes(tree: ast.Module) -> list[ast.AST]:
    """Return all nodes of a tree, as `ast.walk` yields them."""
    return [*ast.walk(tree)]


@cache
def references(tree: ast.Module) -> list[tuple[int, str]]:
    """Return line and full name of everything imported, and of every name that is read."""
    names = _Names(tree)
    found = [(node.lineno, name) for node in nodes(tree) for name in imported(node)]
    for node in nodes(tree):
        if isinstance(node, ast.Name | ast.Attribute | ast.Call) and (name := names.full(node)) is not None:
            found.append((node.lineno, name))
    return sorted(set(found))


@cache
def literal_arguments(tree: ast.Module) -> list[tuple[int, str | None, object]]:
    """Return line, function and first argument of each call whose first argument is a literal."""
    names = _Names(tree)
    calls = [node for node in nodes(tree) if isinstance(node, ast.Call) and node.args]
    return [
        (node.lineno, names.full(node.func), node.args[0].value)
        for node in calls
        if isinstance(node.args[0], ast.Constant)
    ]


def imported(node: ast.AST) -> list[str]:
    """Return the full names that an import statement brings."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


class _Names:
    """Full names of expressions in one file."""

    def __init__(self, tree: ast.Module) -> None:
        self.bound: dict[str, str] = {}  # what imports bind, and names that stand for the same
        self.own = set(_own(tree))
        for node in nodes(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    first = alias.name.split(".")[0]
                    self.bound[alias.asname or first] = alias.name if alias.asname else first
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    self.bound[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        for node in nodes(tree):
            if isinstance(node, ast.Assign) and (name := self.full(node.value)) is not None:
                for target in node.targets:
                    if isinstance(target, ast.Name):
                        self.bound.setdefault(target.id, name)

    def full(self, node: ast.AST) -> str | None:
        """Return the full name of an expression; None if it is none that an import or Python itself gives.

        What hangs on an unknown object is named with a leading dot: ``.fork``.
        """
        if isinstance(node, ast.Name):
            if node.id in self.bound:
                return self.bound[node.id]
            return node.id if node.id not in self.own and hasattr(builtins, node.id) else None
        if isinstance(node, ast.Attribute):
            base = self.full(node.value)
            return (f"{base}.{node.attr}" if base else f".{node.attr}").removeprefix("builtins.")
        if isinstance(node, ast.Call):
            return self._called(node)
        return None

    def _called(self, node: ast.Call) -> str | None:
        """Return what ``__import__("os")`` or ``getattr(os, "system")`` give; else None."""
        words = [each.value for each in node.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
        function = self.full(node.func)
        if function in IMPORTERS and words:
            return words[0]
        if function == "getattr" and words and (base := self.full(node.args[0])) is not None:
            return f"{base}.{words[0]}".removeprefix("builtins.")
        return None


def _own(tree: ast.Module) -> Iterator[str]:
    """Yield the names that a file binds without an import."""
    for node in nodes(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name


STARTS_PROCESSES = Rule(
    "starts processes",
    (
        *("subprocess", "multiprocessing", "concurrent.futures.ProcessPoolExecutor", "concurrent.futures.process"),
        *("os.fork*", "os.system", "os.popen", "os.startfile", "os.exec*", "os.spawn*", "os.posix_spawn*"),
        *("asyncio.create_subprocess_*", "asyncio.subprocess", ".subprocess_exec", ".subprocess_shell"),
        *("torch.multiprocessing", "torch.utils.data.DataLoader", "torch.utils.data.dataloader"),
        *("torch.distributed.run", "torch.distributed.launch*", "torch.distributed.elastic"),
        *("anyio.open_process", "anyio.run_process", "anyio.to_process"),
        *("pty", "joblib", "loky", "webbrowser"),
    ),
    "run",
    {
        "train": ("torch.utils.data.DataLoader", "simulated tiles are made while the network computes"),
        "cluster": ("torch.utils.data.DataLoader", "as in train/"),
        "web/launching.py": ("webbrowser", "the user's own browser, which the user asked to see"),
    },
)
PRINTS = Rule(
    "prints",
    (
        *("print", "input", "breakpoint", "sys.stdout", "sys.stderr", "sys.__std*__", "sys.displayhook"),
        *("pprint.pprint", "pprint.pp", "traceback.print_*", "getpass", "faulthandler", "curses"),
        *("logging.basicConfig", "logging.StreamHandler", "logging.config", "logging.lastResort"),
        *("logging.debug", "logging.info", "logging.warning", "logging.error", "logging.critical", "logging.exception"),
        *("rich", "cyclopts", "click", "tqdm", "torch.utils.tensorboard"),
    ),
    "cli",
    written_to=(1, 2, "/dev/stdout", "/dev/stderr", "/dev/tty", "/dev/fd/1", "/dev/fd/2"),
)
EXITS = Rule(
    "ends the program",
    ("exit", "quit", "sys.exit", "SystemExit", "os._exit", "os.abort"),
    "cli",
)
CHANGES_DIRECTORY = Rule("changes directory", ("os.chdir", "os.fchdir", "contextlib.chdir"))
SEEDS = Rule(
    "uses a global generator",
    (
        *(f"numpy.random.{name}" for name in ("seed", "set_state", "rand*", "normal", "uniform", "choice", "shuffle")),
        *(f"numpy.random.{name}" for name in ("permutation", "poisson", "standard_normal", "integers")),
        *(f"random.{name}" for name in ("seed", "random", "rand*", "choice*", "shuffle", "sample", "uniform", "gauss")),
    ),
)
UNPICKLES = Rule("unpickles", ("pickle.load", "pickle.loads", "pickle.Unpickler", "dill", "shelve"))
# Of the tests: how long something takes depends on the machine and on what else it does.
READS_CLOCKS = Rule(
    "reads a clock",
    (
        *("time.time*", "time.monotonic*", "time.perf_counter*", "time.process_time*", "time.thread_time*"),
        *("time.clock*", "timeit", "cProfile", "profile", "datetime.datetime.now", "datetime.datetime.utcnow"),
        *("resource.getrusage", "os.times", "torch.utils.benchmark"),
    ),
    None,
    {"waiting.py": ("time.monotonic", "waits for events; asserts nothing about how long they took")},
)
RULES = (STARTS_PROCESSES, PRINTS, EXITS, CHANGES_DIRECTORY, SEEDS, UNPICKLES)
