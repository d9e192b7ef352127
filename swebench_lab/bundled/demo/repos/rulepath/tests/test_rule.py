import pytest

from rulepath import Converter, Rule, RuleError, ValidationError
from rulepath.rule import split_pattern


def test_split_pattern():
    assert list(split_pattern('/a/<int:b>.<c>/')) == [
        (False, '/a/'),
        (True, 'int:b'),
        (False, '.'),
        (True, 'c'),
        (False, '/'),
    ]


@pytest.mark.parametrize(
    'pattern, reason',
    [
        ('a/b', 'missing slash'),
        ('/<a', 'never closed'),
        ('/a>', 'unexpected >'),
        ('/<>', 'malformed placeholder'),
        ('/<1a>', 'malformed placeholder'),
        ('/<a>/<a>', 'used twice'),
        ('/<color:a>', 'unknown converter color'),
        ('/<int(size=3):a>', 'converter int'),
        ('/<any():a>', 'at least one choice'),
    ],
    ids=range(9),
)
def test_malformed_patterns(pattern, reason):
    with pytest.raises(RuleError, match=reason) as caught:
        Rule(pattern, 'x')
    assert caught.value.pattern == pattern


class TestMatch:
    def test_static(self):
        rule = Rule('/a/b', 'x')
        assert rule.match('/a/b') == ({}, False)
        assert rule.match('/a/b/') is None
        assert rule.match('/a/bc') is None

    def test_values_are_converted_and_unquoted(self):
        rule = Rule('/<name>/<int:n>', 'x')
        assert rule.match('/a%2Fb/07') == ({'name': 'a/b', 'n': 7}, False)

    def test_converter_refuses(self):
        assert Rule('/<int(max=5):n>', 'x').match('/6') is None

    def test_several_placeholders_in_a_segment(self):
        rule = Rule('/v<int:major>.<int:minor>', 'x')
        assert rule.match('/v3.14') == ({'major': 3, 'minor': 14}, False)
        assert rule.match('/v3x14') is None

    def test_literal_is_quoted(self):
        assert Rule('/a b/é', 'x').match('/a%20b/%C3%A9') == ({}, False)

    def test_missing_slash(self):
        rule = Rule('/a/', 'x')
        assert rule.match('/a') == ({}, True)
        assert rule.match('/a/') == ({}, False)

    def test_missing_slash_is_fine_without_strict_slashes(self):
        assert Rule('/a/', 'x', strict_slashes=False).match('/a') == ({}, False)
        assert Rule('/a', 'x', strict_slashes=False).match('/a/') == ({}, False)

    def test_path_with_branch(self):
        assert Rule('/<path:p>/', 'x').match('/a/b/') == ({'p': 'a/b'}, False)

    def test_defaults_are_added(self):
        rule = Rule('/<int:n>', 'x', defaults={'size': 10, 'n': 1})
        assert rule.match('/2') == ({'size': 10, 'n': 2}, False)

    def test_own_converter(self):
        class Pair(Converter):
            regex = '[a-z]+,[a-z]+'

            def to_python(self, text):
                return tuple(text.split(','))

        rule = Rule('/<pair:p>', 'x', converters={'pair': Pair})
        assert rule.match('/a,b') == ({'p': ('a', 'b')}, False)


class TestMethods:
    def test_none_means_all(self):
        assert Rule('/', 'x').allows('BREW')

    def test_get_includes_head(self):
        rule = Rule('/', 'x', methods=['get', 'Post'])
        assert rule.methods == {'GET', 'HEAD', 'POST'}
        assert rule.allows('head')
        assert not rule.allows('PUT')

    def test_post_does_not_include_head(self):
        assert Rule('/', 'x', methods=['POST']).methods == {'POST'}


class TestBuild:
    def test_path_and_rest(self):
        rule = Rule('/a/<name>/<int(digits=3):n>', 'x')
        assert rule.build({'name': 'x y', 'n': 5, 'q': 1}) == ('/a/x%20y/005', {'q': 1})

    def test_defaults_fill_in(self):
        rule = Rule('/p/<int:n>', 'x', defaults={'n': 1, 'kind': 'all'})
        assert rule.build({}) == ('/p/1', {})
        assert rule.build({'n': 2, 'kind': 'all'}) == ('/p/2', {})

    def test_suits(self):
        rule = Rule('/p/<int:n>', 'x', defaults={'kind': 'all'})
        assert rule.suits({'n': 1})
        assert rule.suits({'n': 1, 'kind': 'all', 'other': 2})
        assert not rule.suits({'kind': 'all'})
        assert not rule.suits({'n': 1, 'kind': 'some'})

    def test_default_of_a_placeholder_may_differ(self):
        assert Rule('/<int:n>', 'x', defaults={'n': 1}).suits({'n': 2})

    def test_converter_refuses(self):
        with pytest.raises(ValidationError):
            Rule('/<int:n>', 'x').build({'n': 'many'})


def test_repr():
    assert repr(Rule('/a', 'x', methods=['GET'])) == '<Rule /a x GET,HEAD>'
    assert repr(Rule('/a', 'x')) == '<Rule /a x>'
