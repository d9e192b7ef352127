"""Small records for the processes that are cloned for every box: as `dataclass`, without all that it loads.

The fewer pages a zygote has touched, the cheaper each of its clones is; `dataclasses` and `typing` alone are two
megabytes.
"""

TYPE_CHECKING = False  # as in typing, which is not to be loaded
if TYPE_CHECKING:
    from typing import TypeVar, dataclass_transform

    _Kind = TypeVar("_Kind")

    @dataclass_transform(frozen_default=True)
    def record(kind: type[_Kind]) -> type[_Kind]:
        """Make a class a record of its annotated fields."""
        return kind

else:

    def record(kind):
        """Make a class a record of its annotated fields, in order, with the values given in the class as defaults."""
        names = [
            name for name, annotation in kind.__annotations__.items() if not str(annotation).startswith("ClassVar")
        ]

        def set_fields(self, *values, **named):
            fields = dict(zip(names, values, strict=False), **named)
            if len(values) > len(names) or not fields.keys() <= set(names):
                raise TypeError(f"{kind.__name__} has the fields {', '.join(names)}")
            for name in names:
                if name not in fields and not hasattr(kind, name):
                    raise TypeError(f"{kind.__name__} needs {name}")
                self.__dict__[name] = fields[name] if name in fields else getattr(kind, name)

        def refuse(self, name, value):
            raise AttributeError(f"{kind.__name__} is a value and cannot be changed")

        kind.__init__ = set_fields
        kind.__setattr__ = refuse
        kind.__repr__ = lambda self: f"{kind.__name__}({', '.join(f'{k}={v!r}' for k, v in self.__dict__.items())})"
        kind.__eq__ = lambda self, other: type(other) is kind and self.__dict__ == other.__dict__
        kind.__hash__ = lambda self: hash(tuple(self.__dict__.values()))
        return kind
