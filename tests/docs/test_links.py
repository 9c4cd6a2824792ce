"""Every link of the documentation leads somewhere, and every page can be found from README."""

import re
from pathlib import Path

from helpers import ROOT

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def pages():
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def links(page):
    """Give the files that a page links to, each with its anchor."""
    text = FENCE.sub("", page.read_text())
    for target in LINK.findall(text):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        yield target, ((page.parent / path).resolve() if path else page), anchor


def anchors(page):
    """Give the anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings]
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in plain}


def broken(page):
    """Say which links of a page lead nowhere."""
    return [
        target
        for target, file, anchor in links(page)
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file))
    ]


def test_no_link_is_broken():
    assert {page.name: found for page in pages() if (found := broken(page))} == {}


def test_every_page_can_be_found_from_readme():
    found, left = set(), [ROOT / "README.md"]
    while left:
        page = left.pop()
        if page not in found and page.suffix == ".md":
            found.add(page)
            left += [file for _, file, _ in links(page) if file.is_file()]
    listed = {ROOT / "docs/runbooks" / page.name for page in (ROOT / "docs/runbooks").glob("*.md")}
    assert set(pages()) - found - listed == set()


def test_a_broken_link_is_noticed(tmp_path: Path):
    (tmp_path / "there.md").write_text("# Some `code`, and a dash\n")
    page = tmp_path / "page.md"
    page.write_text(
        "[a](there.md) [b](there.md#some-code-and-a-dash) [c](gone.md) [d](there.md#gone) [e](#x)\n"
        "```\n[f](no-link.md)\n```\n"
    )
    assert broken(page) == ["gone.md", "there.md#gone", "#x"]
