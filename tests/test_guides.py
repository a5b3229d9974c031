"""The guides of the site: drawn safely, true to the site map, the commands and the manual; and the tutorial, typed in.

Their pictures are of the browser test; tests/pictures.py makes them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT
from site_world import Site, settings_of

from spicad.commands import COMMANDS
from spicad.config import OPTIONS
from spicaweb import guide
from spicaweb.app import SITE_MAP

TEXTS = {name: (guide.FOLDER / f"{name}.md").read_text() for name in guide.GUIDES}
PICTURE_MOST_BYTES = 80_000
WALKS = sorted((ROOT / "tests").glob("*walk*.py"))  # in the browser


def drawn(text: str) -> str:
    return guide.drawn("# Title\n" + text, lambda path: "/site" + path)


# ---------------------------------------------------------------------- drawing


def test_what_is_written_is_escaped_wherever_it_stands():
    text = 'a <b> & `<c>` **<d>** [<e>](/f"g)\n\n- <h>\n\n```sh\ncat <<END && `i` **j**\n```\n\n## <k>\n'

    assert drawn(text) == (
        "<p>a &lt;b&gt; &amp; <code>&lt;c&gt;</code> <strong>&lt;d&gt;</strong> "
        '<a href="/site/f&quot;g">&lt;e&gt;</a></p>\n'
        "<ul><li>&lt;h&gt;</li></ul>\n"
        '<pre tabindex="0">cat &lt;&lt;END &amp;&amp; `i` **j**</pre>\n'
        '<h2 id="k">&lt;k&gt;</h2>'
    )


def test_lists_links_and_pictures_are_drawn():
    text = "1. one\n   more\n2. **two**\n\n![A view](a.png) [out](https://x.org) [other](user.md)\n"

    assert drawn(text) == (
        "<ol><li>one\n   more</li><li><strong>two</strong></li></ol>\n"
        '<p><img class="shot" src="/site/help/picture/a.png" alt="A view" loading="lazy"> '
        '<a href="https://x.org">out</a> <a href="/site/help/user">other</a></p>'
    )


def test_a_heading_inside_of_commands_is_no_section():
    assert guide.sections_of("# T\n\n## Real one\n\n```sh\n## a comment\n```\n") == [("real-one", "Real one")]


# ---------------------------------------------------------------------- true


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(settings_of(tmp_path_factory.mktemp("guides")))


def test_anybody_finds_the_guides_from_every_page(site: Site):
    visitor = site.visitor()

    assert 'href="/help"' in visitor.get("/").text
    index = visitor.get("/help")
    for name, words in guide.GUIDES.items():
        assert f'<a href="/help/{name}">{words}</a>' in index.text
        page = visitor.get(f"/help/{name}")
        assert page.status == 200
        ids = set(re.findall(r' id="([^"]+)"', page.text))
        assert set(re.findall(r'href="#([^"]+)"', page.text)) <= ids
    assert 'href="/help"' in site.logged_in("alice").get("/processes").text


@pytest.mark.parametrize("name", TEXTS)
def test_links_of_a_guide_lead_somewhere(site: Site, name: str):
    paths = {path for method, path, _, _ in SITE_MAP if method == "GET"}
    visitor = site.visitor()

    for picture, to in re.findall(r"(!?)\[[^\]]+\]\(([^)]+)\)", TEXTS[name]):
        if picture:
            answer = visitor.get(f"/help/picture/{to}")
            assert (answer.status, answer.headers["Content-Type"]) == (200, "image/png"), to
        elif to.endswith(".md"):
            assert to.removesuffix(".md") in guide.GUIDES
        else:
            assert to in paths, to


def test_each_picture_is_used_and_small():
    used = set(re.findall(r"\]\(([a-z-]+\.png)\)", "".join(TEXTS.values())))
    files = {path.name: path.stat().st_size for path in guide.FOLDER.glob("*.png")}

    from pictures import PICTURES

    assert used == set(files) == {f"{name}.png" for name in PICTURES}
    assert {name: size for name, size in files.items() if size > PICTURE_MOST_BYTES} == {}
    photographed = set(re.findall(r'\.look\("([a-z-]+)"\)', "".join(path.read_text() for path in WALKS)))
    assert set(PICTURES) <= photographed


def test_the_readme_shows_a_first_process_by_form_by_file_and_by_command_and_names_what_exists():
    text = (ROOT / "README.md").read_text()
    first = text.partition("## Your first process")[2].partition("\n## ")[0]
    told = text.partition("\n\n")[2].partition("\n\n```")[0]

    assert re.findall(r"^### (.+)$", first, re.MULTILINE) == ["By form", "By file", "By command"]
    assert len(re.findall(r"[.;] [A-Z]|\.$", told)) == 3  # sentences, before the picture
    assert set(re.findall(r"^bin/spica ([a-z]+)", text, re.MULTILINE)) <= set(COMMANDS)
    named = [to for to in re.findall(r"\]\(([^)]+)\)", text) if "://" not in to]
    assert [to for to in named if not (ROOT / to).exists()] == []
    assert len(re.findall(r"^bin/\S+", text.partition("## Try it")[2].partition("\n## ")[0], re.MULTILINE)) == 2


@pytest.mark.parametrize("name", TEXTS)
def test_commands_pages_and_options_that_a_guide_names_exist(name: str):
    text = TEXTS[name]
    pages = {path.stem for path in (ROOT / "man").glob("*.[1-8]")}

    assert set(re.findall(r"(?:^|`)spica ([a-z]+)", text, re.MULTILINE)) <= set(COMMANDS)
    assert set(re.findall(r"\bman ([a-z-]+)", text)) <= pages
    for section, option in re.findall(r"`\[([a-z]+)\] ([a-z_]+)`", text):
        assert option in {key.name for key in OPTIONS[section]}
    for path in re.findall(r"`((?:bin|etc)/[a-z./-]+[a-z])`", text):
        assert (ROOT / path).exists() or path == "etc/spica", path


# ---------------------------------------------------------------------- the tutorial


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Path]:
    """What somebody has who begins with it; nothing is installed here."""
    folder = tmp_path / "spica"
    folder.mkdir()
    for name in ("bin", "etc", "spicad"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / ".venv").symlink_to(sys.prefix)
    yield folder
    env = {**os.environ, "SPICA_CONF": str(folder / "etc/spica.conf")}
    subprocess.run([folder / "bin/spicad", "stop"], env=env, capture_output=True, check=False)


def general(text: str) -> str:
    """Without blanks that only align, and with any number for a number, any name for who runs it."""
    return re.sub(r"\d+(\.\d+)?", "N", re.sub(r"\s+", " ", text)).strip()


@pytest.mark.slow
def test_the_tutorial_does_what_it_says_when_it_is_typed_in(checkout: Path):
    """All its commands in one shell, in their order; what it prints is looked for in what comes out of those before."""
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", TEXTS["tutorial"], re.MULTILINE | re.DOTALL)
    marks = [f"\necho '=== {at}'\n{words}" for at, (kind, words) in enumerate(blocks) if kind == "sh"]
    env = {name: value for name, value in os.environ.items() if name not in ("SPICA_CONF", "PYTHONPATH")}

    done = subprocess.run(
        ["bash", "-eu"], input="".join(marks), cwd=checkout, env=env, text=True, timeout=240, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout[-3000:]
    said = {int(at): words for at, words in re.findall(r"^=== (\d+)\n(.*?)(?=^=== |\Z)", done.stdout, re.M | re.S)}
    told = [(at, words) for at, (kind, words) in enumerate(blocks) if kind == "text"]
    assert len(told) >= 10
    for at, words in told:
        came = general(said[at - 1])
        for line in words.splitlines():
            assert general(line).replace(" root ", " ") in came.replace(f" {_me()} ", " "), f"{line}\n{said[at - 1]}"


def _me() -> str:
    import getpass

    return getpass.getuser()
