import pytest

from rulepath import NotFound, QueryDict, Request, Response
from rulepath.middleware import compose, header, require


def tag(name):
    def layer(request, call_next):
        response = call_next(request)
        response.body = f'{name}({response.body})'
        return response

    return layer


class TestRequest:
    def test_from_url(self):
        request = Request.from_url('/a?x=1', 'post', {'H': 'v'})
        assert (request.path, request.method, request.headers) == ('/a', 'POST', {'H': 'v'})
        assert request.query == {'x': '1'}

    def test_empty_path_is_root(self):
        assert Request.from_url('?x=1').path == '/'

    def test_requests_share_nothing(self):
        first, second = Request('/'), Request('/')
        first.state['a'] = 1
        assert second.state == {}
        assert isinstance(first.query, QueryDict)


@pytest.mark.parametrize(
    'result, body, status',
    [('text', 'text', 200), (None, '', 204), (('made', 201), 'made', 201), (7, '7', 200)],
    ids=['text', 'none', 'tuple', 'number'],
)
def test_wrap(result, body, status):
    response = Response.wrap(result)
    assert (response.body, response.status) == (body, status)


def test_wrap_keeps_responses():
    response = Response('x')
    assert Response.wrap(response) is response


def test_compose_runs_the_first_outermost():
    handler = compose([tag('a'), tag('b')], lambda request: Response('x'))
    assert handler(Request('/')).body == 'a(b(x))'


class TestApplication:
    def test_handler_gets_request_and_values(self, app):
        @app.route('/add/<int:a>/<int:b>')
        def add(request, a, b):
            return f'{request.query.get("sign", "+")}{a + b}'

        assert app.get('/add/1/2?sign=!').body == '!3'
        assert app.router.build('add', a=1, b=2) == '/add/1/2'

    def test_one_handler_with_two_rules(self, app):
        def show(request, page=1):
            return page

        app.route('/', 'show')(show)
        app.route('/<int:page>', 'show')(show)
        assert [app.get('/').body, app.get('/5').body] == ['1', '5']

    def test_second_handler_of_a_name(self, app):
        app.route('/a', 'x')(lambda request: 'a')
        with pytest.raises(ValueError, match="'x' already has"):
            app.route('/b', 'x')(lambda request: 'b')

    def test_middleware_order_and_selection(self, app):
        app.use(tag('all'))
        app.use(tag('some'), only=['b'])
        app.route('/a', 'a')(lambda request: 'A')
        app.route('/b', 'b')(lambda request: 'B')
        assert app.get('/a').body == 'all(A)'
        assert app.get('/b').body == 'all(some(B))'

    def test_middleware_may_answer_itself(self, app):
        calls = []
        app.use(require(lambda request: 'token' in request.headers))
        app.route('/', 'home')(lambda request: calls.append(1))
        assert app.get('/').status == 403
        assert calls == []
        assert app.get('/', headers={'token': 'x'}).status == 204
        assert calls == [1]

    def test_header_is_set_unless_there(self, app):
        app.use(header('X-A', 'default'))
        app.route('/a', 'a')(lambda request: 'a')
        app.route('/b', 'b')(lambda request: Response('b', headers={'X-A': 'own'}))
        assert app.get('/a').headers == {'X-A': 'default'}
        assert app.get('/b').headers == {'X-A': 'own'}

    def test_use_returns_the_middleware(self, app):
        layer = tag('x')
        assert app.use(layer) is layer

    def test_head_has_no_body(self, app):
        app.route('/a', 'a', methods=['GET'])(lambda request: 'text')
        assert app.get('/a', method='HEAD') == Response('', 200)


class TestErrors:
    def test_not_found(self, app):
        assert app.get('/x') == Response('Not Found', 404)

    def test_method_not_allowed(self, app):
        app.route('/a', 'a', methods=['PUT', 'GET'])(lambda request: 'a')
        response = app.handle(Request('/a', 'POST'))
        assert (response.status, response.headers) == (405, {'Allow': 'GET, HEAD, PUT'})

    def test_options(self, app):
        app.route('/a', 'a', methods=['PUT'])(lambda request: 'a')
        response = app.handle(Request('/a', 'OPTIONS'))
        assert response == Response('', 204, {'Allow': 'PUT'})

    @pytest.mark.parametrize(
        'url, location', [('/a', '/a/'), ('/a?x=1&y=%20', '/a/?x=1&y=%20')], ids=['plain', 'query']
    )
    def test_redirect_keeps_the_query(self, app, url, location):
        app.route('/a/', 'a')(lambda request: 'a')
        response = app.get(url)
        assert (response.status, response.headers) == (308, {'Location': location})

    def test_error_in_handler_is_raised(self, app):
        @app.route('/')
        def broken(request):
            raise ZeroDivisionError('oops')

        with pytest.raises(ZeroDivisionError, match='oops'):
            app.get('/')

    def test_error_handler_takes_subclasses_nearest_first(self, app):
        @app.errorhandler(LookupError)
        def lookup(request, error):
            return f'lookup {request.path}', 400

        @app.route('/')
        def broken(request):
            raise KeyError('x')

        assert app.get('/') == Response('lookup /', 400)
        assert app.get('/none').status == 400
        app.errorhandler(NotFound)(lambda request, error: ('nothing', 404))
        assert app.get('/none') == Response('nothing', 404)
