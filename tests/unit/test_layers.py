"""Imports run one way, and heavy libraries stay where they belong (ARCHITECTURE.md)."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "recbole_exp3rt"

# From the plain core up. A module imports from its own layer or from those before it. A room
# stands in one layer; its modules that belong to another are named.
LAYERS = [
    {"errors", "paths", "records", "scale", "text", "display.terminal", "llm.server.urls"},
    {"corpus", "prompts", "llm.base", "llm.card", "display.notes"},
    {"sample", "llm"},
    {"stages", "sample.measure"},
    {"config.settings", "config.arguments", "model.rater"},
    {"distill"},
    {"config", "data", "model", "trainer.trainer"},
    {"trainer"},
    {"evaluator", "rerank"},
    {"config.native"},
    {"recommender"},
    {"display"},
    {"quick_start.experiment"},
    {"distill.annotate.run", "distill.train.run"},
    {"distill.teach"},
    {"quick_start", "cli"},
    {"annotate", "train", "__main__"},
]
RECBOLE = {"config", "data", "evaluator", "model", "trainer", "rerank"}
TRAINING = {
    f"distill.train.{name}" for name in ("base", "cpu_lora", "merge", "packing", "lora_trainer")
}
TRANSFORMERS = {
    f"llm.local.{name}"
    for name in ("transformers_llm", "smollm2", "memory", "kv_cache", "attention")
} | TRAINING
HTTP = {"llm.server.endpoint", "llm.server.http_client"}


def modules() -> dict[str, set[str]]:
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


def layer(name: str) -> int:
    for rank, names in reversed(list(enumerate(LAYERS))):
        if name in names:
            return rank
    head = name.split(".")[0]
    return next(rank for rank, names in enumerate(LAYERS) if head in names)


@pytest.mark.parametrize("name", sorted(name for name in MODULES if name))
def test_a_module_imports_only_from_its_layer_or_below(name):
    own = {
        n.removeprefix("recbole_exp3rt.") for n in MODULES[name] if n.startswith("recbole_exp3rt.")
    }
    known = {n for n in own if n in MODULES and n}
    above = {n for n in known if layer(n) > layer(name)}
    assert not above, f"{name} reaches up to {sorted(above)}"


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
            {"distill.train.base", "distill.train.lora_trainer", "distill.train.student"},
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


def test_importing_the_package_takes_a_blink_and_nothing_heavy():
    code = (
        "import sys, time; start = time.perf_counter(); import recbole_exp3rt;"
        "print(time.perf_counter() - start);"
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
