"""The page's own state on disk, as far as several servers share it: which micrographs were opened, the diameter."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path


def opened_in(session: Mapping[str, object]) -> set[str]:
    """Return the names of opened micrographs in a saved session."""
    names = session.get("opened")
    return {name for name in names if isinstance(name, str)} if isinstance(names, list) else set()


def saved_session(path: Path) -> dict:
    """Return the state that the page saved; empty if it cannot be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
