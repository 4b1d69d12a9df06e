"""Structures from the Protein Data Bank, downloaded once.

Files of entries come from RCSB (https://files.rcsb.org), as mmCIF, and stay in the cache.
"""

from __future__ import annotations

import gzip
import http.client
import re
import urllib.error
import urllib.request
import zlib
from pathlib import Path

from upicker.errors import InputError
from upicker.io.atomic import replacing
from upicker.simulate.specimens import cache

ADDRESS = "https://files.rcsb.org/download/{}.cif.gz"
TIMEOUT_S = 60
MAX_BYTES = 200 << 20  # ten times the largest entries, whole virus capsids


def is_id(text: str) -> bool:
    """Return whether a text has the form of an entry's name: a digit, then three letters or digits."""
    return re.fullmatch(r"[1-9][A-Za-z0-9]{3}", text) is not None


def fetch(entry: str, where: Path | None = None) -> Path:
    """Return the file of an entry, downloading it unless it is in the cache.

    Parameters
    ----------
    entry : str
        Four characters, such as ``3J79``.
    where : Path, optional
        The folder of the cache; by default the user's.

    Raises
    ------
    InputError
        If it cannot be downloaded: no network, no such entry, more than `MAX_BYTES`, or not a gzip file.
    OutputError
        If the cache cannot be written.
    """
    path = (where or cache.folder()) / "structures" / f"{entry.lower()}.cif.gz"
    if path.is_file():
        return path
    address = ADDRESS.format(entry.upper())
    remedy = f"Download {entry.lower()}.cif.gz from {address} yourself, and give its path"
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT_S) as response:
            content = response.read(MAX_BYTES + 1)
    except urllib.error.HTTPError as error:
        found = "there is no such entry" if error.code == 404 else f"RCSB responded with {error.code} {error.reason}"
        other = "Find the entry at https://www.rcsb.org" if error.code == 404 else remedy
        raise InputError(entry, found, other) from error
    except (OSError, http.client.HTTPException) as error:  # URLError and timeouts among them
        found = f"there is no file of this name, and RCSB cannot be reached ({getattr(error, 'reason', error)})"
        raise InputError(entry, found, remedy) from error
    if len(content) > MAX_BYTES:
        raise InputError(entry, f"the entry has more than {MAX_BYTES >> 20} MiB", remedy)
    try:
        gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(entry, f"the response of {address} is not a complete gzip file", remedy) from error
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return path
