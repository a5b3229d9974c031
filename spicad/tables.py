"""The tables and their migrations: processes, events, steps, digests, accounts; the same on SQLite and MySQL/MariaDB.

Only this file knows how a database is opened. Who writes what and when is the daemon's affair (daemon.py, ledger.py).
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import peewee

from spicad.config import Section, Settings
from spicad.words import SpicaError

database = peewee.DatabaseProxy()
private = peewee.DatabaseProxy()  # what the Unix group of the spool must not read; on MySQL the same as `database`
READING = {"cache_size": -32_000}  # KiB; with the usual 2 MB a cone among two million footprints takes thrice as long
PATIENCE_S = 30.0  # for an answer of a MySQL server
LONGEST_TEXT = 1 << 20  # bytes that MySQL may put together from many rows; its own limit is 1024
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")


class Table(peewee.Model):
    class Meta:
        database = database


class Private(peewee.Model):
    class Meta:
        database = private


class LongText(peewee.TextField):
    """MySQL's TEXT ends at 64 KiB; the outputs of a step that works on thousands of exposures do not."""

    field_type = "LONGTEXT"


class Process(Table):
    """What a user asked for. `token` is made by the client, so that a retried insert cannot make a second row."""

    id = peewee.AutoField()
    token = peewee.CharField(64, unique=True)
    name = peewee.CharField(200)
    owner = peewee.CharField(64, index=True)
    group = peewee.CharField(64, column_name="owner_group")
    rank = peewee.IntegerField()
    phase = peewee.CharField(12, index=True)
    run = peewee.IntegerField(default=1)
    submitted = peewee.DoubleField()  # this and all times: seconds since 1970, UTC
    not_before = peewee.DoubleField(default=0)
    started = peewee.DoubleField(null=True)
    ended = peewee.DoubleField(null=True)
    mail = peewee.CharField(254, default="")
    why = LongText(default="")
    capsule = peewee.TextField(default="")
    steps_done = peewee.IntegerField(default=0)
    steps_total = peewee.IntegerField(default=0)
    forecast_bytes = peewee.BigIntegerField(default=0)
    locality = peewee.DoubleField(default=1.0)  # share of the input bytes that are stored on the daemon's node
    expires = peewee.DoubleField(null=True)  # when its products go; see retention.py
    workload = LongText(null=True)  # JSON: its steps by application, see eta.py; null where nobody knows

    class Meta:
        indexes = ((("owner", "phase"), False),)  # the site counts one owner's by phase


class Event(Table):
    """Who changed what, when and why; one row for each change of phase."""

    id = peewee.BigAutoField()
    process = peewee.IntegerField(index=True)
    time = peewee.DoubleField()
    who = peewee.CharField(64)
    before = peewee.CharField(12, default="")
    phase = peewee.CharField(12)
    why = LongText(default="")


class Step(Table):
    """One command line of a run. `outputs` and `metrics` are JSON texts."""

    id = peewee.BigAutoField()
    process = peewee.IntegerField()
    run = peewee.IntegerField()
    number = peewee.IntegerField()
    application = peewee.CharField(64)
    label = peewee.CharField(200)
    state = peewee.CharField(12)
    node = peewee.CharField(64, default="")
    attempt = peewee.IntegerField(default=0)
    slots = peewee.IntegerField(default=1)
    input_bytes = peewee.BigIntegerField(default=0)
    owner = peewee.CharField(64)
    content_key = peewee.CharField(64, default="")
    started = peewee.DoubleField(null=True)
    ended = peewee.DoubleField(null=True)
    why = LongText(default="")
    metrics = LongText(default="{}")
    outputs = LongText(default="[]")

    class Meta:
        indexes = ((("process", "run", "number"), True), (("content_key", "owner"), False))


class DiskUse(Table):
    """What one user has on the disk below the results folder, by the group that it was made for."""

    owner = peewee.CharField(64)
    group = peewee.CharField(64, column_name="of_group", index=True)  # empty: of none
    bytes = peewee.BigIntegerField()

    class Meta:
        primary_key = peewee.CompositeKey("owner", "group")


