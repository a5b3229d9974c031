"""What `spica doctor` looks at, and what it says: each check is a function of the settings that yields findings.

They run with the rights of the one whose part they are: the daemon's user, the site's user, or whoever typed it.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peewee

from spicad import __version__, outbox, sandbox, tables
from spicad.backends.slurm_commands import Errand, partitions, path_of, round_trip
from spicad.commands import units
from spicad.config import Settings
from spicad.node import is_on_network
from spicad.words import IN_SPOOL, Ending, SpicaError

OK, NOTE, WRONG = "ok", "note", "wrong"
PLOT_DRIVERS = ("/usr/lib*/plplot*/drivers*", "/usr/lib/*/plplot*/drivers*", "/usr/local/lib*/plplot*/drivers*")
BESIDE = ("*.rpmnew", "*.rpmsave", "*.rpmorig", "*.dpkg-dist", "*.dpkg-new")
DEAD_MAIL_DAYS = 1.0
MAIL_TEXT = "Spica can send mail. This one was asked for with spica setup or spica doctor --mail.\n"


@dataclass(frozen=True)
class Finding:
    check: str
    state: str  # ok, note, wrong
    words: str
    mend: str = ""


Findings = Iterator[tuple[str, str, str]]  # state, words, mend


# ---------------------------------------------------------------------- the machine, for whoever asks


def users(settings: Settings) -> Findings:
    """The Unix users and groups that spica.conf names."""
    group = settings.daemon.group
    members: list[str] = []
    if group:
        try:
            members = grp.getgrnam(group).gr_mem
            yield OK, f"group {group}: {', '.join(members) or 'nobody is listed'} may drop job files", ""
        except KeyError:
            yield WRONG, f"there is no Unix group {group} ([daemon] group)", f"groupadd --system {group}"
    else:
        yield NOTE, "[daemon] group is empty: only the daemon's own group may drop job files", "spica setup"
    site = settings.web.user
    if site:
        if not _is_user(site):
            yield WRONG, f"there is no Unix user {site} ([web] user)", f"useradd --system {site}"
        elif group and site not in members and not _has_as_first_group(site, group):
            yield (
                WRONG,
                f"the site's user {site} is not in the group {group} and can hand nothing over",
                (f"usermod -aG {group} {site}, then restart the web server"),
            )
    for section, names in vars(settings.ranks).items():
        for name in names:
            if not _is_user(name):
                yield NOTE, f"[ranks] {section} names {name}, who is no Unix user here", "mend spica.conf"


def _is_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _has_as_first_group(user: str, group: str) -> bool:
    try:
        return pwd.getpwnam(user).pw_gid == grp.getgrnam(group).gr_gid
    except KeyError:
        return False


def daemon(settings: Settings) -> Findings:
    """Whether it runs, has looked at its spool lately, and is the program that is installed."""
    from spicad.daemon import running_pid
    from spicad.heartbeat import life
    from spicad.node import drained

    try:
        pid = running_pid(settings)
    except PermissionError as error:
        yield NOTE, f"whether spicad runs cannot be seen: {error}", "run this as root"
        return
    if not pid:
        yield WRONG, f"spicad does not run on {settings.paths.spool}", "systemctl start spicad, or: spicad start"
        return
    now = time.time()
    living = life(settings, now)
    if living.is_late and living.seen:
        words = f"spicad (pid {pid}) has not looked at its spool for {now - living.seen:.0f} s"
        yield WRONG, words, "look into its log"
    elif _is_older_than_the_program(pid):
        yield (
            WRONG,
            f"spicad (pid {pid}) was started before its program was installed anew",
            ("systemctl restart spicad, or: spicad stop, spicad start; steps that run go on"),
        )
    else:
        yield OK, f"spicad {__version__} runs, pid {pid}", ""
    if words := drained(settings):
        yield NOTE, f"no further step starts here: {words}", "spica drain --off"


def _is_older_than_the_program(pid: int) -> bool:
    """By the moment at which the files came to their place."""
    package = Path(__file__).resolve().parents[1]
    return max(each.stat().st_ctime for each in package.glob("*.py")) > began(pid) + 1


def began(pid: int) -> float:
    """When a process was started: proc(5), stat, counts from the boot in ticks."""
    try:
        ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
        boot = re.search(r"^btime (\d+)$", Path("/proc/stat").read_text(), re.MULTILINE)
    except OSError:
        return float("inf")
    return int(boot[1]) + ticks / os.sysconf("SC_CLK_TCK") if boot else float("inf")


def services(settings: Settings) -> Findings:
    """Whether the packaged units know the folders of spica.conf."""
    if not units.are_installed(settings):
        return
    spool = settings.paths.spool
    user = spool.owner() if spool.exists() else units.USER
    outdated = [
        path
        for path, text in units.drop_ins(settings, user, settings.web.user).items()
        if text != (path.read_text(encoding="utf-8") if path.exists() else "")
    ]
    for path in outdated:
        unit = path.parent.name.removesuffix(".d")
        if (units.PACKAGED / unit).exists():
            yield WRONG, f"{unit} does not know of the folders or users in spica.conf ({path})", "spica setup"
    if not outdated:
        yield OK, f"{units.DAEMON} may write where spica.conf says", ""


def left_over(settings: Settings) -> Findings:
    """Configuration that an upgrade brought and put beside the edited one."""
    folder = settings.source.parent if settings.source else Path("/etc/spica")
    found = sorted(str(path) for pattern in BESIDE for path in folder.rglob(pattern))
    for path in found:
        yield NOTE, f"{path} lies beside a file that was edited here", "take over what is new in it, then remove it"
    if not found:
        yield OK, f"{settings.source}", ""


# ---------------------------------------------------------------------- the daemon's part


def spool(settings: Settings) -> Findings:
    """Every folder of the spool with its mode, on one disk, and each job file in one folder only."""
    from spicad.spool import FOLDERS, SETGID_MODES

    root = settings.paths.spool
    lacking = [name for name in FOLDERS if not (root / name).is_dir()]
    if lacking:
        yield WRONG, f"{root} lacks {', '.join(lacking)}", "start spicad: it makes what is missing"
        return
    is_well = True
    devices = set()
    for name in FOLDERS:
        path = root / name
        status = path.stat()
        devices.add(status.st_dev)
        mode = stat.S_IMODE(status.st_mode)
        if name in SETGID_MODES and mode != SETGID_MODES[name]:
            yield WRONG, f"{path} has the mode {mode:04o}", f"chmod {SETGID_MODES[name]:o} {path}"
            is_well = False
        elif name not in SETGID_MODES and mode & 0o022:
            yield WRONG, f"{path} may be written by others than the daemon (mode {mode:04o})", f"chmod g-w,o-w {path}"
            is_well = False
        if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            yield WRONG, f"{path} is closed to the daemon", f"chown {_me()} {path}"
            is_well = False
    if len(devices) > 1:
        yield WRONG, f"{root} lies on more than one disk: a job file cannot be renamed across", "put it on one"
        is_well = False
    if group_problem := _group_problem(settings):
        yield WRONG, *group_problem
        is_well = False
    twice = _ids_in_two_folders(root)
    if twice:
        yield WRONG, f"process {twice[0]} lies in two folders of {root}", "restart spicad: it mends that at its start"
    elif is_well:
        yield OK, f"{root}: {len(FOLDERS)} folders, modes as they should be", ""


def _group_problem(settings: Settings) -> tuple[str, str] | None:
    group, incoming = settings.daemon.group, settings.paths.spool / "incoming"
    try:
        wanted = grp.getgrnam(group).gr_gid if group else None
        if wanted is not None and incoming.stat().st_gid != wanted:
            return f"{incoming} does not belong to the group {group}", f"chgrp {group} {incoming}"
    except (KeyError, OSError):
        return None  # told elsewhere
    return None


def _ids_in_two_folders(root: Path) -> list[int]:
    seen: dict[str, int] = {}
    for phase in IN_SPOOL:
        for path in (root / phase.folder).glob("[0-9]*.spica"):
            seen[path.stem] = seen.get(path.stem, 0) + 1
    return sorted(int(name) for name, count in seen.items() if count > 1)


def results(settings: Settings) -> Findings:
    """That results can be written, and on how much room."""
    folder = settings.paths.results
    if not folder.is_dir():
        yield WRONG, f"{folder} is not there", f"mkdir -p {folder}, of the daemon's user"
        return
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        yield WRONG, f"{folder} cannot be written by the daemon", f"chown {_me()} {folder}"
        return
    from spicad.report import size

    usage = shutil.disk_usage(folder)
    least = settings.limits.free_disk_mb
    words = f"{folder}: {size(usage.free)} of {size(usage.total)} free"
    if usage.free >> 20 < least:
        yield (
            WRONG,
            f"{words}, below the {least} MiB that must stay free: nothing starts",
            ("make room, or lower [limits] free_disk_mb"),
        )
    else:
        yield (NOTE if usage.free < usage.total // 20 else OK), words, ""


def cluster(settings: Settings) -> Findings:
    """Where steps run on one: whether Slurm answers, which nodes it has, whether they may see the results."""
    if settings.daemon.backend != "slurm":
        return
    found = round_trip(Errand(path_of(settings), asks=True, partitions=partitions(settings.slurm.options)))
    if found.away:
        yield WRONG, f"Slurm does not answer: {found.away}", "see spica-slurm(7)"
        return
    nodes = found.nodes or []
    usable = [node for node in nodes if not node.why_not]
    for node in nodes:
        if node.why_not:
            yield NOTE, node.why_not, f"scontrol show node {node.name}"
    if not usable:
        yield WRONG, "Slurm has no node that can be used", "sinfo"
        return
    yield OK, f"Slurm: {len(usable)} nodes with {sum(node.slots for node in usable)} CPUs can be used", ""
    if not is_on_network(settings.paths.results):
        words = f"{settings.paths.results} lies on a disk of this machine: every node must see it at the same path"
        yield NOTE, words, "share it, such as by NFS"


def archive(settings: Settings) -> Findings:
    """That exposures can be read, landing folders and storage be written."""
    for folder in settings.paths.archive:
        yield from _open_for(folder, "[paths] archive", os.R_OK | os.X_OK, "read")
    if not settings.paths.archive:
        yield NOTE, "[paths] archive is empty: jobs may name files of their owner only", "name the archive's folders"
    for folder in settings.landing.folders:
        yield from _open_for(folder, "[landing] folders", os.R_OK | os.W_OK | os.X_OK, "written")
    for text in settings.storage.roots:
        name = text.rpartition("=")[2]
        if name.startswith("/"):
            yield from _open_for(Path(name), "[storage] roots", os.R_OK | os.W_OK | os.X_OK, "written")
    reference = settings.paths.reference
    if reference and not os.access(reference, os.R_OK):
        yield WRONG, f"the reference catalogue {reference} cannot be read ([paths] reference)", "put it there"


def _open_for(folder: Path, option: str, mode: int, words: str) -> Findings:
    if not folder.is_dir():
        yield WRONG, f"{folder} is not there ({option})", "mount or make it, or mend spica.conf"
    elif not os.access(folder, mode):
        yield WRONG, f"{folder} cannot be {words} by {_me()} ({option})", f"give {_me()} the right, by group or ACL"
    else:
        yield OK, f"{folder} can be {words}", ""


def database(settings: Settings) -> Findings:
    """That it opens, has this Spica's schema, is whole, and gives no more rights than it should."""
    url = settings.database.url
    opened = tables.connect(url, settings.database.password_file, read_only=True)
    try:
        version = tables.schema_version()
        words = f"{tables.shown_url(url)}: schema {version}"
        if version < tables.NEWEST:
            yield WRONG, f"{words}, this Spica needs {tables.NEWEST}", "spicad stop; spica database upgrade"
            return
        if version > tables.NEWEST:
            yield WRONG, f"{words} is newer than this Spica's {tables.NEWEST}", "install the newer Spica"
            return
        yield OK, words, ""
        if isinstance(opened, peewee.MySQLDatabase):
            yield from _too_much(opened, "the daemon's account")
            yield from _open_to_the_group(settings)
            yield from _readers(settings)
        else:
            yield from _sqlite_files(opened, tables.sqlite_file(url))
    finally:
        opened.close()


