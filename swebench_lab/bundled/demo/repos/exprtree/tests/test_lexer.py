import pytest

from exprtree import LexError, tokenize


def kinds(text):
    return [token.kind for token in tokenize(text)]


def values(text):
    return [token.value for token in tokenize(text)][:-1]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("42", 42),
        ("1_000_000", 1000000),
        ("3.25", 3.25),
        (".5", 0.5),
        ("2.", 2.0),
        ("1e3", 1000.0),
        ("1.5E-2", 0.015),
        ("2e+2", 200.0),
    ],
)
def test_numbers(text, value):
    [token, _] = tokenize(text)
    assert token.kind == "number"
    assert token.value == value
    assert type(token.value) is type(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('"abc"', "abc"),
        ("'abc'", "abc"),
        ("''", ""),
        (r'"a\nb\tc"', "a\nb\tc"),
        (r'"\"\\\'"', "\"\\'"),
        ('"it\'s # no comment"', "it's # no comment"),
    ],
)
def test_strings(text, value):
    [token, _] = tokenize(text)
    assert (token.kind, token.value) == ("string", value)


def test_longest_symbol_wins():
    assert values("a**b*c//d/e<=f<g==h=i=>j") == [
        *["a", "**", "b", "*", "c", "//", "d", "/", "e", "<=", "f", "<", "g", "==", "h", "=", "i", "=>", "j"]
    ]


def test_keywords_and_names():
    assert kinds("if iffy _x x1 in") == ["keyword", "name", "name", "name", "keyword", "end"]


def test_offsets():
    assert [token.offset for token in tokenize("a + 'bc' * 12")] == [0, 2, 4, 9, 11, 13]


def test_comments_and_blank_lines():
    assert values("1 # one\n\n + 2 # two") == [1, "+", 2]
    assert kinds("# nothing") == ["end"]
    assert kinds("") == ["end"]


@pytest.mark.parametrize(
    ("text", "message", "offset"),
    [
        ("1 + $", r"unexpected character '\$'", 4),
        ("  'abc", "not closed", 2),
        ("'a\nb'", "not closed", 0),
        (r"'a\qb'", r"unknown escape '\\q'", 2),
        ("1e", "no digits", 0),
        ("x + 1e+", "no digits", 4),
        ("12ab", "cannot start with a digit: '12a'", 0),
        ("a ! b", "unexpected character '!'", 2),
    ],
)
def test_errors(text, message, offset):
    with pytest.raises(LexError, match=message) as caught:
        tokenize(text)
    assert caught.value.offset == offset


def test_token_text():
    name, end = tokenize("abc")
    assert str(name) == "'abc'"
    assert str(end) == "end of text"
    assert not name.is_symbol("abc")
    assert not name.is_keyword("abc")
