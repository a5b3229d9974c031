"""The sweep: warns those whose products are to go, and deletes what may go, by handles and below the results folder.

What may go is decided in retention.py. It reads capsules and the spool and no table, so that a lost database changes
nothing; rows and events follow in housekeeping.py. Each file that it writes is there whole or not at all:

    run-N/retention.json   wishes to keep, warnings given and accepted, since when the products are gone
    run-N/products.going/  products that are being deleted; until they are, `mv` brings them back
    SPOOL/retention.json   what the clock was, why deletion pauses, what an administrator was asked
"""

from __future__ import annotations

import json
import logging
import os
import re
import stat
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from spicad import outbox, parts, retention
from spicad.config import Settings
from spicad.durable import remove_below, replace_file
from spicad.report import size
from spicad.retention import Kept, Moment, Record, State, Terms, Warn, Warned
from spicad.spool import Spool
from spicad.words import Phase, SpicaError

log = logging.getLogger("spicad.sweeping")

RECORD = "retention.json"
PRODUCTS, GOING = "products", "products.going"
FOLDER = re.compile(r"(?P<process>\d{6,})-.+")
RUN = re.compile(r"run-(?P<run>[1-9]\d*)")
WARNING_KEY = re.compile(r"going-(?P<process>\d+)-run(?P<run>\d+)-(?P<days>[0-9.]+)d-keep(?P<keeps>\d+)")
MOST_NAMED = 20
_ONE_AT_A_TIME = threading.Lock()  # a wish to keep something and its deletion
_AS_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass
class Swept:
    """What a sweep has done, for the tables."""

    archived: dict[int, tuple[int, float]] = field(default_factory=dict)  # process -> run, since when; also long ago
    expires: dict[int, float] = field(default_factory=dict)
    accepted: list[tuple[Kept, str, float]] = field(default_factory=list)
    owners: set[str] = field(default_factory=set)  # of whom something was deleted
    warned: int = 0
    why: str = ""


def moment_now(wall: float) -> Moment:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return Moment(wall, time.clock_gettime(time.CLOCK_BOOTTIME), boot)


def sweep(settings: Settings, spool: Spool, moment: Moment, administrators: Sequence[str] = ()) -> Swept:
    """One sweep, in a thread of the daemon. It may be killed anywhere: the next one goes on from there."""
    results, terms, swept = Path(settings.paths.results), Terms.of(settings), Swept()
    to = tuple(filter(None, [settings.retention.administrator])) or tuple(administrators)
    found = note_accepted(spool, list(kept_in(results, spool)), swept)
    for folder, kept in found:
        if kept.record.archived:
            swept.archived[kept.process] = kept.run, kept.record.archived
        if (folder / GOING).exists():
            _finish(results, kept, folder, moment.wall, swept)
    state = _seen(settings, spool, moment, to)
    living = [kept for folder, kept in found if not kept.record.archived and kept.process not in swept.archived]
    paused = retention.why_paused(state, moment)
    decision = retention.what_may_go(living, terms, moment.wall, state.let_go, paused)
    folders = {kept.key: folder for folder, kept in found}
    if not state.paused:  # by a wrong clock wrong warnings would be given
        due = [*decision.warn, *_lost_warnings(spool, living, terms, moment.wall)]
        if nobody := [warn.kept.process for warn in due if not to and not warn.kept.mail]:
            words = "the products of %d processes stay, as of %d: nobody can be warned. Give [retention] administrator"
            log.error(words, len(nobody), nobody[0])
        for warn in due:
            swept.warned += _warn(settings, spool, folders[warn.kept.key], warn, to, moment.wall)
    if decision.asks:
        _ask(settings, spool, state, decision.asks, living, to, moment.wall)
        decision = replace(decision, why=f"{len(decision.asks)} processes are more than may go without being asked")
    for kept in decision.go:
        _let_it_go(results, spool, folders[kept.key], terms, moment.wall, swept)
    for kept in living:
        if kept.process not in swept.archived and (end := retention.expiry(kept, terms)):
            swept.expires[kept.process] = end
    swept.why = decision.why
    return swept


# ---------------------------------------------------------------------- what there is


