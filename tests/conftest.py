"""What tests of all stages share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Gives the folder with the sample archives, or skips the test."""
    folder = Path(os.environ.get("CTXATTR_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"sample photographs are not there: {folder} (set CTXATTR_DATA)")
    return folder
