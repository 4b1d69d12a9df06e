"""README as PyPI shows it, where no file lies beside it: links are made absolute, or text where there is no address.

A hook of hatchling; the address is ``Repository`` in ``project.urls``.
"""

import re
from pathlib import Path

from hatchling.metadata.plugin.interface import MetadataHookInterface

_LINK = re.compile(r"(?P<picture>!?)\[(?P<text>[^\]]*)\]\((?P<path>(?!https?:|#|mailto:)[^)\s]+)\)")


class ReadmeHook(MetadataHookInterface):
    """Gives the package its description."""

    def update(self, metadata: dict) -> None:
        """Set ``readme``."""
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        repository = metadata.get("urls", {}).get("Repository", "")
        metadata["readme"] = {"content-type": "text/markdown", "text": absolute(text, repository)}


def absolute(text: str, repository: str) -> str:
    """Return Markdown in which no link is relative.

    Parameters
    ----------
    text : str
        The page.
    repository : str
        Address of the repository; empty: links become their text, and pictures are left out.
    """

    def replaced(found: re.Match) -> str:
        if not repository:
            return "" if found["picture"] else found["text"]
        kind = "raw" if found["picture"] else "blob"
        return f"{found['picture']}[{found['text']}]({repository.rstrip('/')}/{kind}/main/{found['path']})"

    return re.sub(r"\n{3,}", "\n\n", _LINK.sub(replaced, text))
