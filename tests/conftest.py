"""What several test files share."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real micrographs beside the checkout; tests that use it skip where it is missing."""
    if not (SHARED / "data").is_dir():
        pytest.skip("the folder of real micrographs is not here")
    return SHARED