def kept_in(results: Path, spool: Spool) -> Iterator[tuple[Path, Kept]]:
    """Each process that has ended, with the folder of its last run. What cannot be read is left alone."""
    for user in sorted(_folders(results)):
        for name in _folders(user):
            if FOLDER.fullmatch(name.name) and (found := kept_of(name, spool)):
                yield found


def kept_of(folder: Path, spool: Spool) -> tuple[Path, Kept] | None:
    """The same of one process, by its folder; None as long as its last run has not ended."""
    run = last_run(folder)
    if run is None:
        return None
    record = read_record(run)
    facts, outcome = _json(run, "run.json"), _json(run, "outcome.json")
    try:
        phase, ended = Phase(outcome["phase"]), float(outcome["ended"])
        process = int(facts["process"])
        manifest = {} if record.archived else _json(run, "manifest.json")
        kept = Kept(
            process=process,
            run=int(facts["run"]),
            owner=folder.parent.name,
            group=facts["group"],
            name=facts["name"],
            phase=phase,
            ended=ended,
            bytes=sum(int(bytes_) for bytes_, _ in manifest.values()),
            files=len(manifest),
            mail=facts["mail"],
            record=record,
            is_busy=_is_busy(spool, process),
        )
    except (KeyError, TypeError, ValueError):
        return None
    return run, kept


def last_run(folder: Path) -> Path | None:
    runs = [(int(found["run"]), path) for path in _folders(folder) if (found := RUN.fullmatch(path.name))]
    return max(runs)[1] if runs else None


def folder_of(results: Path, process: int) -> Path | None:
    """The folder of a process, whoever owns it."""
    found = [path for path in results.glob(f"*/{process:06d}-*") if path.is_dir() and not path.is_symlink()]
    return found[0] if found else None


