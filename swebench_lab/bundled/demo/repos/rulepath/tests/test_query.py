import pytest

from rulepath import QueryDict, build_query, parse_query
from rulepath.query import split_url


@pytest.fixture
def query():
    return QueryDict([('a', 1), ('b', 2), ('a', 3)])


class TestQueryDict:
    def test_index_gives_last_value(self, query):
        assert query['a'] == '3'
        assert query['b'] == '2'

    def test_missing_key(self, query):
        with pytest.raises(KeyError):
            query['c']

    def test_getlist(self, query):
        assert query.getlist('a') == ['1', '3']
        assert query.getlist('c') == []

    def test_length_and_keys_count_once(self, query):
        assert len(query) == 2
        assert list(query) == ['a', 'b']

    def test_contains(self, query):
        assert 'a' in query
        assert 'c' not in query

    def test_items(self, query):
        assert list(query.items()) == [('a', '3'), ('b', '2')]
        assert list(query.items(multi=True)) == [('a', '1'), ('b', '2'), ('a', '3')]

    @pytest.mark.parametrize('kind, expected', [(None, '2'), (int, 2), (float, 2.0)], ids=['none', 'int', 'float'])
    def test_get_converts(self, query, kind, expected):
        assert query.get('b', type=kind) == expected

    def test_get_default(self, query):
        assert query.get('c') is None
        assert query.get('c', 'x') == 'x'
        assert QueryDict({'n': 'many'}).get('n', 0, type=int) == 0

    def test_replace_keeps_first_place(self, query):
        query['a'] = 9
        assert list(query.items(multi=True)) == [('a', '9'), ('b', '2')]

    def test_replace_of_new_key_appends(self, query):
        query.replace('c', 4)
        assert list(query)[-1] == 'c'
        assert query['c'] == '4'

    def test_delete(self, query):
        del query['a']
        assert list(query.items(multi=True)) == [('b', '2')]
        with pytest.raises(KeyError):
            del query['a']

    def test_add(self, query):
        query.add('b', True)
        assert query.getlist('b') == ['2', 'True']

    def test_pop(self, query):
        assert query.pop('a') == '3'
        assert 'a' not in query
        assert query.pop('a', None) is None
        with pytest.raises(KeyError):
            query.pop('a')

    def test_copy_is_independent(self, query):
        other = query.copy()
        other.add('c', 1)
        assert 'c' not in query
        assert other.getlist('a') == ['1', '3']

    def test_update_replaces_all_values(self, query):
        query.update({'a': ['x', 'y']}, c='z')
        assert list(query.items(multi=True)) == [('b', '2'), ('a', 'x'), ('a', 'y'), ('c', 'z')]

    def test_from_mapping_with_lists(self):
        query = QueryDict({'x': [1, 2], 'y': 'z', 's': {'q', 'p'}})
        assert list(query.items(multi=True)) == [('x', '1'), ('x', '2'), ('y', 'z'), ('s', 'p'), ('s', 'q')]

    def test_equality(self, query):
        assert query == query.copy()
        assert QueryDict({'a': '1'}) == {'a': 1}
        assert query != QueryDict([('a', 1), ('a', 3), ('b', 2)])
        assert query != 'a=1'

    def test_text_forms(self, query):
        assert str(query) == 'a=1&b=2&a=3'
        assert repr(QueryDict({'a': 1})) == "QueryDict([('a', '1')])"

    def test_empty(self):
        assert len(QueryDict()) == 0
        assert str(QueryDict(None)) == ''


class TestParse:
    def test_repeated_keys(self):
        assert parse_query('a=1&b=2&a=3').getlist('a') == ['1', '3']

    def test_question_mark_is_ignored_once(self):
        assert list(parse_query('??a=1')) == ['?a']

    def test_decoding(self):
        assert parse_query('na%20me=J+%26+J&%C3%BC=%2B') == {'na me': 'J & J', 'ü': '+'}

    def test_equals_sign_in_value(self):
        assert parse_query('a=b=c')['a'] == 'b=c'

    def test_blank_values(self):
        assert parse_query('a&b=&c=1') == {'a': '', 'b': '', 'c': '1'}
        assert parse_query('a&b=&c=1', keep_blank=False) == {'c': '1'}

    def test_empty_chunks(self):
        assert parse_query('&&a=1&') == {'a': '1'}

    def test_other_separator(self):
        assert parse_query('a=1;b=2&3', separator=';') == {'a': '1', 'b': '2&3'}

    def test_limit(self):
        assert len(parse_query('a=1&&b=2', limit=2)) == 2
        with pytest.raises(ValueError, match='more than 2'):
            parse_query('a=1&b=2&c=3', limit=2)


class TestBuild:
    def test_none_is_left_out_and_lists_repeat(self):
        assert build_query({'a': None, 'b': [1, 2], 'c': ''}) == 'b=1&b=2&c='

    def test_booleans(self):
        assert build_query({'on': True, 'off': False}) == 'on=1&off=0'

    def test_quoting(self):
        assert build_query([('a b', 'x&y=z+1')]) == 'a%20b=x%26y%3Dz%2B1'

    def test_slashes_need_no_quoting(self):
        assert build_query({'next': '/a?b'}) == 'next=/a?b'

    def test_sorting_keeps_order_of_values(self):
        assert build_query([('b', 2), ('a', 3), ('b', 1)], sort=True) == 'a=3&b=2&b=1'

    @pytest.mark.parametrize('value', ['a b', 'a+b', '&=;#%', 'ü日', '', '%41'], ids=range(6))
    def test_round_trip(self, value):
        assert parse_query(build_query({'k': value, value: 'v'})) == {'k': value, value: 'v'}


def test_split_url():
    path, query, fragment = split_url('/a/b?x=1&y=%20#part%202?')
    assert (path, fragment) == ('/a/b', 'part 2?')
    assert query == {'x': '1', 'y': ' '}
