"""spica.conf: every option once, with its type, default and help. Reading it gives a frozen Settings.

The sample etc/spica.conf and spica.conf(5) are checked against OPTIONS; the part that uses an option says what it does.
"""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spicad.schema import Document, Key, checked, read_toml, shown
from spicad.waiting import BAND
from spicad.words import BadInput, Problem, SpicaError, nearest

OPTIONS: dict[str, tuple[Key, ...]] = {
    "paths": (
        Key(
            "spool",
            "text",
            "",
            "The spool folder, see spica-spool(7); empty: spool of the checkout, var/spool/spica of an installation",
        ),
        Key(
            "results",
            "text",
            "",
            "The folder that holds each user's results; empty: results of the checkout, var/lib/spica/results of an "
            "installation",
        ),
        Key(
            "results_mode",
            "text",
            "0750",
            "Who may enter a user's results: 0750 the group of [daemon], 0755 everybody, 0700 only the daemon's user",
            choices=("0700", "0750", "0755"),
        ),
        Key(
            "archive",
            "list of texts",
            [],
            "Folders that exposures, weight maps and reference catalogues may come from; when empty, "
            "only what the job's owner owns",
        ),
        Key("reference", "text", "", "Reference catalogue (FITS LDAC) for jobs that name none"),
        Key("applications", "text", "applications", "Folder of application descriptors, see spica-application(5)"),
        Key("instruments", "text", "instruments", "Folder of instruments, see spica-instrument(5)"),
        Key("quality", "text", "quality", "Folder of the grades' thresholds, see qualityfits(1)"),
        Key("rules", "text", "rules", "Folder of rules files, see spica-rules(5)"),
        Key("configurations", "text", "configurations", "Folder of system, group and user configurations"),
        Key("programs", "list of texts", [], "Folders looked in for the tools before PATH"),
    ),
    "database": (
        Key("url", "text", "", "sqlite:///FILE or mysql://USER@HOST/NAME; empty: spica.db in the spool folder"),
        Key("password_file", "text", "", "File that holds the database password, for mysql"),
        Key(
            "readers",
            "text",
            "",
            "How those read the tables who may not read that file, as url; of an account that reads",
        ),
        Key("readers_password_file", "text", "", "File that holds the password of that account"),
    ),
    "daemon": (
        Key("node", "text", "", "Name of this node; empty: the host name"),
        Key(
            "backend",
            "text",
            "local",
            "Where steps run: local is this machine, slurm the cluster that it belongs to",
            choices=("local", "slurm"),
        ),
        Key(
            "slots",
            "integer",
            0,
            "Steps that run at the same time; 0: one per core, with slurm as many as its nodes have",
            minimum=0,
            maximum=4096,
        ),
        Key("load", "number", 0.0, "Load average above which no step starts; 0: no such limit", minimum=0),
        Key(
            "look_s", "number", 5.0, "Seconds between two looks at the spool, events or not", minimum=0.1, maximum=3600
        ),
        Key("watch", "text", "auto", "How the spool is watched", choices=("auto", "events", "looks")),
        Key("attempts", "integer", 3, "Attempts of a step before its process is held", minimum=1, maximum=20),
        Key("log", "text", "", "Log file; empty: standard error"),
        Key("log_level", "text", "info", "Least level logged", choices=("debug", "info", "warning", "error")),
        Key("group", "text", "", "Unix group that may drop job files; empty: leave the group as it is"),
        Key(
            "keep_job_files_days",
            "number",
            30,
            "Days that an ended job file stays in the spool; 0: for good",
            minimum=0,
        ),
        Key("keep_rejected_days", "number", 90, "Days that a refused file stays in the spool; 0: for good", minimum=0),
        Key("incomplete_s", "number", 60, "Seconds after which a drop without [end] is refused", minimum=1),
    ),
    "slurm": (
        Key(
            "options",
            "list of texts",
            [],
            "Options of sbatch for each step, such as --partition=astro and --account=lensing",
        ),
        Key(
            "in_flight",
            "integer",
            2,
            "Slots of steps that wait in Slurm while all its nodes are taken; the others wait here, in Spica's order",
            minimum=0,
            maximum=4096,
        ),
        Key("poll_s", "number", 2.0, "Seconds between two looks at Slurm's queue", minimum=0.1, maximum=600),
    ),
    "landing": (
        Key("folders", "list of texts", [], "Folders that new exposures arrive in; empty: no exposures are awaited"),
        Key(
            "sources",
            "list of texts",
            [],
            "Where new exposures are fetched from into the first of them: HOST:/FOLDER for rsync over ssh, "
            "or the http or https address of a name,md5 list",
        ),
        Key("source_s", "number", 300, "Seconds between two looks at a source", minimum=0.1),
        Key("steady_s", "number", 5, "Seconds that a file stays as it is before it is looked into", minimum=0),
        Key(
            "patience_s",
            "number",
            600,
            "Seconds that a file that is not whole may stay as it is before it is refused",
            minimum=0,
        ),
    ),
    "storage": (
        Key(
            "roots",
            "list of texts",
            [],
            "Where exposures are kept: /FOLDER, NODE=/FOLDER where it is mounted here, NODE=HOST:/FOLDER over ssh; "
            "empty: they stay where they landed",
        ),
        Key("mode", "text", "copy", "What becomes of a file that landed", choices=("copy", "move", "leave")),
        Key("free_mb", "integer", 1000, "MiB that stay free on each root", minimum=0),
        Key("parallel", "integer", 2, "Files that are under way at the same time", minimum=1, maximum=64),
        Key("rate_mb", "number", 0, "Most MiB a second of all that is under way together; 0: no such limit", minimum=0),
        Key(
            "retry_s",
            "number",
            60,
            "First pause after a source or a root was lost; it doubles up to an hour",
            minimum=0.01,
        ),
        Key(
            "timeout_s", "number", 60, "Seconds without a byte after which a source or a root counts as lost", minimum=1
        ),
        Key("ssh", "list of texts", [], "Options of ssh, such as -F and a file"),
        Key("export", "text", "", "Where products are exported to: /FOLDER or HOST:/FOLDER; empty: nowhere"),
    ),
    "newcomers": (
        Key("rules", "text", "", "Rules that run by themselves on each new exposure, such as quality; empty: none"),
        Key("at_once", "integer", 20, "Most of these processes that wait or run together", minimum=1, maximum=1000),
    ),
    "limits": (
        Key("memory_mb", "integer", 0, "Most memory of a step, MiB; 0: what its application asks for", minimum=0),
        Key("time_s", "number", 0, "Most seconds of a step; 0: what its application asks for", minimum=0),
        Key("disk_mb", "integer", 100_000, "Most MiB that a step may write", minimum=1),
        Key("free_disk_mb", "integer", 500, "MiB that stay free on the results disk", minimum=0),
        Key("exposures", "integer", 4000, "Most exposures of one process", minimum=1),
        Key("slots_per_user", "integer", 0, "Most steps of one user at the same time; 0: no such limit", minimum=0),
        Key("slots_per_group", "integer", 0, "Most steps of one group at the same time; 0: no such limit", minimum=0),
        Key(
            "slots_per_application",
            "list of texts",
            [],
            'Most slots of one application at the same time, such as ["scamp=1", "swarp=2"]',
        ),
        Key(
            "hours",
            "text",
            "",
            "Local time in which steps start, such as 20:00-06:00; empty: always. The pipeline is not bound by it",
        ),
    ),
    "priority": (
        Key("age", "number", 400, "Points of a process that has waited for age_days", minimum=0, maximum=999),
        Key("age_days", "number", 30, "Days of waiting after which age counts no more", minimum=0.01),
        Key(
            "fair_share",
            "number",
            300,
            "Points of somebody who, like his group, has used nothing lately; use is forgotten by half each day",
            minimum=0,
            maximum=999,
        ),
        Key(
            "share_hours", "number", 24, "Hours of slots used lately that halve the points of fair_share", minimum=0.01
        ),
        Key("locality", "number", 200, "Points when all input is stored on the node", minimum=0, maximum=999),
        Key("load", "number", 50, "Points of a node that is idle", minimum=0, maximum=999),
        Key("slots_for_users", "integer", 0, "Slots that higher ranks leave free while users wait", minimum=0),
        Key(
            "slots_for_group_administrators",
            "integer",
            0,
            "Slots that other ranks leave free while group administrators wait",
            minimum=0,
        ),
        Key(
            "slots_for_administrators",
            "integer",
            0,
            "Slots that other ranks leave free while administrators wait",
            minimum=0,
        ),
    ),
    "retention": (
        Key("days", "number", 15, "Days that products live after the end of their run; 0: for ever", minimum=0),
        Key("groups", "list of texts", [], 'Other days for processes of some groups, such as ["lensing=30"]'),
        Key("failed_days", "number", 15, "Days that what a failed or cancelled run left lives; 0: for ever", minimum=0),
        Key("warn_days", "list of numbers", [5, 1], "Days before the end at which a mail warns; each at least 1"),
        Key("keep_longer_days", "number", 30, "Days that the owner may have products kept longer", minimum=0),
        Key(
            "most_share",
            "number",
            0.5,
            "Share of all products above which a sweep deletes nothing and asks an administrator",
            minimum=0,
            maximum=1,
        ),
        Key("sweep_s", "number", 3600, "Seconds between two sweeps", minimum=1),
        Key(
            "administrator",
            "text",
            "",
            "Address of who is told when deletion pauses or asks, and warned where an owner has no address; empty: the "
            "accounts of administrators",
        ),
    ),
    "quota": (
        Key("user_gb", "number", 0, "GB that each user may have below the results folder; 0: no limit", minimum=0),
        Key("group_gb", "number", 0, "GB that all of a group may have together; 0: no limit", minimum=0),
        Key("users", "list of texts", [], 'Other figures for some users, such as ["alice=200"]; 0: no limit'),
        Key("groups", "list of texts", [], 'Other figures for some groups, such as ["survey=5000"]; 0: no limit'),
    ),
    "sandbox": (
        Key("kind", "text", "bubblewrap", "What encloses each step", choices=("bubblewrap", "none")),
        Key("user_configurations", "yes or no", True, "Whether users may bring their own configurations"),
    ),
    "ranks": (
        Key("pipeline", "list of texts", [], "Unix users whose jobs are the observatory's own pipeline"),
        Key("administrator", "list of texts", ["root"], "Unix users who administer Spica"),
        Key("group_administrator", "list of texts", [], "Unix users who administer their own Unix group's processes"),
    ),
    "mail": (
        Key("relay", "text", "", "SMTP relay, HOST or HOST:PORT; empty: see sendmail, else the local Maildir"),
        Key("security", "text", "starttls", "How the relay is talked to", choices=("none", "starttls", "tls")),
        Key("user", "text", "", "Login at the relay"),
        Key("password_file", "text", "", "File that holds the password of that login"),
        Key("sendmail", "text", "", "A sendmail program used when there is no relay"),
        Key("maildir", "text", "", "Maildir for reports when there is neither; empty: mail in the spool folder"),
        Key("sender", "text", "", "From address; empty: spica@ the host's name"),
        Key("domain", "text", "", "Domain of users that give no mail address; empty: they get no mail"),
        Key("retry_s", "number", 60, "First pause after a failed delivery; it doubles up to six hours", minimum=0.01),
        Key("timeout_s", "number", 30, "Seconds to wait for the relay", minimum=0.1),
        Key("give_up_days", "number", 5, "Days after which an undeliverable mail is set aside", minimum=0),
    ),
    "web": (
        Key("address", "text", "", "Address of the site, https://HOST/PATH: of all links; empty: no links in mails"),
        Key("listen", "text", "127.0.0.1:8080", "HOST:PORT where spica serve answers"),
        Key("user", "text", "", "Unix user that the site runs as; empty: the user that spicad runs as"),
        Key("proxy", "text", "", "Address of the proxy before spica serve, whose X-Forwarded-For is believed"),
        Key(
            "metrics",
            "list of texts",
            [],
            "Addresses and networks that may read /metrics without an account, such as 10.1.2.0/24; Administrators may",
        ),
        Key("database", "text", "", "The site's own way to the same database, as [database] url; empty: that one"),
        Key("password_file", "text", "", "File that holds the password of the site's own way"),
        Key(
            "linger_s",
            "number",
            300,
            "Seconds that the site stays in memory after a request by CGI, for the next ones; 0: each starts its own",
            minimum=0,
            maximum=86_400,
        ),
    ),
}

