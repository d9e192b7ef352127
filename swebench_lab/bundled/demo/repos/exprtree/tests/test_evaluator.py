import math

import pytest

from exprtree import EvalError, Evaluator, LimitExceeded, NameMissing, Scope, evaluate, parse
from exprtree.nodes import Node


class TestOperators:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("1 + 2 * 3", 7),
            ("7 / 2", 3.5),
            ("7 // 2", 3),
            ("-7 % 3", 2),
            ("2 ** 10", 1024),
            ("2 ** -1", 0.5),
            ("-2 ** 2", -4),
            ("+3 - -3", 6),
            ("'ab' + 'cd'", "abcd"),
            ("[1] + [2]", [1, 2]),
            ("'ab' * 2", "abab"),
            ("[0] * 3", [0, 0, 0]),
            ("not true", False),
            ("1 == 1.0", True),
            ("1 == true", False),
            ("0 != false", True),
            ("null == null", True),
            ("[1, [2]] == [1.0, [2]]", True),
            ("[1] == [1, 2]", False),
            ("'a' < 'b'", True),
            ("2 > 2", False),
            ("2 >= 2", True),
            ("2 in [1, 2]", True),
            ("true in [1]", False),
            ("'b' in 'abc'", True),
        ],
    )
    def test_value(self, run, text, value):
        result = run(text)
        assert result == value
        assert type(result) is type(value)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("1 + 'a'", r"'\+' cannot take a number and a string"),
            ("true + 1", r"'\+' cannot take a boolean and a number"),
            ("[] + null", r"'\+' cannot take a list and a null"),
            ("'a' - 'b'", "'-' cannot take a string and a string"),
            ("'a' * 1.5", r"'\*' cannot take a string and a number"),
            ("[1] * true", r"'\*' cannot take a list and a boolean"),
            ("1 < 'a'", "'<' cannot take a number and a string"),
            ("[1] >= [2]", "'>=' cannot take a list and a list"),
            ("1 in 2", "'in' cannot take a number and a number"),
            ("1 in 'abc'", "'in' cannot take a number and a string"),
            ("-'a'", "unary '-' cannot take a string"),
            ("+true", r"unary '\+' cannot take a boolean"),
            ("not 1", "expected a boolean, not a number"),
            ("1 / 0", "division by zero"),
            ("1 // 0", "division by zero"),
            ("1 % 0", "division by zero"),
            ("0 ** -1", "division by zero"),
            ("10 ** 10 ** 10", "the number is too large"),
            ("10.0 ** 1000", "the number is too large"),
            ("(-8) ** 0.5", "no fractional power"),
            ("'abc' * 1000000", "too long"),
        ],
    )
    def test_errors(self, run, text, message):
        with pytest.raises(EvalError, match=message):
            run(text)


class TestLogic:
    @pytest.mark.parametrize("left", ["true", "false"])
    @pytest.mark.parametrize("right", ["true", "false"])
    def test_tables(self, run, left, right):
        a, b = left == "true", right == "true"
        assert run(f"{left} and {right}") is (a and b)
        assert run(f"{left} or {right}") is (a or b)

    def test_right_side_stays_unevaluated(self, run):
        assert run("false and missing") is False
        assert run("true or missing") is True
        with pytest.raises(NameMissing):
            run("true and missing")
        with pytest.raises(NameMissing):
            run("false or missing")

    @pytest.mark.parametrize("text", ["1 and true", "true and 1", "'' or true", "if 0 then 1 else 2"])
    def test_only_booleans_are_conditions(self, run, text):
        with pytest.raises(EvalError, match="expected a boolean"):
            run(text)

    @pytest.mark.parametrize(("x", "inside"), [(-1, False), (0, True), (9, True), (10, False)])
    def test_chains(self, run, x, inside):
        assert run("0 <= x < 10", x=x) is inside

    def test_chain_stops_at_the_first_false_link(self, run):
        assert run("2 < 1 < missing") is False

    def test_only_the_chosen_branch_is_evaluated(self, run):
        assert run("if true then 1 else missing") == 1
        assert run("if false then missing else 2") == 2


class TestNames:
    def test_names_from_outside(self, run):
        assert run("x * y", x=6, y=7) == 42

    def test_names_hide_builtins(self, run):
        assert run("pi", pi=3) == 3
        assert run("pi") == math.pi

    def test_let(self, run):
        assert run("let x = 2 in let y = x + 1 in x * y") == 6

    def test_let_hides(self, run):
        assert run("let x = 1 in (let x = 2 in x) + x") == 3

    def test_a_value_cannot_use_itself(self, run):
        assert run("let x = x + 1 in x", x=1) == 2
        with pytest.raises(NameMissing):
            run("let x = x + 1 in x")

    def test_missing_name(self, run):
        with pytest.raises(NameMissing) as caught:
            run("1 + xyzzy('a')")
        assert str(caught.value) == "'xyzzy' is not defined"
        assert caught.value.offset == 4

    def test_hint(self, run):
        with pytest.raises(NameMissing, match="'heigth' is not defined; did you mean 'height'"):
            run("heigth", height=1)

    def test_scope(self):
        outer = Scope({"a": 1, "b": 2})
        inner = outer.child({"b": 3})
        assert (inner.lookup("a"), inner.lookup("b"), outer.lookup("b")) == (1, 3, 2)
        assert "a" in inner
        assert "c" not in inner
        assert inner.names() == ["a", "b"]


