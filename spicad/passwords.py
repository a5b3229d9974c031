"""Passwords: which ones are good enough, and how they are kept (scrypt, each with its own salt and its own cost).

Whose they are is the affair of accounts.py.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import unicodedata
from functools import cache
from pathlib import Path

SHORTEST, LONGEST = 12, 200
# OWASP Password Storage Cheat Sheet, 2024: N = 2^15 (32 MiB), r = 8, p = 3 or its like. 0.27 s a check on this kind of
# machine, so that a thief of the table makes no more than a few guesses a second on each core.
COST, BLOCK, PARALLEL = 15, 8, 3
COMMON = Path(__file__).with_name("common-passwords.txt")
LEET = str.maketrans("013457@$!", "oieastasi")


def problem(password: str, *own_words: str) -> str:
    """What is wrong with a new password, as a sentence; '' when it is good enough. `own_words`: names of its owner."""
    password = _normal(password)
    if len(password) < SHORTEST:
        return f"A password has at least {SHORTEST} characters; several words are easy to remember."
    if len(password) > LONGEST:
        return f"A password has at most {LONGEST} characters."
    if len(set(password)) < 5 or _bare(password) in _common() or password.lower() in _common():
        return "This password is among those that are tried first. Take several words that do not belong together."
    if _is_a_name(password, *own_words, "spica"):
        return "This password is little more than your own name or Spica's. Take several other words."
    return ""


def kept(password: str, cost: int = COST, parallel: int = PARALLEL) -> str:
    """What is stored of a password."""
    salt = os.urandom(16)
    return f"scrypt${cost}${BLOCK}${parallel}${salt.hex()}${_scrypt(password, salt, cost, BLOCK, parallel).hex()}"


def is_right(password: str, stored: str) -> bool:
    """Takes as long when nothing is stored, so that the time does not tell who has an account."""
    try:
        _, cost, block, parallel, salt, wanted = stored.split("$")
        found = _scrypt(password, bytes.fromhex(salt), int(cost), int(block), int(parallel))
        return hmac.compare_digest(found.hex(), wanted)
    except ValueError:
        _scrypt(password, bytes(16), COST, BLOCK, PARALLEL)
        return False


def _scrypt(password: str, salt: bytes, cost: int, block: int, parallel: int) -> bytes:
    words = _normal(password).encode(errors="surrogateescape")
    return hashlib.scrypt(words, salt=salt, n=1 << cost, r=block, p=parallel, maxmem=256 << 20, dklen=32)


def _normal(password: str) -> str:
    """The same password typed on another keyboard."""
    return unicodedata.normalize("NFKC", password)


def _is_a_name(password: str, *words: str) -> bool:
    """Whether names and figures are nearly all there is."""
    left = password.lower()
    for word in sorted((word.lower() for word in words if len(word) > 2), key=len, reverse=True):
        left = left.replace(word, "")
    return left != password.lower() and sum(letter.isalpha() for letter in left) < SHORTEST // 2


def _bare(password: str) -> str:
    """Without what people add to a common one: capitals, digits for letters, figures and signs around it."""
    return re.sub(r"^[^a-z]+|[^a-z]+$", "", re.sub(r"[\d\W_]+$", "", password.lower()).translate(LEET))


@cache
def _common() -> frozenset[str]:
    lines = COMMON.read_text(encoding="utf-8").splitlines()
    return frozenset(line for line in lines if line and not line.startswith("#"))
