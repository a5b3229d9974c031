"""What a run has brought, gathered for a page: figures, products with what can be done with each, recipe, provenance.

Everything comes from the capsule, as it was sealed and closed. Catalogues, plots and previews are read elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spicad.commands.show import record_of
from spicad.tables import Process
from spicaweb.capsules import Capsule, Gone

KINDS = (  # ending of the name: kind, words; the first that fits
    (".quality.json", "quality", "quality report"),
    (".quality.fits", "file", "figures"),
    (".quality.csv", "file", "figures"),
    (".quality-origins.csv", "file", "exposures of the stack"),
    (".weight.fits", "image", "weight map"),
    (".weight.fits.fz", "packed", "weight map, packed"),
    (".flag.fits.fz", "packed", "flag map, packed"),
    (".mask.fits", "image", "mask"),
    (".flag.fits", "image", "flag map"),
    (".residuals.fits", "catalogue", "residuals of the solution"),
    (".psf", "file", "PSF model"),
    (".fits.fz", "packed", "image, packed"),
    (".fits", "image", "image"),
    (".ldac", "catalogue", "catalogue"),
    (".cat", "catalogue", "catalogue"),
    (".head", "text", "header of the solution"),
    (".txt", "text", "text"),
    (".xml", "file", "report of the tool"),
    (".pdf", "file", "plot"),
    (".svg", "plot", "plot"),
    (".png", "plot", "picture"),
    (".tif", "file", "picture"),
)
MOST_TEXT = 512 << 10
MOST_CONFIGURED = 200  # keywords of one task


@dataclass(frozen=True)
class Product:
    """A file of the run; `number` is what addresses name it by."""

    number: int
    name: str
    bytes: int
    digest: str
    kind: str  # image, packed, plot, catalogue, text, quality or file
    words: str


@dataclass(frozen=True)
class Keyword:
    name: str
    value: str
    level: str  # who set it


@dataclass(frozen=True)
class Configured:
    """A task's application as it was used."""

    folder: str
    application: str
    version: str
    path: str
    keywords: tuple[Keyword, ...]
    files: tuple[str, ...]  # in the capsule's folder of it

    @property
    def chosen(self) -> list[Keyword]:
        """What somebody set, in contrast to the tool's own defaults."""
        return [each for each in self.keywords if each.level != "the tool's default"]


def products_of(capsule: Capsule) -> list[Product]:
    """[] while the run is not over."""
    manifest = capsule.json("manifest.json") or {}
    found = []
    for number, (name, (size, digest)) in enumerate(manifest.items(), 1):
        kind, words = next(((kind, words) for end, kind, words in KINDS if name.endswith(end)), ("file", "file"))
        found.append(Product(number, name, int(size), str(digest), kind, words))
    return found


def product(capsule: Capsule, number: int) -> Product:
    """Raises Gone."""
    found = next((each for each in products_of(capsule) if each.number == number), None)
    if found is None:
        raise Gone("there is no such product.")
    return found


def report_on(chosen: Product, products: Sequence[Product]) -> Product | None:
    """The quality report on the exposure or stack that `chosen` belongs to."""
    reports = [each for each in products if each.kind == "quality"]
    fitting = [each for each in reports if chosen.name.startswith(each.name.removesuffix("quality.json"))]
    return max(fitting, key=lambda each: len(each.name), default=None)  # of a.b.fits.fz not the one of a.fits


def in_order(products: Sequence[Product]) -> list[Product]:
    """What people look for first: stacks, then their maps, catalogues, the rest; each by name."""
    ranks = {"image": 0, "weight map": 1, "mask": 1, "flag map": 1, "catalogue": 2}
    return sorted(products, key=lambda each: (ranks.get(each.words, 3), each.words, each.name))


def record(row: Process, capsule: Capsule | None) -> dict[str, Any]:
    """As `spica show --json` has it; the tables are open."""
    return record_of(row, capsule)


def configured(capsule: Capsule) -> list[Configured]:
    """In the order of the tasks; those that only prepare files come last."""
    found = []
    for folder in sorted(capsule.names("configuration"), key=lambda name: (name.startswith("p"), name)):
        setup = capsule.json(f"configuration/{folder}/setup.json") or {}
        tool = setup.get("tool", {})
        settings = sorted(setup.get("settings", {}).items())[:MOST_CONFIGURED]
        found.append(
            Configured(
                folder,
                str(setup.get("application", folder)),
                str(tool.get("version", "")),
                str(tool.get("path", "")),
                tuple(Keyword(name, str(value), str(level)) for name, (value, level) in settings),
                tuple(name for name in capsule.names("configuration", folder) if name != "setup.json"),
            )
        )
    return found


def provenance(capsule: Capsule) -> dict[str, Any]:
    """What went in: the exposures with their paths, what Spica and the node were."""
    facts, plan = capsule.json("run.json") or {}, capsule.json("plan.json") or {}
    labels: Mapping[str, str] = plan.get("labels", {})
    exposures = [
        {"stem": stem, "label": labels.get(stem, stem), **_of_exposure(each)}
        for stem, each in plan.get("exposures", {}).items()
    ]
    return {"facts": facts, "exposures": exposures, "notes": plan.get("notes", []), "steps": plan.get("steps", [])}


def _of_exposure(each: Mapping[str, Any]) -> dict[str, Any]:
    words = {
        name: each.get(name) for name in ("path", "instrument", "filter", "object", "t_exptime", "grade", "seeing")
    }
    return {**words, "ccds": len(each.get("ccds", ()))}


def digests_of_inputs(capsule: Capsule) -> dict[str, str]:
    """sha256 of each file from outside that a step read, by path."""
    found: dict[str, str] = {}
    for step in capsule.names("steps"):
        inputs = capsule.step_record(step).get("inputs", {})
        found |= {str(each["path"]): str(each["digest"]) for each in inputs.values() if each.get("identity")}
    return found
