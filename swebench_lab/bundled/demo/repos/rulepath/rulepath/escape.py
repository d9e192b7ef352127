"""Percent-encoding of paths and queries."""

import string

UNRESERVED = frozenset(string.ascii_letters + string.digits + '-._~')
SEGMENT_SAFE = UNRESERVED | frozenset("!$&'()*+,;=:@")
PATH_SAFE = SEGMENT_SAFE | {'/'}
QUERY_SAFE = UNRESERVED | frozenset("!$'()*,;:@/?")

_HEX = frozenset(string.hexdigits)


def quote(text, safe=SEGMENT_SAFE):
    """Replace all characters that are not safe by the ``%XX`` of their UTF-8 bytes.

    >>> quote('a b/ü')
    'a%20b%2F%C3%BC'
    """
    out = []
    for char in text:
        if char in safe:
            out.append(char)
        else:
            out.extend(f'%{byte:02X}' for byte in char.encode('utf-8', 'surrogateescape'))
    return ''.join(out)


def unquote(text, plus=False):
    """Undo :func:`quote`. A ``%`` without two hex digits stays as it is.

    Bytes that are no UTF-8 become the replacement character.

    :param plus: whether ``+`` stands for a blank, as it does in queries
    """
    if plus:
        text = text.replace('+', ' ')
    if '%' not in text:
        return text
    head, *parts = text.split('%')
    raw = bytearray(head.encode('utf-8'))
    for part in parts:
        code = part[:2]
        if len(code) == 2 and _HEX.issuperset(code):
            raw.append(int(code, 16))
            raw += part[2:].encode('utf-8')
        else:
            raw += b'%' + part.encode('utf-8')
    return raw.decode('utf-8', 'replace')


def normalize_path(path):
    """Merge repeated slashes and resolve ``.`` and ``..`` segments.

    The result starts with a slash; it ends with one if the path did, or ended
    in a dot segment.

    >>> normalize_path('//a/./b/../c/')
    '/a/c/'
    """
    segments = []
    parts = path.split('/')
    for part in parts:
        if part == '..':
            if segments:
                segments.pop()
        elif part not in ('', '.'):
            segments.append(part)
    trailing = parts[-1] in ('', '.', '..')
    if not segments:
        return '/'
    return '/' + '/'.join(segments) + ('/' if trailing else '')
