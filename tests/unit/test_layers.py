"""Imports between rooms are those that ARCHITECTURE.md draws; heavy libraries stay in few rooms.

A room is a folder or a module of `recbole_exp3rt`. A module that belongs higher or lower than the
rest of its room, such as `llm.base`, is drawn as a room of its own.
"""

import ast
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "recbole_exp3rt"

RECBOLE = {"config", "data", "evaluator", "explainer", "model", "trainer", "rerank"}
TRAINING = {
    f"distill.train.{name}"
    for name in ("base", "cpu_lora", "merge", "monitor", "packing", "lora_trainer")
}
TRANSFORMERS = {
    f"llm.local.{name}"
    for name in ("transformers_llm", "smollm2", "memory", "kv_cache", "attention", "frozen", "hub")
} | TRAINING
TRANSFORMERS |= {"encode.encoders", "model.p5.network", "model.p5.words", "explain.verdicts_nli"}
HTTP = {"llm.server.endpoint", "llm.server.http_client"}
Graph = dict[str, set[str]]  # a name -> the names that it imports


def modules() -> Graph:
    """Module name below the package -> all names it imports, wherever in the file."""
    found = {}
    for file in PACKAGE.rglob("*.py"):
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        names: set[str] = set()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names |= {node.module} | {f"{node.module}.{a.name}" for a in node.names}
        found[name] = names
    return found


MODULES = modules()
OWN: Graph = {
    name: {
        own
        for n in names
        if (own := n.removeprefix("recbole_exp3rt.")) != n and own in MODULES and own != name
    }
    for name, names in MODULES.items()
    if name
}


def drawing() -> tuple[set[str], Graph, Graph]:
    """The rooms, the arrows and the dotted arrows of the Mermaid block below `## Rooms`.

    `stages["…"]` is a room; `stages --> corpus & prompts` draws that stages imports both.
    """
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    block = text.partition("\n## Rooms\n")[2].partition("```mermaid\n")[2].partition("```")[0]
    rooms = set(re.findall(r'^ *([\w.]+)\["', block, re.MULTILINE))
    arrows: dict[str, Graph] = {"-->": {}, "-.->": {}}
    for start, arrow, ends in re.findall(r"^ *([\w.]+) (-->|-\.->) (.+)$", block, re.MULTILINE):
        arrows[arrow].setdefault(start, set()).update(end.strip() for end in ends.split("&"))
    return rooms, arrows["-->"], arrows["-.->"]


ROOMS, ARROWS, DOTTED = drawing()


def room(name: str) -> str:
    """The drawn room that a module belongs to: the module itself, or its nearest folder."""
    while name and name not in ROOMS:
        name = name.rpartition(".")[0]
    return name


def reached(start: str, arrows: Graph) -> set[str]:
    """All rooms that a path of arrows leads to, without `start`."""
    found: set[str] = set()
    rest = list(arrows.get(start, ()))
    while rest:
        if (one := rest.pop()) not in found:
            found.add(one)
            rest += arrows.get(one, ())
    return found


def between_rooms() -> Graph:
    """What the code imports: a room -> other rooms."""
    found: Graph = {name: set() for name in ROOMS}
    for name, imported in OWN.items():
        found.setdefault(room(name), set()).update(room(n) for n in imported)
    return {name: ends - {name} for name, ends in found.items()}


def arrows_of_the_code() -> str:
    """The arrows to draw: imports between rooms without those that a longer path shows too."""
    code = {name: ends - DOTTED.get(name, set()) for name, ends in between_rooms().items()}
    lines = []
    for name, ends in sorted(code.items()):
        direct = ends - {far for end in ends for far in reached(end, code)}
        if direct:
            lines.append(f"  {name} --> {' & '.join(sorted(direct))}")
    return "\n".join(lines)


def test_every_module_is_in_a_drawn_room_and_every_drawn_room_exists():
    assert [name for name in OWN if not room(name)] == []
    assert ROOMS - MODULES.keys() == set()
    assert (ARROWS.keys() | DOTTED.keys()) - ROOMS == set()


@pytest.mark.parametrize("name", sorted(OWN))
def test_a_module_imports_only_from_rooms_that_the_drawing_leads_to(name):
    below = reached(room(name), ARROWS) | DOTTED.get(room(name), set()) | {room(name)}
    outside = {n for n in OWN[name] if room(n) not in below}
    assert not outside, f"{name} imports {sorted(outside)}; arrows:\n{arrows_of_the_code()}"


def test_every_arrow_is_an_import():
    code = between_rooms()
    for drawn in (ARROWS, DOTTED):
        missing = {(name, end) for name in drawn for end in drawn[name] - code[name]}
        assert not missing, f"no import: {sorted(missing)}; arrows:\n{arrows_of_the_code()}"


def test_arrows_go_one_way():
    """Without the dotted ones: a door that passes a call on to a command."""
    graphlib.TopologicalSorter(ARROWS).prepare()  # raises CycleError with the rooms


def test_no_modules_import_each_other_in_a_circle():
    graphlib.TopologicalSorter(OWN).prepare()  # raises CycleError with the modules


@pytest.mark.parametrize(
    ("library", "allowed"),
    [
        ("recbole", RECBOLE),
        ("transformers", TRANSFORMERS),
        ("peft", TRANSFORMERS),
        ("trl", {"distill.train.lora_trainer"}),
        ("datasets", {"distill.train.lora_trainer"}),
        (
            "accelerate",
            {"distill.train.base", "distill.train.batch_size", "distill.train.student"},
        ),
        ("openai", HTTP),
    ],
)
def test_a_heavy_library_is_imported_only_where_it_belongs(library, allowed):
    users = {
        name
        for name, names in MODULES.items()
        if any(n == library or n.startswith(library + ".") for n in names)
    }
    outside = {name for name in users if name not in allowed and name.split(".")[0] not in allowed}
    assert users and not outside


def test_recboles_own_quick_start_is_imported_where_it_is_mended():
    """It pulls in ray; our own runs never need it."""
    for name, names in MODULES.items():
        found = any(n.startswith("recbole.quick_start") for n in names)
        assert found == (name == "config.compat"), name


def test_importing_the_package_is_fast_and_loads_nothing_heavy():
    code = (
        "import sys, time; start = time.process_time(); import recbole_exp3rt;"
        "print(time.process_time() - start);"
        "print(sorted({'torch', 'transformers', 'recbole', 'pandas'} & set(sys.modules)))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.splitlines()
    assert float(out[0]) < 0.5
    assert out[1] == "[]"


def test_the_plain_core_runs_without_torch_or_recbole():
    heavy = ("torch", "transformers", "recbole", "pandas", "numpy")
    core = (
        "config.settings",
        "stages.pipeline",
        "llm.cached",
        "llm.store",
        "llm.scripted",
        "sample.oracle",
    )
    lines = [f"import sys; sys.modules.update(dict.fromkeys({heavy}))"]
    lines += [f"import recbole_exp3rt.{name}" for name in core]
    code = "\n".join(lines)
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