def _sqlite_files(opened: peewee.Database, path: Path) -> Findings:
    said = opened.execute_sql("PRAGMA quick_check(1)").fetchone()[0]
    if said != "ok":
        yield WRONG, f"{path} is damaged: {said}", "stop spicad and restore the last copy, see spica-backup(7)"
    for each in (path, tables.accounts_file(path)):
        if each.exists() and each.stat().st_uid != os.geteuid():
            yield WRONG, f"{each} belongs to {each.owner()}, not to the daemon", f"chown {_me()} {each}*"
    private = tables.accounts_file(path)
    if private.exists() and private.stat().st_mode & 0o077:
        yield WRONG, f"{private} may be read by others", f"chmod 600 {private}"


def _open_to_the_group(settings: Settings) -> Findings:
    """Who drops jobs must not act as the daemon or the site."""
    try:
        group = grp.getgrnam(settings.daemon.group).gr_gid
    except KeyError:
        return  # told elsewhere
    for name in filter(None, (settings.database.password_file, settings.web.password_file)):
        status = os.stat(name)
        if status.st_gid == group and status.st_mode & 0o070:
            yield WRONG, f"{name} may be read by everybody in the group {settings.daemon.group}", "spica setup"


def _readers(settings: Settings) -> Findings:
    """That members of the group, who connect with an account of their own, may read all that is not private."""
    options = settings.database
    if not options.readers:
        return
    opened = tables.connect(options.readers, options.readers_password_file, read_only=True)
    try:
        lacking = _not_granted(_grants(opened), dict.fromkeys(tables.Table.__subclasses__(), "SELECT"))
        if lacking:  # as after an upgrade that made new tables
            yield WRONG, f"the account of readers may not read {', '.join(lacking)}", "spica setup --yes --no-mail"
        yield from _too_much(opened, "the account of readers")
    finally:
        opened.close()