class TestFunctions:
    def test_call(self, run):
        assert run("(fn(a, b) => a - b)(5, 3)") == 2

    def test_closure_keeps_its_scope(self, run):
        assert run("let add = fn(n) => fn(x) => x + n in let n = 100 in add(5)(1)") == 6

    def test_recursion(self, run):
        assert run("let fact = fn(n) => if n <= 1 then 1 else n * fact(n - 1) in fact(10)") == 3628800

    def test_python_functions(self, run):
        assert run("double(4) + 1", double=lambda x: x * 2) == 9

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("(fn(x) => x)()", "takes 1 argument, not 0"),
            ("(fn() => 1)(2, 3)", "takes 0 arguments, not 2"),
            ("3(4)", "a number cannot be called"),
            ("abs('a')", "the call failed"),
            ("upper(1)", "the call failed"),
            ("sqrt(-1)", "the call failed"),
            ("map(fn(x) => x + 'a', [1])", "cannot take a number and a string"),
        ],
    )
    def test_bad_calls(self, run, text, message):
        with pytest.raises(EvalError, match=message):
            run(text)

    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("max(3, 1, 2) - min(3, 1)", 2),
            ("sum([1, 2, 3])", 6),
            ("range(3)", [0, 1, 2]),
            ("range(1, 6, 2)", [1, 3, 5]),
            ("map(fn(x) => x ** 2, range(4))", [0, 1, 4, 9]),
            ("filter(fn(x) => x > 1, [1, 2, 3])", [2, 3]),
            ("reduce(fn(a, b) => a * b, [2, 3, 4], 1)", 24),
            ("sort([3, 1, 2])", [1, 2, 3]),
            ("reverse('abc')", "cba"),
            ("join(split('a-b', '-'), '+')", "a+b"),
            ("upper('a') + lower('B')", "Ab"),
            ("text([1, true, null, 'x'])", "[1, true, null, x]"),
            ("map(type, [1, 'a', true, null, [], type])", ["number", "string", "boolean", "null", "list", "function"]),
        ],
    )
    def test_builtins(self, run, text, value):
        assert run(text) == value

    def test_filter_needs_booleans(self, run):
        with pytest.raises(EvalError, match="expected a boolean"):
            run("filter(fn(x) => x, [1])")


class TestIndex:
    @pytest.mark.parametrize(("text", "value"), [("[1, 2, 3][0]", 1), ("[1, 2, 3][-1]", 3), ("'abc'[1]", "b")])
    def test_value(self, run, text, value):
        assert run(text) == value

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("[1, 2][2]", "index 2 is out of range for 2 items"),
            ("[1, 2][-3]", "index -3 is out of range"),
            ("[][0]", "out of range for 0 items"),
            ("[1][true]", "must be a whole number"),
            ("[1][0.0]", "must be a whole number"),
            ("5[0]", "a number has no items"),
        ],
    )
    def test_errors(self, run, text, message):
        with pytest.raises(EvalError, match=message):
            run(text)


class TestLimits:
    def test_steps(self):
        assert evaluate("1 + 1", max_steps=3) == 2
        with pytest.raises(LimitExceeded, match="gave up after 3 steps"):
            evaluate("1 + 1 + 1", max_steps=3)

    def test_endless_recursion(self, run):
        with pytest.raises(LimitExceeded, match="nested calls"):
            run("let f = fn(n) => f(n + 1) in f(0)")

    def test_calls_one_after_the_other_are_not_nested(self):
        evaluator = Evaluator(max_calls=2)
        scope = Scope({"f": lambda x: x})
        assert evaluator.visit(parse("f(1) + f(2) + f(f(3))"), scope) == 6
        assert evaluator.calls == 0


def test_the_innermost_failing_node_is_blamed():
    source = "1 + (2 * (3 - 'a'))"
    with pytest.raises(EvalError) as caught:
        evaluate(source)
    assert caught.value.offset == source.index("-")


def test_nodes_can_be_evaluated():
    assert evaluate(parse("1 + x"), {"x": 2}) == 3


def test_unknown_kinds_of_nodes_are_refused():
    with pytest.raises(TypeError, match="Evaluator cannot visit a Node"):
        evaluate(Node())
