"""Whether an answer leaves the work to somebody else: a library call, or the reference itself.

The source is parsed, never run. From the question's definition the search follows every name that
the learner defined and it uses, and resolves imports, so `np.linalg.svd` is found under any alias.
A call can be hidden from this, but not by accident, and code that assembles names from strings is
refused as such.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

REFERENCE = "m6rec_mini"  # its course part excepted
HIDING = ("eval", "exec", "__import__", "importlib", "builtins.eval", "builtins.exec")


def forbidden_use(sources: Sequence[str], name: str, forbidden: Sequence[str]) -> str:
    """Why the answer `name` is refused, or "". `forbidden` holds dotted names, and ".method" for any object's."""
    definitions, aliases = _read(sources)
    for used in _reached(name, definitions, aliases):
        if used.split(".")[0] == REFERENCE and not used.startswith(f"{REFERENCE}.course"):
            return f"It calls `{used}`, the reference itself. Write `{name}` yourself."
        if used in HIDING:
            return f"It uses `{used}`, which can run anything. Write `{name}` without it."
        for rule in forbidden:
            if used == rule or used.startswith(f"{rule}.") or (rule.startswith(".") and used.endswith(rule)):
                return f"It uses `{used.lstrip('.')}`, which does the work of this question. Write it from scratch."
    return ""


def _read(sources: Sequence[str]) -> tuple[dict[str, list[ast.AST]], dict[str, str]]:
    """What each top-level name stands for: definitions (the last counts, but any may be reached), and imports."""
    definitions: dict[str, list[ast.AST]] = {}
    aliases: dict[str, str] = {}
    for source in sources:
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue  # it cannot be run either
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
                definitions[node.name] = [node]
            for target in _assigned(node):
                definitions.setdefault(target, []).append(node)
        aliases |= _imports(tree)
    return definitions, aliases


SCOPES = (  # with variables of their own
    ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp,
    ast.GeneratorExp,
)  # fmt: skip


def _assigned(node: ast.AST) -> Iterator[str]:
    """The global variables that a statement sets; a `with demo(…):` only shows what an answer is good for."""
    if isinstance(node, (*SCOPES, ast.Import, ast.ImportFrom)) or _is_demo(node):
        return
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    for inner in ast.iter_child_nodes(node):
        yield from _assigned(inner)


def _is_demo(node: ast.AST) -> bool:
    calls = [item.context_expr for item in node.items] if isinstance(node, ast.With) else []
    return any(isinstance(call, ast.Call) and _dotted(call.func) == "demo" for call in calls)


def _imports(tree: ast.AST) -> dict[str, str]:
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                found[alias.asname or alias.name] = f"{node.module or ''}.{alias.name}"
    return found


def _reached(name: str, definitions: dict[str, list[ast.AST]], aliases: dict[str, str]) -> Iterator[str]:
    """Every dotted name that the definition uses, directly or through other definitions."""
    waiting, done = [name], {name}
    while waiting:
        for definition in definitions.get(waiting.pop(), []):
            inside, local = _imports(definition), _local_names(definition)
            own = {name: full for name, full in aliases.items() if name not in local} | inside
            for node in ast.walk(definition):
                if isinstance(node, ast.Import):
                    yield from (alias.name for alias in node.names)
                dotted = _dotted(node)
                if not dotted:
                    continue
                first, _, rest = dotted.partition(".")
                if first in own:
                    yield own[first] + (f".{rest}" if rest else "")
                else:
                    yield dotted
                    if first in definitions and first not in done and first not in local:
                        done.add(first)
                        waiting.append(first)


def _local_names(definition: ast.AST) -> set[str]:
    """Arguments and variables of a function: another cell's variable of the same name is another thing."""
    if not isinstance(definition, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return set()
    nodes = list(ast.walk(definition))
    stored = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    arguments = {node.arg for node in nodes if isinstance(node, ast.arg)}
    declared = {name for node in nodes if isinstance(node, ast.Global) for name in node.names}
    return (stored | arguments) - declared


def _dotted(node: ast.AST) -> str:
    """`a.b.c` as text; ".c" for an attribute of something that is not a name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.ImportFrom):
        return ""
    if isinstance(node, ast.Attribute):
        inner = _dotted(node.value)
        return f"{inner}.{node.attr}"
    return ""
