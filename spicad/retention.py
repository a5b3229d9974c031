"""How long products live: who is to be warned, what may go, and why a sweep stops. Values in, values out.

What is read and written around it, the mails and the deletion, is sweeping.py's affair; all times are arguments.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from spicad.config import Settings, figures_of
from spicad.words import Phase

DAY_S = 86400.0
LEAST_NOTICE_S = DAY_S  # from the moment that the relay has taken the last warning


@dataclass(frozen=True)
class Warned:
    """One warning: what it says is the moment when the products go; `accepted` is when the relay took it, 0: not yet"""

    says: float
    accepted: float = 0.0


@dataclass(frozen=True)
class Record:
    """What stands in retention.json of a run's capsule."""

    keeps: int = 0  # how often somebody wished to keep it longer; warnings belong to one of these
    kept_until: float = 0.0
    warned: Mapping[str, Warned] = field(default_factory=dict)  # by days before, as `days_key` writes them
    archived: float = 0.0  # since when the products are gone
    asked: str = ""  # the token of the order that it was done for; "" when their time was over


@dataclass(frozen=True)
class Kept:
    """The products of a process that has ended. Those of earlier runs live as long as those of the last."""

    process: int
    run: int  # the last
    owner: str
    group: str
    name: str
    phase: Phase
    ended: float
    bytes: int
    files: int = 0
    mail: str = ""
    record: Record = Record()
    is_busy: bool = False  # it runs again, or is to

    @property
    def key(self) -> tuple[int, int]:
        return self.process, self.run


@dataclass(frozen=True)
class Terms:
    """[retention] of spica.conf."""

    days: float
    failed_days: float
    groups: Mapping[str, float]
    warn_days: tuple[float, ...]  # the longest before first; each at least one day
    keep_longer_days: float
    most_share: float

    @classmethod
    def of(cls, settings: Settings) -> Terms:
        given = settings.retention
        return cls(
            given.days,
            given.failed_days,
            figures_of(given.groups),
            tuple(sorted(set(given.warn_days), reverse=True)),
            given.keep_longer_days,
            given.most_share,
        )

    def days_for(self, phase: Phase, group: str) -> float:
        """0: for ever."""
        if phase in (Phase.ERROR, Phase.ABORTED):
            return self.failed_days
        return self.groups.get(group, self.days)


@dataclass(frozen=True)
class Warn:
    kept: Kept
    days: float
    says: float


@dataclass(frozen=True)
class Decision:
    warn: tuple[Warn, ...] = ()
    go: tuple[Kept, ...] = ()
    asks: tuple[Kept, ...] = ()  # would go, but they are so many that an administrator is asked first
    why: str = ""  # nothing goes, since


def days_key(days: float) -> str:
    return f"{days:g}"


def usual_end(phase: Phase, group: str, ended: float, terms: Terms) -> float | None:
    """When the products of such a run go unless somebody keeps them; None: never."""
    days = terms.days_for(phase, group)
    return ended + days * DAY_S if days else None


def expiry(kept: Kept, terms: Terms) -> float | None:
    """The day that people are told; the products never go earlier, and later when nobody could be warned."""
    usual = usual_end(kept.phase, kept.group, kept.ended, terms)
    if usual is None:
        return None
    told = max((each.says for each in kept.record.warned.values()), default=0.0)
    return max(usual, kept.record.kept_until, told)


def what_may_go(
    all_kept: Sequence[Kept],
    terms: Terms,
    now: float,
    let_go: Collection[tuple[int, int]] = (),
    paused: str = "",
) -> Decision:
    """`let_go` are those that an administrator has let go; `paused` says why nothing goes for now."""
    warn = tuple(each for kept in all_kept if (each := warning_for(kept, terms, now)))
    due = [kept for kept in all_kept if may_go(kept, terms, now)]
    if paused:
        return Decision(warn, why=paused if due else "")
    told = [kept for kept in due if kept.key in let_go]
    others = [kept for kept in due if kept.key not in let_go]
    total = sum(kept.bytes for kept in all_kept)
    if sum(kept.bytes for kept in others) > terms.most_share * total:
        return Decision(warn, tuple(told), tuple(others))
    return Decision(warn, tuple(due))