class Quota(Table):
    """What a user or a group had on the disk when it was last measured, and how much it may have."""

    kind = peewee.CharField(8)  # user, group
    name = peewee.CharField(64)
    used = peewee.BigIntegerField()
    most = peewee.BigIntegerField()  # 0: no limit
    warned = peewee.IntegerField(default=0)  # per cent that the last mail was about
    measured = peewee.DoubleField()

    class Meta:
        primary_key = peewee.CompositeKey("kind", "name")


class Digest(Table):
    """sha256 of an exposure, trusted while the file's identity (device, inode, size, mtime) is unchanged."""

    path = peewee.CharField(64, unique=True)  # sha256 of the path: paths are longer than an index allows
    identity = peewee.CharField(120)
    sha256 = peewee.CharField(64)


COUNTED = ("kind", "filter", "runid", "grade")  # what is usually counted, read from an index without the rows
COUNTED_GRADES = ("kind", "runid", "filter", "grade", "graded_by")  # in the order of the table of grades
COUNTED_BY_GRADES = "exposure_kind_runid_filter_grade_graded_by"
COUNTED_BY_ID = "exposure_id_kind_filter_runid_grade"  # to be named: without ANALYZE planners look rows up by id


class Exposure(Table):
    """One FITS file of the archive. ObsCore's names where it has one; angles in degrees (ICRS), times in MJD (UTC)."""

    id = peewee.BigAutoField()
    obs_id = peewee.CharField(100, index=True)  # the instrument's own number or name of it
    name = peewee.CharField(255, index=True)  # of the file
    node = peewee.CharField(64)
    path = peewee.TextField()
    path_key = peewee.CharField(64, unique=True)  # sha256 of node:path: paths are longer than an index allows
    sha256 = peewee.CharField(64, index=True)
    bytes = peewee.BigIntegerField()
    mtime_ns = peewee.BigIntegerField()
    instrument_name = peewee.CharField(64, default="")
    facility_name = peewee.CharField(64, default="")
    filter = peewee.CharField(32, default="")  # type: ignore[assignment]  # the astronomers' word, not peewee's
    runid = peewee.CharField(64, default="")
    target_name = peewee.CharField(100, default="")
    kind = peewee.CharField(16, default="science")  # see instruments.TYPES and MASTERS
    s_ra = peewee.DoubleField(null=True)
    s_dec = peewee.DoubleField(null=True)
    s_fov = peewee.DoubleField(null=True)  # diameter of the circle round all CCDs
    s_region = LongText(default="")  # "POLYGON ICRS ra dec ..." for each CCD, joined by "UNION" as in STC-S
    t_min = peewee.DoubleField(null=True)
    t_max = peewee.DoubleField(null=True)
    t_exptime = peewee.DoubleField(null=True)  # s
    em_min = peewee.DoubleField(null=True)  # m
    em_max = peewee.DoubleField(null=True)
    airmass = peewee.DoubleField(null=True)
    gain = peewee.DoubleField(null=True)  # e-/ADU
    saturation = peewee.DoubleField(null=True)  # ADU
    zero_point = peewee.DoubleField(null=True)  # mag
    seeing = peewee.DoubleField(null=True)  # arcsec; from QualityFITS, else from the header
    grade = peewee.CharField(1, default="")  # A to D: a person's, else the proposed one; empty where there is neither
    graded_by = peewee.CharField(64, default="")  # whose grade that is; empty: proposed, or none
    elongation = peewee.DoubleField(null=True)  # this and those below from QualityFITS
    background = peewee.DoubleField(null=True)  # ADU
    limiting_magnitude = peewee.DoubleField(null=True)
    stars = peewee.IntegerField(null=True)
    ccd_count = peewee.IntegerField(default=1)
    registered = peewee.DoubleField()

    class Meta:
        indexes = (
            (("runid", "filter"), False),
            (("instrument_name", "filter", "grade"), False),
            (("t_min", *COUNTED), False),
            (("id", *COUNTED), False),
            (("target_name",), False),
            (COUNTED_GRADES, False),
        )


class Ccd(Table):
    """One image extension of an exposure. `corners` is JSON: four [ra, dec] in degrees, in the order of the pixels."""

    exposure = peewee.BigIntegerField()
    number = peewee.IntegerField()  # of the HDU; 0 is the primary one
    name = peewee.CharField(68, default="")
    width = peewee.IntegerField()
    height = peewee.IntegerField()
    s_ra = peewee.DoubleField(null=True)
    s_dec = peewee.DoubleField(null=True)
    corners = peewee.TextField(default="[]")

    class Meta:
        primary_key = peewee.CompositeKey("exposure", "number")


