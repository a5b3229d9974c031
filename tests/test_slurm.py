"""Steps on a real Slurm of three nodes: begun, placed, followed, cancelled, lost with their node, and adopted.

What every backend must do is told in test_engines.py; the stack of a made sky at the end of this file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Cluster, cluster  # noqa: F401
from conftest import RunningSpica
from life import Life, drop, job_text, made_ready

SLURM = """
[slurm]
poll_s = 0.2
"""


@pytest.fixture
def spica(tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningSpica]:  # noqa: F811
    monkeypatch.setenv("SLURM_CONF", str(cluster.conf))
    ready = made_ready(tmp_path)
    ready.conf.write_text(ready.conf.read_text().replace("slots = 2", 'backend = "slurm"') + SLURM)
    yield ready
    ready.end()


@pytest.fixture
def alive(spica: RunningSpica) -> Iterator[Life]:
    life = Life(spica)
    yield life
    life.stop()


def test_a_step_runs_on_a_node_and_its_product_comes_back(spica, alive):
    drop(spica, "a.spica", job_text(spica, "copy", exposures=3))

    assert alive.until_over(1) == "COMPLETED"
    products = list(spica.results.glob("*/*/run-1/products/*.fits"))
    assert len(products) == 3
