"""The site's list of processes beside the same rows shown by a few lines of Bottle, by CGI and by WSGI, in one run.

    .venv/bin/python tests/benchmarks/site.py [cgi|wsgi] [--database sqlite] [--footprints 1000000]

The reference has one query by the bare driver, no accounts, no sessions, and the same 50 rows in a table: number, link,
owner, phase, steps, times, reason. cgi: one process for each request, run here as a web server would. wsgi: both on
waitress; one client on a kept connection, then fifty who read for a second after each page, while the daemon works and
the archive holds a million exposures.
"""

from __future__ import annotations

import argparse
import http.client
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # services.py, site_world.py

from stand import ROOT, Stand, stand, table, verdict

sys.path.insert(0, str(ROOT / "web"))

import search
from services import PASSWORD, MariaDB
from site_world import NOW, Site, account

from spicad import config, tables
from spicad.tables import Process

PATH = "/processes"
PROCESSES = 2000
CGI_RUNS, WSGI_RUNS = 40, 500
CLIENTS, READING_S, LONG_S = 50, 1.0, 20.0
WEB = """
[web]
address = "http://127.0.0.1:8080"
linger_s = {linger_s}
[database]
url = "{url}"
"""
BARE = """
import sys, time
from bottle import Bottle, SimpleTemplate
HOW, URL = sys.argv[1:3]
COLUMNS = "id, name, owner, phase, steps_done, steps_total, submitted, ended, expires, why"
ROWS = f"SELECT {COLUMNS} FROM process WHERE owner = %s ORDER BY id DESC LIMIT 50"
PAGE = SimpleTemplate('''<!doctype html><html lang="en"><title>Processes</title><table>
% for number, name, owner, phase, done, total, submitted, ended, expires, why in rows:
<tr><td>{{number}}</td><td><a href="/process/{{number}}">{{name}}</a></td><td>{{owner}}</td><td>{{phase}}</td>
<td>{{done}}/{{total}}</td><td>{{when(submitted)}}</td><td>{{when(ended)}}</td><td>{{when(expires)}}</td><td>{{why}}</td></tr>
% end
</table></html>''')
app = Bottle()
def when(moment):
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(moment)) if moment else ""
def rows():
    if URL.startswith("/"):
        import sqlite3
        connection = sqlite3.connect(URL)
        found = connection.execute(ROWS.replace("%s", "?"), ("alice@web",)).fetchall()
    else:
        import pymysql
        user, password, database, unix_socket = URL.split("|")
        connection = pymysql.connect(user=user, password=password, database=database, unix_socket=unix_socket,
                                     ssl_disabled=True)
        with connection.cursor() as cursor:
            cursor.execute(ROWS, ("alice@web",))
            found = cursor.fetchall()
    connection.close()
    return found
@app.route("/processes")
def page():
    return PAGE.render(rows=rows(), when=when)
if HOW == "cgi":
    from wsgiref.handlers import CGIHandler
    CGIHandler().run(app)
else:
    import waitress
    waitress.serve(app, host="127.0.0.1", port=int(HOW), threads=8)
"""


class World:
    """A spool with a daemon, a site over its database, and two thousand processes of Alice."""

    def __init__(self, made: Stand, engine: str, server: MariaDB | None) -> None:
        self.stand = made
        self.engine = engine
        self.url = server.url("spica") if server else ""
        self.before = made.conf.read_text()
        self.configure(0)
        self.site = Site(config.load(made.conf))
        self.site.open()
        owner = account("alice").owner
        with tables.database.atomic():
            for number in range(PROCESSES):
                Process.create(
                    token=f"made-{number}", name=f"m101-{number}", owner=owner, group="lensing", rank=1,
                    phase="COMPLETED", steps_done=4, steps_total=4,
                    submitted=NOW + number, ended=NOW + number + 50, expires=NOW + 1e6,
                )  # fmt: skip
        self.cookie = "; ".join(f"{name}={value}" for name, value in self.site.logged_in("alice").cookies.items())
        if server:
            options = ("spica", PASSWORD, "spica", str(server.socket))
            self.bare_url = "|".join(options)
        else:
            self.bare_url = str(tables.database.database)
        self.bare = made.folder / "bare.py"
        self.bare.write_text(BARE)

    def configure(self, linger_s: float) -> None:
        self.stand.conf.write_text(self.before + WEB.format(linger_s=linger_s, url=self.url))

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "SPICA_CONF": str(self.stand.conf)}


