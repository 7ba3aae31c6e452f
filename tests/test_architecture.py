"""The shape of the code: who may import whom, where state, tasks, catch-alls and prints may stand, and how long
things are.

Every check reads the source with `ast`; a failure says what breaks the rule and why the rule is there.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "runestone"
FILES = sorted(PACKAGE.rglob("*.py"))
Function = ast.FunctionDef | ast.AsyncFunctionDef
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

# Ring -> what it may import of runestone. "runestone" alone stands for the version in runestone/__init__.py.
RINGS = {
    "core": {"core", "errors"},
    "dialects": {"core", "dialects", "errors"},
    "gateway": {"core", "dialects", "gateway", "errors", "tasks"},
    "providers": {"core", "providers", "errors", "runestone"},
    "edge": {"core", "dialects", "gateway", "edge", "errors", "config.units", "runestone"},
    "telemetry": {"core", "telemetry", "errors", "runestone"},
    "stores": {"core", "stores", "errors"},
    "config": {"config", "core", "providers.catalog", "errors"},
    # what programs without a server import
    "cache": {"core", "gateway"},
    "batch": {"tasks"},
    "client": {"core", "client", "tasks"},
    "middleware": {"core", "dialects", "gateway", "errors"},
    "errors": set(),
    "tasks": {"core", "errors"},
    "heartbeat": {"core"},
    "control": {"core", "gateway", "providers", "errors"},
    "wiring": {
        *(
            "core",
            "dialects",
            "gateway",
            "providers",
            "edge",
            "telemetry",
            "stores",
            "config",
            "errors",
            "middleware",
            "wiring",
            "runestone",
            "control",
            "heartbeat",
            "tasks",
        ),
    },
    "app": {
        *("core", "dialects", "gateway", "providers", "edge", "telemetry", "stores", "config"),
        *("control", "errors", "tasks", "wiring", "runestone"),
    },
    "debug": {"errors"},
    "reload": {"app", "config", "core", "edge", "providers", "errors"},
    "serving": {
        "app",
        "config",
        "core",
        "debug",
        "edge",
        "reload",
        "serving",
        "telemetry",
        "wiring",
        "errors",
        "tasks",
    },
    "console": {"console", "core", "telemetry", "errors"},
    "cli": {"console", "core", "telemetry", "config", "app", "serving", "wiring", "errors", "runestone"},
    "__main__": {"cli"},
}
IO = {"asyncio", "socket", "aiohttp", "logging", "time", "random", "threading", "os", "ssl", "subprocess"}
CATCH_ALL = {"gateway/tolerated.py", "edge/middleware/rescue.py", "tasks.py"}
MUTATORS = {"append", "add", "update", "pop", "popitem", "clear", "extend", "insert", "remove", "discard", "setdefault"}
SCHEMA = ("config/schema.py", "config/front.py")
"""Where the sections of the configuration are."""
MODULE_LINES, FUNCTION_LINES = 400, 70
FACADES = {"runestone.client"}
"""Packages whose __init__ names what is in them for their users, and is used by none of their modules."""


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in FILES}
every_module = pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(PACKAGE)) for path in FILES])


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def where(path: Path, node: ast.AST) -> str:
    return f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}"


def inside(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def imports(path: Path) -> Iterator[tuple[str, ast.stmt]]:
    """Absolute names of the modules that are imported, a submodule where `from package import submodule` names one."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{where(path, node)}: relative imports hide where a name comes from"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield (full if full in MODULES else node.module or ""), node


def ours(path: Path) -> Iterator[tuple[str, ast.stmt]]:
    for name, node in imports(path):
        if name.split(".")[0] == "runestone":
            yield name, node


def ring_of(path: Path) -> str:
    return inside(path).split("/")[0].removesuffix(".py")


def functions(path: Path) -> Iterator[Function]:
    return (node for node in ast.walk(tree(path)) if isinstance(node, FUNCTIONS))


