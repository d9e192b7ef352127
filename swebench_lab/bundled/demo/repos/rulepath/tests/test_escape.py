import pytest

from rulepath.escape import PATH_SAFE, normalize_path, quote, unquote


@pytest.mark.parametrize(
    'text, quoted',
    [
        ('plain-._~', 'plain-._~'),
        ('a b', 'a%20b'),
        ('a/b?c#d', 'a%2Fb%3Fc%23d'),
        ('100%', '100%25'),
        ('ü', '%C3%BC'),
        ('日', '%E6%97%A5'),
        ('\x0a', '%0A'),
        ('', ''),
    ],
    ids=['safe', 'blank', 'delimiters', 'percent', 'two-bytes', 'three-bytes', 'control', 'empty'],
)
def test_quote_and_back(text, quoted):
    assert quote(text) == quoted
    assert unquote(quoted) == text


def test_quote_path_keeps_slashes():
    assert quote('a b/c', PATH_SAFE) == 'a%20b/c'


@pytest.mark.parametrize(
    'text, plain',
    [('%41%62', 'Ab'), ('%c3%bc', 'ü'), ('50%', '50%'), ('%4', '%4'), ('%zz%20', '%zz '), ('%ff', '\ufffd'),
     ('ü%20', 'ü ')],
    ids=['ascii', 'lower-case', 'lone', 'short', 'no-hex', 'no-utf8', 'raw-unicode'],
)
def test_unquote(text, plain):
    assert unquote(text) == plain


def test_plus_is_a_blank_only_in_queries():
    assert unquote('a+b%2B') == 'a+b+'
    assert unquote('a+b%2B', plus=True) == 'a b+'


@pytest.mark.parametrize(
    'path, clean',
    [
        ('/', '/'),
        ('', '/'),
        ('a', '/a'),
        ('/a/b', '/a/b'),
        ('/a/b/', '/a/b/'),
        ('//a///b', '/a/b'),
        ('/a/./b', '/a/b'),
        ('/a/../b', '/b'),
        ('/a/b/..', '/a/'),
        ('/a/.', '/a/'),
        ('/../../a', '/a'),
        ('/a/..', '/'),
        ('/a/..b', '/a/..b'),
    ],
    ids=range(13),
)
def test_normalize_path(path, clean):
    assert normalize_path(path) == clean
