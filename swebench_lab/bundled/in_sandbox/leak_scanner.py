"""Leak scanner: runs in a box, with any Python from 3.5 on, and looks through its files for the marks of a fix.

What it does stands in the orders: `look` reads files and says which hold a mark; `survey` says whether files are those
of an earlier index; `index` reads files once and writes which pieces of code lines each of them holds, so that later
only the few files that may hold a mark are read.
"""

import array
import hashlib
import json
import os
import re
import stat
import sys
import tarfile
import zipfile
import zlib

LARGEST = 256 << 20  # bytes of one file or member that is read
ARCHIVES = (".whl", ".zip", ".egg", ".jar", ".pyz", ".conda", ".nupkg")
TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".txz")
PACKED = (".gz", ".bz2", ".xz")
BREAKS = re.compile(rb"[\r\n\t\0\"'`\\\\<>&]+")
PRINTED = re.compile(rb"[\x20-\x7e\t]{12,}")
COMPILED = 0  # stands for all that a file of compiled code holds: there are few without their source, so all are read
AROUND = b" +-#*,;:"
SHORTEST = 12  # characters of a piece of a line that the index knows


def pieces(data):
    """Return the pieces of lines in some bytes that an index knows, alike for code, and code quoted in other files."""
    found = set()
    for piece in BREAKS.split(data):
        piece = piece.strip(AROUND)
        if len(piece) >= SHORTEST and (b" " in piece or b"(" in piece or b"=" in piece or b"." in piece):
            found.add(zlib.crc32(piece))
    return found


def known(data, compiled):
    """Return what an index notes of a file or a member of an archive."""
    if compiled:
        return {COMPILED}
    if b"\0" in data[:8192]:
        data = b"\n".join(PRINTED.findall(data))
    return pieces(data)


def load(folder):
    """Return the orders, with everything that is searched for as bytes."""
    with open(os.path.join(folder, "orders.json"), encoding="utf-8") as file:
        orders = json.load(file)
    for mark in orders.setdefault("marks", []):
        mark["lines"] = [line.encode("utf-8", "surrogatepass") for line in mark["lines"]]
        mark["gone"] = [line.encode("utf-8", "surrogatepass") for line in mark["gone"]]
        mark["row"] = b"\n".join(line.encode("utf-8", "surrogatepass") for line in mark["row"])
        mark["words"] = [word.encode() for word in mark["words"]]
        name = mark["place"].split()[-1:] if mark["place"] else []
        mark["def"] = re.compile(rb"\b(?:def|class)\s+" + re.escape(name[0].encode()) + rb"\b") if name else None
        mark["name"] = name[0].encode() if name else b""
    return orders


def found(data, marks, compiled):
    """Yield the numbers of the marks that some bytes hold."""
    for number, mark in enumerate(marks):
        if compiled:
            wanted = mark["words"] + ([mark["name"]] if mark["name"] else [])
            if len(mark["words"]) >= 4 and all(word in data for word in wanted):
                yield number
            continue
        if mark["lines"][0] not in data or not all(line in data for line in mark["lines"]):
            continue
        if mark["def"] is not None and not mark["def"].search(data):
            continue
        if mark["row"] and b"\n" + mark["row"] + b"\n" not in bare(data):
            continue
        if not any(line in data for line in mark["gone"]):
            yield number


def bare(data):
    """Return the lines of some bytes without what is around them, and without empty ones."""
    return b"\n" + b"\n".join(filter(None, (line.strip() for line in data.split(b"\n")))) + b"\n"


def members(path):
    """Yield (name, bytes) of what an archive holds."""
    low = path.lower()
    if low.endswith(ARCHIVES):
        with zipfile.ZipFile(path) as packed:
            for entry in packed.infolist():
                if 0 < entry.file_size <= LARGEST:
                    yield entry.filename, packed.read(entry)
    elif low.endswith(TARS):
        with tarfile.open(path) as packed:
            for entry in packed:
                if entry.isreg() and 0 < entry.size <= LARGEST:
                    yield entry.name, packed.extractfile(entry).read()
    elif low.endswith(PACKED):
        import bz2
        import gzip
        import lzma

        opener = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}[os.path.splitext(low)[1]]
        with opener(path) as packed:
            yield os.path.basename(path)[:-3], packed.read(LARGEST)


