"""The inputs that are fuzzed: good ones to begin with, how they are changed, and what reads them.

A new kind of input is a line of `INPUTS`. What reads gives nothing where it accepts an input, and raises otherwise.
"""

from __future__ import annotations

import errno
import io
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from torture import saved_inputs
from torture.crystal_inputs import (
    PACKERS,
    TEXTS,
    changed_binary,
    changed_packed,
    crystal_file,
    jsons,
    some_crystals,
    sound,
    standard_input,
    text_of,
)
from torture.mutations import changed_bytes, changed_text, changed_value, pick
from torture.saved_inputs import SAVED

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Input:
    """A kind of input.

    Attributes:
        what: its name in the table.
        good: texts to begin with.
        read: what reads the changed bytes, with a folder for files, which is kept between cases.
        weight: how often it has its turn; less for what is slow to read.
        parse, dump: of a structured format: text to values and back, so that values can be changed in their place.
        change: draws the changed input in another way than `changed` does by itself.
    """

    what: str
    good: Callable[[], list[str]]
    read: Callable[[bytes, Path], None]
    weight: float
    parse: Callable[[str], Any] | None = None
    dump: Callable[[Any], str] = json.dumps
    change: Callable[[np.random.Generator], tuple[bytes, str]] | None = None

    def changed(self, random: np.random.Generator) -> tuple[bytes, str]:
        """A changed input, and how it was changed."""
        if self.change is not None:
            return self.change(random)
        texts = self.good()
        text = pick(random, texts)
        if self.parse is not None and random.random() < 0.6:
            value, how = changed_value(self.parse(text), random)
            return self.dump(value).encode("utf-8", "surrogatepass"), how
        text, how = changed_text(text, pick(random, texts), random)
        return changed_bytes(text, random), how


@cache
def cifs() -> list[str]:
    """With and without symmetry."""
    from data.test_structures_fuzz import TEMPLATE
    from pymatgen.io.cif import CifWriter

    from zoo.tracking.served_model import EXAMPLE

    cell = {"a": 4, "b": 4, "c": 5.64, "alpha": 90, "beta": 90, "gamma": 90}
    sites = "Na Na 0 0 0 1\nCl Cl 0.5 0.5 0.5 1"
    symmetry = "loop_\n_symmetry_equiv_pos_as_xyz\n'x,y,z'\n'-x,-y,-z'\n'-y,x,z'"
    own = [TEMPLATE.format(name="x", symmetry=s, sites=sites, **cell) for s in ("", symmetry)]
    plain = [str(CifWriter(one)) for one in some_crystals()[:3]]
    return [*own, *plain, *(str(CifWriter(one, symprec=0.1)) for one in some_crystals()[2:]), EXAMPLE[0]["cif"]]


@cache
def poscars() -> list[str]:
    """Direct and Cartesian, with a scale, with selective dynamics."""
    from pymatgen.io.vasp import Poscar

    texts = [Poscar(one).get_str() for one in some_crystals()]
    dynamic = Poscar(some_crystals()[0], selective_dynamics=[[True, False, True]] * 2, velocities=[[0.0] * 3] * 2)
    return [
        *texts,
        texts[0].replace("direct", "Cartesian"),
        dynamic.get_str(),
        texts[1].replace("\n1.0\n", "\n-60.0\n"),
    ]


def _tensor(number: int) -> list[list[float]]:
    from discovery.discovered import tensor

    return tensor(number)


@cache
def extxyz() -> list[str]:
    """Two frames with a tensor each."""
    import ase.io
    from pymatgen.io.ase import AseAtomsAdaptor

    frames = [AseAtomsAdaptor.get_atoms(one) for one in some_crystals()[:4]]
    for number, frame in enumerate(frames):
        frame.info |= {"total": np.array(_tensor(number)), "key": f"c-{number}", "band_gap": 1.5}
    texts = []
    for pair in (frames[:2], frames[2:]):
        text = io.StringIO()
        ase.io.write(text, pair, format="extxyz")
        texts.append(text.getvalue())
    return texts


@cache
def datasets() -> list[str]:
    """JSON by key, and as a list."""
    entries = {f"c-{i}": {"structure": one.as_dict(), "total": _tensor(i)} for i, one in enumerate(some_crystals()[:3])}
    return [json.dumps(entries), json.dumps([{"key": key, **entry} for key, entry in entries.items()])]


@cache
def tables() -> list[str]:
    """CSV with the tensor as JSON, and by its components."""
    one = [f'c-{i},{i}.cif,"{json.dumps(_tensor(i))}",{i}.5' for i in range(3)]
    names = [f"total_{i}{j}" for i in "xyz" for j in "xyz"]
    two = [",".join([f"{i}.cif", *(str(x) for row in _tensor(i) for x in row)]) for i in range(3)]
    return ["\n".join(["key,cif,total,band_gap", *one, ""]), "\n".join([",".join(["cif", *names]), *two, ""])]