APPLICATION_SLOTS = re.compile(r"(?P<application>[a-z0-9_-]+)=(?P<slots>[1-9][0-9]{0,3})")
OWNED_BY_SPICA = re.compile(  # options of sbatch that say which job it is, and what is known of it
    r"--(job-name|output|error|array|requeue|no-requeue|wrap|parsable|chdir|export|hold|wait|nice)\b|-[JoeaDHW]"
)
FIGURE = re.compile(r"(?P<name>[^=\s]+)=(?P<figure>[0-9]{1,9}(\.[0-9]{1,6})?)")
HOURS = re.compile(r"(?P<from>([01]\d|2[0-3]):[0-5]\d)-(?P<to>([01]\d|2[0-3]):[0-5]\d)")

PATH_OPTIONS = ("spool", "results", "applications", "instruments", "quality", "rules", "configurations", "reference")
PASSWORD_FILES = (
    ("database", "password_file"),
    ("database", "readers_password_file"),
    ("mail", "password_file"),
    ("web", "password_file"),
)


class Section:
    """One [section] of the settings; its options are attributes, read-only."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.__dict__.update(values)

    def __getattr__(self, name: str) -> Any:  # tells type checkers that options are attributes
        raise AttributeError(f"spica.conf has no such option: {name}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Section) and self.__dict__ == other.__dict__

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("settings are read-only")


@dataclass(frozen=True)
class Settings:
    """All options with defaults filled in; paths absolute, relative ones taken from the folder of the file."""

    source: Path | None
    paths: Section
    database: Section
    daemon: Section
    slurm: Section
    landing: Section
    storage: Section
    newcomers: Section
    limits: Section
    priority: Section
    retention: Section
    quota: Section
    sandbox: Section
    ranks: Section
    mail: Section
    web: Section


def load(path: Path | str | None = None) -> Settings:
    """The settings of `path`, else of $SPICA_CONF, else of the spica.conf that is nearest to this program.

    Raises BadInput naming each wrong line, SpicaError when the file cannot be read.
    """
    source = Path(path) if path else _usual_place()
    try:
        text = source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpicaError(f"{source}: the configuration cannot be read: {error}") from None
    return parse(text, source)


def parse(text: str, source: Path) -> Settings:
    document = read_toml(text, str(source))
    problems: list[Problem] = []
    for name, value in document.table.items():
        if name not in OPTIONS:
            problems.append(document.problem((name,), *_unknown(name, isinstance(value, dict))))
    values = {name: _section(document, name, problems) for name in OPTIONS}
    if not problems:
        problems += _wrong_together(document, values)
    if problems:
        raise BadInput(problems)
    return _settled(values, source.absolute())


def _wrong_together(document: Document, values: dict[str, dict[str, Any]]) -> list[Problem]:
    """What is right by itself and wrong beside other options, or has a form of its own."""
    found, priority, limits = [], values["priority"], values["limits"]
    points = sum(priority[name] for name in ("age", "fair_share", "locality", "load"))
    if points >= BAND:
        what = f"age, fair_share, locality and load are {points:g} points together."
        mend = f"Keep the sum below {BAND:g}, so that no rank ever overtakes another."
        found.append(document.problem(("priority",), what, mend))
    for text in limits["slots_per_application"]:
        if not APPLICATION_SLOTS.fullmatch(text):
            what = f"{shown(text)} is not APPLICATION=SLOTS."
            found.append(document.problem(("limits", "slots_per_application"), what, 'Write such as "scamp=1".'))
    if limits["hours"] and not HOURS.fullmatch(limits["hours"]):
        what = f"{shown(limits['hours'])} is not a time of day."
        found.append(document.problem(("limits", "hours"), what, "Write such as 20:00-06:00."))
    for text in values["slurm"]["options"]:
        if not text.startswith("-") or OWNED_BY_SPICA.match(text):
            what = f"{shown(text)} is Spica's own affair." if text.startswith("-") else f"{shown(text)} is no option."
            mend = "Write such as --partition=astro, each option with its value as one text."
            found.append(document.problem(("slurm", "options"), what, mend))
    found += _wrong_figures(document, values, "retention", "groups", "lensing=30")
    found += _wrong_figures(document, values, "quota", "users", "alice=200")
    found += _wrong_figures(document, values, "quota", "groups", "survey=5000")
    for text in values["web"]["metrics"]:
        if not _is_network(text):
            what = f"{shown(text)} is no address or network."
            found.append(document.problem(("web", "metrics"), what, "Write such as 192.0.2.7 or 10.1.2.0/24."))
    warn_days = values["retention"]["warn_days"]
    if not warn_days or min(warn_days) < 1:
        what = f"warn_days is {shown(warn_days)}: nobody would be warned a day before."
        found.append(document.problem(("retention", "warn_days"), what, "Write such as [5, 1]."))
    return found


def _is_network(text: str) -> bool:
    import ipaddress

    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def _wrong_figures(
    document: Document, values: dict[str, dict[str, Any]], section: str, name: str, example: str
) -> list[Problem]:
    bad = [text for text in values[section][name] if not FIGURE.fullmatch(text)]
    mend = f'Write such as "{example}".'
    return [document.problem((section, name), f"{shown(text)} is not NAME=NUMBER.", mend) for text in bad]


def figures_of(texts: Iterable[str]) -> dict[str, float]:
    """Of such as ["lensing=30"]."""
    found = [FIGURE.fullmatch(text) for text in texts]
    return {each["name"]: float(each["figure"]) for each in found if each}


def _unknown(name: str, is_section: bool) -> tuple[str, str]:
    """What is wrong, and the mend."""
    if is_section:
        return f"unknown section [{shown(name)[1:-1]}].", nearest(name, OPTIONS) or f"Known: {', '.join(OPTIONS)}."
    homes = [section for section, keys in OPTIONS.items() if name in (key.name for key in keys)]
    mend = f"It belongs below [{'] or ['.join(homes)}]." if homes else f"The sections are {', '.join(OPTIONS)}."
    return f"{shown(name)} stands outside of any section.", mend


def _section(document: Document, name: str, problems: list[Problem]) -> dict[str, Any]:
    if not isinstance(document.table.setdefault(name, {}), dict):
        problems.append(document.problem((name,), f"{name} must be a section.", f"Write [{name}]."))
        return {}
    return checked(document, OPTIONS[name], (name,), problems)


def _settled(values: dict[str, dict[str, Any]], source: Path) -> Settings:
    folder = source.parent
    paths = values["paths"]
    for name, usual in _usual_folders(folder).items():
        paths[name] = paths[name] or usual
    for name in PATH_OPTIONS:
        paths[name] = Path(os.path.normpath(folder / paths[name])) if paths[name] else None
    paths["archive"] = tuple(Path(os.path.normpath(folder / each)) for each in paths["archive"])
    paths["programs"] = tuple(Path(os.path.normpath(folder / each)) for each in paths["programs"])
    values["landing"]["folders"] = tuple(Path(os.path.normpath(folder / each)) for each in values["landing"]["folders"])
    values["daemon"]["node"] = values["daemon"]["node"] or socket.gethostname().split(".")[0]
    if values["daemon"]["backend"] != "slurm":
        values["daemon"]["slots"] = values["daemon"]["slots"] or len(os.sched_getaffinity(0))
    values["database"]["url"] = values["database"]["url"] or f"sqlite:///{paths['spool'] / 'spica.db'}"
    for section, name in PASSWORD_FILES:
        if values[section][name]:
            values[section][name] = os.path.normpath(folder / values[section][name])
    mail = values["mail"]
    mail["maildir"] = Path(os.path.normpath(folder / mail["maildir"])) if mail["maildir"] else paths["spool"] / "mail"
    mail["sender"] = mail["sender"] or f"spica@{socket.getfqdn()}"
    return Settings(source=source, **{name: Section(section) for name, section in values.items()})


def _usual_folders(folder: Path) -> dict[str, str]:
    """A checkout works in itself, an installation in var/ beside the etc/ that holds its spica.conf."""
    if folder.parts[-2:] == ("etc", "spica"):
        return {"spool": "../../var/spool/spica", "results": "../../var/lib/spica/results"}
    return {"spool": "../spool", "results": "../results"}


def shipped_folder() -> Path:
    """The etc/ that came with this program."""
    return _existing_place().parent


def _usual_place() -> Path:
    return Path(os.environ["SPICA_CONF"]) if os.environ.get("SPICA_CONF") else _existing_place()


def _existing_place() -> Path:
    here = Path(__file__).resolve().parents  # spicad; then, installed: site-packages, python3.N, lib, the prefix
    prefixes = [Path(sys.prefix), *here[4:5], Path("/")]
    candidates = list(
        dict.fromkeys([here[1] / "etc/spica.conf", *(prefix / "etc/spica/spica.conf" for prefix in prefixes)])
    )
    for candidate in candidates:
        if candidate.exists():
            return candidate
    raise SpicaError(
        "No spica.conf found. Looked for: "
        + ", ".join(map(str, candidates))
        + ". Name one with --config FILE or in the environment variable SPICA_CONF."
    )