def by_cgi(world: World) -> bool:
    request = {
        "REQUEST_METHOD": "GET", "PATH_INFO": PATH, "SCRIPT_NAME": "", "SERVER_NAME": "127.0.0.1", "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": "127.0.0.1", "HTTP_COOKIE": world.cookie,
    }  # fmt: skip
    ours = [sys.executable, str(ROOT / "web/spica.cgi")]
    bare = [sys.executable, str(world.bare), "cgi", world.bare_url]

    def ms(command: Sequence[str]) -> float:
        began = time.perf_counter()
        done = subprocess.run(command, env=world.environment | request, stdout=subprocess.PIPE, check=True)
        took = (time.perf_counter() - began) * 1000
        if b"m101-1999" not in done.stdout:
            raise SystemExit(f"{command[1]} did not answer with the page:\n{done.stdout[:300]!r}")
        return took

    times: dict[str, list[float]] = {
        "bare Bottle": [],
        "spica.cgi, a process of its own": [],
        "spica.cgi, lingering": [],
    }
    for linger_s, name in ((0, "spica.cgi, a process of its own"), (300, "spica.cgi, lingering")):
        world.configure(linger_s)
        for _ in range(5):
            ms(ours), ms(bare)
        for _ in range(CGI_RUNS):
            times[name].append(ms(ours))
            times["bare Bottle"].append(ms(bare))
    world.configure(0)  # what was left behind ends
    reference = statistics.median(times["bare Bottle"])
    rows = [
        (name, min(each), statistics.median(each), statistics.median(each) / reference) for name, each in times.items()
    ]
    table(f"One page by CGI, {world.engine}, ms", ("", "min", "median", "ratio"), rows)
    return verdict("a page by CGI as it is installed, over bare Bottle", rows[2][3], 1.3)


@contextmanager
def serving(command: Sequence[str], environment: dict[str, str], port: int) -> Iterator[None]:
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                if server.poll() is not None or time.monotonic() > until:
                    raise SystemExit(f"{command} does not answer") from None
                time.sleep(0.02)
        yield
    finally:
        server.terminate()
        server.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Reader:
    def __init__(self, port: int, cookie: str) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self.headers = {"Cookie": cookie}

    def ms(self, path: str = PATH) -> float:
        began = time.perf_counter()
        self.connection.request("GET", path, headers=self.headers)
        answer = self.connection.getresponse()
        body = answer.read()
        if answer.status != 200 or b"m101-1999" not in body:
            raise SystemExit(f"{path}: {answer.status} {body[:200]!r}")
        return (time.perf_counter() - began) * 1000


def by_wsgi(world: World) -> bool:
    ports = free_port(), free_port()
    ours = [sys.executable, str(ROOT / "bin/spica"), "serve", "--listen", f"127.0.0.1:{ports[0]}"]
    bare = [sys.executable, str(world.bare), str(ports[1]), world.bare_url]
    with serving(ours, world.environment, ports[0]), serving(bare, world.environment, ports[1]):
        readers = [Reader(port, world.cookie) for port in ports]
        times: list[list[float]] = [[], []]
        for turn in range(WSGI_RUNS):
            for reader, each in zip(readers, times, strict=True):
                took = reader.ms()
                if turn >= 20:
                    each.append(took)
        middle = [statistics.median(each) for each in times]
        rows = [("bare Bottle", middle[1], 1.0), ("spica serve", middle[0], middle[0] / middle[1])]
        table(f"One page of 50 rows on waitress, one client, {world.engine}, ms", ("", "median", "ratio"), rows)
        good = verdict("a page by WSGI, over bare Bottle", middle[0] / middle[1], 2.0)
        return fifty(world, ports[0]) and good


def fifty(world: World, port: int) -> bool:
    world.stand.start()
    ends = time.monotonic() + LONG_S
    times: list[float] = []

    def reads(number: int) -> None:
        reader = Reader(port, world.cookie)
        time.sleep(READING_S * number / CLIENTS)
        while time.monotonic() < ends:
            times.append(reader.ms())
            time.sleep(READING_S)

    def drops() -> None:
        number = 0
        while time.monotonic() < ends:
            world.stand.drop(f"work-{number}", world.stand.job(f"work-{number}"))
            number += 1
            time.sleep(0.2)

    threads = [threading.Thread(target=reads, args=(number,)) for number in range(CLIENTS)]
    threads.append(threading.Thread(target=drops))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done = Process.select().where(Process.name.startswith("work-") & (Process.phase == "COMPLETED")).count()
    world.stand.stop()
    times.sort()
    p99 = times[int(len(times) * 0.99)]
    rows = [(len(times), statistics.median(times), p99, times[-1], done)]
    table(f"{CLIENTS} clients, ms", ("pages", "median", "p99", "most", "processes run meanwhile"), rows)
    return verdict("p99 with 50 clients", p99, 100.0, "ms")


def measured(engine: str, what: str | None, footprints: int) -> bool:
    server = MariaDB() if engine == "mariadb" else None
    try:
        if server:
            server.start()
        with stand(sandbox="none") as made:
            world = World(made, engine, server)
            good = what == "wsgi" or by_cgi(world)
            if what != "cgi":
                world.site.open()
                search.fill(footprints)
                good = by_wsgi(world) and good
            return good
    finally:
        if server:
            server.remove()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("cgi", "wsgi"), help="one alone")
    parser.add_argument("--database", action="append", choices=("sqlite", "mariadb"), default=[])
    parser.add_argument("--footprints", type=int, default=1_000_000)
    wanted = parser.parse_args()
    verdicts = [measured(each, wanted.what, wanted.footprints) for each in wanted.database or ("sqlite", "mariadb")]
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
