"""The rules of the house that a machine can check. Every rule is also shown to catch a violation."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "glassnet"

# Who may import whom: ARCHITECTURE.md, section 4. A unit may import itself and what is listed, no more.
BASE = {"errors", "shapes", "store"}
OPERATIONS = BASE | {"ops.base", "ops.activations", "ops.augment", "ops.philox"}
PARTS = {"layers", "losses", "optim", "schedules", "preprocessing"}
MODEL = OPERATIONS | PARTS | {"init", "backends", "plan", "ops.reference", "engine", "summary", "trace"}
USERS = MODEL | {"network", "data"}
TRAINING = USERS | {"settings", "models", "evaluation", "io"}
MAY_IMPORT = {
    "errors": set(),
    "shapes": {"errors"},
    "store": {"errors", "shapes"},
    "ops": set(),
    **dict.fromkeys(("ops.base", "ops.activations", "ops.augment", "ops.philox"), OPERATIONS),
    "plan": OPERATIONS,
    "init": BASE,
    "backends": {"errors"},
    "ops.reference": OPERATIONS,
    "engine": OPERATIONS | {"plan"},
    **{part: OPERATIONS | {"init"} for part in PARTS},  # they receive ops and import no backend
    "summary": OPERATIONS | PARTS,
    "trace": OPERATIONS | PARTS | {"ops.reference", "summary"},
    "network": MODEL,
    "data": BASE | {"preprocessing", "ops.augment", "ops.philox"},
    "explain": USERS,
    "settings": USERS,
    "models": USERS | {"settings", "io"},  # a config and a model file describe layers alike
    "evaluation": USERS,
    "runs": USERS | {"settings", "evaluation", "io"},  # what a run leaves
    "train": TRAINING | {"runs"},
    "io": USERS | {"glassnet"},  # the version that wrote a file
    "recipes": TRAINING | {"runs", "train", "explain", "glassnet"},
    "cli": TRAINING | {"runs", "train", "explain", "recipes", "glassnet"},
    "__main__": {"cli"},
}

UPWARD = {("network.py", "glassnet.io.model.save_model")}  # the one arrow up: docs/decisions/0006-saving.md

COMPILER = "engine/machine/jit.py"  # imports Numba and compiles; kernel.py beside it has the decorator
COMPILERS = {"cfunc", "guvectorize", "jit", "njit", "prange", "stencil", "vectorize"}
UNSAFE_MODULES = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}
ONLY_IN = {  # library -> where it may be imported
    "llvmlite": ("engine/",),
    "numba": (COMPILER,),
    "matplotlib": ("explain/", "cli/", "runs/"),
    "typer": ("cli/",),
    "rich": ("cli/",),
    "torch": (),
}
ONE_FILE = {"onnx", "onnxruntime", "sklearn", "starlette", "tensorboardX", "uvicorn"}


def module_name(path: str) -> str:
    """`ops/reference/__init__.py` -> `ops.reference`; the package itself is `glassnet`."""
    parts = path.removesuffix(".py").removesuffix("__init__").strip("/").split("/")
    return ".".join(parts) or "glassnet"


def imports(path: str, tree: ast.Module) -> list[tuple[int, str]]:
    """(line, absolute dotted name) of everything a file of the package imports, inside functions too."""
    found = []
    parents = ("glassnet", *Path(path).parent.parts)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = parents[: len(parents) - node.level + 1] if node.level else ()
            origin = ".".join((*start, *filter(None, [node.module])))
            found += [(node.lineno, f"{origin}.{alias.name}") for alias in node.names]
    return found


def unit_of(module: str) -> str:
    """The longest prefix of a dotted name inside the package that MAY_IMPORT lists, else its first part."""
    parts = module.split(".")
    prefixes = [".".join(parts[:end]) for end in range(len(parts), 0, -1)]
    return next((prefix for prefix in prefixes if prefix in MAY_IMPORT), parts[0])


def imports_point_down(path: str, tree: ast.Module) -> list[str]:
    module = module_name(path)
    unit = unit_of(module)
    if module == "glassnet":  # the public names, imported lazily
        return []
    if unit not in MAY_IMPORT:
        return [f"{path} has no place in MAY_IMPORT"]
    wrong = []
    for line, name in imports(path, tree):
        if name.split(".")[0] != "glassnet" or (path, name) in UPWARD:
            continue
        target = unit_of(name.removeprefix("glassnet").lstrip("."))
        if (target if target in MAY_IMPORT else "glassnet") not in MAY_IMPORT[unit] | {unit}:
            wrong.append(f"{path}:{line} imports {name}")
    return wrong


def one_compiler(path: str, tree: ast.Module) -> list[str]:
    if path == COMPILER:
        return []
    names = [(node.lineno, name.split(".")[-1]) for node in ast.walk(tree) for name in names_of(node)]
    return [f"{path}:{line} uses {name}" for line, name in names if name in COMPILERS]


def names_of(node: ast.AST) -> list[str]:
    """The names that one syntax node mentions, NumPy's left out: its vectorize is a plain loop."""
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute):
        return [] if ast.unparse(node.value) == "np" else [node.attr]
    return [node.name] if isinstance(node, ast.alias) and hasattr(node, "lineno") else []


