"""What a node tells of itself to those who cannot try it: here, whether its daemon encloses steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from spicad import config, sandbox
from spicad.config import Settings
from spicad.node import has_sandbox, try_sandbox


def settings(tmp_path: Path, kind: str = "bubblewrap") -> Settings:
    (tmp_path / "spool").mkdir(exist_ok=True)
    return config.parse(f'[paths]\nspool = "spool"\n[sandbox]\nkind = "{kind}"\n', tmp_path / "spica.conf")


def test_the_site_knows_from_the_daemon_that_the_sandbox_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "user_namespaces_work", lambda: "")

    assert try_sandbox(settings(tmp_path))
    monkeypatch.setattr(sandbox, "user_namespaces_work", lambda: "namespaces are closed to the site itself")

    assert has_sandbox(settings(tmp_path))


def test_the_site_knows_from_the_daemon_that_the_sandbox_does_not_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sandbox, "user_namespaces_work", lambda: "bwrap: No permissions")

    assert not try_sandbox(settings(tmp_path))

    assert not has_sandbox(settings(tmp_path))
    assert "bwrap: No permissions" in (tmp_path / "spool/no-sandbox").read_text()
    assert "users' own configurations are refused" in caplog.text
    monkeypatch.setattr(sandbox, "user_namespaces_work", lambda: "")
    assert try_sandbox(settings(tmp_path))
    assert has_sandbox(settings(tmp_path))


def test_no_sandbox_is_none_for_anybody(tmp_path: Path) -> None:
    assert not try_sandbox(settings(tmp_path, "none"))
    assert not has_sandbox(settings(tmp_path, "none"))
