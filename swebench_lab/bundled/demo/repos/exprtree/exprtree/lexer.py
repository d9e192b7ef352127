"""Text to tokens."""

from dataclasses import dataclass

from .errors import LexError

KEYWORDS = frozenset(["if", "then", "else", "let", "in", "fn", "and", "or", "not", "true", "false", "null"])

# longest first, so that "**" is not read as two "*"
SYMBOLS = ("**", "//", "==", "!=", "<=", ">=", "=>", "+", "-", "*", "/", "%", "<", ">", "=", "(", ")", "[", "]", ",")

ESCAPES = {"n": "\n", "t": "\t", "\\": "\\", '"': '"', "'": "'"}


@dataclass(frozen=True)
class Token:
    kind: str  # "number", "string", "name", "keyword", "symbol" or "end"
    value: object
    offset: int

    def is_symbol(self, *symbols):
        return self.kind == "symbol" and self.value in symbols

    def is_keyword(self, *words):
        return self.kind == "keyword" and self.value in words

    def __str__(self):
        return "end of text" if self.kind == "end" else repr(self.value)


class Lexer:
    """Walks over the text once; iterate over it to get the tokens."""

    def __init__(self, text):
        self.text = text
        self.position = 0

    def __iter__(self):
        while True:
            self._skip_blanks()
            if self.position >= len(self.text):
                break
            yield self._next()
        yield Token("end", None, len(self.text))

    def _peek(self, ahead=0):
        index = self.position + ahead
        return self.text[index] if index < len(self.text) else ""

    def _skip_blanks(self):
        while self.position < len(self.text):
            if self._peek().isspace():
                self.position += 1
            elif self._peek() == "#":
                end = self.text.find("\n", self.position)
                self.position = len(self.text) if end < 0 else end
            else:
                return

    def _next(self):
        character = self._peek()
        if character.isdigit() or (character == "." and self._peek(1).isdigit()):
            return self._number()
        if character.isalpha() or character == "_":
            return self._word()
        if character in "\"'":
            return self._string(character)
        for symbol in SYMBOLS:
            if self.text.startswith(symbol, self.position):
                token = Token("symbol", symbol, self.position)
                self.position += len(symbol)
                return token
        raise LexError(f"unexpected character {character!r}", self.position)

    def _take_while(self, accept):
        start = self.position
        while self._peek() and accept(self._peek()):
            self.position += 1
        return self.text[start : self.position]

    def _number(self):
        start = self.position
        digits = self._take_while(_is_digit)
        is_float = False
        if self._peek() == ".":
            is_float = True
            self.position += 1
            digits += "." + self._take_while(_is_digit)
        if self._peek() in ("e", "E"):
            sign_length = 1 if self._peek(1) in ("+", "-") and self._peek(1) else 0
            if not self._peek(1 + sign_length).isdigit():
                raise LexError("the exponent of the number has no digits", start)
            is_float = True
            mark = self.position
            self.position += 1 + sign_length
            self._take_while(_is_digit)
            digits += self.text[mark : self.position]
        if self._peek().isalpha() or self._peek() == "_":
            raise LexError(f"a name cannot start with a digit: {digits + self._peek()!r}", start)
        digits = digits.replace("_", "")
        return Token("number", float(digits) if is_float else int(digits), start)

    def _word(self):
        start = self.position
        word = self._take_while(lambda character: character.isalnum() or character == "_")
        return Token("keyword" if word in KEYWORDS else "name", word, start)

    def _string(self, quote):
        start = self.position
        self.position += 1
        pieces = []
        while self._peek() != quote:
            character = self._peek()
            if character in ("", "\n"):
                raise LexError("the string is not closed", start)
            if character == "\\":
                self.position += 1
                escape = self._peek()
                if escape not in ESCAPES:
                    raise LexError(f"unknown escape '\\{escape}'", self.position - 1)
                character = ESCAPES[escape]
            pieces.append(character)
            self.position += 1
        self.position += 1
        return Token("string", "".join(pieces), start)


def _is_digit(character):
    return character.isdigit() or character == "_"


def tokenize(text):
    """Return the list of tokens of ``text``; the last one is of kind "end"."""
    return list(Lexer(text))
