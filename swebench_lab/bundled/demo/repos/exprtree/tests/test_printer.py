import pytest

from exprtree import outline, parse, to_text
from exprtree.nodes import Binary, Literal, Name

CANONICAL = [
    "a + b * c",
    "(a + b) * c",
    "a - (b - c)",
    "a - b - c",
    "a / (b * c)",
    "2 ** -x ** y",
    "(2 ** 3) ** 2",
    "2 ** 3 ** 2",
    "-x ** 2",
    "(-x) ** 2",
    "--x",
    "1 - -2",
    "not (a and b) or c",
    "(a or b) and c",
    "(not a) == b",
    "not a == b",
    "1 + (not x)",
    "(a < b) == c",
    "a < b <= c",
    "a in b + c",
    "if a then b else if c then d else e",
    "(if a then b else c) + 1",
    "let a = (b in c) in a",
    "let a = (let b = 1 in b) in a",
    "let a = 1 + 2 in fn(x) => x + a",
    "(fn(x, y) => x)(2, 3)",
    "f(x)[1](y)",
    "(a + b)[0]",
    "[1, 2.5, \"x\", true, null]",
    "[]",
    "f(fn(x) => x, if a then b else c)",
]


@pytest.mark.parametrize("text", CANONICAL)
def test_canonical_text_stays(text):
    assert to_text(parse(text)) == text


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("((a))+((b*c))", "a + b * c"),
        ("'say \"hi\"\\n'", r'"say \"hi\"\n"'),
        ("'it\\'s'", '"it\'s"'),
        (r"'back\\slash'", r'"back\\slash"'),
        ("if(a)then(b)else(c)", "if a then b else c"),
        ("[a,]", "[a]"),
        ("1_000 # big", "1000"),
    ],
)
def test_tidies(text, printed):
    assert to_text(parse(text)) == printed
    assert parse(printed) == parse(text)


def test_negative_literals():
    assert to_text(Binary("**", Literal(-2), Name("x"))) == "(-2) ** x"
    assert to_text(Binary("*", Name("x"), Literal(-2))) == "x * -2"


def test_str_is_the_text():
    assert str(parse("( a )+1")) == "a + 1"


def test_outline():
    tree = parse("if a < 1 <= b then f(x) else fn(y, z) => [not y, 'q']")
    assert outline(tree).splitlines() == [
        "If",
        "  Compare < <=",
        "    Name a",
        "    Literal 1",
        "    Name b",
        "  Call",
        "    Name f",
        "    Name x",
        "  Function y, z",
        "    ListNode",
        "      Unary not",
        "        Name y",
        '      Literal "q"',
    ]


def test_outline_with_another_indent():
    assert outline(parse("a + b"), indent="..") == "Binary +\n..Name a\n..Name b"
