"""What the site drops in the name of an account is believed, and nothing else that says so; a form-made job runs to its
end under a real daemon.

Drops of Unix users are told in test_intake.py.
"""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import bottle
import pytest
from conftest import RunningSpica, wait_until
from site_world import Site, account, add_account, settings_of

from spicad import accounts, config, handover, tables
from spicad.commands.dropping import drop
from spicad.people import Person
from spicad.spool import Drop, Refused
from spicad.tables import Process
from spicad.words import Rank
from spicaweb import handing, sessions
from spicaweb.visit import Visit

JOB = 'name = "deep"\nexposures = ["/archive/1p.fits"]\nrules = "stack"\n\n[end]\n'
SITE_UID = os.geteuid()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(settings_of(tmp_path))


@dataclass
class Handed:
    """A job that the site has handed over, as the daemon reads it."""

    site: Site
    token: str
    drop: Drop

    def sender(self, drop: Drop | None = None, is_job: bool = True) -> Person:
        return handover.sender(drop or self.drop, self.token, self.site.settings, is_job)

    def refusal(self, drop: Drop | None = None) -> str:
        with pytest.raises(Refused) as refused:
            self.sender(drop)
        return str(refused.value)


def handed(site: Site, name: str = "alice", group: str = "lensing", text: str = JOB) -> Handed:
    token, words = handover.announced(text, account(name).id, group, time.time())
    read = Drop("form-1.spica", words, SITE_UID, 0, "the drop's own token", (1, 2, 3, 4, 5))
    return Handed(site, token, read)


# ---------------------------------------------------------------------- who is believed


def test_a_drop_of_the_site_is_its_accounts(site: Site) -> None:
    assert handed(site).sender() == Person(
        uid=-1,
        user="alice@web",
        group="lensing",
        rank=Rank.USER,
        account=account("alice").id,
        groups=frozenset({"lensing"}),
    )


@pytest.mark.parametrize(
    ("name", "group", "rank"),
    [
        ("alice", "lensing", Rank.USER),
        ("gina", "lensing", Rank.GROUP_ADMINISTRATOR),
        ("dan", "staff", Rank.ADMINISTRATOR),
        ("dan", "lensing", Rank.ADMINISTRATOR),
    ],
)
def test_the_rank_is_that_of_the_account_when_the_drop_is_taken(site: Site, name: str, group: str, rank: Rank) -> None:
    assert handed(site, name, group).sender().rank is rank


def test_an_administrator_of_one_group_is_a_user_in_another(site: Site) -> None:
    accounts.join(account("gina"), "solar", time.time())

    assert handed(site, "gina", "solar").sender().rank is Rank.USER


def test_no_account_has_the_rank_of_the_pipeline(site: Site) -> None:
    tables.Account.update(rank=int(Rank.PIPELINE)).where(tables.Account.name == "alice").execute()

    assert handed(site).sender().rank is Rank.ADMINISTRATOR


def test_an_account_tied_to_a_unix_user_is_that_user(site: Site) -> None:
    add_account("ursula", "lensing")
    tables.Account.update(owner="daemon").where(tables.Account.name == "ursula").execute()

    person = handed(site, "ursula").sender()

    assert (person.user, person.uid, person.rank) == ("daemon", 1, Rank.USER)


def test_the_same_words_from_another_unix_user_are_refused(site: Site) -> None:
    found = handed(site)

    assert "[web] is written by the site alone" in found.refusal(replace(found.drop, uid=SITE_UID + 1))


def test_words_that_the_site_did_not_write_are_refused(site: Site) -> None:
    found = handed(site)

    changed = found.drop.text.replace("/archive/1p.fits", "/archive/secret.fits")

    assert "has not handed this over" in found.refusal(replace(found.drop, text=changed))
    assert "has not handed this over" in replace(found, token="0" * 32).refusal()
    assert "has not handed this over" in replace(found, token="").refusal()


def test_a_second_drop_with_the_same_token_is_refused_and_the_same_one_is_not(site: Site) -> None:
    found = handed(site)

    assert found.sender() == found.sender()  # again after a crash
    assert "was handed over before" in found.refusal(replace(found.drop, token="of a copy"))


@pytest.mark.parametrize("state", ["suspended", "declined", "asked"])
def test_an_account_that_is_not_active_submits_nothing(site: Site, state: str) -> None:
    found = handed(site)
    tables.Account.update(state=state).where(tables.Account.name == "alice").execute()

    assert f"the account alice is {state}" in found.refusal()


def test_who_was_removed_from_the_group_meanwhile_submits_nothing_for_it(site: Site) -> None:
    found = handed(site)
    accounts.leave(account("alice"), "lensing")

    assert "alice is not in the group 'lensing'" in found.refusal()
    assert found.sender(is_job=False).user == "alice@web"  # an order about a process that is hers


def test_while_the_database_is_away_the_drop_waits(site: Site) -> None:
    found = handed(site)
    tables.private.execute_sql("DROP TABLE handover")

    with pytest.raises(OSError, match="the database is away"):
        found.sender()


