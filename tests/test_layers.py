"""docs/architecture.md, enforced: imports go down only, half of the package never sees torch, files stay readable."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src"
FILES = sorted(p.relative_to(SRC) for p in (SRC / "molifold").rglob("*.py"))

#: The nouns, and what ``Molecule`` is made with.
NOUNS = {
    "molecule", "ensemble", "store", "space", "geometry", "units", "finding", "topology", "perception", "pdb", "peptide",
}  # fmt: skip
#: Every part and what it may import besides the nouns, as the two lines of the page say.
TORCH_FREE = [NOUNS, {"data", "runs", "analysis"}, {"plots"}, {"workbench"}]
WITH_TORCH = [
    NOUNS, {"interfaces"}, {"energies", "networks", "probes"}, {"transforms"}, {"flows"}, {"losses"}, {"simulation"},
    {"sampling"}, {"training"},
]  # fmt: skip
EXCEPTIONS = {("probes", "runs"), ("sampling", "analysis")} | {("training", p) for p in ("runs", "probes", "data")}
TOP = {"cli", "workflows", "recipes", "testing"}
TORCH = {"torch", "lightning", "lightning_fabric", "safetensors.torch", "pytorch_lightning"}
LONG_FILE, LONG_FUNCTION = 500, 80


def imports(tree: ast.AST, *, package: str) -> list[str]:
    """Absolute dotted names of everything imported under ``tree``, lazily or not."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level > 1 else package
            prefix = f"{base}.{node.module}" if node.level and node.module else (base if node.level else node.module)
            found += [f"{prefix}.{alias.name}" for alias in node.names]
    return found


def part(dotted: str) -> str | None:
    """The part of molifold that a dotted name lies in; None for the package itself and for other packages."""
    words = dotted.split(".")
    if words[0] != "molifold" or len(words) == 1:
        return None
    known = (SRC / "molifold" / words[1]).is_dir() or (SRC / "molifold" / f"{words[1]}.py").is_file()
    return words[1] if known else None


def forbidden(importer: str, imported: str) -> bool:
    """Whether ``importer`` may not import ``imported``."""
    if importer == imported or importer in TOP or (importer, imported) in EXCEPTIONS:
        return False
    if importer in NOUNS:
        return imported not in NOUNS
    for line in (TORCH_FREE, WITH_TORCH):
        rank = {name: i for i, level in enumerate(line) for name in level}
        if importer in rank:
            return rank.get(imported, len(line)) >= rank[importer]
    raise AssertionError(f"{importer}: not in docs/architecture.md; say there, and here, where it stands")


def tree_of(file: Path) -> ast.Module:
    return ast.parse((SRC / file).read_text(encoding="utf-8"))


def package_of(file: Path) -> str:
    return ".".join(file.parent.parts)


@pytest.mark.parametrize("file", [f for f in FILES if len(f.parts) > 2 or f.stem != "__init__"], ids=str)
def test_imports_go_down_only(file):
    importer = file.parts[1].removesuffix(".py")
    names = {part(name) for name in imports(tree_of(file), package=package_of(file))} - {None}
    wrong = sorted(name for name in names if forbidden(importer, name))
    assert not wrong, f"{file}: {importer} may not import {', '.join(wrong)} (docs/architecture.md, Layers)"


@pytest.mark.parametrize("file", FILES, ids=str)
def test_half_of_the_package_never_imports_torch(file):
    importer = file.parts[1].removesuffix(".py")
    if importer not in set().union(*TORCH_FREE) | {"__init__"}:
        return
    names = {n for n in imports(tree_of(file), package=package_of(file)) if n.split(".")[0] in TORCH}
    assert not names, f"{file} imports {sorted(names)}; {importer} works without torch"


@pytest.mark.parametrize("noun", sorted(NOUNS))
def test_nouns_import_third_parties_lazily(noun):
    tree = tree_of(Path("molifold", f"{noun}.py"))
    at_import = [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
    roots = {name.split(".")[0] for n in at_import for name in imports(n, package="molifold")}
    third_party = roots - set(sys.stdlib_module_names) - {"molifold", "numpy", "jaxtyping"}
    assert not third_party, f"{noun}.py imports {sorted(third_party)} at module level; do it in the function"


def test_the_torch_free_half_loads_without_torch():
    """Not even through a library: in a process of its own, because this one may have torch already."""
    parts = [p for level in TORCH_FREE for p in sorted(level) if part(f"molifold.{p}")]
    code = f"import sys, {', '.join(f'molifold.{p}' for p in parts)}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_rules_themselves_can_fail():
    assert forbidden("flows", "losses")
    assert forbidden("energies", "networks")
    assert forbidden("probes", "transforms")
    assert forbidden("workbench", "flows")
    assert forbidden("molecule", "data")
    assert forbidden("simulation", "data")
    assert not forbidden("training", "data")
    assert not forbidden("ensemble", "store")
    tree = ast.parse("def f():\n    from ..flows import flow\n    import molifold.losses.nll")
    assert imports(tree, package="molifold.training") == ["molifold.flows.flow", "molifold.losses.nll"]


@pytest.mark.parametrize("file", FILES, ids=str)
def test_files_and_functions_stay_readable(file):
    lines = len((SRC / file).read_text(encoding="utf-8").splitlines())
    assert lines <= LONG_FILE, f"{file}: {lines} lines; one noun per file, 300 is long, {LONG_FILE} a stop sign"
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[1 if ast.get_docstring(node) and len(node.body) > 1 else 0]
            length = (node.end_lineno or first.lineno) - first.lineno + 1  # signature and docstring are not counted
            assert length <= LONG_FUNCTION, f"{file}: {node.name} has {length} lines; {LONG_FUNCTION} is a stop sign"
