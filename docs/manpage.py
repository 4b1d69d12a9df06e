"""Write the man page docs/upicker.1 anew, from the help of the command line: python docs/manpage.py"""

import re
import textwrap
from pathlib import Path

from upicker import __version__
from upicker.cli.app import USAGE, app, name_of

PAGE = Path(__file__).with_name("upicker.1")
SEE = "upicker COMMAND \\-\\-help"
EXIT_CODES = {
    "0": "success",
    "1": "an error: a file that cannot be used or written",
    "2": "invalid command line or config",
    "3": "one or more micrographs failed; all others were processed",
    "130, 143": "stopped by Ctrl-C or a termination signal; all files written are complete",
}


def roff(text: str) -> str:
    """Return one paragraph of Markdown as lines of a man page."""
    plain = re.sub(r"\*{1,2}(\[[^\]]*\])\*{1,2}", r"\1", " ".join(text.replace("`", "").split()))
    escaped = plain.replace("\\", "\\e").replace("-", "\\-").replace("…", "...").replace("Å", "A")
    lines = textwrap.wrap(escaped, 78, break_long_words=False, break_on_hyphens=False)
    # A line that begins so would be a request.
    return "\n".join("\\&" + line if line[0] in ".'" else line for line in lines)


def item(name: str, text: str) -> list[str]:
    """Return an entry of a list: a name in bold, and its explanation."""
    return [".TP", f".B {roff(name)}", roff(text) or "\\&"]


def command(name: str, usage: str, markdown: str) -> list[str]:
    """Return the part of a command, from its documentation in Markdown."""
    # The usage stands in a block of its own, in which cyclopts names the command twice.
    body = re.sub(r"```.*?```", "", markdown, count=1, flags=re.S)
    lines = [f".SS {roff(f'upicker {name} {usage}')}"]
    for number, block in enumerate(re.split(r"\n\s*\n", body.strip())):
        if number == 0:
            lines.append(roff(block))
        elif block.startswith("**"):
            lines += [".PP", f".I {roff(block.rstrip(':*').lstrip('*'))}"]
        elif block.startswith("* `"):
            for entry in re.split(r"^\* `", block, flags=re.M)[1:]:
                lines += item(*entry.split("`:", 1))
        elif not block.startswith("#"):
            lines += [".PP", roff(block)]
    return lines


def page() -> str:
    """Return the man page."""
    parts = re.split(r"^## upicker ", app.generate_docs("markdown"), flags=re.M)[1:]
    by_name = dict(part.split("\n", 1) for part in parts)
    lines = [
        f'.TH UPICKER 1 "" "UPicker {__version__}" "User Commands"',
        *(".SH NAME", "upicker \\- pick particles in cryo\\-EM micrographs"),
        *(".SH SYNOPSIS", ".B upicker", ".I COMMAND", "[\\fIOPTIONS\\fR]"),
        *(".SH DESCRIPTION", roff(str(app.help)), ".PP", roff(f"{app.help_epilogue}".replace("\n\n", " "))),
        *(".PP", f"This page is made from the answers of {SEE}.", ".SH COMMANDS"),
    ]
    for function, usage in USAGE.items():
        lines += command(name_of(function), usage, by_name[name_of(function)])
    lines.append(".SH EXIT STATUS")
    for code, meaning in EXIT_CODES.items():
        lines += item(code, meaning)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