def _too_much(opened: peewee.Database, whose: str) -> Findings:
    for grant in _grants(opened):
        if re.match(r"GRANT USAGE ON \*\.\*", grant):
            continue
        if " ON *.* " in grant or "WITH GRANT OPTION" in grant:
            yield NOTE, f"{whose} of the database may more than it needs: {grant.partition(' TO ')[0]}", "spica setup"


def tools(settings: Settings) -> Findings:
    """Each application's program with its version, and the plot devices that it is told to use."""
    from spicad.applications.descriptor import load_applications
    from spicad.applications.tools import find_tool
    from spicad.rules import load_rules

    applications = load_applications(settings.paths.applications)
    rules = [load_rules(path) for path in sorted(settings.paths.rules.glob("*.toml"))]
    wanted = {task.application for each in rules for task in each.tasks}
    devices = plot_devices()
    for name, application in applications.items():
        try:
            tool = find_tool(application, settings.paths.programs)
        except SpicaError as error:
            yield (WRONG if name in wanted else NOTE), str(error), ""
            continue
        yield OK, f"{application.title} {tool.version}: {tool.path}", ""
        owned = application.owned.get("CHECKPLOT_DEV")
        lacking = [each for each in (owned.choices if owned else ()) if each.lower() not in {*devices, "null"}]
        if lacking:
            yield (
                NOTE,
                f"{application.title} may be told to plot on {', '.join(lacking)}, which is not installed",
                (f"install PLplot's driver of it; there are {', '.join(sorted(devices)) or 'none'}"),
            )
    if devices:
        yield OK, f"plot devices: {', '.join(sorted(devices))}", ""
    for task in sorted(wanted - applications.keys()):
        yield WRONG, f"rules name the application {task}, which is not described", "see spica-application(5)"