def calls(tree: ast.Module, *functions: str) -> list[tuple[int, str]]:
    """(line, name) of each call of a plain name among `functions`."""
    return [
        (node.lineno, node.func.id)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in functions
    ]


def only_the_command_line_prints(path: str, tree: ast.Module) -> list[str]:
    return [] if path.startswith("cli/") else [f"{path}:{line} prints" for line, _ in calls(tree, "print")]


def nothing_is_unpickled_or_evaluated(path: str, tree: ast.Module) -> list[str]:
    wrong = [
        f"{path}:{line} imports {name}"
        for line, name in imports(path, tree)
        if name.split(".")[0] in UNSAFE_MODULES
    ]
    wrong += [f"{path}:{line} calls {name}" for line, name in calls(tree, "eval", "exec")]
    keywords = [
        node for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "allow_pickle"
    ]
    return wrong + [
        f"{path}:{k.value.lineno} allows pickle" for k in keywords if ast.unparse(k.value) != "False"
    ]


def nan_survives_fast_maths(path: str, tree: ast.Module) -> list[str]:
    """Neither Numba's fastmath nor LLVM text may assume that there is no NaN or infinity."""
    documentation = {
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and ast.get_docstring(node) is not None
    }
    wrong = []
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "fastmath" and ast.unparse(node.value) == "True":
            wrong.append(f"{path}:{node.value.lineno} has fastmath=True, which includes nnan and ninf")
        text = node.value if isinstance(node, ast.Constant) and node not in documentation else None
        if isinstance(text, str) and re.search(r"\b(nnan|ninf)\b|\bf(add|sub|mul|div|neg|cmp) fast\b", text):
            wrong.append(f"{path}:{node.lineno} assumes that there is no NaN: {text!r}")
    return wrong


def libraries_stay_where_they_belong(path: str, tree: ast.Module) -> list[str]:
    libraries = [(line, name.split(".")[0]) for line, name in imports(path, tree)]
    return [
        f"{path}:{line} imports {library}"
        for line, library in libraries
        if library in ONLY_IN and not path.startswith(ONLY_IN[library])
    ]


RULES = [
    imports_point_down,
    one_compiler,
    only_the_command_line_prints,
    nothing_is_unpickled_or_evaluated,
    nan_survives_fast_maths,
    libraries_stay_where_they_belong,
]