def called(node: ast.AST) -> str:
    """The last name of what is called: `create_task` of `asyncio.create_task(...)`."""
    if not isinstance(node, ast.Call):
        return ""
    function = node.func
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def uses(found: Callable[[ast.AST], bool], but: set[str]) -> list[str]:
    return [
        where(path, node)
        for path in FILES
        if inside(path) not in but and ring_of(path) not in but
        for node in ast.walk(tree(path))
        if found(node)
    ]


def test_every_module_is_found() -> None:
    """The checks below look at something."""
    assert {"runestone.app", "runestone.core.call", "runestone.edge.middleware.rescue"} <= MODULES.keys()


@every_module
def test_imports_point_inward(path: Path) -> None:
    """A ring imports only the rings it may know: what is inside can be read, tested and changed without what is
    outside.
    """
    ring = ring_of(path)
    if inside(path) == "__init__.py":
        assert not list(ours(path)), "runestone/__init__.py is imported by everyone: it imports nobody"
        return
    assert ring in RINGS, f"runestone/{ring} is a new ring: say in RINGS what it may import, and in __init__.py why"
    for name, node in ours(path):
        short = name.removeprefix("runestone.")
        allowed = short in RINGS[ring] or short.split(".")[0] in RINGS[ring]
        assert allowed, f"{where(path, node)}: {ring} must not know {name}; it may import {sorted(RINGS[ring])}"


def test_the_centre_does_no_io() -> None:
    """core and dialects import no sockets, clocks, dice, logs or loop: they are tested with values alone."""
    faults = [
        f"{where(path, node)}: {name}"
        for path in FILES
        if ring_of(path) in ("core", "dialects")
        for name, node in imports(path)
        if name.split(".")[0] in IO
    ]
    assert not faults, f"pure code takes time, chance and bytes as arguments: {faults}"


def test_stages_do_not_know_http() -> None:
    """The gateway imports no web or network library: HTTP, SSE and WebSocket enter the same stages."""
    libraries = {"aiohttp", "multidict", "yarl", "socket", "ssl"}
    faults = [
        f"{where(path, node)}: {name}"
        for path in FILES
        if ring_of(path) == "gateway"
        for name, node in imports(path)
        if name.split(".")[0] in libraries
    ]
    assert not faults, faults


def test_only_the_rim_imports_aiohttp() -> None:
    """aiohttp stands in edge/, providers/, and where they are put together and run: it can be read, tuned and replaced
    there. The client for Python programs (client/) is no part of the server.
    """
    faults = [
        f"{where(path, node)}: {name}"
        for path in FILES
        if ring_of(path) not in ("edge", "providers", "wiring", "app", "serving", "client")
        for name, node in imports(path)
        if name.split(".")[0] == "aiohttp"
    ]
    assert not faults, faults


def test_sql_stands_in_stores_only() -> None:
    """What outlives a run is behind one door."""
    faults = [
        f"{where(path, node)}: {name}"
        for path in FILES
        if ring_of(path) != "stores"
        for name, node in imports(path)
        if name.split(".")[0] == "sqlite3"
    ]
    assert not faults, faults


def test_only_providers_are_clients() -> None:
    """ClientSession is named in providers/ only: every call out has our deadlines, limits and error classes. The
    client for Python programs, whose calls come to us, has its own; and workers ask each other.
    """
    names = {"ClientSession", "TCPConnector", "request"}

    def client(node: ast.AST) -> bool:
        return isinstance(node, ast.Attribute) and node.attr in names and ast.unparse(node.value) == "aiohttp"

    def imported(node: ast.AST) -> bool:
        return (
            isinstance(node, ast.ImportFrom)
            and (node.module or "").startswith("aiohttp")
            and ("client" in (node.module or "") or any("Client" in alias.name for alias in node.names))
        )

    assert not uses(lambda node: client(node) or imported(node), {"providers", "client", "serving/family.py"})