# ---------------------------------------------------------------------- with a daemon


@dataclass
class RunningSite:
    spica: RunningSpica
    site: Site

    def visit(self, name: str) -> Visit:
        """As a page sees it."""
        self.site.open()
        secret = sessions.begin(account(name), "192.0.2.1", "", time.time())
        bottle.request.bind({"PATH_INFO": "/", "REQUEST_METHOD": "GET"})
        return Visit(self.site.settings, time.time(), secret)

    def fate(self, visit: Visit, token: str) -> handing.Fate:
        found = [handing.Fate()]

        def is_decided() -> bool:
            found[0] = handing.fate_of(visit, token)
            return found[0].is_taken or bool(found[0].why)

        wait_until(is_decided, "the daemon to answer")
        return found[0]

    def hand_over(self, who: str, *applications: str, **values: str) -> handing.Fate:
        visit = self.visit(who)
        text = self.spica.job(*applications, **values).read_text()  # type: ignore[arg-type]
        return self.fate(visit, handing.hand_over(visit, text))

    def order(self, name: str, verb: str, process: int) -> handing.Fate:
        visit = self.visit(name)
        return self.fate(visit, handing.order(visit, verb, process))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    spica = RunningSpica(tmp_path_factory.mktemp("site"), conf='\n[web]\naddress = "https://spica.example.org"\n')
    spica.start()
    yield RunningSite(spica, Site(config.load(spica.conf)))
    spica.end()


def test_a_form_made_job_runs_to_its_end_and_is_the_accounts(running: RunningSite) -> None:
    fate = running.hand_over("alice", "copy", name="deep", more='mail = "alice@example.org"')

    assert fate.is_taken
    assert running.spica.wait_for(fate.process) == "COMPLETED"
    running.site.open()
    row = Process.get_by_id(fate.process)
    assert (row.owner, row.group, row.rank) == ("alice@web", "lensing", int(Rank.USER))
    products = running.spica.results / f"alice@web/{fate.process:06d}-deep/run-1/products"
    assert len(list(products.glob("*.fits"))) == len(running.spica.exposures)


def test_a_job_that_is_wrong_is_refused_with_the_reason(running: RunningSite) -> None:
    fate = running.hand_over("alice", "no-such-application")

    assert not fate.is_taken
    assert "no-such-application" in fate.why
    assert "form-" not in fate.why


def test_the_fate_of_what_others_handed_over_is_not_told(running: RunningSite) -> None:
    alice, bob = running.visit("alice"), running.visit("bob")
    token = handing.hand_over(alice, running.spica.job("noop", name="mine").read_text())

    assert running.fate(alice, token).process
    assert handing.fate_of(bob, token) == handing.Fate()


def test_orders_are_obeyed_from_the_owner_and_the_groups_administrator_and_from_nobody_else(
    running: RunningSite,
) -> None:
    process = running.hand_over("alice", "idle", name="long").process
    running.spica.wait_for(process, "EXECUTING")

    for stranger in ("bob", "carol"):
        assert f"there is no process {process}" in running.order(stranger, "cancel", process).why
    assert running.order("gina", "hold", process).is_taken
    assert running.spica.wait_for(process, "HELD", "EXECUTING")
    assert running.order("alice", "cancel", process).is_taken
    assert running.spica.wait_for(process) == "ABORTED"
    assert f"there is no process {process}" in running.order("gina", "rerun", process).why


def test_a_hand_written_drop_that_says_it_is_the_sites_is_refused(running: RunningSite) -> None:
    text = running.spica.job("noop", name="forged").read_text()
    forged = text.replace("[end]", '[web]\ntoken = "0123456789abcdef0123456789abcdef"\n\n[end]')

    name = drop(running.site.settings, "forged", forged)

    why = running.spica.spool / "rejected" / f"{name}.why"
    wait_until(why.exists, "the drop to be refused")
    assert "the site has not handed this over" in why.read_text()


@pytest.mark.slow
def test_the_sites_user_submits_for_accounts_alone(tmp_path: Path) -> None:
    who_the_test_runs_as = pwd.getpwuid(os.geteuid()).pw_name
    spica = RunningSpica(tmp_path, conf=f'\n[web]\nuser = "{who_the_test_runs_as}"\n')
    spica.start()
    try:
        refused = spica.spica("submit", spica.job("noop"), status=1)
    finally:
        spica.end()

    assert "drops in the name of accounts alone" in refused.stderr


def test_mails_of_the_site_go_out_through_the_daemon(running: RunningSite) -> None:
    browser = running.site.visitor()
    browser.get("/forgot")
    browser.post("/forgot", mail="alice@example.org")

    def mails() -> list[str]:
        return [path.read_text() for path in (running.spica.spool / "mail/new").glob("*")]

    wait_until(lambda: any("Subject: A new password" in mail for mail in mails()), "the mail")
    (mail,) = [mail for mail in mails() if "Subject: A new password" in mail]
    assert "To: alice@example.org" in mail
    assert "https://spica.example.org/reset/" in mail
    running.site.open()
    assert running.site.letters() == []