class Quality(Table):
    """What a quality report says of an exposure, the last one of those that count; see archive/judgements.py."""

    exposure = peewee.BigIntegerField(primary_key=True)
    grade = peewee.CharField(1)  # proposed
    reasons = LongText(default="[]")  # this and those below are JSON
    figures = LongText(default="{}")
    ccds = LongText(default="{}")
    problem = peewee.TextField(default="")  # why nothing could be measured
    application = peewee.CharField(64)
    process = peewee.IntegerField()
    run = peewee.IntegerField()
    step = peewee.IntegerField()
    ended = peewee.DoubleField()  # of the step
    capsule = peewee.TextField(default="")
    products = LongText(default="[]")  # JSON: paths in the capsule
    is_graded = peewee.BooleanField(default=False)  # by a person

    class Meta:
        indexes = ((("is_graded", "exposure"), False),)  # the queue of graders


class Grading(Table):
    """A grade that somebody gave an exposure; rows are added and never changed. See archive/grades.py."""

    id = peewee.BigAutoField()
    key = peewee.CharField(64, unique=True)  # made from what it says, so that an import may be repeated
    exposure = peewee.BigIntegerField(index=True)
    who = peewee.CharField(64)
    time = peewee.DoubleField()
    grade = peewee.CharField(1, default="")  # empty: taken back
    comments = peewee.TextField(default="[]")  # JSON: the usual ones
    words = peewee.TextField(default="")

    class Meta:
        indexes = ((("who", "time"), False),)


class Mark(Table):
    """Up to which number something has gone through the archive."""

    name = peewee.CharField(32, primary_key=True)
    number = peewee.BigIntegerField()


class Outline(Table):
    """Where each CCD of an exposure lies, in the order of the sky: the index behind all searches there.

    An exposure of which only the position is known has one too. See archive/outlines.py.
    """

    size = peewee.SmallIntegerField()
    cell = peewee.IntegerField()  # HEALPix, nested: of the middle
    exposure = peewee.BigIntegerField()
    number = peewee.SmallIntegerField()
    x = peewee.DoubleField()  # this and the next two: the middle as a vector
    y = peewee.DoubleField()
    z = peewee.DoubleField()
    held = peewee.DoubleField()  # radians round the middle that are in it altogether
    corners = peewee.TextField()

    class Meta:
        primary_key = peewee.CompositeKey("size", "cell", "exposure", "number")


class Ingredient(Table):
    """A frame that a master frame was made of, by its digest: it may have gone, or never have been registered."""

    exposure = peewee.BigIntegerField()  # the master frame
    sha256 = peewee.CharField(64, index=True)
    name = peewee.CharField(68, default="")

    class Meta:
        primary_key = peewee.CompositeKey("exposure", "sha256")


class Tagged(Table):
    """A word that somebody put on an exposure, for everybody."""

    tag = peewee.CharField(64)
    exposure = peewee.BigIntegerField()
    who = peewee.CharField(64)
    time = peewee.DoubleField()

    class Meta:
        primary_key = peewee.CompositeKey("tag", "exposure")
        indexes = ((("exposure",), False),)


class Selection(Table):
    """A named list of exposures; what is in it is told by Selected."""

    id = peewee.AutoField()
    name = peewee.CharField(100)
    owner = peewee.CharField(64)
    group = peewee.CharField(64, column_name="owner_group", index=True)
    is_shared = peewee.BooleanField(default=False)  # with the group
    words = peewee.CharField(200, default="")  # what it is for
    changed = peewee.DoubleField()

    class Meta:
        indexes = ((("owner", "name"), True),)


class Selected(Table):
    selection = peewee.IntegerField()
    exposure = peewee.BigIntegerField()

    class Meta:
        primary_key = peewee.CompositeKey("selection", "exposure")
        indexes = ((("exposure",), False),)


def _no_name() -> str:
    return f"?{secrets.token_hex(8)}"


