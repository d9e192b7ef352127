import pytest

from exprtree import depth, evaluate, free_names, parse, simplify, substitute, to_text
from exprtree.nodes import Literal, Name


class TestSimplify:
    @pytest.mark.parametrize(
        ("text", "result"),
        [
            ("1 + 2 * 3", "7"),
            ("x + 0", "x"),
            ("0 + x", "x"),
            ("x - 0", "x"),
            ("0 - x", "-x"),
            ("x - x", "0"),
            ("x + -y", "x - y"),
            ("x - -y", "x + y"),
            ("x * 1", "x"),
            ("1 * x", "x"),
            ("x * 0", "0"),
            ("x * -1", "-x"),
            ("x / 1", "x"),
            ("x ** 1", "x"),
            ("x ** 0", "1"),
            ("--x", "x"),
            ("+x", "x"),
            ("x + 1 + 2", "x + 3"),
            ("x * 2 * 3", "x * 6"),
            ("'a' + 'b'", '"ab"'),
            ("x * 1 + (2 + 3) * 0 + -(-y)", "x + y"),
        ],
    )
    def test_arithmetic(self, simple, text, result):
        assert simple(text) == result

    @pytest.mark.parametrize(
        ("text", "result"),
        [
            ("true and x", "x"),
            ("x and true", "x"),
            ("false and x", "false"),
            ("true or x", "true"),
            ("false or x", "x"),
            ("x or false", "x"),
            ("x or x", "x"),
            ("not true", "false"),
            ("not (a == b)", "a != b"),
            ("not (a != b)", "a == b"),
            ("1 < 2 < 3", "true"),
            ("1 < 3 < 2", "false"),
            ("2 in [2]", "2 in [2]"),
        ],
    )
    def test_logic(self, simple, text, result):
        assert simple(text) == result

    @pytest.mark.parametrize(
        ("text", "result"),
        [
            ("if 1 < 2 then a else b", "a"),
            ("if 1 > 2 then a else b", "b"),
            ("if not c then a else b", "if c then b else a"),
            ("if c then a else a", "a"),
            ("let x = 2 in x * 3", "6"),
            ("let x = y in 5", "5"),
            ("let x = y in x + 1", "let x = y in x + 1"),
            ("fn(x) => x + (1 + 1)", "fn(x) => x + 2"),
            ("f(1 + 1, [2 * 2])", "f(2, [4])"),
        ],
    )
    def test_forms(self, simple, text, result):
        assert simple(text) == result

    @pytest.mark.parametrize(
        "text",
        [
            "1 / 0",
            '1 + "a"',
            '-"a"',
            '1 < "a"',
            "f(x) * 0",
            "f(x) - f(x)",
            "f(x) ** 0",
            "x and false",
            "not a < b",
            "not a == b == c",
            "x - 1 - 2",
            "x + 0.1 + 0.2",
            "let x = f(y) in 5",
            "if f(x) then a else a",
        ],
    )
    def test_leaves_alone(self, simple, text):
        assert simple(text) == text

    @pytest.mark.parametrize("x", [-2, 0, 3])
    @pytest.mark.parametrize(
        "text",
        [
            "(x + 1 + 2) * 1 - -x",
            "if not (x == 0) then x * 2 * 3 else 0 - x",
            "let k = 2 in (x + 0) * k ** 1 + (x - x)",
            "0 <= x < 5 and true or false",
        ],
    )
    def test_keeps_the_value(self, text, x):
        assert evaluate(simplify(parse(text)), {"x": x}) == evaluate(text, {"x": x})

    def test_is_done_after_one_call(self):
        once = simplify(parse("if not not c then 1 * (x + 0) else --x ** (3 - 2)"))
        assert simplify(once) == once


class TestSubstitute:
    @pytest.mark.parametrize(
        ("text", "result"),
        [
            ("y + y", "x * 2 + x * 2"),
            ("y ** 2", "(x * 2) ** 2"),
            ("f(y, [y])", "f(x * 2, [x * 2])"),
            ("let y = 1 in y", "let y = 1 in y"),
            ("let y = y in y", "let y = x * 2 in y"),
            ("fn(y) => y", "fn(y) => y"),
            ("fn(z) => y + z", "fn(z) => x * 2 + z"),
            ("let x = 1 in x + y", "let x_ = 1 in x_ + x * 2"),
            ("fn(x) => x + y", "fn(x_) => x_ + x * 2"),
            ("fn(x, x_) => x + x_ + y", "fn(x__, x_) => x__ + x_ + x * 2"),
            ("fn(x) => x", "fn(x) => x"),
            ("let y = (fn(n) => y(n)) in y(1)", "let y = (fn(n) => y(n)) in y(1)"),
        ],
    )
    def test_y_by_an_expression(self, text, result):
        assert to_text(substitute(parse(text), {"y": parse("x * 2")})) == result

    def test_several_at_once(self):
        swapped = substitute(parse("a - b"), {"a": Name("b"), "b": Name("a")})
        assert to_text(swapped) == "b - a"

    def test_nothing_to_do(self):
        node = parse("a + 1")
        assert substitute(node, {}) == node


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("1 + 2", set()),
        ("a + f(b)", {"a", "f", "b"}),
        ("let x = a in x + b", {"a", "b"}),
        ("let x = x in x", {"x"}),
        ("let f = fn(n) => f(n) in f(a)", {"a"}),
        ("fn(x, y) => x + y + z", {"z"}),
        ("if a < b then [c] else d[e]", {"a", "b", "c", "d", "e"}),
    ],
)
def test_free_names(text, names):
    assert free_names(parse(text)) == names


class TestNodes:
    def test_equality_is_by_structure(self):
        assert parse("a+b") == parse(" a + b ")
        assert hash(parse("a+b")) == hash(parse(" a + b "))

    def test_literals_differ_by_type(self):
        assert Literal(1) != Literal(1.0)
        assert Literal(1) != Literal(True)
        assert Literal(1) == Literal(1)
        assert Literal(1) != 1
        assert len({Literal(1), Literal(True), Literal(1.0), Literal(1)}) == 3

    def test_walk_is_parents_first(self):
        names = [str(node) for node in parse("a < f(b)").walk()]
        assert names == ["a < f(b)", "a", "f(b)", "f", "b"]

    def test_depth(self):
        assert depth(parse("a")) == 1
        assert depth(parse("a + b * c")) == 3

    def test_map_children_keeps_leaves(self):
        leaf = parse("a")
        assert leaf.map_children(lambda node: None) is leaf