def may_go(kept: Kept, terms: Terms, now: float) -> bool:
    """Whether its time is over and its owner was told so, by the last warning, at least a day ago."""
    end = expiry(kept, terms)
    if end is None or kept.is_busy or kept.record.archived or now < end:
        return False
    last = kept.record.warned.get(days_key(terms.warn_days[-1]))
    return last is not None and bool(last.accepted) and now >= max(last.says, last.accepted + LEAST_NOTICE_S)


def warning_for(kept: Kept, terms: Terms, now: float) -> Warn | None:
    """The warning that is due and has not been given: the last of those whose day has come."""
    end = expiry(kept, terms)
    if end is None or kept.is_busy or kept.record.archived:
        return None
    come = [days for days in terms.warn_days if now >= end - days * DAY_S]
    if not come:
        return None
    given = kept.record.warned.get(days_key(come[-1]))
    if given and (given.accepted or now < given.says):
        return None
    return Warn(kept, come[-1], max(end, now + LEAST_NOTICE_S))


def keep_until(kept: Kept, terms: Terms, days: float, now: float, is_limited: bool) -> tuple[float, str]:
    """Until when a wish to keep the products `days` from now (0: as long as may be) has them kept; or why not."""
    usual = usual_end(kept.phase, kept.group, kept.ended, terms)
    if usual is None:
        return 0.0, f"the products of process {kept.process} are kept for ever."
    most = usual + terms.keep_longer_days * DAY_S
    wished = now + days * DAY_S if days else most
    if is_limited and wished > most + 60.0:
        left = max(0.0, most - now) / DAY_S
        return 0.0, (
            f"products are kept at most {terms.keep_longer_days:g} days longer than usual. "
            f"Ask for {int(left)} days or fewer, or ask an administrator."
        )
    return max(wished, usual), ""


def kept_longer(record: Record, until: float) -> Record:
    """The warnings begin anew with the new day."""
    return replace(record, keeps=record.keeps + 1, kept_until=until, warned={})


# ---------------------------------------------------------------------- the clock


@dataclass(frozen=True)
class Moment:
    """The time of day, beside a clock that nobody can set and that is only good for one boot."""

    wall: float
    boottime: float
    boot: str


@dataclass(frozen=True)
class State:
    """What a sweep has to know of those before; retention.json of the spool."""

    boot: str = ""
    wall: float = 0.0  # when this boot was first seen, or an administrator had deletion go on
    boottime: float = 0.0
    is_quiet: bool = True  # for the first day of a boot: what the clock did meanwhile is not known
    paused: str = ""
    asked: tuple[tuple[int, int], ...] = ()
    let_go: tuple[tuple[int, int], ...] = ()


def at(state: State, moment: Moment) -> State:
    """The state as this moment finds it: another boot, a clock that was set."""
    if state.boot != moment.boot:
        return replace(state, boot=moment.boot, wall=moment.wall, boottime=moment.boottime, is_quiet=True)
    by = (moment.wall - state.wall) - (moment.boottime - state.boottime)
    if abs(by) > DAY_S and not state.paused:
        way = "forward" if by > 0 else "back"
        why = f"the clock of this machine was put {way} by {abs(by) / DAY_S:.1f} days"
        return replace(state, paused=why)
    return state


def why_paused(state: State, moment: Moment) -> str:
    if state.paused:
        return state.paused
    if state.is_quiet and moment.boottime - state.boottime < DAY_S:
        return "this machine was started less than a day ago, and what its clock did meanwhile is not known"
    return ""


def gone_on(state: State, moment: Moment) -> State:
    """An administrator has looked: what was asked for may go, and the clock is right."""
    return State(moment.boot, moment.wall, moment.boottime, is_quiet=False, let_go=state.asked)
