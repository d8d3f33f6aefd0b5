"""A folder served under a sub-path, and a Chromium that looks at it."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
    next(map(str, Path.home().glob(".cache/ms-playwright/chromium-*/chrome-linux*/chrome")), None),
)
"""An installed browser, or the one of `playwright install chromium`."""
QUIET = (
    "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, ThreadingHTTPServer]]:
    """The address of a folder, and the server, which may be shut down early."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/", server
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def opened(address: str, ready: str = "#think:enabled", **options: Any) -> Iterator[Any]:
    """A page, once the element `ready` is there.

    After its use, it must have asked no other host and complained of nothing.
    """
    from playwright.sync_api import sync_playwright

    foreign, complaints = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = browser.new_page(**options)
        page.set_default_timeout(120_000)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: foreign.append(request.url))
        page.goto(address)
        page.wait_for_selector(ready)
        yield page
        browser.close()
    origin = "/".join(address.split("/")[:3])
    assert [url for url in foreign if not url.startswith((origin, "data:"))] == []
    assert complaints == []
