"""Write the tables of docs/formats.md anew, from what the package knows of formats and flips: python docs/formats.py"""

import re
from pathlib import Path

from upicker.io.formats import COMMON_FIRST
from upicker.io.formats.format import QUANTITIES, Format
from upicker.io.picks import FLIPS

PAGE = Path(__file__).with_suffix(".md")
NEEDS = {"diameter": "diameter or `--box`", "shape": "`--micrographs`", "pixel_size": "pixel size"}


def row_of(format: Format) -> tuple[str, ...]:
    """Return the cells of a format."""
    notes = format.notes
    carries = ", ".join(words for quantity, words in QUANTITIES.items() if quantity in format.carries)
    needs = ", ".join(words for quantity, words in NEEDS.items() if quantity in format.needs)
    return (
        f"`{format.name}`",
        format.programs,
        format.files,
        notes.position,
        notes.columns,
        carries,
        needs,
        notes.checked,
    )


def table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a table in Markdown."""
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (header, ("---",) * len(header), *rows))


def tables() -> dict[str, str]:
    """Return the tables by the name of their marks in the page."""
    header = ("`--to`", "for", "files", "position", "columns", "carries beside it", "needs", "checked with")
    flips = [(f"`{name}`", flip.situation, _formula(flip.last)) for name, flip in FLIPS.items() if flip]
    return {
        "formats": table(header, [row_of(format) for format in COMMON_FIRST]),
        "flips": table(("flip", "situation", "what it does"), flips),
    }


def _formula(last: int) -> str:
    return (f"y → rows - {last} - y" if last else "y → rows - y") + ", psi → -psi"


def renewed(text: str) -> str:
    """Return the page with its tables between the marks replaced."""
    for name, content in tables().items():
        block = rf"(<!-- {name}: .*? -->\n).*?(<!-- end of {name} -->\n)"
        text, n = re.subn(block, lambda found, content=content: f"{found[1]}\n{content}\n{found[2]}", text, flags=re.S)
        assert n == 1, f"{PAGE.name} has no place for the table of {name}"
    return text


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
