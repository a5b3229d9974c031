"""Installs Spica: the package spicad, the commands spica and spicad, etc/ as etc/spica and the manual pages.

What Spica is made of stands in pyproject.toml and requirements.txt; what a machine needs beside Python, in
bin/setup-machine.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def required(name: str) -> list[str]:
    """The requirements in a file, without its comments."""
    lines = (line.partition("#")[0].strip() for line in (ROOT / name).read_text().splitlines())
    return [line for line in lines if line]


def data_files() -> list[tuple[str, list[str]]]:
    """etc/** goes to etc/spica/**, man/spica.1 to share/man/man1; by folder, as setuptools wants them."""
    folders: dict[str, list[str]] = defaultdict(list)
    for path in sorted((ROOT / "etc").rglob("*")):
        if path.is_file():
            folders[str(Path("etc/spica") / path.parent.relative_to(ROOT / "etc"))].append(_name(path))
    folders["share/spica"] = ["web/spica.cgi", "web/spica.wsgi"]
    for path in sorted((ROOT / "man").glob("*.[1-8]")):
        folders[f"share/man/man{path.suffix[1:]}"].append(_name(path))
    folders["share/doc/spica"] = [name for name in ("README.md", "CHANGES.md", "LICENSE") if (ROOT / name).exists()]
    return sorted(folders.items())


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def version() -> str:
    found = re.search(r'^__version__ = "(.+)"$', (ROOT / "spicad/__init__.py").read_text(), re.MULTILINE)
    assert found
    return found[1]


setup(
    name="spica",
    version=version(),
    description="Reduces archived FITS images on an observatory's machines",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="BSD-3-Clause",
    classifiers=[
        "Environment :: No Input/Output (Daemon)",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Astronomy",
    ],
    python_requires=">=3.11",
    packages=[*find_packages(include=["spicad", "spicad.*"]), *find_packages("web")],
    package_dir={"spicaweb": "web/spicaweb"},
    package_data={"spicad": ["*.txt"], "spicaweb": ["templates/*", "static/*", "help/*"]},
    data_files=data_files(),
    entry_points={
        "console_scripts": [
            "spica = spicad.commands:main",
            "spicad = spicad.service:main",
            "snooppix = spicad.snooping:main",
            "photometrix = spicad.reduction.photometrix.__main__:main",
            "preprocess = spicad.reduction.preprocess.__main__:main",
            "qualityfits = spicad.reduction.qualityfits.__main__:main",
            "astrometrix = spicad.reduction.astrometrix.__main__:main",
        ]
    },
    install_requires=required("requirements.txt"),
    extras_require={"test": required("requirements-test.txt")},
    zip_safe=False,
)