class Account(Private):
    """Somebody known to the site. `name` is none that can be logged in with until the address has been confirmed."""

    id = peewee.AutoField()
    name = peewee.CharField(32, unique=True, default=_no_name)
    owner = peewee.CharField(64, unique=True, default=_no_name)  # of their processes: NAME@web, or a Unix user
    full_name = peewee.CharField(120)
    institute = peewee.CharField(200, default="")
    mail = peewee.CharField(254, unique=True)  # in lower case
    purpose = peewee.TextField(default="")
    group = peewee.CharField(64, default="", column_name="home_group")  # what its processes are made for
    rank = peewee.IntegerField(default=0)
    state = peewee.CharField(12, index=True)
    password = peewee.CharField(200, default="")  # see passwords.py
    quota_mb = peewee.BigIntegerField(default=0)  # 0: the group's
    made = peewee.DoubleField()


class Group(Private):
    """A reduction group. One that bears the name of a Unix group is the same group."""

    name = peewee.CharField(64, primary_key=True)
    title = peewee.CharField(120)
    description = peewee.TextField(default="")
    quota_mb = peewee.BigIntegerField(default=0)  # of all its members together; 0: none
    user_quota_mb = peewee.BigIntegerField(default=0)  # of each member; 0: none
    made = peewee.DoubleField()

    class Meta:
        table_name = "reduction_group"


class Membership(Private):
    """Who is in a group, and who asks to be. `state` is asked or member."""

    id = peewee.AutoField()
    account = peewee.IntegerField()
    group = peewee.CharField(64, index=True, column_name="of_group")
    state = peewee.CharField(8)
    is_administrator = peewee.BooleanField(default=False)
    purpose = peewee.TextField(default="")
    since = peewee.DoubleField()

    class Meta:
        indexes = ((("account", "group"), True),)


class Session(Private):
    id = peewee.CharField(64, primary_key=True)  # sha256 of what the cookie holds
    account = peewee.IntegerField(index=True)
    made = peewee.DoubleField()
    seen = peewee.DoubleField()
    address = peewee.CharField(45)
    browser = peewee.CharField(200, default="")


class Token(Private):
    """A link in a mail that works once: `kind` is confirm, reset or address; `value` an address to be confirmed."""

    id = peewee.CharField(64, primary_key=True)  # sha256 of what the link holds
    kind = peewee.CharField(8)
    account = peewee.IntegerField(index=True)  # 0: of an address that nobody has, kept for equal work
    value = peewee.CharField(254, default="")
    made = peewee.DoubleField()


class Attempt(Private):
    """What is limited in number: CGI has no memory of its own."""

    id = peewee.BigAutoField()
    kind = peewee.CharField(12)
    of = peewee.CharField(64)  # sha256 of an account's name or of an address
    time = peewee.DoubleField(index=True)

    class Meta:
        indexes = ((("kind", "of", "time"), False),)


class Audit(Private):
    """Who did what to whom on the site and with `spica user`. What became of processes stands in `event`."""

    id = peewee.BigAutoField()
    time = peewee.DoubleField(index=True)
    who = peewee.CharField(64)
    address = peewee.CharField(45, default="")
    verb = peewee.CharField(40)
    what = peewee.CharField(200, default="")
    group = peewee.CharField(64, default="", index=True, column_name="of_group")
    words = peewee.TextField(default="")


class Letter(Private):
    """A mail of the site, until the daemon has put it into its outbox. With an empty `to` it is not sent."""

    id = peewee.CharField(32, primary_key=True)
    to = peewee.CharField(254, column_name="addressee")
    subject = peewee.CharField(200)
    text = peewee.TextField()
    made = peewee.DoubleField()


class Handover(Private):
    """What the site drops into the spool in the name of an account; see handover.py."""

    token = peewee.CharField(32, primary_key=True)
    account = peewee.IntegerField(index=True)
    group = peewee.CharField(64, column_name="of_group")
    digest = peewee.CharField(64)  # sha256 of the words of the drop
    name = peewee.CharField(255, default="")  # of the drop
    drop_token = peewee.CharField(64, default="", index=True)  # of the drop that was taken; its process has it too
    made = peewee.DoubleField()


