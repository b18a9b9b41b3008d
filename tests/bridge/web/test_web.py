"""The page's files: served by name alone, whole, and without a second source of ranges."""

from __future__ import annotations

import re
from pathlib import Path

from bridge import web
from bridge.doors.http.site import read_page
from bridge.session.parameters import session_table

FOLDER = Path(web.__file__).parent


def test_the_pages_files_are_served_and_nothing_else_is() -> None:
    served = read_page(FOLDER)
    assert set(served) == {"/"} | {f"/{file.name}" for file in FOLDER.iterdir() if file.suffix in web.TYPES}
    assert served["/"] == served["/index.html"] == ((FOLDER / "index.html").read_bytes(), "text/html; charset=utf-8")


def test_every_import_and_link_is_there() -> None:
    for file in FOLDER.glob("*.js"):
        for name in re.findall(r'from "\./([\w.]+)"', file.read_text()):
            assert (FOLDER / name).is_file(), (file.name, name)
    for name in re.findall(r'(?:href|src)="([\w.]+)"', (FOLDER / "index.html").read_text()):
        assert f"/{name}" in read_page(FOLDER), name


def test_the_page_comes_from_here_alone() -> None:
    for file in [*FOLDER.glob("*.js"), *FOLDER.glob("*.css"), *FOLDER.glob("*.html")]:
        addresses = re.findall(r"https?://[\w./]+", file.read_text())
        assert [address for address in addresses if address != "http://www.w3.org/2000/svg"] == [], file.name


def test_no_parameter_is_spelled_in_the_page() -> None:
    names = [name for name in session_table() if "_" in name and name != "lead_seconds"]  # others are English words
    for file in FOLDER.glob("*.js"):
        spelled = [name for name in names if re.search(rf"[\"'`.]{name}\b", file.read_text())]
        assert spelled == [], file.name