def test_the_server_side_stays_out_of_providers() -> None:
    """providers/ does not import aiohttp.web: what clients see is made in edge/."""
    faults = [
        where(path, node)
        for path in FILES
        if ring_of(path) == "providers"
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ImportFrom)
        and ((node.module or "").startswith("aiohttp.web") or any(alias.name == "web" for alias in node.names))
    ]
    assert not faults, faults


def test_only_the_commands_import_the_app() -> None:
    """app.py knows everyone, so nobody but who runs it may know it: otherwise every import is a ring."""
    faults = [
        where(path, node)
        for path in FILES
        if inside(path) not in ("cli.py", "reload.py", "serving/process.py")
        for name, node in ours(path)
        if name == "runestone.app"
    ]
    assert not faults, faults


def test_no_module_imports_itself_through_others() -> None:
    """The imports have no ring, packages' own __init__ included: each module can be loaded, and read, on its own."""
    graph = {name: {used for used, _ in ours(path)} for name, path in MODULES.items()}
    for name, used in graph.items():
        for module in (name, *tuple(used)):
            parts = module.split(".")
            used.update({".".join(parts[:end]) for end in range(1, len(parts))} - FACADES)
        used.discard(name)
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail[trail.index(name) :], name))
        if name in done:
            return
        for used in sorted(graph.get(name, ())):
            visit(used, (*trail, name))
        done.add(name)

    for name in graph:
        visit(name, ())


def test_imports_stand_at_the_top() -> None:
    """No import hides in a function or a condition: the head of a file shows all it depends on."""
    faults = [
        where(path, node)
        for path in FILES
        for node in ast.walk(tree(path))
        if isinstance(node, (ast.Import, ast.ImportFrom)) and node not in tree(path).body
    ]
    assert not faults, faults


def test_nothing_is_global() -> None:
    """`global` stands nowhere: what changes belongs to an object that somebody made and hands over."""
    assert not uses(lambda node: isinstance(node, ast.Global), set())


def test_nothing_reaches_into_an_outer_function() -> None:
    """`nonlocal` stands nowhere: state shared by closures has no name, no type and no owner."""
    assert not uses(lambda node: isinstance(node, ast.Nonlocal), set())


def assigned(path: Path) -> Iterator[tuple[str, ast.expr, ast.stmt]]:
    """(name, value, statement) of what the module itself binds."""
    for node in tree(path).body:
        if isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            yield from ((name, node.value, node) for name in names)
        elif isinstance(node, ast.AnnAssign) and node.value is not None and isinstance(node.target, ast.Name):
            yield node.target.id, node.value, node


@every_module
def test_modules_hold_no_state(path: Path) -> None:
    """A module binds constants (UPPER case), types (CamelCase) and its logger: two gateways in a process share
    nothing.
    """
    displays = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp, ast.Call)
    for name, value, node in assigned(path):
        bare = name.strip("_")
        if bare[:1].isupper() or not isinstance(value, displays):
            continue
        logger = isinstance(value, ast.Call) and ast.unparse(value.func) == "logging.getLogger"
        assert logger, f"{where(path, node)}: {name} is state of a module; make it a constant or an object's"


@every_module
def test_constants_are_not_changed(path: Path) -> None:
    """No function writes to what its module binds: a table is the same for every call."""
    bound = {name for name, _, _ in assigned(path)}
    for function in functions(path):
        local = {argument.arg for argument in ast.walk(function.args) if isinstance(argument, ast.arg)}
        local |= {
            node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        }
        shared = bound - local
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS:
                written = node.func.value
            elif isinstance(node, (ast.Subscript, ast.Attribute)) and isinstance(node.ctx, (ast.Store, ast.Del)):
                written = node.value
            else:
                continue
            changed = isinstance(written, ast.Name) and written.id in shared
            assert not changed, f"{where(path, node)}: {ast.unparse(written)} is a module's, and shared by all calls"