class Seen(Table):
    """A file that landed, as it was seen; the same name with other bytes is another row. See snooppix(8)."""

    id = peewee.BigAutoField()
    path_key = peewee.CharField(64)  # sha256 of the path's bytes
    version = peewee.IntegerField()  # 1 for the first file seen under that path
    path = peewee.TextField()
    name = peewee.CharField(255, index=True)
    identity = peewee.CharField(120, default="")  # device, inode, size and mtime; empty once the file has vanished
    bytes = peewee.BigIntegerField(default=0)
    state = peewee.CharField(12, index=True)  # waiting, registered, refused
    why = LongText(default="")
    first_seen = peewee.DoubleField()
    changed = peewee.DoubleField()  # when it was last seen to be another than before
    ended = peewee.DoubleField(null=True)
    sha256 = peewee.CharField(64, default="")
    exposure = peewee.BigIntegerField(null=True)
    is_accepted = peewee.BooleanField(default=False)  # as a new version of a name that is known

    class Meta:
        indexes = ((("path_key", "version"), True),)


class Transfer(Table):
    """One file on its way. `key` is made from what it is, so that a retried insert cannot make a second row."""

    id = peewee.BigAutoField()
    key = peewee.CharField(64, unique=True)
    kind = peewee.CharField(8)  # fetch into a landing folder, store on a root, export
    seen = peewee.BigIntegerField(null=True)
    batch = peewee.CharField(200, index=True)  # what belongs together
    name = peewee.CharField(255)
    source = peewee.TextField()
    target = peewee.TextField()
    node = peewee.CharField(64, default="")
    state = peewee.CharField(12, index=True)  # waiting, moving, paused, done, failed
    bytes = peewee.BigIntegerField(default=0)
    bytes_done = peewee.BigIntegerField(default=0)
    digest = peewee.CharField(80, default="")  # what is expected: sha256:HEX or md5:HEX
    sha256 = peewee.CharField(64, default="")  # what was found
    validator = peewee.CharField(255, default="")  # ETag or Last-Modified that a resumed download must still have
    attempts = peewee.IntegerField(default=0)
    is_by_hand = peewee.BooleanField(default=False)  # paused by a person: it does not resume by itself
    why = LongText(default="")
    not_before = peewee.DoubleField(default=0)
    asked = peewee.DoubleField()
    started = peewee.DoubleField(null=True)
    ended = peewee.DoubleField(null=True)


class Draft(Private):
    """A process that is being put together on the site; `recipe` is JSON, see web/spicaweb/drafts.py."""

    id = peewee.AutoField()
    account = peewee.IntegerField(index=True)
    name = peewee.CharField(200)
    recipe = LongText()
    made = peewee.DoubleField()
    changed = peewee.DoubleField()
    handed_over = peewee.CharField(32, default="")  # its token, once it was


class Configuration(Private):
    """One version of a configuration, of a file that configurations name, or of rules; never changed once written."""

    id = peewee.AutoField()
    kind = peewee.CharField(16)  # configuration, file, rules
    application = peewee.CharField(64, default="")
    name = peewee.CharField(100)
    owner = peewee.CharField(64, default="")  # empty: of the group
    group = peewee.CharField(64, default="", column_name="owner_group")  # empty too: everybody's
    number = peewee.IntegerField()
    text = LongText()
    made = peewee.DoubleField()
    who = peewee.CharField(64)
    words = peewee.CharField(200, default="")
    is_retired = peewee.BooleanField(default=False)

    class Meta:
        indexes = ((("owner", "group", "kind", "application", "name", "number"), True),)


class SchemaVersion(Table):
    number = peewee.IntegerField()


def _first_tables() -> None:
    _make(SchemaVersion, Process, Event, Step, Digest)


def _archive_tables() -> None:
    _make(Exposure, Ccd)


def _priority_columns() -> None:
    _add_missing_columns(Process, "locality")
    _add_missing_columns(Step, "slots", "input_bytes")


def _add_missing_columns(table: type[Table], *names: str) -> None:
    from playhouse.migrate import SchemaMigrator, migrate

    where = table._meta.table_name
    there = {column.name for column in database.get_columns(where)}
    migrator = SchemaMigrator.from_database(database.obj)
    for field in (table._meta.fields[name] for name in names):
        if field.column_name not in there:
            migrate(migrator.add_column(where, field.column_name, field))