BOMB = "b0: &b0 [x, x, x, x, x, x, x, x]\n" + "".join(
    f"b{i}: &b{i} [{', '.join([f'*b{i - 1}'] * 8)}]\n" for i in range(1, 12)
)
"""YAML of a few lines with 8 to the power of 12 values, which are one and the same."""


@cache
def recipes() -> list[str]:
    """The recipes that ship, and some of them with a bomb, or with what holds itself."""
    texts = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "recipes").glob("*.yaml"))]
    rings = [re.sub(r"^name: .*", f"name: {ring}", texts[0], flags=re.MULTILINE) for ring in ("&a [*a]", "&a {x: *a}")]
    return [
        *texts,
        *rings,
        *(f"{BOMB}{text}description: *b11\n" for text in texts[:2]),
        f"{BOMB}{texts[0]}seeds: *b11\n",
    ]


@cache
def cards() -> list[str]:
    """The model.json of an ensemble."""
    return [(SAVED / "model.json").read_text(encoding="utf-8")]


@cache
def bodies() -> list[str]:
    """Bodies of good HTTP requests, with crystals as CIF and as pymatgen dicts."""
    crystals = [{"cif": text} for text in cifs()[:3]] + [{"structure": one.as_dict()} for one in some_crystals()[:2]]
    options = {"symprec": 0.01, "coverage": 0.9, "neighbours": 1}
    return [json.dumps({"inputs": crystals, "params": options}), json.dumps({"inputs": crystals[3:]})]


def _cif(data: bytes, folder: Path) -> None:
    from data.test_structures_fuzz import MOST

    from zoo.data.structures import structure_from_cif

    sound(structure_from_cif(data.decode("utf-8", "replace"), MOST))


def _poscar(data: bytes, folder: Path) -> None:
    from zoo.data.structure_files import structure_from_file

    (folder / "POSCAR").write_bytes(data)
    sound(structure_from_file(folder / "POSCAR"))


def _dataset(name: str) -> Callable[[bytes, Path], None]:
    def read(data: bytes, folder: Path) -> None:
        from zoo.contract.plugin import BadRecord
        from zoo.data.file import File

        (folder / name).write_bytes(data)
        for number, text in enumerate(cifs()[:3]):
            if not (folder / f"{number}.cif").is_file():
                (folder / f"{number}.cif").write_text(text, encoding="utf-8")
        dataset = File(File.Hypers(path=str(folder / name)))
        assert dataset.fingerprint(), "no fingerprint"
        for record in dataset.records():
            if isinstance(record, BadRecord):
                continue
            sound(record.structure)
            assert all(t.shape == (3, 3) and np.isfinite(np.asarray(t)).all() for t in record.targets.values()), record

    return read


def _recipe(data: bytes, folder: Path) -> None:
    from zoo.config import recipe
    from zoo.discovery import screen_config
    from zoo.discovery.rounds import discovery_config
    from zoo.pretraining import pretraining_config
    from zoo.sweep import sweep_config

    others = {"screen": screen_config, "discover": discovery_config, "pretrain": pretraining_config}
    path = folder / "recipe.yaml"
    path.write_bytes(data)
    content, _ = recipe.read_content(str(path))
    kind = recipe.kind_of(content)
    if kind != "run":
        others[kind].read(str(path))
        return
    found = sweep_config.read(str(path))
    if isinstance(found, recipe.Recipe):
        again = folder / "again.yaml"
        again.write_text(recipe.dump(found), encoding="utf-8")
        assert recipe.dump(recipe.read(str(again))) == recipe.dump(found), "written down and read, it is another one"


@cache
def matbench_files() -> list[str]:
    """Crystals in Matbench's layout, predictions of two models, sources."""
    keys = ["mb-dielectric-0001", "mb-dielectric-0004", "mb-dielectric-4764"]
    data = [[one.as_dict(), 1.5] for one in some_crystals()[:3]]
    contents: list[Any] = [
        {"index": [0, 3, 4763], "columns": ["structure", "n"], "data": data},
        {"a": dict.fromkeys(keys, 2.0), "b": dict.fromkeys(keys, 1.5)},
        {key: {"how": "ambiguous(2)", "n": 1.5} for key in keys},
    ]
    return [json.dumps(content) for content in contents]


def _matbench(data: bytes, folder: Path) -> None:
    """Read it as each of the three: the changed one, whichever it is, must be refused or read by all."""
    from zoo.data import matbench_file
    from zoo.errors import ZooError

    path, good = folder / "changed.json", folder / "good.json"
    path.write_bytes(data)
    good.write_text(matbench_files()[0], encoding="utf-8")
    crystals = matbench_file.read_matbench(good)
    refusals = []
    for read in (
        matbench_file.read_matbench,
        matbench_file.read_published,
        lambda one: matbench_file.read_ambiguous(one, crystals),
    ):
        try:
            read(path)
        except ZooError as error:
            refusals.append(error)
    if len(refusals) == 3:
        raise refusals[0]