def plot_devices() -> set[str]:
    """Those of PLplot that are installed, in small letters: SCAMP and PSFEx plot on them."""
    found = set()
    for pattern in PLOT_DRIVERS:
        for path in Path("/").glob(f"{pattern[1:]}/*.driver_info"):
            found |= {line.partition(":")[0] for line in path.read_text(errors="replace").splitlines() if ":" in line}
    return found - {"mem", "null"}


def enclosure(settings: Settings) -> Findings:
    """The sandbox, by what a program in it can do."""
    if settings.sandbox.kind == "none":
        yield NOTE, 'steps run without a sandbox: kind = "none" in [sandbox]', "take it out where namespaces work"
        return
    if said := sandbox.user_namespaces_work():
        yield (
            WRONG,
            f"the sandbox cannot be entered here: {said}",
            ("allow user namespaces (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone)"),
        )
        return
    lines = _probed()
    if not lines or lines[-1] != "ready":
        yield WRONG, f"nothing runs in the sandbox: {' '.join(lines)[:300]}", "see SECURITY in spicad(8)"
    elif could := lines[:-1]:
        yield WRONG, f"a step in the sandbox could {', '.join(could)}", "see SECURITY in spicad(8)"
    else:
        yield OK, "a step has no network, sees no file but its own, and writes in its folder only", ""