def test_memories_of_functions_are_bounded() -> None:
    """A cache on a function of a module names its size, otherwise what comes in from outside makes it grow."""

    def unbounded(node: ast.AST) -> bool:
        if not isinstance(node, FUNCTIONS):
            return False
        written = [ast.unparse(decorator) for decorator in node.decorator_list]
        return any(
            text.removeprefix("functools.") in ("cache", "lru_cache") or "maxsize=None" in text for text in written
        )

    assert not uses(unbounded, set())


@every_module
def test_modules_fit_in_a_head(path: Path) -> None:
    """A module has at most 400 lines: one noun, one file."""
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MODULE_LINES, f"{inside(path)} has {lines} lines; take a noun out of it"


@every_module
def test_functions_fit_on_a_page(path: Path) -> None:
    """A function has at most 70 lines, its docstring included."""
    for function in functions(path):
        lines = (function.end_lineno or 0) - function.lineno + 1
        assert lines <= FUNCTION_LINES, f"{where(path, function)}: {function.name} has {lines} lines; name its steps"


def test_catching_everything_stands_in_three_places() -> None:
    """`except Exception` and wider is the observer guard's, the rescue's and the task supervisor's: elsewhere it hides
    bugs. One that raises again after tidying up catches nothing.
    """

    def swallows(node: ast.AST) -> bool:
        if not isinstance(node, ast.ExceptHandler):
            return False
        kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        wide = any(kind is None or ast.unparse(kind) in ("Exception", "BaseException") for kind in kinds)
        last = node.body[-1]
        return wide and not (isinstance(last, ast.Raise) and last.exc is None)

    assert not uses(swallows, CATCH_ALL)


def test_the_places_that_catch_everything_exist() -> None:
    """The list of exceptions to the rule is not longer than the rule's exceptions (tasks.py comes with the first
    task).
    """
    missing = {name for name in CATCH_ALL if not (PACKAGE / name).exists()} - {"tasks.py"}
    assert not missing, missing


def test_tasks_have_one_owner() -> None:
    """Tasks are started in tasks.py only: a task nobody holds is lost with its error, and outlives the shutdown."""
    assert not uses(lambda node: called(node) in ("create_task", "ensure_future"), {"tasks.py"})


def test_only_the_commands_print() -> None:
    """`print` stands in cli.py only: a server tells its log."""
    assert not uses(lambda node: isinstance(node, ast.Name) and node.id == "print", {"cli.py"})


def test_untyped_json_stays_in_the_dialects() -> None:
    """`dict[str, Any]` stands in dialects/ only: elsewhere an object is opaque (core/json.py) or a class."""
    assert not uses(
        lambda node: isinstance(node, ast.Subscript) and ast.unparse(node) == "dict[str, Any]", {"dialects"}
    )


@every_module
def test_modules_say_what_they_are(path: Path) -> None:
    """Every module with code begins with a docstring."""
    module = tree(path)
    if module.body:
        assert ast.get_docstring(module), f"{inside(path)}: what is it, what is its rule, what is absent on purpose?"


@cache
def documented_methods() -> frozenset[str]:
    """Names of methods with a docstring in a Protocol: who implements one need not repeat it."""
    return frozenset(
        method.name
        for path in FILES
        for owner in ast.walk(tree(path))
        if isinstance(owner, ast.ClassDef) and any(ast.unparse(base).startswith("Protocol") for base in owner.bases)
        for method in owner.body
        if isinstance(method, FUNCTIONS) and ast.get_docstring(method)
    )


def local_bases() -> frozenset[str]:
    return frozenset(node.name for path in FILES for node in ast.walk(tree(path)) if isinstance(node, ast.ClassDef))


