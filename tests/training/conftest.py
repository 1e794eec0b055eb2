"""A real browser, where this machine has one."""

import os
import shutil

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


@pytest.fixture(scope="module")
def browser():
    """The system's Chromium, headless; for one module only, since Playwright keeps an event loop running."""
    sync_api = _playwright()
    executable = next(filter(None, map(shutil.which, NAMES)), None)
    if executable is None:
        _absent(f"none of {', '.join(NAMES)} is installed")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable)
        yield chromium
        chromium.close()


def _playwright():
    try:
        from playwright import sync_api
    except ImportError:
        _absent("playwright is not installed: pip install playwright")
    return sync_api


def _absent(reason: str) -> None:
    """Skip, or fail where SHARPSCOPE_REQUIRE_BROWSER=1 says that a browser must be there (.ci/run)."""
    if os.environ.get("SHARPSCOPE_REQUIRE_BROWSER") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
