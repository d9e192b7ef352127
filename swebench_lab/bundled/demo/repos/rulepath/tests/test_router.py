import pytest

from rulepath import BuildError, Converter, MethodNotAllowed, NotFound, RedirectRequired, Router


@pytest.mark.parametrize(
    'path, name, values',
    [
        ('/', 'home', {}),
        ('/files/readme', 'readme', {}),
        ('/files/other', 'top-file', {'name': 'other'}),
        ('/files/a/b.txt', 'file', {'name': 'a/b.txt'}),
        ('/articles/12', 'article', {'number': 12}),
        ('/articles/0', 'article-by-slug', {'slug': '0'}),
        ('/articles/news', 'article-by-slug', {'slug': 'news'}),
        ('/about', 'about', {}),
    ],
    ids=range(8),
)
def test_match(router, path, name, values):
    match = router.match(path)
    assert (match.name, match.values) == (name, values)


def test_method_picks_the_rule(router):
    assert router.match('/articles/12', 'PUT').name == 'article-edit'
    assert router.match('/articles/12', 'HEAD').name == 'article'


@pytest.mark.parametrize('path', ['/nothing', '/about/', '/articles/1/2'], ids=['other', 'slash', 'deeper'])
def test_not_found(router, path):
    with pytest.raises(NotFound, match=path):
        router.match(path)


def test_method_not_allowed_lists_all(router):
    with pytest.raises(MethodNotAllowed) as caught:
        router.match('/articles/12', 'POST')
    assert caught.value.allowed == ['DELETE', 'GET', 'HEAD', 'PUT']
    assert 'DELETE, GET' in str(caught.value)


def test_allowed_methods(router):
    assert router.allowed_methods('/articles/') == ['GET', 'HEAD', 'POST']
    assert router.allowed_methods('/about') == ['*']
    assert router.allowed_methods('/nothing') == []


class TestRedirects:
    @pytest.mark.parametrize(
        'path, location',
        [
            ('/articles', '/articles/'),
            ('//articles/', '/articles/'),
            ('/articles/./12', '/articles/12'),
            ('/x/../about', '/about'),
            ('//articles', '/articles/'),
        ],
        ids=range(5),
    )
    def test_redirect(self, router, path, location):
        with pytest.raises(RedirectRequired) as caught:
            router.match(path)
        assert caught.value.location == location

    def test_unclean_path_without_rule_is_not_found(self, router):
        with pytest.raises(NotFound):
            router.match('//nothing')

    def test_wrong_method_is_not_redirected(self, router):
        with pytest.raises(MethodNotAllowed):
            router.match('/articles', 'DELETE')

    def test_merging_can_be_switched_off(self):
        router = Router(merge_slashes=False)
        router.add('/a/<path:p>', 'x')
        assert router.match('/a/b//c').values == {'p': 'b//c'}
        with pytest.raises(NotFound):
            router.match('//a/b')


class TestPriority:
    @pytest.mark.parametrize(
        'patterns',
        [
            ['/a/b', '/a/<x>', '/<x>/b', '/<x>/<y>', '/<path:x>'],
            ['/<any(a,b):x>', '/<int:x>', '/<float:x>', '/<x>', '/<path:x>'],
            ['/a/<path:x>/edit', '/a/<path:x>', '/<path:x>'],
            ['/v-<x>', '/<x>'],
        ],
        ids=['literals', 'converters', 'paths', 'prefix'],
    )
    def test_order(self, patterns):
        router = Router()
        for pattern in reversed(patterns):
            router.add(pattern, pattern)
        assert [rule.pattern for rule in router] == patterns

    def test_equal_rules_keep_their_order(self):
        router = Router()
        for name in 'abc':
            router.add('/<x>', name)
        assert [rule.name for rule in router] == ['a', 'b', 'c']
        assert len(router) == 3


class TestBuild:
    def test_path_query_and_fragment(self, router):
        url = router.build('article', number=3, page=2, tags=['a', 'b'], none=None, _fragment='top 1')
        assert url == '/articles/3?page=2&tags=a&tags=b#top%201'

    def test_placeholder_called_name(self, router):
        assert router.build('file', name='a/b c') == '/files/a/b%20c'

    def test_unknown_name(self, router):
        with pytest.raises(BuildError, match="'nobody'"):
            router.build('nobody')

    def test_missing_value(self, router):
        with pytest.raises(BuildError, match='does not suit'):
            router.build('article')

    def test_bad_value(self, router):
        with pytest.raises(BuildError, match='out of range'):
            router.build('article', number=0)

    def test_first_rule_that_takes_the_values(self):
        router = Router()
        router.add('/list/', 'list', defaults={'page': 1})
        router.add('/list/<int(max=9):page>', 'list')
        router.add('/list/<word>', 'list', methods=['POST'])
        assert router.build('list', page=1) == '/list/'
        assert router.build('list', page=2) == '/list/2'
        assert router.build('list', word='x', page=10) == '/list/x?page=10'
        with pytest.raises(BuildError):
            router.build('list', _method='PUT', word='x', page=10)

    def test_method_picks_the_rule(self):
        router = Router()
        router.add('/new', 'item', methods=['POST'])
        router.add('/item', 'item', methods=['GET'])
        assert router.build('item') == '/new'
        assert router.build('item', _method='GET') == '/item'

    @pytest.mark.parametrize('name', ['a b', 'ü', '50%', 'x?y#z', 'a/b'], ids=range(5))
    def test_round_trip(self, router, name):
        url = router.build('top-file', name=name)
        assert router.match(url).values == {'name': name}


class TestComposition:
    def test_prefix(self):
        router = Router(prefix='/api/')
        router.add('/x', 'x')
        assert router.build('x') == '/api/x'

    def test_group(self):
        router = Router('/api')
        with router.group('/v1/') as same:
            same.add('/x', 'x')
            with router.group('/deep'):
                router.add('/y', 'y')
        router.add('/z', 'z')
        assert [router.build(name) for name in 'xyz'] == ['/api/v1/x', '/api/v1/deep/y', '/api/z']

    def test_group_ends_on_error(self):
        router = Router()
        with pytest.raises(KeyError), router.group('/v1'):
            raise KeyError('stop')
        assert router.prefix == ''

    def test_route_decorator(self):
        router = Router()

        @router.route('/hi/<name>', methods=['GET'])
        def greet(name):
            return f'hi {name}'

        assert router.match('/hi/bob').name == 'greet'
        assert greet('bob') == 'hi bob'
        router.route('/other', name='named')(greet)
        assert router.build('named') == '/other'

    def test_include(self, router):
        main = Router()
        main.add('/', 'home')
        main.include(router, '/site/', namespace='site')
        assert main.build('site.article', number=1) == '/site/articles/1'
        assert main.match('/site/').name == 'site.home'
        with pytest.raises(MethodNotAllowed):
            main.match('/site/articles/', 'PATCH')

    def test_include_keeps_options_and_converters(self):
        class Upper(Converter):
            def to_python(self, text):
                return text.upper()

        inner = Router(converters={'upper': Upper})
        inner.add('/<upper:x>/', 'up', defaults={'k': 1}, strict_slashes=False)
        outer = Router()
        outer.include(inner)
        assert outer.match('/abc').values == {'k': 1, 'x': 'ABC'}
        assert outer.converters == {}
