"""A parser for pages of the report, and the browser that runs their scripts."""

import json
import shutil
import subprocess
from html.parser import HTMLParser

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

LOADING = {"src", "href", "action", "poster", "data", "srcset", "xlink:href", "formaction", "background", "manifest"}
"""Attributes that make a browser send a request."""


class Page(HTMLParser):
    """A parsed page: its elements, URLs, text and data."""

    def __init__(self, path=None, source=None):
        super().__init__(convert_charrefs=True)
        self.elements, self.addresses, self.text, self._inside = [], [], "", ""
        self.ids, self.data, self.styles, self.handlers = {}, {}, "", []
        self.feed(path.read_text(encoding="utf-8") if source is None else source)
        self.close()
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag, attrs):
        known = dict(attrs)
        self.elements.append((tag, known))
        self.addresses += [value for name, value in attrs if name in LOADING]
        self.handlers += [k for k, _ in attrs if k.startswith("on")]
        self.styles += known.get("style") or ""
        if "id" in known:
            self.ids[known["id"]] = tag
        self._inside = known.get("id", tag) if tag in ("script", "style", "title") else ""

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside in ("charts", "points", "decoder-data", "results"):
            self.data[self._inside] = json.loads(data)
        elif self._inside == "style":
            self.styles += data
        elif self._inside != "script":
            self.text += f" {data}"


def run_in_browser(path, folder):
    """The page at a path after its scripts have run; `folder` holds the profile of the browser."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    command = [CHROMIUM, *options, "--virtual-time-budget=20000", "--dump-dom", path.as_uri()]
    return Page(source=subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout)
