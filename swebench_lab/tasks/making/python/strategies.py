"""SWE-smith's procedural strategies on libcst: each proposes every edit it can make in one function or class.

A strategy is a function `(module, entity) -> edits`. Edits that would fail at once and tell nothing (a name that is
never bound any more) are left out where that can be seen; the suite decides about the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import libcst as cst

from swebench_lab.tasks.making.python import names
from swebench_lab.tasks.making.python.module import Edit, Entity, Module, Replacement

Changes = Mapping[cst.CSTNode, Replacement]


@dataclass(frozen=True)
class Strategy:
    """A way to break code.

    Args:
        name: As SWE-smith names it, and as it stands in a task's id.
        words: What it does, in a few words.
        on_class: Whether it looks at classes; else at functions.
        find: Yields, for an entity, each site's node, a description, and what is replaced by what.
    """

    name: str
    words: str
    on_class: bool
    find: Callable[[Module, Entity], Iterator[tuple[cst.CSTNode, str, Changes]]]

    def edits(self, module: Module, entity: Entity) -> Iterator[Edit]:
        """Yield every edit this strategy can make in an entity; none where it looks at the other kind."""
        if entity.is_class is not self.on_class:
            return
        for site, description, changes in self.find(module, entity):
            first, last = module.lines(site)
            yield Edit(self.name, entity, first, last, description, changes)


Found = Iterator[tuple[cst.CSTNode, str, Changes]]
_SILENT = (cst.Annotation, cst.Decorator, cst.Assert, cst.Import, cst.ImportFrom)


def _walk(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """Yield the nodes of running code under a node: no annotations, no decorators, no messages of raised errors."""
    for child in node.children:
        if isinstance(child, _SILENT) or names.is_docstring(child):
            continue
        yield child
        if isinstance(child, cst.Raise) and isinstance(child.exc, cst.Call):
            continue
        yield from _walk(child)


@lru_cache(maxsize=2)
def _nodes(entity: Entity) -> tuple[cst.CSTNode, ...]:
    """Return what `_walk` finds in an entity; every strategy asks for it in turn."""
    return tuple(_walk(entity.node))


def _pick(entity: Entity, *kinds: type[cst.CSTNode]) -> Iterator[cst.CSTNode]:
    return (node for node in _nodes(entity) if isinstance(node, kinds))


# --- operators ------------------------------------------------------------------------------------------------------

_OPERATORS: dict[type[cst.CSTNode], tuple[type[cst.CSTNode], ...]] = {
    cst.Add: (cst.Subtract,),
    cst.Subtract: (cst.Add,),
    cst.Multiply: (cst.Add, cst.FloorDivide),
    cst.Divide: (cst.Multiply, cst.FloorDivide),
    cst.FloorDivide: (cst.Divide, cst.Modulo),
    cst.Modulo: (cst.FloorDivide,),
    cst.Power: (cst.Multiply,),
    cst.BitAnd: (cst.BitOr,),
    cst.BitOr: (cst.BitAnd,),
    cst.BitXor: (cst.BitOr,),
    cst.LeftShift: (cst.RightShift,),
    cst.RightShift: (cst.LeftShift,),
    cst.And: (cst.Or,),
    cst.Or: (cst.And,),
    cst.LessThan: (cst.LessThanEqual, cst.GreaterThan),
    cst.LessThanEqual: (cst.LessThan, cst.GreaterThanEqual),
    cst.GreaterThan: (cst.GreaterThanEqual, cst.LessThan),
    cst.GreaterThanEqual: (cst.GreaterThan, cst.LessThanEqual),
    cst.Equal: (cst.NotEqual,),
    cst.NotEqual: (cst.Equal,),
    cst.Is: (cst.IsNot,),
    cst.IsNot: (cst.Is,),
    cst.In: (cst.NotIn,),
    cst.NotIn: (cst.In,),
    cst.AddAssign: (cst.SubtractAssign,),
    cst.SubtractAssign: (cst.AddAssign,),
    cst.MultiplyAssign: (cst.AddAssign,),
    cst.DivideAssign: (cst.MultiplyAssign,),
    cst.FloorDivideAssign: (cst.DivideAssign,),
    cst.ModuloAssign: (cst.FloorDivideAssign,),
    cst.BitAndAssign: (cst.BitOrAssign,),
    cst.BitOrAssign: (cst.BitAndAssign,),
}


def _convert(operator: cst.CSTNode, kind: type[cst.CSTNode]) -> cst.CSTNode:
    """Return an operator of another kind with the same blanks around it."""
    blanks = {
        name: getattr(operator, name)
        for name in ("whitespace_before", "whitespace_between", "whitespace_after")
        if hasattr(operator, name) and name in kind.__dataclass_fields__
    }
    return kind(**blanks)


def _is_text(node: cst.CSTNode) -> bool:
    return isinstance(node, (cst.SimpleString, cst.FormattedString, cst.ConcatenatedString))


def change_operator(module: Module, entity: Entity) -> Found:
    """An operator becomes a near one: `<` `<=`, `==` `!=`, `and` `or`, `+` `-`; a `not` or a minus is lost."""
    for node in _pick(entity, cst.BinaryOperation, cst.BooleanOperation, cst.ComparisonTarget, cst.AugAssign):
        operator = node.operator  # type: ignore[attr-defined]
        operands = [getattr(node, side, None) for side in ("left", "right", "value")]
        if isinstance(operator, (cst.Add, cst.Modulo, cst.Multiply)) and any(o and _is_text(o) for o in operands):
            continue  # text formatting: another operator is only a TypeError
        for kind in _OPERATORS.get(type(operator), ()):
            other = _convert(operator, kind)
            words = f"`{module.code(operator)}` becomes `{cst.Module([]).code_for_node(other).strip()}`"
            yield node, words, {operator: other}
    for node in _pick(entity, cst.UnaryOperation):
        assert isinstance(node, cst.UnaryOperation)
        if isinstance(node.operator, cst.Not) or not isinstance(node.expression, cst.BaseNumber):
            yield node, f"`{module.code(node.operator)}` is lost", {node: _in_parens_of(node, node.expression)}


def _in_parens_of(old: cst.BaseExpression, new: cst.BaseExpression) -> cst.BaseExpression:
    """Return an expression wrapped in the parentheses of the one it stands for."""
    if not old.lpar:
        return new
    return new.with_changes(lpar=[*old.lpar, *new.lpar], rpar=[*new.rpar, *old.rpar])


_COMPOUND = (
    cst.BinaryOperation,
    cst.BooleanOperation,
    cst.Comparison,
    cst.IfExp,
    cst.Lambda,
    cst.NamedExpr,
    cst.UnaryOperation,
)


def _operand(node: cst.BaseExpression) -> cst.BaseExpression:
    """Return an expression that can stand on either side of any operator."""
    if isinstance(node, _COMPOUND) and not node.lpar:
        return node.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
    return node


def swap_operands(module: Module, entity: Entity) -> Found:
    """The two sides of an operator change places."""
    for node in _pick(entity, cst.BinaryOperation, cst.BooleanOperation):
        assert isinstance(node, (cst.BinaryOperation, cst.BooleanOperation))
        if _is_text(node.left) and isinstance(node.operator, cst.Modulo):
            continue
        swapped: Changes = {node.left: _operand(node.right), node.right: _operand(node.left)}
        yield node, f"the sides of `{module.code(node.operator)}` are swapped", swapped
    for node in _pick(entity, cst.Comparison):
        assert isinstance(node, cst.Comparison)
        target = node.comparisons[0]
        operators = (cst.LessThan, cst.LessThanEqual, cst.GreaterThan, cst.GreaterThanEqual)
        if len(node.comparisons) == 1 and isinstance(target.operator, operators):
            swapped = {node.left: _operand(target.comparator), target.comparator: _operand(node.left)}
            yield node, f"the sides of `{module.code(target.operator)}` are swapped", swapped


def break_chain(module: Module, entity: Entity) -> Found:
    """One link of a chain is lost: an operand of `a and b`, `a + b + c` or `a < b < c`, or a call of `a.b().c()`."""
    for node in _pick(entity, cst.BooleanOperation, cst.BinaryOperation):
        assert isinstance(node, (cst.BooleanOperation, cst.BinaryOperation))
        alone = isinstance(node, cst.BinaryOperation) and not isinstance(node.left, cst.BinaryOperation)
        if alone and not isinstance(module.parent(node), cst.BinaryOperation):
            continue
        for rest, link in ((node.left, node.right), (node.right, node.left)):
            yield node, f"`{module.code(link)}` is lost from a chain", {node: _in_parens_of(node, _operand(rest))}
    for node in _pick(entity, cst.Comparison):
        assert isinstance(node, cst.Comparison)
        if len(node.comparisons) > 1:
            first, last = node.comparisons[0], node.comparisons[-1]
            shorter = node.with_changes(comparisons=node.comparisons[:-1])
            yield node, f"`{module.code(last)}` is lost from a chain", {node: shorter}
            later = node.with_changes(left=first.comparator, comparisons=node.comparisons[1:])
            yield node, f"`{module.code(node.left)}` is lost from a chain", {node: later}
    for node in _pick(entity, cst.Call):
        assert isinstance(node, cst.Call)
        if isinstance(node.func, cst.Attribute) and isinstance(node.func.value, (cst.Call, cst.Subscript)):
            words = f"`.{node.func.attr.value}(…)` is lost from a chain"
            yield node, words, {node: _in_parens_of(node, node.func.value)}


# --- constants ------------------------------------------------------------------------------------------------------


def change_constant(_: Module, entity: Entity) -> Found:
    """A number is off by one, a factor is off, a truth value is the other one."""
    for node in _pick(entity, cst.Integer, cst.Float, cst.Name):
        assert isinstance(node, (cst.Integer, cst.Float, cst.Name))
        for text in _neighbours(node):
            yield node, f"`{node.value}` becomes `{text}`", {node: node.with_changes(value=text)}


def _neighbours(node: cst.Integer | cst.Float | cst.Name) -> tuple[str, ...]:
    if isinstance(node, cst.Name):
        return {"True": ("False",), "False": ("True",)}.get(node.value, ())
    if isinstance(node, cst.Integer) and node.value.isdecimal():
        value = int(node.value)
        return (str(value + 1), str(value - 1)) if value else ("1",)
    if isinstance(node, cst.Float):
        number = node.evaluated_value
        return tuple(repr(new) for new in (number * 10, number + 0.5) if new != number)
    return ()


# --- control flow ---------------------------------------------------------------------------------------------------


_OPPOSITE: dict[type[cst.CSTNode], type[cst.CSTNode]] = {
    cst.Equal: cst.NotEqual,
    cst.In: cst.NotIn,
    cst.Is: cst.IsNot,
    cst.LessThan: cst.GreaterThanEqual,
    cst.GreaterThan: cst.LessThanEqual,
}
_OPPOSITE |= {new: old for old, new in _OPPOSITE.items()}


def _negate(test: cst.BaseExpression) -> cst.BaseExpression:
    """Return the opposite of a condition, written as a person would."""
    if isinstance(test, cst.UnaryOperation) and isinstance(test.operator, cst.Not):
        return _in_parens_of(test, test.expression)
    if isinstance(test, cst.Comparison) and len(test.comparisons) == 1:
        target = test.comparisons[0]
        if kind := _OPPOSITE.get(type(target.operator)):
            return test.with_changes(comparisons=[target.with_changes(operator=_convert(target.operator, kind))])
    return cst.UnaryOperation(operator=cst.Not(), expression=_operand(test))


def invert_if(_: Module, entity: Entity) -> Found:
    """The branches of a condition change places; one without an `else` is negated."""
    for node in _pick(entity, cst.If, cst.IfExp):
        if isinstance(node, cst.IfExp):
            yield (
                node,
                "the branches of a conditional expression are swapped",
                {node.body: node.orelse, node.orelse: node.body},
            )
            continue
        assert isinstance(node, cst.If)
        if isinstance(node.orelse, cst.Else):
            yield (
                node,
                "the branches of an `if` are swapped",
                {node.body: node.orelse.body, node.orelse.body: node.body},
            )
        elif node.orelse is None:
            yield node.test, "a condition is negated", {node.test: _negate(node.test)}


def _blocks(module: Module, entity: Entity) -> Iterator[Sequence[cst.BaseStatement]]:
    """Yield the statements of every block that runs when the function does, without docstrings."""
    for node in _pick(entity, cst.IndentedBlock):
        assert isinstance(node, cst.IndentedBlock)
        if not isinstance(module.parent(node), cst.ClassDef):
            yield [s for s in node.body if isinstance(s, cst.BaseStatement) and not names.is_docstring(s)]


def shuffle_statements(module: Module, entity: Entity) -> Found:
    """Two neighbouring statements change places where their order can matter."""
    parameters = names.parameters(entity.node)
    for block in _blocks(module, entity):
        for first, second in pairwise(block):
            before = parameters | names.stored_before(module, entity.node, first)
            if not names.order_matters(first, second, before):
                continue
            yield first, "two neighbouring statements are swapped", _swap(first, second)


def _swap(first: cst.BaseStatement, second: cst.BaseStatement) -> Changes:
    """Swap two statements; comments go with their statement, blank lines stay where they are."""
    one, other = _leading(first), _leading(second)
    if any(line.comment for line in (*one, *other)):
        return {first: second, second: first}
    return {first: second.with_changes(leading_lines=one), second: first.with_changes(leading_lines=other)}


def _leading(statement: cst.CSTNode) -> Sequence[cst.EmptyLine]:
    lines: Sequence[cst.EmptyLine] = getattr(statement, "leading_lines", ())
    return lines


# --- removals -------------------------------------------------------------------------------------------------------


def remove_assignment(module: Module, entity: Entity) -> Found:
    """An assignment is lost; the name keeps the value it had before."""
    for node in _pick(entity, cst.SimpleStatementLine):
        assert isinstance(node, cst.SimpleStatementLine)
        small = node.body[0]
        if len(node.body) > 1 or not isinstance(small, (cst.Assign, cst.AugAssign, cst.AnnAssign)):
            continue
        if isinstance(module.parent(module.parent(node)), cst.ClassDef):
            continue
        sets_attribute = isinstance(getattr(small, "target", None) or small.targets[0].target, cst.Attribute)  # type: ignore[union-attr]
        if sets_attribute and entity.node.name.value in ("__init__", "__new__", "__post_init__"):
            continue
        if names.safely_removed(module, entity.node, node):
            yield node, f"`{module.code(small)}` is lost", {node: cst.RemoveFromParent()}


def remove_condition(module: Module, entity: Entity) -> Found:
    """An `if` with its body is lost, or one of its branches."""
    for node in _pick(entity, cst.If):
        assert isinstance(node, cst.If)
        if not names.safely_removed(module, entity.node, node):
            continue
        is_elif = isinstance(module.parent(node), cst.If)
        if node.orelse is None:
            yield node, "a condition and its body are lost", {node: cst.RemoveFromParent()}
        elif isinstance(node.orelse, cst.If):
            heir = node.orelse.with_changes(leading_lines=node.leading_lines)
            yield node, "a branch of a condition is lost", {node: heir}
        else:
            yield node.orelse, "the last branch of a condition is lost", {node.orelse: cst.RemoveFromParent()}
            if is_elif:
                yield node, "a branch of a condition is lost", {node: node.orelse}


def remove_loop(module: Module, entity: Entity) -> Found:
    """A loop is lost with its body, or its body runs at most once."""
    for node in _pick(entity, cst.For, cst.While):
        assert isinstance(node, (cst.For, cst.While))
        if names.safely_removed(module, entity.node, node):
            yield node, "a loop is lost", {node: cst.RemoveFromParent()}
        if isinstance(node, cst.While) and node.orelse is None and not names.leaves_loop(node.body):
            once = cst.If(test=node.test, body=node.body, leading_lines=node.leading_lines)
            yield node, "a loop runs at most once", {node: once}


def remove_wrapper(module: Module, entity: Entity) -> Found:
    """A `try`, a `with` or an `if` is lost; what it holds runs bare."""
    for node in _pick(entity, cst.Try, cst.With, cst.If):
        if isinstance(node, cst.Try):
            if node.handlers and node.orelse is None and node.finalbody is None:
                yield node, "a `try` is lost", {node: _bare(node, node.body)}
        elif isinstance(node, cst.With):
            if all(item.asname is None for item in node.items):
                yield node, "a `with` is lost", {node: _bare(node, node.body)}
        elif isinstance(node, cst.If) and node.orelse is None and not isinstance(module.parent(node), cst.If):
            yield node, "an `if` is lost, its body always runs", {node: _bare(node, node.body)}


def _bare(node: cst.Try | cst.With | cst.If, suite: cst.BaseSuite) -> Replacement:
    """Return the statements of a suite, to stand where the statement around them stood."""
    statements: list[cst.CSTNode] = list(suite.body)
    if isinstance(suite, cst.SimpleStatementSuite):
        statements = [cst.SimpleStatementLine(body=suite.body)]
    if len(statements) > 0 and _leading(node):
        first = statements[0]
        statements[0] = first.with_changes(leading_lines=[*_leading(node), *_leading(first)])
    return cst.FlattenSentinel(statements)


# --- classes --------------------------------------------------------------------------------------------------------


def remove_base(module: Module, entity: Entity) -> Found:
    """A class no longer inherits from one of its bases."""
    node = entity.node
    assert isinstance(node, cst.ClassDef)
    for base in node.bases:
        name = module.code(base.value)
        if name.split("[")[0].split(".")[-1] in ("object", "ABC", "Generic", "Protocol"):
            continue
        rest = [b for b in node.bases if b is not base]
        if rest:
            rest[-1] = rest[-1].with_changes(comma=cst.MaybeSentinel.DEFAULT)
        parens = {} if rest or node.keywords else {"lpar": cst.MaybeSentinel.DEFAULT, "rpar": cst.MaybeSentinel.DEFAULT}
        yield base, f"the base `{name}` is lost", {node: node.with_changes(bases=rest, **parens)}


def _methods(entity: Entity) -> list[cst.FunctionDef]:
    assert isinstance(entity.node, cst.ClassDef)
    return [s for s in entity.node.body.body if isinstance(s, cst.FunctionDef)]


def remove_method(_: Module, entity: Entity) -> Found:
    """A class loses a method."""
    for method in _methods(entity):
        if method.name.value not in ("__init__", "__new__", "__post_init__"):
            yield method, f"the method `{method.name.value}` is lost", {method: cst.RemoveFromParent()}


def shuffle_methods(module: Module, entity: Entity) -> Found:
    """Two methods that take the same arguments get each other's bodies; their names and docstrings stay."""
    methods = _methods(entity)
    for i, first in enumerate(methods):
        for second in methods[i + 1 :]:
            if _signature(module, first) != _signature(module, second):
                continue
            one, other = first.body, second.body
            if isinstance(one, cst.IndentedBlock) and isinstance(other, cst.IndentedBlock):
                words = f"`{first.name.value}` and `{second.name.value}` do each other's work"
                yield first, words, {one: _with_body_of(one, other), other: _with_body_of(other, one)}
                break


