import pytest

from exprtree import ParseError, parse
from exprtree.nodes import Binary, Call, Compare, Function, If, Index, Let, ListNode, Literal, Logical, Name, Unary
from exprtree.parser import Parser

A, B, C, D = (Name(letter) for letter in "abcd")


class TestGrouping:
    @pytest.mark.parametrize(
        ("text", "same_as"),
        [
            ("a + b * c", "a + (b * c)"),
            ("a * b + c", "(a * b) + c"),
            ("a - b - c", "(a - b) - c"),
            ("a / b * c", "(a / b) * c"),
            ("a % b // c", "(a % b) // c"),
            ("a ** b ** c", "a ** (b ** c)"),
            ("-a ** b", "-(a ** b)"),
            ("-a * b", "(-a) * b"),
            ("a ** -b", "a ** (-b)"),
            ("a ** -b * c", "(a ** (-b)) * c"),
            ("-a[b]", "-(a[b])"),
            ("a or b and c", "a or (b and c)"),
            ("a and b or c", "(a and b) or c"),
            ("not a and b", "(not a) and b"),
            ("not a == b", "not (a == b)"),
            ("a + b < c * d", "(a + b) < (c * d)"),
            ("if a then b else c + d", "if a then b else (c + d)"),
            ("fn(x) => x + a", "fn(x) => (x + a)"),
            ("let x = a in x + b", "let x = a in (x + b)"),
        ],
    )
    def test_precedence(self, text, same_as):
        assert parse(text) == parse(same_as)

    def test_parentheses_change_it(self):
        assert parse("(a + b) * c") == Binary("*", Binary("+", A, B), C)
        assert parse("a - (b - c)") == Binary("-", A, Binary("-", B, C))
        assert parse("(-a) ** b") == Binary("**", Unary("-", A), B)


class TestForms:
    @pytest.mark.parametrize(
        ("text", "node"),
        [
            ("1", Literal(1)),
            ("'x'", Literal("x")),
            ("true", Literal(True)),
            ("false", Literal(False)),
            ("null", Literal(None)),
            ("[]", ListNode(())),
            ("[a, b,]", ListNode((A, B))),
            ("+a", Unary("+", A)),
            ("not a", Unary("not", A)),
            ("a and b", Logical("and", A, B)),
            ("a < b", Compare(("<",), (A, B))),
            ("a < b <= c", Compare(("<", "<="), (A, B, C))),
            ("a in b", Compare(("in",), (A, B))),
            ("if a then b else c", If(A, B, C)),
            ("let x = a in b", Let("x", A, B)),
            ("fn(x, y) => a", Function(("x", "y"), A)),
            ("fn() => a", Function((), A)),
            ("a()", Call(A, ())),
            ("a(b, c)", Call(A, (B, C))),
            ("a(b)(c)", Call(Call(A, (B,)), (C,))),
            ("a[b]", Index(A, B)),
        ],
    )
    def test_form(self, text, node):
        assert parse(text) == node

    def test_in_ends_a_let_value(self):
        assert parse("let x = a < b in c") == Let("x", Compare(("<",), (A, B)), C)
        assert parse("let x = if a then b else c in d") == Let("x", If(A, B, C), D)
        assert parse("let x = let y = a in b in c") == Let("x", Let("y", A, B), C)

    def test_in_is_an_operator_within_brackets(self):
        membership = Compare(("in",), (A, B))
        assert parse("let x = (a in b) in c") == Let("x", membership, C)
        assert parse("let x = [a in b] in c") == Let("x", ListNode((membership,)), C)
        assert parse("let x = d[a in b] in c") == Let("x", Index(D, membership), C)
        assert parse("let x = d in a in b") == Let("x", D, membership)

    def test_nodes_know_their_offset(self):
        node = parse("a + f(b)")
        assert node.offset == 2
        assert node.right.offset == 5
        assert node.right.function.offset == 4


@pytest.mark.parametrize(
    ("text", "message", "offset"),
    [
        ("", "expected an expression, found end of text", 0),
        ("1 +", "expected an expression, found end of text", 3),
        ("1 2", "unexpected 2 after the expression", 2),
        ("(1", r"expected '\)', found end of text", 2),
        ("[1, 2", "expected '\\]'", 5),
        ("a[1", "expected '\\]'", 3),
        ("f(1 2)", r"expected '\)', found 2", 4),
        ("* 2", r"expected an expression, found '\*'", 0),
        ("if a else b", "expected 'then', found 'else'", 5),
        ("if a then b", "expected 'else', found end of text", 11),
        ("let 1 = 2 in 3", "expected a name, found 1", 4),
        ("let x 2 in x", "expected '=', found 2", 6),
        ("let x = 2", "expected 'in', found end of text", 9),
        ("then", "expected an expression, found 'then'", 0),
        ("fn(x, 1) => x", "expected a name, found 1", 6),
        ("fn(x) x", "expected '=>', found 'x'", 6),
        ("fn(x, y, x) => x", "parameter 'x' occurs twice", 0),
        ("a)", r"unexpected '\)' after", 1),
    ],
)
def test_errors(text, message, offset):
    with pytest.raises(ParseError, match=message) as caught:
        parse(text)
    assert caught.value.offset == offset


def test_depth_is_limited():
    assert Parser("((1))", max_depth=3).parse() == Literal(1)
    with pytest.raises(ParseError, match="nested too deeply"):
        Parser("(((1)))", max_depth=3).parse()
    with pytest.raises(ParseError):
        parse("(" * 500 + "1" + ")" * 500)


def test_breadth_is_not_limited():
    assert parse(" + ".join(["1"] * 300)).operator == "+"


class TestExplain:
    def test_points_at_the_place(self):
        source = "1 +\n  2 * )\n"
        with pytest.raises(ParseError) as caught:
            parse(source)
        assert caught.value.explain(source).splitlines() == [
            "expected an expression, found ')' (line 2, column 7)",
            "    2 * )",
            "        ^",
        ]

    def test_last_line_without_a_line_break(self):
        error = ParseError("oops", 3)
        assert error.explain("a\nbc") == "oops (line 2, column 2)\n  bc\n   ^"

    def test_without_an_offset(self):
        assert ParseError("oops").explain("abc") == "oops"
