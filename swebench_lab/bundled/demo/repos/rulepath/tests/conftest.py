import pytest

from rulepath import Application, Router


@pytest.fixture
def router():
    """A router as a small site would have it; the order of rules is not the order they are tried in."""
    router = Router()
    router.add('/files/<path:name>', 'file')
    router.add('/files/<name>', 'top-file')
    router.add('/files/readme', 'readme')
    router.add('/', 'home')
    router.add('/articles/', 'articles', methods=['GET', 'POST'])
    router.add('/articles/<int(min=1):number>', 'article', methods=['get'])
    router.add('/articles/<int(min=1):number>', 'article-edit', methods=['PUT', 'DELETE'])
    router.add('/articles/<slug>', 'article-by-slug', methods=['GET'])
    router.add('/about', 'about')
    return router


@pytest.fixture
def app():
    return Application()
