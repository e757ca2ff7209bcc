"""Links between the pages of the repository lead somewhere."""

import re

import pytest

from tests.support.checkout import DOCS, ROOT

PAGES = [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), DOCS / "tutorial.py"]
PAGES = [page for page in PAGES if "api" not in page.parts]  # which are generated


def prose(page):
    return re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)


def anchors(page):
    """Of a page's headings, as GitHub and the site name them."""
    for heading in re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE):
        text = re.sub(r"\[(.*?)\]\(.*?\)", r"\1", heading).lower()
        yield re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        found = (page.parent / name).resolve() if name else page
        assert found.exists(), target
        if anchor:
            assert anchor in set(anchors(found)), target