def _probed() -> list[str]:
    program = Path(sandbox.__file__).parent / "backends" / "sandbox_probe.py"
    with tempfile.TemporaryDirectory(prefix="spica-probe-") as name:
        folder = Path(name)
        for part in ("cfg", "in", "job"):
            (folder / part).mkdir()
        (folder / "probe.txt").write_text("probe\n")
        line = sandbox.arguments(
            folder,
            {"probe.txt": folder / "probe.txt"},
            [sys.executable, "-I", "-S", str(program)],
            sandbox.python_places(),
        )
        done = subprocess.run(
            [sandbox.bwrap(), *line], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False
        )
    return (done.stdout if done.returncode == 0 else done.stdout + done.stderr).splitlines()


def mail(settings: Settings) -> Findings:
    """That reports find a way out, and that none has waited for long."""
    from spicad.sending import Unreachable, way_out

    way = way_out(settings.mail)
    try:
        way.open()
        yield (
            (NOTE if way.name.startswith("Maildir") else OK),
            f"mail goes by {way.name}",
            ("name a [mail] relay: nobody gets mail so" if way.name.startswith("Maildir") else ""),
        )
    except (Unreachable, OSError) as error:
        yield WRONG, f"mail cannot leave by {way.name}: {error}", "mend [mail] in spica.conf; mails wait meanwhile"
    finally:
        way.close()
    folder = settings.paths.spool / "outbox"
    waits = outbox.waiting(folder)
    if waits and time.time() - min(each.put_at for each in waits) > DEAD_MAIL_DAYS * 86400:
        yield WRONG, f"{len(waits)} mails wait, the oldest for more than a day", "see the log for what the relay says"
    failed = len(list((folder / "failed").glob("*.eml")))
    if failed:
        yield NOTE, f"{failed} mails could not be delivered", f"look at them in {folder / 'failed'}, then remove them"


def mail_to(settings: Settings, address: str) -> Findings:
    """Sends a mail now, not by the outbox: whoever asks wants to see what the relay says."""
    from spicad.sending import Unreachable, way_out

    way = way_out(settings.mail)
    try:
        message = outbox.compose(settings, address, "Spica: a mail to try", MAIL_TEXT)
        message["Message-ID"] = f"<spica-try-{time.time_ns()}@{settings.mail.sender.rpartition('@')[2]}>"
        way.open()
        ending, said = way.send(f"spica-try-{time.time_ns()}", (address,), message.as_bytes())[address]
    except (Unreachable, OSError) as error:
        yield WRONG, f"no mail can be sent by {way.name}: {error}", "mend [mail] in spica.conf"
        return
    finally:
        way.close()
    if ending is Ending.DONE:
        yield OK, f"{way.name} has taken a mail for {address}", ""
    else:
        yield WRONG, f"{way.name} does not take a mail for {address}: {said}", "mend [mail] in spica.conf"


def retention(settings: Settings) -> Findings:
    """That deletion does not wait for a person."""
    from spicad import sweeping
    from spicad.spool import Spool

    kept = Spool(settings.paths.spool)
    if why := sweeping.why_paused(kept, sweeping.moment_now(time.time())):
        yield NOTE, f"nothing is deleted by the clock: {why}", "spica retention --go-on, once you have looked"
    elif sweeping.read_state(kept).asked:
        yield NOTE, "a sweep would delete much and asks", "spica retention, then spica retention --go-on"
    else:
        days = settings.retention.days
        yield OK, f"products live {days:g} days" if days else "products live for ever", ""


# ---------------------------------------------------------------------- the site's part


