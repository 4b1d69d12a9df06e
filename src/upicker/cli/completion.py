"""``upicker completion``."""

from __future__ import annotations

import re
from typing import Literal

# In zsh, an argument or an option's value for which there is nothing to offer: a message without an action.
_NO_ACTION = re.compile(r"^( +'(?:[*\d]+:(?:\\:|'\\''|[^:'])*|\*?-.*\]:[\w-]+))(?=' \\$)", re.M)
# Cyclopts' script does something only where zsh finds it by its name; so it may also be sourced.
_ZSH_END = """
if [[ "${funcstack[1]}" == "_upicker" ]]; then _cyclopts_upicker "$@"; else compdef _cyclopts_upicker upicker; fi
"""


def completion(shell: Literal["bash", "zsh", "fish"], /) -> int:
    """Print a script by which a shell completes commands, options and files.

    bash: upicker completion bash > ~/.local/share/bash-completion/completions/upicker

    zsh: upicker completion zsh > _upicker, in a folder of $fpath

    fish: upicker completion fish > ~/.config/fish/completions/upicker.fish

    Parameters
    ----------
    shell
        Of which shell.
    """
    from upicker.cli.app import app

    script = app.generate_completion(shell=shell)
    # Where there is nothing to offer, the shell's own completion of files: many values are files, or patterns of them.
    if shell == "bash":
        script = script.replace("complete -F", "complete -o bashdefault -o default -F")
        script = script.replace('COMPREPLY=( $(compgen -f -- "${cur}") )', "COMPREPLY=()")
    elif shell == "zsh":
        script = _NO_ACTION.sub(r"\1:_files", script) + _ZSH_END
    print(script, end="")
    return 0
