"""Every answer that differs from a right one by a single slip.

The one idea (DeMillo, Lipton and Sayward 1978): a test that cannot tell the reference from a copy with
one operator exchanged would also let a learner's slip through. So a grader is judged by the share of
such mutants that it kills. Docstrings, annotations and messages of errors are left alone.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult, ast.Mod: ast.Mult,
    ast.FloorDiv: ast.Div, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
NAMES = {
    "max": "min", "min": "max", "maximum": "minimum", "minimum": "maximum", "argmax": "argmin", "argmin": "argmax",
    "sum": "mean", "mean": "sum", "any": "all", "all": "any", "zeros": "ones", "ones": "zeros",
    "zeros_like": "ones_like", "ones_like": "zeros_like", "floor": "ceil", "ceil": "floor", "log1p": "log",
    "expm1": "exp", "left": "right", "right": "left",
}  # fmt: skip
Edit = Callable[[Any], Any]  # of a copy of the node; None takes the statement away


@dataclass(frozen=True)
class Mutant:
    """A copy of the source with one slip in it."""

    text: str  # "line 4: a < b  ->  a <= b": the same for the same slip
    source: str


def mutants(source: str) -> Iterator[Mutant]:
    """All mutants of a piece of code; none twice."""
    tree = ast.parse(source)
    seen = {ast.unparse(tree)}
    for node, edit in list(_slips(tree)):
        before, after, changed = _apply(tree, node, edit)
        if changed not in seen:
            seen.add(changed)
            yield Mutant(f"line {node.lineno}: {before}  ->  {after}", changed)


def _apply(tree: ast.Module, node: ast.AST, edit: Edit) -> tuple[str, str, str]:
    """Edit a copy of the tree in the place of `node`."""
    place = next(n for n, other in enumerate(ast.walk(tree)) if other is node)
    changed = copy.deepcopy(tree)
    target = next(other for n, other in enumerate(ast.walk(changed)) if n == place)
    before = _short(target)
    new = edit(target)
    _Replace(target, new).visit(changed)
    return before, _short(new) if new is not None else "(left out)", ast.unparse(ast.fix_missing_locations(changed))


class _Replace(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST | None) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        if node is self.old:
            return ast.Pass() if self.new is None else self.new
        return self.generic_visit(node)


def _short(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def _slips(tree: ast.Module) -> Iterator[tuple[Any, Edit]]:
    """Every node that can be got wrong, and how."""
    for node in _code(tree):
        for edit in _edits(node):
            yield node, edit


def _code(node: ast.AST) -> Iterator[Any]:
    """All nodes but docstrings, annotations, raised messages and imports."""
    if isinstance(node, ast.Import | ast.ImportFrom | ast.JoinedStr):
        return
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return
    if hasattr(node, "lineno"):
        yield node
    if isinstance(node, ast.Raise | ast.Assert):
        return
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "type_params", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _code(child)


def _edits(node: Any) -> Iterator[Edit]:
    """The slips of one node."""
    if isinstance(node, ast.Compare):
        for n, operator in enumerate(node.ops):
            if type(operator) in COMPARISONS:
                yield _setting("ops", COMPARISONS[type(operator)](), n)
    elif isinstance(node, ast.BinOp | ast.AugAssign):
        if type(node.op) in OPERATORS:
            yield _setting("op", OPERATORS[type(node.op)]())
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult | ast.Sub | ast.Div):
            yield lambda x: ast.BinOp(x.right, x.op, x.left)
    elif isinstance(node, ast.UnaryOp) and not isinstance(node.operand, ast.Constant):
        yield lambda x: x.operand
    elif isinstance(node, ast.BoolOp):
        yield _setting("op", ast.Or() if isinstance(node.op, ast.And) else ast.And())
    elif isinstance(node, ast.Constant):
        yield from _constants(node)
    elif isinstance(node, ast.If | ast.IfExp | ast.While):
        yield lambda x: _setting("test", ast.UnaryOp(ast.Not(), x.test))(x)
    elif isinstance(node, ast.Break | ast.Continue):
        yield lambda x: ast.Continue() if isinstance(x, ast.Break) else ast.Break()
    elif isinstance(node, ast.Name | ast.Attribute):
        name = node.id if isinstance(node, ast.Name) else node.attr
        if name in NAMES and isinstance(node.ctx, ast.Load):
            yield _setting("id" if isinstance(node, ast.Name) else "attr", NAMES[name])
    elif isinstance(node, ast.Call):
        yield from _calls(node)
    elif isinstance(node, ast.Slice):
        for part in ("lower", "upper", "step"):
            if getattr(node, part) is not None:
                yield _setting(part, None)
    if isinstance(node, ast.AugAssign | ast.Raise) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        yield lambda _: None


def _constants(node: ast.Constant) -> Iterator[Edit]:
    value = node.value
    if isinstance(value, bool):
        yield lambda _: ast.Constant(not value)
    elif isinstance(value, int):
        yield lambda _: ast.Constant(value + 1)
        yield lambda _: ast.Constant(value - 1)
    elif isinstance(value, float):
        yield lambda _: ast.Constant(value * 2 if value else 1.0)
    elif value in NAMES:
        yield lambda _: ast.Constant(NAMES[value])


def _calls(node: ast.Call) -> Iterator[Edit]:
    """Without one keyword, and without the call around its only argument."""
    for n in range(len(node.keywords)):
        if node.keywords[n].arg != "dtype":
            yield _setting("keywords", [k for m, k in enumerate(node.keywords) if m != n])
    if len(node.args) == 1 and not isinstance(node.args[0], ast.Starred | ast.GeneratorExp):
        yield lambda x: x.args[0]


def _setting(name: str, value: object, place: int | None = None) -> Edit:
    """The edit that sets a field of the node, or one element of it."""

    def edit(node: Any) -> Any:
        if place is None:
            setattr(node, name, value)
        else:
            getattr(node, name)[place] = value
        return node

    return edit