def _selection_tables() -> None:
    _make(Tagged, Selection, Selected)
    if isinstance(database.obj, peewee.MySQLDatabase):  # r and R are two filters, as they are to SQLite
        for table in (Exposure, Tagged, Selection):
            name = table._meta.table_name
            database.execute_sql(f"ALTER TABLE `{name}` CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")


def _flow_tables() -> None:
    _make(Seen, Transfer)


def _private_tables() -> None:
    _make(*PRIVATE)


PRIVATE = (Account, Group, Membership, Session, Token, Attempt, Audit, Letter, Handover, Draft, Configuration)

# What the site's own account of the database may beside reading; `spica setup` grants it, spica.conf(5) tells it.
OWN = "INSERT, UPDATE, DELETE"
SITE_WRITES: dict[type[Table] | type[Private], str] = {
    **dict.fromkeys((Account, Group, Membership, Session, Token, Attempt, Letter, Handover, Draft, Configuration), OWN),
    **dict.fromkeys((Tagged, Selection, Selected), OWN),
    Audit: "INSERT",
    Grading: "INSERT",
    Exposure: "UPDATE (grade, graded_by)",
    Quality: "UPDATE (is_graded)",
}


def _make(*made: type[Table] | type[Private]) -> None:
    for table in made:
        opened = table._meta.database
        opened.create_tables([table])
        _make_missing_indexes(table)
        if isinstance(opened.obj, peewee.MySQLDatabase):  # whatever the server's own default is
            opened.execute_sql(f"ALTER TABLE `{table._meta.table_name}` CONVERT TO CHARACTER SET utf8mb4")


def _make_missing_indexes(table: type[Table] | type[Private]) -> None:
    """On MySQL each statement stands by itself: a first start that was killed leaves a table without its indexes."""
    opened = table._meta.database
    there = {index.name for index in opened.get_indexes(table._meta.table_name)}
    columns = {column.name for column in opened.get_columns(table._meta.table_name)}
    for index in table._meta.fields_to_index():
        is_possible = {field.column_name for field in index._expressions} <= columns  # later migrations add columns
        if index._name not in there and is_possible:
            opened.execute(table._schema._create_index(index, safe=False))  # type: ignore[union-attr]


def _site_tables() -> None:
    _make(Draft, Configuration)


def _quota_tables() -> None:
    _make(DiskUse, Quota)


def _retention_columns() -> None:
    _add_missing_columns(Process, "expires")


def _counting_indexes() -> None:
    _make_missing_indexes(Exposure)
    _drop_index(Exposure, "exposure_t_min")


def _drop_index(table: type[Table], name: str) -> None:
    where = table._meta.table_name
    if any(index.name == name for index in database.get_indexes(where)):
        on = f" ON {where}" if isinstance(database.obj, peewee.MySQLDatabase) else ""
        database.execute_sql(f"DROP INDEX {name}{on}")


def _quality_tables() -> None:
    _add_missing_columns(Exposure, "graded_by", "elongation", "background", "limiting_magnitude", "stars")
    _make_missing_indexes(Exposure)
    _make(Quality, Grading)


def _queue_of_graders() -> None:
    _add_missing_columns(Quality, "is_graded")
    _make_missing_indexes(Quality)
    _make_missing_indexes(Exposure)
    _drop_index(Exposure, "exposure_graded_by")
    graded = Exposure.select(Exposure.id).where(Exposure.graded_by != "")
    Quality.update(is_graded=True).where(Quality.exposure.in_(graded)).execute()


def _outlines_on_the_sky() -> None:
    """In place of an older index, which was a table `cell`. What is in the archive is written by who calls upgrade.

    On MySQL Spica's account has no right to drop a table: there the older one stays, and nobody reads it.
    """
    # The rows lie in the order of their key, as InnoDB's always do.
    Outline._meta.without_rowid = isinstance(database.obj, peewee.SqliteDatabase)
    _make(Outline)
    if isinstance(database.obj, peewee.SqliteDatabase):
        database.execute_sql("DROP TABLE IF EXISTS cell")