def _card(data: bytes, folder: Path) -> None:
    """Read it as `zoo predict` does, and as the page and `zoo models`, which show more of it."""
    from zoo.cli.models_command import row_of
    from zoo.inference.predictor import Predictor
    from zoo.model.checkpoint import read_card
    from zoo.ui.about import about

    for path in SAVED.iterdir():
        if path.name != "checksums.json" and not (folder / path.name).is_file():
            shutil.copy(path, folder)
    (folder / "model.json").write_bytes(data)
    about("changed", read_card(folder))
    row_of("changed", "runs/", folder)
    with saved_inputs.members_again():
        Predictor.load(folder)


@cache
def unnamed() -> list[str]:
    """Crystals whose format is told by their content alone."""
    return [*cifs()[:2], *poscars(), *extxyz(), *jsons()]


@cache
def sources() -> list[str]:
    """The argument SOURCE of `zoo evaluate`, `zoo label` and `zoo data`."""
    return [
        "petousis2017",
        "crystals.json",
        "recipe.yaml",
        "dtnet_total",
        "{name: phonondb2018, path: FOLDER}",
        "{name: file, path: crystals.json, targets: {total: {formula: ij=ji}}}",
        "{dataset: petousis2017, target: total}",
        "{dataset: {name: dtnet-mp, path: mp_dielectric.json.gz}, target: electronic}",
    ]


def _source(data: bytes, folder: Path) -> None:
    """Open it as each of the commands does; an argument of a program holds no zero byte."""
    from zoo.cli.label_command import crystals_of
    from zoo.cli.source import open_source
    from zoo.errors import ZooError
    from zoo.model.checkpoint import read_card

    text = data.decode("utf-8", "surrogateescape").replace("\0", "")
    try:
        open_source(text, read_card(SAVED).target)
        crystals_of(text)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:  # the command line has its own line for that
            raise
        raise ZooError(str(error)) from None


@cache
def _service() -> Any:
    from zoo.inference.predictor import Predictor
    from zoo.tracking.request_batcher import RequestBatcher
    from zoo.tracking.request_validation import Limits
    from zoo.tracking.served_model import AT_ONCE, TensorService

    service = TensorService()
    service.limits = Limits()
    service.predictor = Predictor.load(SAVED, "cpu", service.limits.max_atoms)
    service.batcher = RequestBatcher(service._predict, AT_ONCE)
    return service


def _request(data: bytes, folder: Path) -> None:
    """Answer a request body as `zoo serve` does: the validation before MLflow, then the model's predict."""
    from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, ErrorCode

    from zoo.errors import ZooError
    from zoo.tracking.request_validation import BadRequest, checked
    from zoo.tracking.served_model import Crystal, Refused

    service = _service()
    try:
        content = json.loads(checked(data, "application/json", service.limits))
        crystals = [Crystal.model_validate(one) for one in content["inputs"]]
        answers = service.predict(crystals, content.get("params"))
    except BadRequest as error:
        raise ZooError(str(error)) from None
    except Refused as error:
        assert error.error_code == ErrorCode.Name(INVALID_PARAMETER_VALUE), f"status 500: {error.message}"
        raise ZooError(error.message) from None
    json.dumps(answers, allow_nan=False)
    failed = [one["error"] for one in answers if "the model failed" in one.get("error", "")]
    assert not failed, failed[0]


INPUTS = (
    Input("CIF", cifs, _cif, 1.0),
    Input("POSCAR", poscars, _poscar, 1.0),
    Input("extxyz dataset", extxyz, _dataset("crystals.extxyz"), 1.0),
    Input("JSON dataset", datasets, _dataset("crystals.json"), 1.0, json.loads),
    Input("CSV dataset", tables, _dataset("crystals.csv"), 0.5),
    Input("recipe", recipes, _recipe, 0.5, yaml.safe_load, yaml.safe_dump),
    Input("model.json", cards, _card, 0.05, json.loads),
    Input("HTTP body", bodies, _request, 0.5, json.loads),
    Input("model folder", list, saved_inputs.read_model, 0.05, change=saved_inputs.change_model),
    Input("cache file", list, saved_inputs.read_cache, 0.1, change=saved_inputs.change_cache),
    Input("CIF of several", lambda: ["\n".join(cifs()[2:5])], crystal_file("several.cif"), 0.3),
    Input("JSON of crystals", jsons, crystal_file("crystals.json"), 1.0, json.loads),
    Input("trajectory", list, crystal_file("frames.traj"), 1.0, change=changed_binary("traj")),
    Input("database of ASE", list, crystal_file("rows.db"), 0.5, change=changed_binary("db")),
    *(
        Input(f"{kind} of ASE", partial(text_of, kind, ending), crystal_file(f"a.{ending}"), 0.4)
        for kind, ending in TEXTS.items()
    ),
    Input("unnamed crystals", unnamed, crystal_file("unnamed"), 0.4),
    Input("packed CIF", list, crystal_file("a.cif.gz"), 0.4, change=changed_packed(cifs, PACKERS[:1])),
    Input("packed standard input", list, standard_input, 0.2, change=changed_packed(unnamed, PACKERS)),
    Input("standard input", unnamed, standard_input, 0.4),
    Input("SOURCE", sources, _source, 0.2),
    Input("Matbench file", matbench_files, _matbench, 0.2, json.loads),
)