def explains_itself(owner: ast.ClassDef, path: Path) -> bool:
    """A docstring; or a line in the module's own (the error tree); or the section of a schema that documents every key
    on the key.
    """
    if ast.get_docstring(owner) or re.search(rf"\b{owner.name}\b", ast.get_docstring(tree(path)) or ""):
        return True
    return inside(path) in SCHEMA and all(isinstance(node, ast.AnnAssign) for node in owner.body)


def implements(method: Function, owner: ast.ClassDef) -> bool:
    """Whether the promise stands elsewhere: in a Protocol, in the class of a library that is extended, or in the table
    of routes (a handler takes a request and nothing else).
    """
    foreign = any(ast.unparse(base).split("[")[0].split(".")[-1] not in local_bases() for base in owner.bases)
    handler = [argument.arg for argument in method.args.args] == ["self", "request"] and "handler" in (
        ast.get_docstring(owner) or ""
    )
    return method.name in documented_methods() or foreign or handler


@every_module
def test_what_is_public_is_documented(path: Path) -> None:
    """Public classes, functions and methods say what they promise, or implement something that says it."""
    silent = []
    for node in tree(path).body:
        if isinstance(node, FUNCTIONS) and not node.name.startswith("_") and not ast.get_docstring(node):
            silent.append(f"{where(path, node)}: {node.name}")
        if not isinstance(node, ast.ClassDef) or node.name.startswith("_"):
            continue
        if not explains_itself(node, path):
            silent.append(f"{where(path, node)}: {node.name}")
        for method in node.body:
            if not isinstance(method, FUNCTIONS) or method.name.startswith("_") or ast.get_docstring(method):
                continue
            if not implements(method, node):
                silent.append(f"{where(path, method)}: {node.name}.{method.name}")
    assert not silent, silent


def test_every_setting_says_what_it_does() -> None:
    """Every key of the configuration carries its `doc`: the page for people is made from it."""
    sections = [
        (PACKAGE / name, node)
        for name in SCHEMA
        for node in tree(PACKAGE / name).body
        if isinstance(node, ast.ClassDef)
    ]
    silent = [
        where(schema, field)
        for schema, section in sections
        if section.name != "Configuration"  # not a section: the list of sections
        for field in section.body
        if isinstance(field, ast.AnnAssign) and (field.value is None or "'doc'" not in ast.unparse(field.value))
    ]
    assert sections
    assert not silent, silent


def tracked() -> list[Path]:
    """The files of the repository; without git, those a checkout would have."""
    try:
        listed = subprocess.run(
            ["git", "-C", str(ROOT), "ls-files", "-z"],
            capture_output=True,
            check=True,
            text=True,
        ).stdout.split("\0")
    except (OSError, subprocess.CalledProcessError):
        unwanted = re.compile(r"/(\.[^/]+|__pycache__|build|dist|[^/]+\.egg-info)(/|$)")
        found = [path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*") if path.is_file()]
        listed = [name for name in found if not unwanted.search(f"/{name}")]
    return [ROOT / name for name in listed if name and (ROOT / name).is_file()]


def matches(pattern: str) -> list[str]:
    expression = re.compile(pattern)
    found = []
    for path in tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        lines = enumerate(text.splitlines(), 1)
        found += [f"{path.relative_to(ROOT)}:{number}" for number, line in lines if expression.search(line)]
    return found


def test_nothing_is_left_to_do() -> None:
    """No marker of unfinished work is in the tree: it is done, or it is an issue."""
    marks = "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X"))
    assert not matches(rf"\b({marks})\b")


def test_the_tree_knows_no_machine() -> None:
    """No file names a folder of the machine it was written on: a fresh clone works anywhere."""
    assert not matches(r"(^|[^\w./])/(work|root|home)/")


def test_the_checks_can_fail(tmp_path: Path) -> None:
    """A line with a machine's folder is one the expression above finds, and a path of the web is not."""
    expression = re.compile(r"(^|[^\w./])/(work|root|home)/")
    assert expression.search("see " + "/ho" + "me/someone/file")
    assert not expression.search("https://example.org/home/page")