def orphan(path):
    """Say whether compiled code has no source beside it."""
    folder, name = os.path.split(path)
    if os.path.basename(folder) == "__pycache__":
        return not os.path.exists(os.path.join(os.path.dirname(folder), name.split(".")[0] + ".py"))
    return not os.path.exists(path[:-1])


def files(orders, own):
    """Yield path and status of every regular file below the roots, each once, that is not part of the START tree."""
    start = {orders["tree"] + "/" + name for name in orders["start"]}
    seen = set()
    for root in orders["roots"]:
        for where, folders, names in os.walk(root):
            folders[:] = [f for f in folders if os.path.join(where, f) not in orders["skip"]]
            if where == orders["tree"] and ".git" in folders:
                folders.remove(".git")
            if where == own:
                folders[:] = []
                continue
            for name in names:
                path = os.path.join(where, name)
                try:
                    status = os.lstat(path)
                except OSError:
                    continue
                key = (status.st_dev, status.st_ino)
                if stat.S_ISREG(status.st_mode) and status.st_size and path not in start and key not in seen:
                    seen.add(key)
                    yield path, status


def given(orders):
    """Yield path and status of the files that the orders name, as far as they are there."""
    for path in orders["only"]:
        try:
            status = os.stat(path)
        except OSError:
            continue
        if stat.S_ISREG(status.st_mode) and status.st_size:
            yield path, status


def contents(path, size, report):
    """Yield (member, bytes, whether it is compiled code) of a file: itself, or what an archive holds."""
    report["files"] += 1
    try:
        compiled = path.endswith((".pyc", ".pyo"))
        archive = path.lower().endswith(ARCHIVES + TARS + PACKED)
        if size <= LARGEST and not archive and not (compiled and not orphan(path)):
            with open(path, "rb") as file:
                yield "", file.read(), compiled
        if archive:
            for name, data in members(path):
                report["members"] += 1
                yield name, data, name.endswith((".pyc", ".pyo"))
    except Exception:  # an unreadable file or a damaged archive holds nothing that anybody could read
        report["unread"] += 1


def look(orders, folder):
    """Return how many files and members were read, and which hold a mark."""
    report = {"files": 0, "members": 0, "unread": 0, "hits": []}
    for path, status in given(orders) if "only" in orders else files(orders, folder):
        for name, data, compiled in contents(path, status.st_size, report):
            report["hits"] += [(path, name, number) for number in found(data, orders["marks"], compiled)]
    return report


def survey(orders, folder):
    """Return a number that files have by their names, sizes and times."""
    total = count = 0
    for path, status in files(orders, folder):
        text = "%s %d %d" % (path, status.st_size, status.st_mtime_ns)
        total += int(hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32], 16)
        count += 1
    return {"signature": "%032x" % (total % (1 << 128)), "files": count}


def index(orders, folder):
    """Write `pieces`: sorted numbers of 64 bits, the hash of a piece above and the number of the file below."""
    report = {"files": 0, "members": 0, "unread": 0, "paths": []}
    parts = [array.array("Q") for _ in range(256)]
    for path, status in files(orders, folder):
        number = len(report["paths"])
        report["paths"].append(path)
        held = set()
        for _, data, compiled in contents(path, status.st_size, report):
            held |= known(data, compiled)
        for value in held:
            parts[value >> 24].append(value << 32 | number)
    with open(os.path.join(folder, "pieces"), "wb") as file:
        for part in parts:
            array.array("Q", sorted(part)).tofile(file)
    return report


def main(folder):
    """Do what the orders say and write `report.json`."""
    orders = load(folder)
    report = {"look": look, "survey": survey, "index": index}[orders["do"]](orders, folder)
    with open(os.path.join(folder, "report.json"), "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1])
