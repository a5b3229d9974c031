"""The stack of a made sky on three nodes: a node lost, daemon and controller killed in the middle, the same as here."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Cluster, on_cluster
from cluster import cluster as cluster
from conftest import SpicaWithTools, wait_until

from spicad import sandbox
from spicad.backends import on_node
from spicad.reduction.sky import SkyMade, make_sky
from spicad.reduction.sky_options import SkyOptions

pytestmark = pytest.mark.slow

OPTIONS = SkyOptions(exposures=3, ccds=2, size=500, filters=("r",), stars=200, seed=7)


@pytest.fixture(autouse=True)
def _needs_a_sandbox() -> None:
    if not shutil.which("bwrap") or sandbox.user_namespaces_work():
        pytest.skip("no sandbox works here")


@pytest.fixture
def here(tmp_path: Path) -> Iterator[SpicaWithTools]:
    yield from _started(SpicaWithTools(tmp_path / "here"))


@pytest.fixture
def there(tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[SpicaWithTools]:
    spica = SpicaWithTools(tmp_path / "there")
    on_cluster(spica, cluster, monkeypatch)
    yield from _started(spica)


def _started(spica: SpicaWithTools) -> Iterator[SpicaWithTools]:
    spica.start()
    yield spica
    spica.end()


def job(sky: SkyMade, folder: Path) -> str:
    return (
        f'name = "m101"\nexposures = ["{folder}/9*p.fits"]\nreference = "{folder / sky.reference.name}"\n'
        f'weight = "{folder / sky.bad_pixels.name}"\nrules = "stack"\n[end]\n'
    )


def digests(spica: SpicaWithTools, process: int) -> dict[str, str]:
    """The science digest of each product."""
    manifest = json.loads((spica.run_folder(process) / "manifest.json").read_text())
    return {name: digest for name, (_, digest) in manifest.items()}


def taken_up(spica: SpicaWithTools) -> list[str]:
    """The nodes of all attempts that have begun."""
    found = spica.results.glob(f"*/*/run-1/steps/*/{on_node.TAKEN}")
    return [json.loads(text)["node"] for text in (each.read_text() for each in found) if text]


def test_a_lost_node_a_killed_daemon_and_a_killed_controller_change_nothing_of_the_stack(
    here: SpicaWithTools, there: SpicaWithTools, cluster: Cluster
) -> None:
    sky = make_sky(here.archive / "sky", OPTIONS)
    shutil.copytree(sky.folder, there.archive / "sky")
    on_this_machine = here.drop(job(sky, sky.folder), "stack")
    process = there.drop(job(sky, there.archive / "sky"), "stack")
    wait_until(lambda: taken_up(there), "a step to be taken up")
    lost = taken_up(there)[0]

    cluster.lose(lost)
    assert there.daemon is not None
    there.daemon.kill()
    there.daemon.wait()
    cluster.give_up(lost)
    try:
        there.start()
        wait_until(lambda: len(taken_up(there)) > 3, "a step to go on elsewhere")
        cluster.kill_controller()
        cluster.start_controller()

        wait_until(lambda: there.phase(process) in ("COMPLETED", "ERROR"), "the stack", patience_s=90)
        assert there.phase(process) == "COMPLETED", there.report(process)
        assert here.wait_for(on_this_machine) == "COMPLETED", here.report(on_this_machine)
        assert digests(there, process) == digests(here, on_this_machine)
        assert len(digests(there, process)) > 5
        assert set(taken_up(there)) >= set(cluster.nodes) - {lost}
    finally:
        cluster.bring_back(lost)