def site(settings: Settings) -> Findings:
    """That the site's own user can hand over, read results, and reach the database with rights of its own."""
    if not settings.web.address:
        yield NOTE, "[web] address is empty: there is no site, and mails carry no links", "spica setup"
        return
    incoming = settings.paths.spool / "incoming"
    if not os.access(incoming, os.W_OK | os.X_OK):
        yield (
            WRONG,
            f"the site's user {_me()} cannot hand jobs over to {incoming}",
            (f"usermod -aG {settings.daemon.group or 'GROUP'} {_me()}, then restart the web server"),
        )
    if not os.access(settings.paths.results, os.R_OK | os.X_OK):
        yield WRONG, f"the site's user {_me()} cannot read {settings.paths.results}", "chgrp and chmod g+rx it"
    yield from _sites_database(settings)
    yield from _answers(settings.web.address)


def _sites_database(settings: Settings) -> Findings:
    url, password_file = tables.place_for_site(settings)
    opened = tables.connect(url, password_file, read_only=url.startswith("sqlite:"))
    try:
        version = tables.schema_version()
        if version != tables.NEWEST:
            yield WRONG, f"the site sees schema {version}, it needs {tables.NEWEST}", "spica database upgrade"
            return
        if not isinstance(opened, peewee.MySQLDatabase):
            if not os.access(tables.accounts_file(tables.sqlite_file(url)), os.R_OK | os.W_OK):
                yield (
                    WRONG,
                    f"{_me()} cannot write the accounts beside {tables.sqlite_file(url)}",
                    ("with SQLite let the site run as the daemon's user: spica serve"),
                )
            return
        lacking = _not_granted(_grants(opened), tables.SITE_WRITES)
        if lacking:  # as after an upgrade that made new tables
            yield WRONG, f"the site's account may not write {', '.join(lacking)}", "spica setup --yes --no-mail"
        if settings.web.database:
            yield from _too_much(opened, "the site's account")
        else:
            yield NOTE, "the site uses the daemon's own account of the database", "spica setup makes one with less"
    finally:
        opened.close()


def _grants(opened: peewee.Database) -> list[str]:
    return [line for (line,) in opened.execute_sql("SHOW GRANTS").fetchall()]


def _not_granted(grants: list[str], wanted: Mapping[Any, str]) -> list[str]:
    """The tables on which one of the wanted rights is lacking."""
    found = []
    for table, rights in wanted.items():
        name = table._meta.table_name
        verbs = set(re.findall(r"[A-Z]+", rights))
        about = [line for line in grants if f"`.`{name}` TO" in line or ".* TO" in line]
        if not any("ALL PRIVILEGES" in line or verbs <= set(re.findall(r"[A-Z]+", line)) for line in about):
            found.append(name)
    return found


def _answers(address: str) -> Findings:
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(f"{address.rstrip('/')}/login", timeout=10) as answer:  # noqa: S310 - spica.conf's
            said = answer.read(100_000).decode(errors="replace")
        is_spica = 'name="csrf"' in said
        words = f"{address} answers" if is_spica else f"{address} answers, but not with Spica"
        yield (OK if is_spica else WRONG), words, "" if is_spica else "look at the web server's configuration"
    except (OSError, ValueError) as error:
        yield (
            WRONG,
            f"{address} does not answer: {getattr(error, 'reason', error)}",
            ("start the web server, or: spica serve"),
        )


def _me() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"uid {os.geteuid()}"


# ---------------------------------------------------------------------- all of them

Check = Callable[[Settings], Findings]
MACHINE, DAEMON, SITE = "machine", "daemon", "site"
CHECKS: dict[str, tuple[tuple[str, Check], ...]] = {
    MACHINE: (("configuration", left_over), ("users", users), ("systemd", services), ("daemon", daemon)),
    DAEMON: (
        ("spool", spool),
        ("results", results),
        ("cluster", cluster),
        ("archive", archive),
        ("database", database),
        ("tools", tools),
        ("sandbox", enclosure),
        ("mail", mail),
        ("retention", retention),
    ),
    SITE: (("site", site),),
}


def findings(part: str, settings: Settings) -> Iterator[Finding]:
    """Of one part, with the rights of this process. A check that fails is itself a finding."""
    for name, check in CHECKS[part]:
        try:
            yield from (Finding(name, *each) for each in check(settings))
        except (SpicaError, OSError, peewee.PeeweeException) as error:
            yield Finding(name, WRONG, _one_line(error), "")


def _one_line(error: Any) -> str:
    return " ".join(str(error).split())
