"""The guides of help/*.md as HTML: the few forms of Markdown that they use, escaped, and nothing else.

    # Title            ## Section          ```sh ... ```        - item, 1. item (further lines begin with blanks)
    ![words](a.png)    [words](/path)      `code`               **strong**

A link that begins with / is one of the site, one to NAME.md is to another guide. The pages are pages/help.py's.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from pathlib import Path

FOLDER = Path(__file__).parent / "help"
GUIDES = {"user": "For users", "tutorial": "Tutorial", "administrator": "For administrators"}

Link = Callable[[str], str]  # of a path within the site

INLINE = re.compile(
    r"`(?P<code>[^`]+)`|\*\*(?P<strong>[^*]+)\*\*|(?P<picture>!?)\[(?P<words>[^\]]+)\]\((?P<to>[^)\s]+)\)"
)


def title_of(text: str) -> str:
    return text.partition("\n")[0].removeprefix("# ")


def sections_of(text: str) -> list[tuple[str, str]]:
    """Anchor and words of each."""
    found = re.findall(r"^## (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return [(anchor(words), words) for words in found]


def anchor(words: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")


def drawn(text: str, link: Link) -> str:
    """The text below the title as HTML."""
    return "\n".join(_block(kind, lines, link) for kind, lines in _blocks(text.partition("\n")[2]))


def _blocks(text: str) -> Iterator[tuple[str, list[str]]]:
    """Kind (code, told: what commands print, section, items, numbers, words) and lines of each."""
    lines = text.split("\n")
    at = 0
    while at < len(lines):
        if not lines[at].strip():
            at += 1
            continue
        first, is_code = at, lines[at].startswith("```")
        at += 1
        while at < len(lines) and (not lines[at].startswith("```") if is_code else lines[at].strip()):
            at += 1
        if is_code:
            yield "told" if lines[first] == "```text" else "code", lines[first + 1 : at]
            at += 1
        else:
            yield _kind(lines[first]), lines[first:at]


def _kind(line: str) -> str:
    if line.startswith("## "):
        return "section"
    return "items" if line.startswith("- ") else "numbers" if re.match(r"\d+\. ", line) else "words"


def _block(kind: str, lines: list[str], link: Link) -> str:
    if kind in ("code", "told"):
        look = ' class="told"' if kind == "told" else ""
        return f'<pre{look} tabindex="0">{html.escape(chr(10).join(lines))}</pre>'
    text = "\n".join(lines)
    if kind == "section":
        words = text.removeprefix("## ")
        return f'<h2 id="{anchor(words)}">{_inline(words, link)}</h2>'
    if kind in ("items", "numbers"):
        items = re.split(r"^(?:- |\d+\. )", text, flags=re.MULTILINE)[1:]
        name = "ul" if kind == "items" else "ol"
        return f"<{name}>{''.join(f'<li>{_inline(item.strip(), link)}</li>' for item in items)}</{name}>"
    return f"<p>{_inline(text, link)}</p>"


def _inline(text: str, link: Link) -> str:
    made, last = "", 0
    for found in INLINE.finditer(text):
        made += html.escape(text[last : found.start()]) + _made(found, link)
        last = found.end()
    return made + html.escape(text[last:])


def _made(found: re.Match[str], link: Link) -> str:
    if found["code"]:
        return f"<code>{html.escape(found['code'])}</code>"
    if found["strong"]:
        return f"<strong>{html.escape(found['strong'])}</strong>"
    words, to = html.escape(found["words"]), found["to"]
    if found["picture"]:
        return f'<img class="shot" src="{html.escape(link("/help/picture/" + to))}" alt="{words}" loading="lazy">'
    if to.endswith(".md"):
        to = "/help/" + to.removesuffix(".md")
    return f'<a href="{html.escape(link(to) if to.startswith("/") else to)}">{words}</a>'
