"""datatransfer: what is carried arrives whole, beside its siblings, once; what is lost or full is waited for.

Over a real sshd with rsync, a web server that breaks off, and a file system that is too small.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT, RunningSpica
from flow import Stand, hidden, sky_file
from remote import Node, Web
from services import missing

from spicad.archive import carrying, datatransfer
from spicad.archive.carrying import carry
from spicad.archive.errands import Damaged, Errand, Full, Gone, Interrupted, Lost, Means, Occupied, Progress, Rate
from spicad.archive.snooppix import REFUSED, REGISTERED, WAITING
from spicad.archive.sources import Offer, Sources, ask_for, offers
from spicad.archive.storage import Root, choose, place_of, require_apart, roots_of
from spicad.commands import transfer as command
from spicad.tables import Exposure, Transfer
from spicad.words import BadInput

MIB = 1 << 20
HERE = Means(Rate(0), timeout_s=5)


def errand(source: object, target: object, **more: object) -> Errand:
    return Errand(7, str(source), str(target), **more)  # type: ignore[arg-type]


def random_file(path: Path, size: int = 3 * MIB) -> bytes:
    content = hashlib.shake_256(path.name.encode()).digest(size)
    path.write_bytes(content)
    return content


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    made = Node(tmp_path_factory.mktemp("node") / "ssh")
    yield made
    made.stop()


@pytest.fixture
def over_ssh(node: Node) -> Means:
    return Means(Rate(0), timeout_s=5, ssh_options=("-F", str(node.folder / "ssh.conf")))


@pytest.fixture
def web() -> Iterator[Web]:
    made = Web()
    yield made
    made.stop()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if subprocess.run(mounted, check=False, capture_output=True).returncode:
        missing("the right to mount a small file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


# ---------------------------------------------------------------------- where to


def test_what_belongs_together_goes_together_then_where_most_is_free():
    one, two = Root("a", "", "/one"), Root("b", "", "/two")
    free = {one: 10 * MIB, two: 20 * MIB}

    assert choose([one, two], free, {}, {}, MIB, 0).root == two
    assert choose([one, two], free, {}, {one: 3, two: 1}, MIB, 0).root == one
    assert choose([one, two], free, {two: 15 * MIB}, {}, MIB, 0).root == one
    assert choose([one, two], free, {}, {one: 3}, 12 * MIB, 0).root == two


def test_a_full_or_unreachable_storage_is_waited_for_with_a_reason():
    one, two = Root("a", "", "/one"), Root("b", "", "/two")

    full = choose([one, two], {one: MIB, two: MIB}, {}, {}, 2 * MIB, MIB)
    apart = choose([one, two], {two: 20 * MIB}, {}, {one: 1}, MIB, 0)
    none = choose([one], {}, {}, {}, MIB, 0)

    assert (full.root, "no root has room" in full.why) == (None, True)
    assert (apart.root, apart.why) == (None, "/one, where its siblings lie, cannot be reached.")
    assert none.root is None


def test_folders_made_from_headers_lead_nowhere_else():
    assert place_of("../../etc", "r;rm -rf /") == "etc/r_rm_-rf"
    assert place_of("", " ") == "no-runid/no-filter"
    assert place_of("04AF12", "r.MP9601") == "04AF12/r.MP9601"
    assert len(place_of("x" * 300, "y")) < 100


def test_roots_are_read_and_what_is_none_is_named():
    assert roots_of(["/a", "n2=/b", "n3=spica@host.example:/c"], "here") == (
        Root("here", "", "/a"),
        Root("n2", "", "/b"),
        Root("n3", "spica@host.example", "/c"),
    )
    with pytest.raises(BadInput, match=r"'a/b' is no place to keep exposures"):
        roots_of(["a/b"], "here")


def test_landing_folders_and_roots_lie_apart():
    require_apart([Path("/land")], ["/store", "n=host:/land"], "spica.conf")

    for folder, root in (("/data/land", "/data"), ("/data", "/data/store"), ("/data", "/data")):
        with pytest.raises(BadInput, match="lie one in the other"):
            require_apart([Path(folder)], [root], "spica.conf")


def test_exposures_of_one_run_and_filter_lie_on_one_root(tmp_path: Path):
    with Stand(tmp_path / "stand").open() as stand:
        for number in range(12):
            stand.drop(f"{number}p.fits", sky_file(number, "rgi"[number % 3], "20AS01" if number < 6 else "20BF02"))
        stand.take()

        places: dict[tuple[str, str], set[str]] = {}
        for one in Exposure.select():
            places.setdefault((one.runid, one.filter), set()).add(str(Path(one.path).parent))
        assert len(places) == 6
        assert all(len(folders) == 1 for folders in places.values())


# ---------------------------------------------------------------------- plain copies


def test_a_copy_that_was_cut_goes_on_where_it_was(tmp_path: Path):
    content = random_file(tmp_path / "a")
    partial = tmp_path / ".spica-7.part"
    partial.write_bytes(content[: 2 * MIB])
    read: list[int] = []
    progress = Progress()
    rate = Rate(0)
    rate.take = lambda count, stop: read.append(count)  # type: ignore[method-assign]

    carried = carry(errand(tmp_path / "a", tmp_path / "b"), Means(rate), progress)

    assert (tmp_path / "b").read_bytes() == content
    assert carried.sha256 == hashlib.sha256(content).hexdigest()
    assert sum(read) == MIB
    assert hidden(tmp_path) == []


def test_a_partial_file_that_was_damaged_is_thrown_away(tmp_path: Path):
    content = random_file(tmp_path / "a")
    (tmp_path / ".spica-7.part").write_bytes(b"x" * MIB)

    with pytest.raises(Damaged, match="it is copied again"):
        carry(errand(tmp_path / "a", tmp_path / "b"), HERE, Progress())
    assert not (tmp_path / "b").exists()
    carry(errand(tmp_path / "a", tmp_path / "b"), HERE, Progress())

    assert (tmp_path / "b").read_bytes() == content


def test_nothing_is_ever_overwritten(tmp_path: Path):
    random_file(tmp_path / "a")
    (tmp_path / "b").write_bytes(b"mine")

    with pytest.raises(Occupied, match="another file lies there"):
        carry(errand(tmp_path / "a", tmp_path / "b"), HERE, Progress())

    assert (tmp_path / "b").read_bytes() == b"mine"


def test_what_arrived_in_an_earlier_life_is_not_copied_again(tmp_path: Path):
    content = random_file(tmp_path / "a")
    (tmp_path / "b").write_bytes(content)
    inode = (tmp_path / "b").stat().st_ino

    carry(errand(tmp_path / "a", tmp_path / "b"), HERE, Progress())

    assert (tmp_path / "b").stat().st_ino == inode


def test_a_source_that_is_not_what_was_examined_is_damaged_and_one_that_has_gone_is_gone(tmp_path: Path):
    random_file(tmp_path / "a")

    with pytest.raises(Damaged):
        carry(errand(tmp_path / "a", tmp_path / "b", digest=f"sha256:{'0' * 64}"), HERE, Progress())
    with pytest.raises(Gone):
        carry(errand(tmp_path / "none", tmp_path / "b"), HERE, Progress())


def test_a_root_that_is_not_mounted_is_not_made(tmp_path: Path):
    random_file(tmp_path / "a")

    with pytest.raises(Lost, match="is not there"):
        carry(errand(tmp_path / "a", tmp_path / "disk/r/a", root=str(tmp_path / "disk")), HERE, Progress())

    assert not (tmp_path / "disk").exists()


def test_one_that_is_told_to_stop_keeps_what_it_has(tmp_path: Path):
    random_file(tmp_path / "a")
    progress = Progress()
    rate = Rate(0)
    rate.take = lambda count, stop: progress.bytes_done >= MIB and progress.stop.set()  # type: ignore[method-assign]

    with pytest.raises(Interrupted):
        carry(errand(tmp_path / "a", tmp_path / "b"), Means(rate), progress)

    assert (tmp_path / ".spica-7.part").stat().st_size == 2 * MIB
    assert not (tmp_path / "b").exists()


class Paused(threading.Event):
    """Notes for how long it would have been waited."""

    waited_s = 0.0

    def wait(self, timeout: float | None = None) -> bool:
        self.waited_s = timeout or 0.0
        return False


def test_the_rate_is_kept():
    rate, stop = Rate(MIB), Paused()

    for _ in range(41):
        rate.take(MIB, stop)

    assert 30 < stop.waited_s <= 40


# ---------------------------------------------------------------------- full disks


def test_a_full_disk_pauses_with_a_reason_and_goes_on_by_itself(tmp_path: Path, small_disk: Path):
    (small_disk / "ballast").write_bytes(b"\0" * (4 * MIB - 200_000))
    with Stand(tmp_path / "stand", roots=f'"{small_disk}"', free_mb=0).open() as stand:
        content = sky_file(1, kind="f8")
        assert len(content) > 200_000
        stand.drop("1p.fits", content)
        stand.take()
        (row,) = Transfer.select()
        assert (row.state, "no root has room" in row.why) == ("paused", True)
        assert stand.ended("1p.fits")[0] == WAITING
        assert (stand.land / "1p.fits").exists()

        (small_disk / "ballast").unlink()
        stand.look(20)

        assert stand.ended("1p.fits")[0] == REGISTERED
        assert Path(stand.registered()["1p.fits"]).read_bytes() == content


def test_a_disk_that_fills_up_meanwhile_pauses_too(tmp_path: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch):
    with Stand(tmp_path / "stand", roots=f'"{small_disk}"', free_mb=0).open() as stand:
        stand.drop("1p.fits", sky_file(1, kind="f8"))
        (small_disk / "ballast").write_bytes(b"\0" * (4 * MIB - 100_000))
        with monkeypatch.context() as patched:  # nobody looked at the disk in time
            patched.setattr(datatransfer, "free_on", lambda roots, means: dict.fromkeys(roots, MIB * 100))
            patched.setattr(carrying, "require_room", lambda *values: None)
            stand.take()
        (row,) = Transfer.select()
        assert (row.state, "The disk is full" in row.why) == ("paused", True)
        assert hidden(small_disk) == []

        (small_disk / "ballast").unlink()
        stand.look(20)

        assert stand.ended("1p.fits")[0] == REGISTERED


def test_so_many_bytes_stay_free(tmp_path: Path, small_disk: Path):
    random_file(tmp_path / "a", MIB)

    with pytest.raises(Full, match="must stay free"):
        carry(errand(tmp_path / "a", small_disk / "b", keep_free=3 * MIB + 1), HERE, Progress())


def test_a_file_that_goes_away_while_its_transfer_pauses_holds_up_nobody_of_its_name(tmp_path: Path):
    with Stand(tmp_path / "stand", roots='"{one}"').open() as stand:
        stand.one.rename(tmp_path / "unmounted")
        path = stand.drop("1p.fits", sky_file(1))
        stand.take()
        (row,) = Transfer.select()
        assert (row.state, row.why) == ("paused", "no root can be reached.")
        path.unlink()
        stand.look()
        assert Transfer.get_by_id(row.id).state == "failed"

        stand.drop("1p.fits", sky_file(2))
        (tmp_path / "unmounted").rename(stand.one)
        stand.take()
        stand.look(60)

        assert stand.ended("1p.fits")[0] == REGISTERED
        assert Path(stand.registered()["1p.fits"]).read_bytes() == sky_file(2)


def test_a_file_that_changes_while_its_transfer_pauses_is_carried_as_it_is_in_the_end(tmp_path: Path):
    with Stand(tmp_path / "stand", roots='"{one}"').open() as stand:
        stand.one.rename(tmp_path / "unmounted")
        stand.drop("1p.fits", sky_file(1))
        stand.take()

        stand.drop("1p.fits", sky_file(2))
        (tmp_path / "unmounted").rename(stand.one)
        stand.take()
        stand.look(60)

        assert stand.counts() == {"seen": 1, WAITING: 0, REGISTERED: 1, REFUSED: 0}
        assert Path(stand.registered()["1p.fits"]).read_bytes() == sky_file(2)


# ---------------------------------------------------------------------- ssh


@pytest.mark.slow
def test_exposures_go_to_another_node_over_ssh_and_are_registered_there(tmp_path: Path, node: Node):
    roots = f'"there={Node.name}:{tmp_path}/stand/two"'
    with Stand(tmp_path / "stand", roots=roots, storage=node.option).open() as stand:
        name = 'it\'s; a "name" $(x).fits'
        stand.drop(name, sky_file(1))
        stand.take()

        kept = stand.two / "20AS01/r" / name
        assert [(one.node, one.path) for one in Exposure.select()] == [("there", str(kept))]
        assert kept.read_bytes() == sky_file(1)
        assert hidden(stand.two) == []
        assert list(stand.land.iterdir()) == []


@pytest.mark.slow
def test_a_node_that_is_lost_pauses_its_transfers_and_they_go_on_by_themselves(tmp_path: Path, node: Node):
    roots = f'"there={Node.name}:{tmp_path}/stand/two"'
    with Stand(tmp_path / "stand", roots=roots, storage=node.option).open() as stand:
        stand.drop("1p.fits", sky_file(1))
        node.stop()
        stand.take()
        (row,) = Transfer.select()
        assert (row.state, row.why) == ("paused", "no root can be reached.")

        node.start()
        stand.look(20)

        assert stand.ended("1p.fits")[0] == REGISTERED


@pytest.mark.slow
def test_files_come_by_rsync_resumed_and_verified(tmp_path: Path, node: Node, over_ssh: Means):
    content = random_file(tmp_path / "a file; with signs")
    (tmp_path / "to").mkdir()
    (tmp_path / "to/.spica-7.part").write_bytes(content[:MIB])
    source = f"{Node.name}:{tmp_path}/a file; with signs"
    progress = Progress()

    carried = carry(errand(source, tmp_path / "to/a"), over_ssh, progress)

    assert (tmp_path / "to/a").read_bytes() == content
    assert carried.sha256 == hashlib.sha256(content).hexdigest()
    assert progress.bytes_done > 0
    with pytest.raises(Gone):
        carry(errand(f"{Node.name}:{tmp_path}/none", tmp_path / "to/b"), over_ssh, Progress())


@pytest.mark.slow
def test_a_pattern_in_a_name_on_another_node_is_that_name(tmp_path: Path, node: Node, over_ssh: Means):
    there, here = tmp_path / "there [1]*", tmp_path / "here"
    for folder in (there, here, tmp_path / "there 1x"):
        folder.mkdir()
    names = ("a[1].fits", "a1.fits", "*.fits", "b?.fits", "b2.fits", "c\\d.fits")
    for name in names:
        random_file(tmp_path / name, 1000)
    for name in names:  # to the other side and back
        carry(errand(tmp_path / name, f"{Node.name}:{there}/{name}"), over_ssh, Progress())
    for name in (each for each in names if "\\" not in each):
        carry(errand(f"{Node.name}:{there}/{name}", here / name), over_ssh, Progress())
        assert (here / name).read_bytes() == (tmp_path / name).read_bytes() == (there / name).read_bytes()

    assert [offer.name for offer in offers(f"{Node.name}:{there}", over_ssh)] == sorted(names)
    assert list((tmp_path / "there 1x").iterdir()) == []


@pytest.mark.slow
def test_a_fetch_by_rsync_leaves_so_many_bytes_free(tmp_path: Path, node: Node, over_ssh: Means, small_disk: Path):
    random_file(tmp_path / "a", 3 * MIB)
    wanted = errand(f"{Node.name}:{tmp_path}/a", small_disk / "b", keep_free=MIB + 1)

    with pytest.raises(Full, match=f"{3 * MIB} more bytes are to come"):
        carry(wanted, over_ssh, Progress())
    with pytest.raises(Full, match="must stay free"):  # its size was told wrong, or others write meanwhile
        carry(errand(wanted.source, wanted.target, keep_free=4 * MIB), over_ssh, Progress(bytes=-1))

    assert not (small_disk / "b").exists()
    carry(errand(wanted.source, wanted.target, keep_free=MIB // 2), over_ssh, Progress())
    assert (small_disk / "b").stat().st_size == 3 * MIB


@pytest.mark.slow
def test_nothing_is_overwritten_on_another_node(tmp_path: Path, node: Node, over_ssh: Means):
    random_file(tmp_path / "a")
    (tmp_path / "b").write_bytes(b"mine")

    with pytest.raises(Occupied):
        carry(errand(tmp_path / "a", f"{Node.name}:{tmp_path}/b"), over_ssh, Progress())

    assert (tmp_path / "b").read_bytes() == b"mine"


@pytest.mark.slow
def test_a_source_over_ssh_is_fetched_once_and_what_changed_there_again(tmp_path: Path, node: Node, over_ssh: Means):
    (tmp_path / "out").mkdir()
    source = f"{Node.name}:{tmp_path}/out"
    (tmp_path / "out/1p.fits").write_bytes(sky_file(1))
    (tmp_path / "out/.hidden").write_bytes(b"")
    options = {"landing": f'sources = ["{source}"]', "storage": node.option}
    with Stand(tmp_path / "stand", **options).open() as stand:
        assert stand.life
        sources = Sources(stand.settings, over_ssh, stand.life.readers, stand.clock)
        for _ in range(2):
            sources.once()
            stand.look()
            stand.take()
            sources.next_look = 0.0

        assert list(stand.registered()) == ["1p.fits"]
        assert [row.kind for row in Transfer.select().order_by(Transfer.id)] == ["fetch", "store"]
        assert [offer.name for offer in offers(source, over_ssh)] == [".hidden", "1p.fits"]


# ---------------------------------------------------------------------- http


def fetched(web: Web, tmp_path: Path, **more: object) -> bytes:
    carry(errand(f"{web.address}/1p.fits", tmp_path / "1p.fits", **more), HERE, Progress())
    return (tmp_path / "1p.fits").read_bytes()


def test_a_download_that_broke_off_goes_on_where_it_was(tmp_path: Path, web: Web):
    content = web.files["1p.fits"] = random_file(tmp_path / "a")
    web.breaks = [MIB]
    progress = Progress()
    with pytest.raises(Lost, match="broke off"):
        carry(errand(f"{web.address}/1p.fits", tmp_path / "1p.fits"), HERE, progress)

    assert fetched(web, tmp_path, validator=progress.validator) == content
    assert web.asked == ["", f"bytes={MIB}-"]


def test_a_download_begins_anew_where_the_file_has_changed_or_ranges_are_not_known(tmp_path: Path, web: Web):
    web.files["1p.fits"] = random_file(tmp_path / "a")
    web.breaks = [MIB]
    progress = Progress()
    with pytest.raises(Lost):
        carry(errand(f"{web.address}/1p.fits", tmp_path / "1p.fits"), HERE, progress)

    other = web.files["1p.fits"] = random_file(tmp_path / "b")

    assert fetched(web, tmp_path, validator=progress.validator) == other


def test_a_download_must_have_the_digest_of_the_list(tmp_path: Path, web: Web):
    content = web.files["1p.fits"] = random_file(tmp_path / "a")

    with pytest.raises(Damaged, match="md5"):
        fetched(web, tmp_path, digest=f"md5:{'0' * 32}")

    assert fetched(web, tmp_path, digest=f"md5:{hashlib.md5(content).hexdigest()}") == content


def test_what_is_not_there_is_gone_and_a_dead_server_is_lost(tmp_path: Path, web: Web):
    with pytest.raises(Gone, match="404"):
        fetched(web, tmp_path)
    web.stop()
    with pytest.raises(Lost):
        fetched(web, tmp_path)


def test_a_redirect_is_followed_by_http_alone_and_any_other_is_final(tmp_path: Path, web: Web, stand: Stand):
    content = web.files["there"] = random_file(tmp_path / "a")
    web.redirects["1p.fits"] = "/there"
    assert fetched(web, tmp_path) == content

    for there in ("ftp://127.0.0.1:1/1p.fits", f"file://{tmp_path}/a", "data:,x", "gopher://h/1"):
        web.redirects["2p.fits"] = there
        with pytest.raises(Gone, match="which is no http or https address"):
            carry(errand(f"{web.address}/2p.fits", tmp_path / "2p.fits"), HERE, Progress())

    number = ask_for(Offer("2p.fits", f"{web.address}/2p.fits", "by hand"), "by hand", stand.settings)
    stand.look()
    row = Transfer.get_by_id(number)
    assert (row.state, "leads to gopher://h/1" in row.why) == ("failed", True)


def test_a_download_asks_for_room_once_its_size_is_known_and_again_while_it_is_written(
    tmp_path: Path, web: Web, small_disk: Path
):
    content = web.files["1p.fits"] = random_file(tmp_path / "a", 2 * MIB)
    wanted = errand(f"{web.address}/1p.fits", small_disk / "b", keep_free=2 * MIB + 1)
    with pytest.raises(Full, match=f"{2 * MIB} more bytes are to come.*must stay free"):
        carry(wanted, HERE, Progress())
    assert hidden(small_disk) == []

    def others_write(count: int, stop: object) -> None:
        (small_disk / "ballast").write_bytes(b"\0" * MIB)

    rate = Rate(0)
    rate.take = others_write  # type: ignore[method-assign]
    progress = Progress()
    wanted = errand(wanted.source, wanted.target, keep_free=MIB + 1)
    with pytest.raises(Full, match="must stay free"):
        carry(wanted, Means(rate, timeout_s=5), progress)
    assert (small_disk / ".spica-7.part").stat().st_size == MIB

    (small_disk / "ballast").unlink()
    carry(errand(wanted.source, wanted.target, keep_free=MIB, validator=progress.validator), HERE, Progress())
    assert (small_disk / "b").read_bytes() == content


def test_a_list_of_names_and_digests_is_a_source(tmp_path: Path, web: Web):
    content = web.files["out/1p.fits"] = sky_file(1)
    web.files["out/2p.fits"] = sky_file(2)
    listed = f"1p.fits,{hashlib.md5(content).hexdigest()}\n2p.fits,{'0' * 32}\n"
    web.files["out/new.csv"] = listed.encode()
    with Stand(tmp_path / "stand", landing=f'sources = ["{web.address}/out/new.csv"]').open() as stand:
        assert stand.life
        Sources(stand.settings, HERE, stand.life.readers, stand.clock).once()
        stand.look()
        for _ in range(4):
            stand.take()

        assert list(stand.registered()) == ["1p.fits"]
        bad = Transfer.get(Transfer.name == "2p.fits")
        assert (bad.state, "was expected" in bad.why) == ("failed", True)


def test_a_source_that_is_none_is_refused(tmp_path: Path):
    with Stand(tmp_path / "stand", landing='sources = ["ftp://old.example.org/x"]').open() as stand:
        assert stand.life
        with pytest.raises(BadInput, match="is no source"):
            Sources(stand.settings, HERE, stand.life.readers, stand.clock)


# ---------------------------------------------------------------------- by hand


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    with Stand(tmp_path / "stand", storage='export = "' + str(tmp_path / "released") + '"').open() as made:
        yield made


def test_a_transfer_that_a_person_pauses_rests_until_it_is_resumed(stand: Stand):
    stand.drop("1p.fits", sky_file(1))
    datatransfer.pause_file(stand.settings).write_text("all transfers were paused by dan.\n")
    stand.take()
    (row,) = Transfer.select()
    assert row.state == "waiting"
    command._pause([row.id])
    datatransfer.pause_file(stand.settings).unlink()
    stand.look(5000)
    assert Transfer.get_by_id(row.id).state == "paused"

    command._resume([])
    stand.look()

    assert stand.ended("1p.fits")[0] == REGISTERED


def test_a_failed_fetch_is_tried_again_when_a_person_asks(stand: Stand, web: Web):
    offer = Offer("1p.fits", f"{web.address}/1p.fits", "by hand")
    number = ask_for(offer, "by hand", stand.settings)
    stand.look()
    assert Transfer.get_by_id(number).state == "failed"

    web.files["1p.fits"] = sky_file(1)
    command._retry([number])
    stand.look()
    stand.take()

    assert stand.ended("1p.fits")[0] == REGISTERED
    assert ask_for(offer, "by hand", stand.settings) == number


def test_products_are_exported_with_their_checksums(stand: Stand, tmp_path: Path):
    made = [stand.folder / f"{name}.fits" for name in ("stack", "stack.weight")]
    for number, path in enumerate(made):
        path.write_bytes(sky_file(number))
    folder = f"{tmp_path}/released/000012-m101/run-1"

    for path in made:
        datatransfer.ask_export("export 12 run 1", path, folder)
    stand.look()
    stand.look()

    checked = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder, capture_output=True, text=True, check=True)
    assert checked.stdout == "stack.fits: OK\nstack.weight.fits: OK\n"
    assert [row.state for row in Transfer.select()] == ["done"] * 3


def test_the_list_shows_progress_and_reasons(stand: Stand, capsys: pytest.CaptureFixture[str]):
    stand.drop("1p.fits", sky_file(1))
    datatransfer.pause_file(stand.settings).write_text("all transfers were paused by dan.\n")
    stand.take()
    Transfer.update(bytes_done=Transfer.bytes / 2).execute()

    command._list(stand.settings, is_all=False, is_json=False)

    said = capsys.readouterr().out
    assert "waiting" in said
    assert "1p.fits" in said
    assert "█" * 12 + "░" * 12 in said or "[" + "#" * 12 in said
    assert "paused by dan" in said


@pytest.mark.slow
def test_spica_transfer_steers_and_exports_what_a_process_has_made(tmp_path: Path):
    spica = RunningSpica(tmp_path / "spica", conf=f'\n[storage]\nexport = "{tmp_path}/released"\n')
    try:
        spica.start()
        process = spica.submit("copy")
        spica.wait_for(process, "COMPLETED")

        spica.spica("transfer", "export", str(process))
        spica.spica("transfer", "--watch")

        spica.spica("transfer", status=3)
        rows = json.loads(spica.spica("transfer", "list", "--all", "--json").stdout)
        assert {row["state"] for row in rows} == {"done"}
        (sums,) = Path(tmp_path / "released").glob("*/run-1/SHA256SUMS")
        assert len(sums.read_text().splitlines()) == 3
        spica.spica("transfer", "pause")
        assert datatransfer.PAUSE_FILE in os.listdir(spica.spool)
        assert "Nothing is started: all transfers were paused by" in spica.spica("transfer", status=3).stdout
        spica.spica("transfer", "resume")
        assert "there is no transfer 99" in spica.spica("transfer", "pause", "99", status=3).stderr
        assert "is no transfer's number" in spica.spica("transfer", "retry", "x", status=2).stderr
    finally:
        spica.end()


def test_every_action_is_told_in_the_manual():
    page = (ROOT / "man/spica.1").read_text()

    assert [name for name in command.ACTIONS if name != "list" and f".It Cm transfer {name}" not in page] == []
