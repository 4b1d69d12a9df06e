"""What the documents say, checked against what there is: links, commands, knobs, functions, messages."""

import ast
import importlib
import re
import shlex
from collections.abc import Iterator
from functools import cache
from itertools import takewhile
from pathlib import Path

import pytest
from command_line import ROOT
from cyclopts import CycloptsError
from markdown_it import MarkdownIt

import upicker
from upicker.cli.app import USAGE, app, name_of
from upicker.config import Config
from upicker.config.knob import knobs_of

DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("benchmarks/*.md"), *ROOT.glob("plugins/*/*.md")]
)
PAGES = pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.relative_to(ROOT).as_posix())
GENERAL = {"--log-file": 2, "-q": 1, "-v": 1}  # options of all commands -> how many words they are


@cache
def anchors(page: Path) -> frozenset[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    tokens = MarkdownIt().parse(page.read_text(encoding="utf-8"))
    found: list[str] = []
    for one, inline in zip(tokens, tokens[1:]):
        if one.type == "heading_open":
            text = "".join(part.content for part in inline.children or [])
            slug = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
            found.append(slug if slug not in found else f"{slug}-{found.count(slug)}")
    return frozenset(found)


def links(page: Path) -> Iterator[str]:
    """All targets of links and pictures of a page that lie in the repository."""
    for token in MarkdownIt().enable("table").parse(page.read_text(encoding="utf-8")):
        for part in token.children or []:
            target = str(part.attrs.get("href", part.attrs.get("src", "")))
            if target and not re.match(r"\w+:", target):
                yield target


def blocks(page: Path, languages: tuple[str, ...]) -> Iterator[str]:
    """The fenced blocks of a page in these languages; "" is none."""
    for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
        if token.type == "fence" and token.info in languages:
            yield token.content


def commands(page: Path) -> list[list[str]]:
    """The words behind ``upicker`` of all command lines in a page's blocks, up to a pipe or a redirection."""
    found = []
    for block in blocks(page, ("", "bash")):
        for line in block.replace("\\\n", " ").splitlines():
            if re.match(r"(\$ )?(srun .* -m )?upicker [a-z]", line.strip()) or "-m upicker " in line:
                words = shlex.split(line.split("upicker ", 1)[1].replace("$SLURM_ARRAY_TASK_ID", "1"), comments=True)
                found.append([*takewhile(lambda word: not re.match(r"[|&<]|\d?>", word), words)])
    return found


def without_general(words: list[str]) -> list[str]:
    """Leave out options that all commands take."""
    left = iter(words)
    kept = []
    for word in left:
        if word in GENERAL:
            [next(left) for _ in range(GENERAL[word] - 1)]
        else:
            kept.append(word)
    return kept


@PAGES
def test_links_lead_somewhere(page):
    for target in links(page):
        path, _, anchor = target.partition("#")
        other = (page.parent / path).resolve() if path else page
        assert other.exists(), f"{target} leads nowhere"
        if anchor and other.suffix == ".md":
            included = re.search(r"```\{include\} (\S+)", other.read_text(encoding="utf-8"))
            known = anchors(other) | (anchors(other.parent / included[1]) if included else frozenset())
            assert anchor in known, f"{target}: there is no such heading"


@PAGES
def test_command_lines_can_be_given(page):
    for words in commands(page):
        try:
            app.parse_args(without_general(words), exit_on_error=False, print_error=False)
        except CycloptsError as error:
            pytest.fail(f"upicker {shlex.join(words)}: {error}")


@PAGES
def test_knobs_are_there(page):
    rooms = {room: knobs_of(type(getattr(Config(), room))) for room in vars(Config())}
    text = page.read_text(encoding="utf-8")
    for room, name in re.findall(r"--set (?!room\.)([a-z]+)\.(\w+)", text):
        assert name in rooms[room], f"there is no knob {room}.{name}"


def test_command_lines_are_found():
    assert sum(len(commands(page)) for page in DOCUMENTS) > 60


def test_every_command_is_listed():
    text = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    for command in USAGE:
        assert f"\n| `upicker {name_of(command)} " in text or f"\n| `upicker {name_of(command)}`" in text


def test_the_method_names_what_there_is():
    """Every name in the column of the code is a module, or stands in one."""
    text = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
    names = re.findall(r"`(upicker\.[\w.]+)`", text)
    assert len(names) > 30
    for name in names:
        _require(name)
    knobs = re.findall(r"`([a-z]+)\.(\w+)`", text[text.index("| symbol | knob |") : text.index("## Where it departs")])
    for room, knob in knobs:
        assert knob in knobs_of(type(getattr(Config(), room)))


def _require(name: str) -> None:
    """Import a dotted name, of a module or of something within."""
    words = name.split(".")
    for end in range(len(words), 0, -1):
        try:
            found = importlib.import_module(".".join(words[:end]))
        except ModuleNotFoundError:
            continue
        for attribute in words[end:]:
            found = getattr(found, attribute)
        return
    pytest.fail(f"there is no {name}")


def test_messages_are_those_that_are_printed():
    """What troubleshooting.md quotes with … for what differs is in the program's texts."""
    texts = list(_texts())
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    quoted = []
    for row in re.findall(r"^\| (.*?) \| ", page, re.M):
        quoted += [
            one for one in re.findall(r"`([^`]+)`", row) if " " in one and not one.startswith(("pip ", "upicker"))
        ]
    assert len(quoted) > 30
    for message in quoted:
        pattern = ".*".join(re.escape(part) for part in message.split("…"))
        assert any(re.search(pattern, text) for text in texts), message


def _texts() -> Iterator[str]:
    """All strings of the source, with … for what is put into them."""
    for file in (ROOT / "src" / "upicker").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_public_names_are_on_the_page_of_python():
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    for name in upicker.__all__:
        assert re.search(rf"auto(class|function):: upicker\.{name}$", text, re.M), name