def _signature(module: Module, method: cst.FunctionDef) -> tuple[str, ...]:
    decorators = [module.code(d.decorator) for d in method.decorators]
    return (module.code(method.params), *decorators, "async" if method.asynchronous else "")


def _with_body_of(block: cst.IndentedBlock, other: cst.IndentedBlock) -> cst.IndentedBlock:
    docs = [s for s in block.body[:1] if names.is_docstring(s)]
    return block.with_changes(body=[*docs, *(s for s in other.body if not names.is_docstring(s))])


STRATEGIES: tuple[Strategy, ...] = (
    Strategy("func_pm_op_change", "an operator is changed", False, change_operator),
    Strategy("func_pm_op_swap", "operands are swapped", False, swap_operands),
    Strategy("func_pm_op_break_chains", "a link of a chain is lost", False, break_chain),
    Strategy("func_pm_op_change_const", "a constant is changed", False, change_constant),
    Strategy("func_pm_ctrl_invert_if", "a condition is inverted", False, invert_if),
    Strategy("func_pm_ctrl_shuffle", "statements are swapped", False, shuffle_statements),
    Strategy("func_pm_remove_assign", "an assignment is lost", False, remove_assignment),
    Strategy("func_pm_remove_cond", "a condition is lost", False, remove_condition),
    Strategy("func_pm_remove_loop", "a loop is lost", False, remove_loop),
    Strategy("func_pm_remove_wrapper", "a try, with or if is lost", False, remove_wrapper),
    Strategy("func_pm_class_rm_base", "a base class is lost", True, remove_base),
    Strategy("func_pm_class_rm_funcs", "a method is lost", True, remove_method),
    Strategy("func_pm_class_shuffle_funcs", "methods do each other's work", True, shuffle_methods),
)
"""All single strategies; combinations of their edits are called `combine_func` and `combine_file`."""
