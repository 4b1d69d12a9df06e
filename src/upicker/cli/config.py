"""``upicker config``."""

from __future__ import annotations

from typing import Annotated

from upicker.cli.options import Changes, ConfigFile, Flag, changes
from upicker.config import Config, over_preset


def config(
    *,
    preset: str = "compact",
    config: ConfigFile = None,
    changes_: Changes = (),
    markdown: Annotated[bool, Flag] = False,
) -> int:
    """Print all knobs of the config with their help, as a TOML file that --config takes.

    Example: "upicker config --preset paper > knobs.toml".

    Parameters
    ----------
    preset
        The defaults to start from: "compact" (for a laptop) or "paper" (the paper's network, for a GPU).
    markdown
        Print the reference page of all knobs (docs/config.md) instead.
    """
    from upicker.config.printing import as_markdown, as_toml

    merged = Config().with_changes(over_preset(preset, changes(config, changes_)))
    print(as_markdown() if markdown else as_toml(merged), end="")
    return 0