OUTLINES = 19
MIGRATIONS: tuple[tuple[int, str, Callable[[], None]], ...] = (
    (1, "processes, events, steps, digests", _first_tables),
    (2, "the archive: exposures, CCDs, their places on the sky", _archive_tables),
    (3, "saved selections of exposures, and tags", _selection_tables),
    (4, "accounts and groups", _private_tables),
    (5, "what landed, and what is on its way", _flow_tables),
    (6, "what the order of processes is made of", _priority_columns),
    (7, "drafts of processes, and configurations made on the site", _site_tables),
    (8, "when products go", _retention_columns),
    (9, "an index of processes by owner and phase", lambda: _make_missing_indexes(Process)),
    (10, "what users and groups have on the disk", _quota_tables),
    (12, "indexes that count exposures without reading their rows", _counting_indexes),
    (13, "grades and their history, figures of quality", _quality_tables),
    (15, "how far new exposures have been begun", lambda: _make(Mark)),
    (16, "the queue of what waits for a grade", _queue_of_graders),
    (17, "what master frames are made of", lambda: _make(Ingredient)),
    (18, "what processes have to do, by application", lambda: _add_missing_columns(Process, "workload")),
    (OUTLINES, "where each CCD lies on the sky", _outlines_on_the_sky),
)
NEWEST = MIGRATIONS[-1][0]


def connect(url: str, password_file: str = "", read_only: bool = False, is_patient: bool = False) -> peewee.Database:
    """Opens the database of `url` and makes it the one that all tables use. Raises SpicaError naming the mend.

    With `is_patient` a MySQL server may take as long as it likes for an answer.
    """
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        opened = _sqlite(sqlite_file(url), read_only)
    elif parts.scheme in ("mysql", "mariadb"):
        opened = _mysql(parts, password_file, None if is_patient else PATIENCE_S)
    else:
        raise SpicaError(f"database.url {url!r}: expected sqlite:///FILE or mysql://USER@HOST/NAME.")
    database.initialize(opened)
    private.initialize(_private(opened, read_only))
    try:
        opened.connect()
    except peewee.OperationalError as error:
        raise SpicaError(f"The database {shown_url(url)} cannot be opened: {error}") from None
    except peewee.DatabaseError as error:
        mend = "Move it away and start spicad: rows are made anew from the spool."
        raise SpicaError(f"The database {shown_url(url)} is damaged: {error}. {mend}") from None
    return opened


def connect_to_read(section: Section) -> peewee.Database:
    """By [database] of spica.conf: the daemon's way for who may read its password, that of readers for the others."""
    if section.readers and not os.access(section.password_file, os.R_OK):
        return connect(section.readers, section.readers_password_file, read_only=True)
    return connect(section.url, section.password_file, read_only=True)


def place_for_site(settings: Settings) -> tuple[str, str]:
    """The url and the password file that the site connects with: its own of [web], else the daemon's."""
    if settings.web.database:
        return settings.web.database, settings.web.password_file
    return settings.database.url, settings.database.password_file


def sqlite_file(url: str) -> Path:
    return Path(unquote(urlsplit(url).path.removeprefix("/")))


def _sqlite(path: Path, read_only: bool) -> peewee.Database:
    if not read_only:
        path.parent.mkdir(parents=True, exist_ok=True)
        pragmas = {"journal_mode": "wal", "synchronous": "full", "busy_timeout": 10_000, "foreign_keys": 1, **READING}
        return peewee.SqliteDatabase(str(path), pragmas=pragmas, autoconnect=False)
    if not path.exists():
        raise SpicaError(f"{path}: there is no database yet. Start spicad once, or run: spica database upgrade")
    # Without its -wal file nobody writes: a reader that may not make one reads the file as it is.
    mode = "mode=ro" if path.with_name(path.name + "-wal").exists() else "immutable=1"
    uri = f"file:{path.as_posix().replace('?', '%3f').replace('#', '%23')}?{mode}"
    return peewee.SqliteDatabase(uri, uri=True, pragmas={"busy_timeout": 10_000, **READING}, autoconnect=False)


def _private(opened: peewee.Database, read_only: bool) -> peewee.Database:
    """On SQLite a file of its own, opened when it is first asked for, since `may_share` lets others read the first."""
    if isinstance(opened, peewee.MySQLDatabase):
        return opened
    if read_only:
        return peewee.SqliteDatabase(None)
    path = accounts_file(Path(opened.database))
    with suppress(PermissionError):  # whoever may not read it is told so at the first question
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    pragmas = {"journal_mode": "wal", "synchronous": "full", "busy_timeout": 10_000}
    return peewee.SqliteDatabase(str(path), pragmas=pragmas)