VIOLATIONS = [
    (imports_point_down, "shapes.py", "from . import network"),
    (imports_point_down, "layers/conv.py", "from ..ops.reference import ReferenceOps"),
    (imports_point_down, "layers/conv.py", "def f():\n    from glassnet.engine.kernels.conv import conv2d"),
    (imports_point_down, "ops/base.py", "from .reference import ReferenceOps"),
    (imports_point_down, "ops/base.py", "import glassnet.plan.record"),
    (imports_point_down, "plan/record.py", "from ..engine import executor"),
    (imports_point_down, "network.py", "from . import load"),
    (imports_point_down, "network.py", "from glassnet.io.model import load_model"),
    (imports_point_down, "store.py", "from glassnet.io.model import save_model"),
    (imports_point_down, "data/batches.py", "import glassnet"),
    (imports_point_down, "evaluation/judging.py", "from glassnet.runs.records import Run"),
    (imports_point_down, "runs/report.py", "def f():\n    from glassnet.train import fit"),
    (imports_point_down, "cleverness.py", ""),
    (one_compiler, "engine/kernels/conv.py", "from numba import njit as compiled"),
    (one_compiler, "engine/kernels/conv.py", "@numba.cfunc(signature)\ndef f(): pass"),
    (one_compiler, "layers/conv.py", "for i in numba.prange(n): pass"),
    (only_the_command_line_prints, "network.py", "def summary():\n    print('layer')"),
    (nothing_is_unpickled_or_evaluated, "io/model.py", "import pickle"),
    (nothing_is_unpickled_or_evaluated, "io/model.py", "from joblib import load"),
    (nothing_is_unpickled_or_evaluated, "io/model.py", "np.load(path, allow_pickle=True)"),
    (nothing_is_unpickled_or_evaluated, "io/model.py", "exec(text)"),
    (nothing_is_unpickled_or_evaluated, COMPILER, "eval(text)"),
    (nan_survives_fast_maths, "engine/machine/kernel.py", "njit(fastmath=True)"),
    (nan_survives_fast_maths, "engine/machine/kernel.py", "FLAGS = {'contract', 'nnan'}"),
    (nan_survives_fast_maths, "engine/machine/tile.py", "text = f'{name} = fmul fast <16 x float> {a}, {b}'"),
    (libraries_stay_where_they_belong, "ops/base.py", "import numba.types"),
    (libraries_stay_where_they_belong, "engine/machine/kernel.py", "from numba import types"),
    (libraries_stay_where_they_belong, "network.py", "def plot():\n    import matplotlib.pyplot as plt"),
    (libraries_stay_where_they_belong, "io/weights.py", "import torch"),
]


def package_files() -> dict[str, str]:
    """{path inside the package: source}."""
    files = {p.relative_to(PACKAGE).as_posix(): p.read_text(encoding="utf-8") for p in PACKAGE.rglob("*.py")}
    assert files, f"There is no source in {PACKAGE}."
    return files


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule_holds(rule):
    wrong = [line for path, source in package_files().items() for line in rule(path, ast.parse(source))]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(("rule", "path", "source"), VIOLATIONS)
def test_rule_catches_a_violation(rule, path, source):
    assert rule(path, ast.parse(source))


def test_what_is_allowed_passes():
    allowed = {
        "layers/conv.py": "from .. import shapes\nfrom ..ops.base import Ops\nfrom .base import Layer",
        "ops/reference/conv.py": "from ..base import Ops\nfrom ...shapes import Geometry\nfrom . import pool",
        COMPILER: '"""Never nnan."""\nimport numba\nnumba.njit(f, fastmath={"nsz"})',
        "cli/__init__.py": "import typer\nimport glassnet as gn\nfrom glassnet import fit\nprint(1)",
        "__init__.py": "from .network import Network",
        "network.py": "from .engine import executor\nfrom .io.model import save_model\nre.compile('print')",
    }
    assert [
        line for path, text in allowed.items() for rule in RULES for line in rule(path, ast.parse(text))
    ] == []


def test_an_optional_library_is_imported_in_one_file():
    users = defaultdict(set)
    for path, source in package_files().items():
        for _, name in imports(path, ast.parse(source)):
            users[name.split(".")[0]].add(path)
    crowded = {library: sorted(users[library]) for library in ONE_FILE if len(users[library]) > 1}
    assert not crowded


def test_files_are_short():
    """Any Python file stays under 400 lines, a layer under 150: a folder's listing explains the system."""
    long = []
    for folder in ("src", "tests", "benchmarks", "examples", "docs"):
        for path in (ROOT / folder).rglob("*.py"):
            limit = 150 if path.parent == PACKAGE / "layers" else 400
            lines = len(path.read_text(encoding="utf-8").splitlines())
            long += [f"{path.relative_to(ROOT)} has {lines} lines"] if lines >= limit else []
    assert not long


def test_import_loads_neither_compiler_nor_plots():
    program = "import sys, glassnet; print(*sorted({'llvmlite', 'matplotlib', 'numba'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []
