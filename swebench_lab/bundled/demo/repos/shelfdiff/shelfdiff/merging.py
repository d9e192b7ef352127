"""Three-way merge of texts."""

from .hunks import split_lines
from .sequences import matches


class Region:
    """A stretch on which base, mine and theirs are compared."""

    is_conflict = False

    def render(self, labels):
        raise NotImplementedError


class Resolved(Region):
    def __init__(self, lines):
        self.lines = lines

    def render(self, labels):
        return list(self.lines)


class Conflict(Region):
    """Both sides changed the same stretch, differently."""

    is_conflict = True

    def __init__(self, base, mine, theirs):
        self.base = base
        self.mine = mine
        self.theirs = theirs

    def render(self, labels):
        mine_label, base_label, theirs_label = labels
        lines = [f"<<<<<<< {mine_label}\n", *_closed(self.mine)]
        if base_label is not None:
            lines += [f"||||||| {base_label}\n", *_closed(self.base)]
        return [*lines, "=======\n", *_closed(self.theirs), f">>>>>>> {theirs_label}\n"]


def _closed(lines):
    """End the last line, so that a marker can follow."""
    if lines and not lines[-1].endswith("\n"):
        return [*lines[:-1], lines[-1] + "\n"]
    return lines


class Merge:
    """The outcome of a merge: regions in order."""

    def __init__(self, regions, labels):
        self.regions = regions
        self.labels = labels

    @property
    def conflicts(self):
        return [region for region in self.regions if region.is_conflict]

    @property
    def has_conflicts(self):
        return any(region.is_conflict for region in self.regions)

    @property
    def text(self):
        return "".join(line for region in self.regions for line in region.render(self.labels))

    def resolve(self, choose):
        """Return the text with every conflict replaced by ``choose(conflict)``.

        ``choose`` is a function, or "mine", "theirs", "base" or "union".
        """
        if isinstance(choose, str):
            choose = _CHOICES[choose]
        pieces = []
        for region in self.regions:
            pieces += choose(region) if region.is_conflict else region.render(self.labels)
        return "".join(pieces)


_CHOICES = {
    "mine": lambda conflict: conflict.mine,
    "theirs": lambda conflict: conflict.theirs,
    "base": lambda conflict: conflict.base,
    "union": lambda conflict: [*_closed(conflict.mine), *conflict.theirs],
}


def stable_points(base, mine, theirs):
    """Yield index triples of lines that all three have in common, then the ends."""
    in_mine = dict(matches(base, mine))
    in_theirs = dict(matches(base, theirs))
    for index in range(len(base)):
        if index in in_mine and index in in_theirs:
            yield index, in_mine[index], in_theirs[index]
    yield len(base), len(mine), len(theirs)


def merge_lines(base, mine, theirs):
    """Return the regions of a three-way merge of lists of lines."""
    regions = []
    at_base = at_mine = at_theirs = 0
    for next_base, next_mine, next_theirs in stable_points(base, mine, theirs):
        region = _decide(base[at_base:next_base], mine[at_mine:next_mine], theirs[at_theirs:next_theirs])
        if region is not None:
            regions.append(region)
        if next_base < len(base):
            regions.append(Resolved([base[next_base]]))
        at_base, at_mine, at_theirs = next_base + 1, next_mine + 1, next_theirs + 1
    return regions


def _decide(base, mine, theirs):
    if mine == theirs:
        return Resolved(mine) if mine else None
    if mine == base:
        return Resolved(theirs)
    if theirs == base:
        return Resolved(mine)
    return Conflict(base, mine, theirs)


def merge(base, mine, theirs, labels=("mine", "theirs"), show_base=False):
    """Merge two texts that come from a common one."""
    regions = merge_lines(split_lines(base), split_lines(mine), split_lines(theirs))
    return Merge(regions, (labels[0], "base" if show_base else None, labels[1]))