def accounts_file(path: Path) -> Path:
    return path.with_name(f"{path.stem}-accounts{path.suffix}")


def _mysql(parts: Any, password_file: str, patience_s: float | None) -> peewee.Database:
    options = dict(pair.split("=", 1) for pair in parts.query.split("&") if "=" in pair)
    connection: dict[str, Any] = {
        "user": unquote(parts.username or ""),
        "charset": "utf8mb4",
        "connect_timeout": 10,
        "read_timeout": patience_s,
        "write_timeout": patience_s,
    }
    if password_file:
        connection["password"] = secret(Path(password_file))
    elif parts.password:
        connection["password"] = unquote(parts.password)
    if "socket" in options:
        connection["unix_socket"] = unquote(options["socket"])
    else:
        connection["host"], connection["port"] = parts.hostname or "localhost", parts.port or 3306
    if "socket" in options or parts.hostname in LOCAL_HOSTS:
        connection["ssl_disabled"] = True  # PyMySQL builds a TLS context even there: 30 ms
    # Pollers must see what others committed since.
    connection["init_command"] = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"
    return _MySQL(parts.path.lstrip("/"), autoconnect=False, **connection)


class _MySQL(peewee.MySQLDatabase):
    def _initialize_connection(self, connection: Any) -> None:
        connection.cursor().execute(f"SET SESSION group_concat_max_len = {LONGEST_TEXT}")


def secret(path: Path) -> str:
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o007:
            raise SpicaError(f"{path}: others may read this password. Run: chmod o-rwx {path}")
        return path.read_text().strip()
    except OSError as error:
        raise SpicaError(f"database.password_file {path}: {error.strerror}") from None


def shown_url(url: str) -> str:
    parts = urlsplit(url)
    return url.replace(f":{parts.password}@", ":***@") if parts.password else url


@contextmanager
def without_sync() -> Iterator[None]:
    """On SQLite, a transaction that a power cut may take back: its rows can be made anew from the spool."""
    if not isinstance(database.obj, peewee.SqliteDatabase):
        yield
        return
    database.execute_sql("PRAGMA synchronous = NORMAL")
    try:
        yield
    finally:
        database.execute_sql("PRAGMA synchronous = FULL")


def schema_version() -> int:
    """0 for an empty database."""
    if not SchemaVersion.table_exists():
        return 0
    row = SchemaVersion.select(peewee.fn.MAX(SchemaVersion.number)).scalar()
    return int(row or 0)


def upgrade(write_outlines: Callable[[], None] = lambda: None) -> list[str]:
    """Runs the migrations that are missing; returns their words.

    `write_outlines` does so for the exposures that are there: a schema without them is not the newer one.
    """
    done = []
    for number, words, migrate in MIGRATIONS:
        if number > schema_version():
            with database.atomic():
                migrate()
                if number == OUTLINES:
                    write_outlines()
                SchemaVersion.create(number=number)
            done.append(f"{number}: {words}")
    return done


def require_current(make_if_empty: bool = False) -> None:
    """Raises SpicaError with the command to run when the schema is older or newer than this program."""
    version = schema_version()
    if version == 0 and make_if_empty:
        upgrade()
        return
    if version < NEWEST:
        raise SpicaError(f"The database has schema {version}, this Spica needs {NEWEST}. Run: spica database upgrade")
    if version > NEWEST:
        raise SpicaError(
            f"The database has schema {version}, newer than this Spica's {NEWEST}. Install the newer Spica."
        )


def make_private() -> None:
    """The tables of accounts, also where their own file was lost while the others stayed."""
    if not all(table.table_exists() for table in PRIVATE):
        _make(*PRIVATE)


def may_share(path: Path) -> None:
    """Lets the spool's group read an SQLite database, so that `spica list` works for those who may drop jobs."""
    group = path.parent.stat().st_gid
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            os.chmod(f"{path}{suffix}", 0o640)
            os.chown(f"{path}{suffix}", -1, group)