def _folders(folder: Path) -> list[Path]:
    with suppress(OSError), os.scandir(folder) as entries:
        return [folder / entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    return []


def _is_busy(spool: Spool, process: int) -> bool:
    phase = spool.phase_of(process)
    return phase is not None and not phase.is_over


def _json(folder: Path, name: str) -> Any:
    try:
        return json.loads(parts.read(folder, name))
    except (OSError, ValueError):
        return {}


# ---------------------------------------------------------------------- records


def read_record(run: Path) -> Record:
    values = _json(run, RECORD)
    try:
        warned = {days: Warned(**each) for days, each in values["warned"].items()}
        kept_until, archived, asked = float(values["kept_until"]), float(values["archived"]), values.get("asked", "")
        return Record(int(values["keeps"]), kept_until, warned, archived, str(asked))
    except (KeyError, TypeError, ValueError, AttributeError):
        return Record()


def write_record(run: Path, record: Record) -> None:
    replace_file(run / RECORD, json.dumps(asdict(record)).encode())


def keep(folder: Path, spool: Spool, terms: Terms, days: float, now: float, is_limited: bool) -> tuple[float, str]:
    """A wish to keep the products longer: until when they are kept now, or why not."""
    with _ONE_AT_A_TIME:
        found = kept_of(folder, spool)
        if found is None:
            return 0.0, "its run has not ended yet: its products do not go."
        run, kept = found
        if kept.record.archived or (run / GOING).exists():
            return 0.0, f"the products of process {kept.process} are gone. To make them again: spica rebuild"
        until, why = retention.keep_until(kept, terms, days, now, is_limited)
        if not why:
            write_record(run, retention.kept_longer(kept.record, until))
        return until, why


# ---------------------------------------------------------------------- warnings


def warning_key(kept: Kept, days: float) -> str:
    return f"going-{kept.process:06d}-run{kept.run}-{retention.days_key(days)}d-keep{kept.record.keeps}"


def note_accepted(spool: Spool, found: list[tuple[Path, Kept]], swept: Swept) -> list[tuple[Path, Kept]]:
    """Warnings that the relay has taken are noted in the capsules; only then the outbox may forget them."""
    by_process = {kept.process: (run, kept) for run, kept in found}
    for key, at in outbox.accepted(spool.folder("outbox")):
        of = WARNING_KEY.fullmatch(key)
        if not of:
            continue
        try:
            process = int(of["process"])
            if process in by_process and (noted := _note_accepted(by_process[process][0].parent, spool, of, at)):
                by_process[process] = noted
                swept.accepted.append((noted[1], of["days"], at))
        except OSError as error:
            log.error("the acceptance of %s cannot be noted: %s. Tried again at the next sweep.", key, error)
        else:
            outbox.forget(spool.folder("outbox"), key)
    return list(by_process.values())


def _note_accepted(folder: Path, spool: Spool, key: re.Match[str], at: float) -> tuple[Path, Kept] | None:
    """None when the warning is of an earlier run, or of before a wish to keep."""
    with _ONE_AT_A_TIME:
        run, kept = kept_of(folder, spool) or (folder, None)
        given = kept.record.warned.get(key["days"]) if kept else None
        if kept is None or given is None or (int(key["run"]), int(key["keeps"])) != (kept.run, kept.record.keeps):
            return None
        record = replace(kept.record, warned={**kept.record.warned, key["days"]: replace(given, accepted=at)})
        write_record(run, record)
        return run, replace(kept, record=record)


def _lost_warnings(spool: Spool, living: Sequence[Kept], terms: Terms, now: float) -> Iterator[Warn]:
    """Noted and not in the outbox: killed between the two, or given up by the outbox a day ago."""
    for kept in living:
        for days, given in kept.record.warned.items():
            if given.accepted or kept.is_busy or retention.warning_for(kept, terms, now):
                continue
            if not _is_in(spool.folder("outbox"), warning_key(kept, float(days))):
                yield Warn(kept, float(days), given.says)


def _is_in(folder: Path, key: str) -> bool:
    return any((folder / place / f"{key}.eml").exists() for place in ("", "sent", "failed"))


def _warn(settings: Settings, spool: Spool, run: Path, warn: Warn, to: Sequence[str], now: float) -> int:
    """Noted first, then put: what is noted and lost is put again. How many warnings were given."""
    folder, kept = spool.folder("outbox"), warn.kept
    key = warning_key(kept, warn.days)
    was_refused = (folder / "failed" / f"{key}.eml").exists()
    address = (next(iter(to), "") or kept.mail) if was_refused or not kept.mail else kept.mail
    if not address:
        return 0
    try:
        with _ONE_AT_A_TIME:
            record = read_record(run)
            if record.keeps != kept.record.keeps or record.archived:
                return 0  # somebody wished to keep it meanwhile
            given = {**record.warned, retention.days_key(warn.days): Warned(warn.says)}
            write_record(run, replace(record, warned=given))
        subject, text = warning_text(settings, warn)
        outbox.put(folder, key, outbox.compose(settings, address, subject, text), now)
    except (SpicaError, OSError) as error:
        log.error("process %d: it cannot be warned of, so its products stay: %s", kept.process, error)
        return 0
    log.info("process %d %s: warned that its products go on %s", kept.process, kept.name, day(warn.says))
    return 1


def warning_text(settings: Settings, warn: Warn) -> tuple[str, str]:
    kept, address = warn.kept, settings.web.address.rstrip("/")
    files = f"{kept.files} product{'s' if kept.files != 1 else ''}, {size(kept.bytes)} in all"
    subject = f"The products of {kept.name} go on {day(warn.says)} (process {kept.process})"
    lines = [
        f"Process {kept.process}, {kept.name}, of {kept.owner} ended on {day(kept.ended)}.",
        f"Its products ({files}) are deleted on {day(warn.says)}, {clock(warn.says)} UTC, and not before a day after",
        "this mail was sent. Its recipe stays, and makes them again.",
        "",
        "What you can do",
        f"  spica results {kept.process} --fetch DIR   copies them to DIR",
        f"  spica keep {kept.process}                  keeps them longer",
        f"  spica rebuild {kept.process}               makes them again, once they are gone",
    ]
    if address:
        lines.append(f"  {address}/process/{kept.process}   does the same, on the site")
    return subject, "\n".join(lines) + "\n"


def day(at: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(at))


def clock(at: float) -> str:
    return time.strftime("%H:%M", time.gmtime(at))


# ---------------------------------------------------------------------- deletion


def _let_it_go(results: Path, spool: Spool, run: Path, terms: Terms, now: float, swept: Swept) -> None:
    """What was decided is looked at once more: somebody may have wished to keep it, or run it again, meanwhile."""
    try:
        with _ONE_AT_A_TIME:
            found = kept_of(run.parent, spool)
            if found is None or found[0] != run or not retention.may_go(found[1], terms, now):
                return
            kept = found[1]
            _put_aside(results, kept)
        _finish(results, kept, run, now, swept)
    except OSError as error:
        log.error("%s: its products cannot be deleted: %s. Tried again at the next sweep.", run, error)


def let_go_now(results: Path, folder: Path, spool: Spool, now: float, token: str = "") -> tuple[Kept | None, str]:
    """The wish of whom it belongs to: from now on the products count as gone; `clear` is to follow. Or why not.

    `token` is the order's: after a crash it comes again, and is obeyed already.
    """
    with _ONE_AT_A_TIME:
        run, kept = kept_of(folder, spool) or (folder, None)
        if kept is None or kept.is_busy:
            return None, "its last run is not over: its products cannot be deleted yet."
        if kept.record.archived and not (token and kept.record.asked == token):
            return None, f"the products of process {kept.process} are gone already."
        if not kept.record.archived:
            _put_aside(results, kept)
            write_record(run, replace(kept.record, archived=now, asked=token))
    return kept, ""


def clear(results: Path, kept: Kept) -> None:
    """What was put aside is deleted; when it is cut short, the next sweep goes on."""
    try:
        _delete(results, kept)
    except OSError as error:
        log.error("process %d: its products cannot be deleted: %s. Tried again later.", kept.process, error)


def _put_aside(results: Path, kept: Kept) -> None:
    """The decision: from this rename on the products count as gone."""
    with _opened(results, kept.owner, _folder_name(kept)) as process:
        for name in reversed(
            _runs(process, kept.run)
        ):  # the last run tells, after a crash, that the others are to follow
            with _below(process, name) as run:
                if _is_there(GOING, run):
                    continue
                try:
                    os.rename(PRODUCTS, GOING, src_dir_fd=run, dst_dir_fd=run)
                except FileNotFoundError:
                    os.mkdir(GOING, dir_fd=run)
                os.fsync(run)


def _finish(results: Path, kept: Kept, run: Path, now: float, swept: Swept) -> None:
    """Marks the run as archived, then deletes what was put aside, and what its steps left. May be done twice."""
    try:
        if not kept.record.archived:
            with _ONE_AT_A_TIME:
                _put_aside(results, kept)
                write_record(run, replace(read_record(run), archived=now))
            log.info("process %d %s: its products go, its recipe stays", kept.process, kept.name)
            swept.archived[kept.process] = kept.run, now
        if _delete(results, kept):
            swept.owners.add(kept.owner)
    except OSError as error:
        log.error("process %d: its products cannot be deleted: %s. Tried again later.", kept.process, error)


def _delete(results: Path, kept: Kept) -> bool:
    """The one function that deletes: what was put aside in a run that counts as archived, products last of all.

    Each folder on the way is opened beneath the one before, and no link is followed at any of them.
    """
    has_deleted = False
    with _opened(results, kept.owner, _folder_name(kept)) as process:
        for name in _runs(process, kept.run):
            with _below(process, name) as run:
                if not _is_there(GOING, run):
                    continue
                remove_below(run, "work")
                if _is_there("steps", run):
                    with _below(run, "steps") as steps:
                        for step in os.listdir(steps):
                            with suppress(NotADirectoryError), _below(steps, step) as folder:
                                remove_below(folder, "job")
                remove_below(run, GOING)
                os.fsync(run)
                has_deleted = True
    return has_deleted


@contextmanager
def _opened(results: Path, *names: str) -> Iterator[int]:
    """The results folder may be a link that an administrator has made; what is in it may not."""
    handle = os.open(results, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in names:
            inner = os.open(_plain(name), _AS_FOLDER, dir_fd=handle)
            os.close(handle)
            handle = inner
        yield handle
    finally:
        os.close(handle)


@contextmanager
def _below(parent: int, name: str) -> Iterator[int]:
    handle = os.open(_plain(name), _AS_FOLDER, dir_fd=parent)
    try:
        yield handle
    finally:
        os.close(handle)


def _plain(name: str) -> str:
    if "/" in name or name in ("", ".", ".."):
        raise OSError(f"{name!r} is not the name of a folder")
    return name


def _folder_name(kept: Kept) -> str:
    return f"{kept.process:06d}-{kept.name}"


def _runs(process: int, last: int) -> list[str]:
    """Up to that run, which comes last; another may have begun since."""
    found = [RUN.fullmatch(name) for name in os.listdir(process)]
    numbers = sorted(int(each["run"]) for each in found if each and _is_folder(each.string, process))
    return [f"run-{number}" for number in numbers if number <= last]


def _is_there(name: str, parent: int) -> bool:
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _is_folder(name: str, parent: int) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)


# ---------------------------------------------------------------------- the clock, and what needs a person


def read_state(spool: Spool) -> State:
    values = _json(spool.root, RECORD)
    try:
        pairs: Mapping[str, Any] = {
            name: tuple((int(process), int(run)) for process, run in values[name]) for name in ("asked", "let_go")
        }
        return State(**{**values, **pairs})
    except (KeyError, TypeError, ValueError):
        return State()


def go_on(spool: Spool, moment: Moment) -> str:
    """An administrator has deletion go on; '' or why there is nothing to let go on."""
    with _ONE_AT_A_TIME:
        state = retention.at(read_state(spool), moment)
        if not retention.why_paused(state, moment) and not state.asked:
            return "deletion does not pause, and nothing was asked."
        _write_state(spool, retention.gone_on(state, moment))
    return ""


def why_paused(spool: Spool, moment: Moment) -> str:
    """Why nothing is to be deleted by the clock for now."""
    return retention.why_paused(retention.at(read_state(spool), moment), moment)


def _write_state(spool: Spool, state: State) -> None:
    replace_file(spool.root / RECORD, json.dumps(asdict(state)).encode())


def _seen(settings: Settings, spool: Spool, moment: Moment, to: Sequence[str]) -> State:
    with _ONE_AT_A_TIME:
        before = read_state(spool)
        state = retention.at(before, moment)
        if state.paused and not before.paused:
            text = (
                f"Spica deletes nothing and warns nobody for now: {state.paused}.\n\n"
                "Look at the clock. When it is right:\n  spica retention --go-on\n"
            )
            _tell(
                settings, spool, f"clock-{moment.wall:.0f}", "Spica deletes nothing: the clock", text, to, moment.wall
            )
        if state != before:
            _write_state(spool, state)
    return state


def _ask(
    settings: Settings,
    spool: Spool,
    state: State,
    asks: Sequence[Kept],
    living: Sequence[Kept],
    to: Sequence[str],
    now: float,
) -> None:
    keys = tuple(sorted(kept.key for kept in asks))
    if keys == state.asked:
        return
    bytes_, total = sum(kept.bytes for kept in asks), sum(kept.bytes for kept in living)
    names = [f"  {kept.process}  {kept.name}, of {kept.owner}, {size(kept.bytes)}" for kept in asks[:MOST_NAMED]]
    more = [f"  ... and {len(asks) - MOST_NAMED} more"] if len(asks) > MOST_NAMED else []
    text = "\n".join(
        [
            f"The products of {len(asks)} processes are to be deleted, {size(bytes_)} of the {size(total)} that there",
            "are. That is more than goes without being asked (most_share in [retention] of spica.conf), so nothing of",
            "them has been deleted.",
            "",
            *names,
            *more,
            "",
            "To let them go:",
            "  spica retention --go-on",
            "",
        ]
    )
    subject = f"Spica asks: may the products of {len(asks)} processes be deleted?"
    _tell(settings, spool, f"asks-{now:.0f}", subject, text, to, now)
    with _ONE_AT_A_TIME:
        current = read_state(spool)
        _write_state(spool, replace(current, asked=keys))


def _tell(settings: Settings, spool: Spool, key: str, subject: str, text: str, to: Sequence[str], now: float) -> None:
    log.warning("%s: %s", subject, text.split("\n\n")[0].replace("\n", " "))
    for number, address in enumerate(to, 1):
        with suppress(SpicaError):
            message = outbox.compose(settings, address, subject, text)
            outbox.put(spool.folder("outbox"), f"retention-{key}-{number}", message, now)
