"""What a power cut can leave of a directory: records the system calls of whatever works in it, and cuts after each one.

The model is as strict as POSIX allows: data is on the disk after an fsync of its file, a name after an fsync of its
directory, everything after a syncfs. What is not may be there all the same: whole, in part, or torn at a sector.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

CALLS = (
    "open,openat,creat,write,pwrite64,writev,pwritev,ftruncate,truncate,fallocate,fsync,fdatasync,syncfs,"
    "rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir,mkdirat,rmdir,symlink,symlinkat,lseek,chdir"
)
SECTOR = 512
HASH = 20


def recorder(log: Path) -> list[str]:
    """Words to put before a command. It and all that it starts, detached or not, are recorded."""
    options = ("-D", "-f", "--seccomp-bpf", "-qq", "-y", "-xx", "-s", "100000000", "-e", "signal=none")
    return ["strace", *options, "-e", f"trace={CALLS}", "-o", str(log), "--"]


# --- The file system


@dataclass(eq=False)
class File:
    """`writes` are (offset, data), or (size, None) for a change of size. The first `synced` of them are on the disk."""

    writes: list[tuple[int, bytes | None]] = field(default_factory=list)
    synced: int = 0
    position: int = 0
    _size: int = 0
    _base: tuple[int, bytes, int] = (0, b"", 0)

    @property
    def size(self) -> int:
        return self._size

    def write(self, offset: int, data: bytes) -> None:
        self.writes.append((offset, data))
        self._size = max(self._size, offset + len(data))

    def resize(self, size: int) -> None:
        self.writes.append((size, None))
        self._size = size

    def content(self, chosen: list[tuple[int, bytes | None]]) -> tuple[bytes, int]:
        """After what is synced and `chosen`: the bytes without the zeros that a larger size adds, and the size."""
        done, base, size = self._base
        if done < self.synced:
            base, size = _written(base, size, self.writes[done : self.synced])
            self._base = (self.synced, base, size)
        return _written(base, size, chosen) if chosen else (base, size)


@dataclass(eq=False)
class Link:
    target: str


@dataclass(eq=False)
class Directory:
    """`changes` are groups of (name, what it is from then on), each of which happens as a whole or not at all."""

    names: dict[str, Node] = field(default_factory=dict)
    changes: list[tuple[tuple[str, Node | None], ...]] = field(default_factory=list)
    synced: int = 0
    _base: tuple[int, dict[str, Node]] = (0, {})

    def change(self, *changes: tuple[str, Node | None]) -> None:
        self.changes.append(changes)
        for name, node in changes:
            _set(self.names, name, node)

    def seen(self, upto: int) -> dict[str, Node]:
        done, base = self._base
        if done < self.synced:
            base = dict(base)
            for group in self.changes[done : self.synced]:
                for name, node in group:
                    _set(base, name, node)
            self._base = (self.synced, base)
        if upto <= self.synced:
            return base
        found = dict(base)
        for group in self.changes[self.synced : upto]:
            for name, node in group:
                _set(found, name, node)
        return found


Node = File | Link | Directory


def _set(names: dict[str, Node], name: str, node: Node | None) -> None:
    if node is None:
        names.pop(name, None)
    else:
        names[name] = node


def _written(base: bytes, size: int, writes: list[tuple[int, bytes | None]]) -> tuple[bytes, int]:
    content = bytearray(base)
    for offset, data in writes:
        if data is None:
            del content[offset:]
            size = offset
            continue
        content.extend(bytes(max(0, offset - len(content))))
        content[offset : offset + len(data)] = data
        size = max(size, offset + len(data))
    return bytes(content), size


@dataclass(frozen=True)
class Left:
    """One file or link that a cut has left. `key` is the same where the content is."""

    key: object
    file: File | None
    chosen: list[tuple[int, bytes | None]]
    target: str = ""

    def bytes(self) -> bytes:
        assert self.file is not None
        content, size = self.file.content(self.chosen)
        return content + bytes(size - len(content))

    def write(self, path: Path) -> None:
        if self.file is None:
            path.symlink_to(self.target)
            return
        content, size = self.file.content(self.chosen)
        path.write_bytes(content)
        os.truncate(path, size)
        path.chmod(0o700)


class Disk:
    def __init__(self, root: Path) -> None:
        """What is there now is on the disk already."""
        self.root = root
        self.top = _load(root)

    def find(self, path: str) -> Node | None:
        node: Node | None = self.top
        for part in self._parts(path):
            if not isinstance(node, Directory):
                return None
            node = node.names.get(part)
        return node

    def within(self, path: str) -> bool:
        return path == str(self.root) or path.startswith(f"{self.root}/")

    def parent(self, path: str) -> tuple[Directory, str] | None:
        if not self.within(path) or path == str(self.root):
            return None
        above, _, name = path.rpartition("/")
        node = self.find(above)
        return (node, name) if isinstance(node, Directory) else None

    def sync_all(self) -> None:
        for node in self._all(self.top):
            if isinstance(node, Directory):
                node.synced = len(node.changes)
            elif isinstance(node, File):
                node.synced = len(node.writes)

    def cut(self, how: str, chance: random.Random | None = None) -> dict[str, Left]:
        """What is left, by path relative to the root: `all` that was written, what is `synced`, or `some` of it.

        Directories end with a slash.
        """
        found: dict[str, Left] = {}
        pending: list[tuple[str, Directory]] = [("", self.top)]
        while pending:
            prefix, directory = pending.pop()
            upto = {"all": len(directory.changes), "synced": directory.synced}.get(how)
            if upto is None:
                assert chance is not None
                upto = chance.randint(directory.synced, len(directory.changes))
            for name, node in directory.seen(upto).items():
                path = f"{prefix}{name}"
                if isinstance(node, Directory):
                    found[f"{path}/"] = Left((id(node),), None, [])
                    pending.append((f"{path}/", node))
                elif isinstance(node, Link):
                    found[path] = Left(node.target, None, [], node.target)
                else:
                    found[path] = _left(node, how, chance)
        return found

    def _parts(self, path: str) -> list[str]:
        return [] if path == str(self.root) else path.removeprefix(f"{self.root}/").split("/")

    def _all(self, directory: Directory) -> Iterator[Node]:
        yield directory
        for node in directory.names.values():
            if isinstance(node, Directory):
                yield from self._all(node)
            else:
                yield node


def _left(file: File, how: str, chance: random.Random | None) -> Left:
    new = file.writes[file.synced :]
    if how == "synced" or not new:
        return Left((id(file), file.synced), file, [])
    if how == "all":
        return Left((id(file), len(file.writes)), file, new)
    assert chance is not None
    chosen: list[tuple[int, bytes | None]] = []
    for offset, data in new:
        if data is None or chance.random() < 0.5:
            chosen += [(offset, data)] * chance.randint(0, 1)
            continue
        chosen += [(offset + at, data[at : at + SECTOR]) for at in range(0, len(data), SECTOR) if chance.random() < 0.5]
    return Left((id(file), file.synced, chance.random()), file, chosen)


def _load(path: Path) -> Directory:
    directory = Directory()
    for each in os.scandir(path):
        if each.is_symlink():
            node: Node = Link(str(Path(each.path).readlink()))
        elif each.is_dir():
            node = _load(Path(each.path))
        elif each.is_file():
            node = File()
            node.write(0, Path(each.path).read_bytes())
            node.synced = 1
        else:
            continue
        directory.change((each.name, node))
    directory.synced = len(directory.changes)
    return directory


# --- The recording

_LINE = re.compile(rb"(\d+) +(?:<\.\.\. (\w+) resumed>(.*)|(\w+)\((.*))")
_RESULT = re.compile(rb"(.*)\) += (-?\d+)(?:<[^>]*>)?(?: .*)?", re.DOTALL)
_HEX = re.compile(rb"(?:\\x[0-9a-f]{2})+")


@dataclass(frozen=True)
class Said:
    """What a process wrote to a pipe, a socket or the output of an operation."""

    where: str
    text: str


class Recording:
    """Replays a recording on the disk, one call after the other."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self._directories: dict[bytes, str] = {}

    def play(self, log: Path) -> Iterator[Said | None]:
        """After each call that concerns the disk: None, or what was said, to whoever reads."""
        begun: dict[bytes, tuple[bytes, int]] = {}
        with log.open("rb") as lines:
            for line in lines:
                match = _LINE.fullmatch(line.rstrip(b"\n"))
                if match is None:
                    continue
                pid, resumed, rest, name, arguments = match.groups()
                if name is not None:
                    if arguments.endswith(b" <unfinished ...>"):
                        text = arguments.removesuffix(b" <unfinished ...>")
                        begun[pid] = (text, self._pending(text))
                        continue
                    text, until = arguments, None
                else:
                    if pid not in begun:
                        continue
                    name = resumed
                    first, until = begun.pop(pid)
                    text = first + rest
                done = _RESULT.fullmatch(text)
                if done is None or int(done[2]) < 0:
                    continue
                words = done[1].split(b", ")
                yield from self._call(pid, name.decode(), words, int(done[2]), until)

    def _call(self, pid: bytes, name: str, words: list[bytes], result: int, until: int | None) -> Iterator[Said | None]:
        if words[0].startswith(b"AT_FDCWD<"):
            self._directories[pid] = _descriptor(words[0])
        before = self._mark
        method = getattr(self, f"_{name}", None)
        if name in ("write", "writev") and not self._is_file(words[0]):
            text = b"".join(_string(word) for word in words[1:] if b"\\x" in word).decode(errors="replace")
            yield Said("", text)
            return
        if name in ("fsync", "fdatasync"):
            self._fsync(words, until)
        elif method is not None:
            method(pid, words, result)
        if name == "write" and "/operations/" in _descriptor(words[0]):
            yield Said(_descriptor(words[0]), _string(words[1]).decode(errors="replace"))
        elif self._mark != before:
            yield None

    _mark = 0

    def _is_file(self, word: bytes) -> bool:
        path = _descriptor(word)
        return path.startswith("/")

    def _path(self, pid: bytes, word: bytes, at: str | None = None) -> str:
        text = os.fsdecode(_string(word))
        base = at if at is not None else self._directories.get(pid, "/")
        return os.path.normpath(Path(base, text))

    def _pending(self, text: bytes) -> int:
        node = self.disk.find(_descriptor(text)) if b"<" in text and self.disk.within(_descriptor(text)) else None
        return len(node.writes) if isinstance(node, File) else len(node.changes) if isinstance(node, Directory) else 0

    def _file(self, word: bytes) -> File | None:
        path = _descriptor(word)
        node = self.disk.find(path) if self.disk.within(path) else None
        return node if isinstance(node, File) else None

    def _chdir(self, pid: bytes, words: list[bytes], _result: int) -> None:
        self._directories[pid] = self._path(pid, words[0])

    def _open(self, pid: bytes, words: list[bytes], _result: int) -> None:
        self._opened(self._path(pid, words[0]), words[1])

    def _openat(self, pid: bytes, words: list[bytes], _result: int) -> None:
        self._opened(self._path(pid, words[1], _descriptor(words[0])), words[2])

    def _creat(self, pid: bytes, words: list[bytes], _result: int) -> None:
        self._opened(self._path(pid, words[0]), b"O_CREAT|O_TRUNC")

    def _opened(self, path: str, flags: bytes) -> None:
        place = self.disk.parent(path)
        if place is None or b"O_TMPFILE" in flags:
            return
        directory, name = place
        node = directory.names.get(name)
        if node is None and b"O_CREAT" in flags:
            node = File()
            directory.change((name, node))
            self._mark += 1
        if isinstance(node, File):
            if b"O_RDONLY" not in flags:  # whoever only reads has a position of its own
                node.position = node.size if b"O_APPEND" in flags else 0
            if b"O_TRUNC" in flags and node.size:
                node.resize(0)
                self._mark += 1

    def _lseek(self, _pid: bytes, words: list[bytes], result: int) -> None:
        if (file := self._file(words[0])) is not None:
            file.position = result

    def _write(self, _pid: bytes, words: list[bytes], result: int) -> None:
        if (file := self._file(words[0])) is not None:
            path = _descriptor(words[0])
            # Reads, which move the position too, are not recorded: git reads a pack to its end before it adds the hash.
            hashed = "/tmp_pack_" in path and result == HASH
            if hashed or "/operations/" in path or path.endswith(".log"):
                file.position = file.size
            file.write(file.position, _string(words[1])[:result])
            file.position += result
            self._mark += 1

    def _writev(self, _pid: bytes, words: list[bytes], result: int) -> None:
        if (file := self._file(words[0])) is not None:
            data = b"".join(_string(word) for word in words[1:] if b"\\x" in word)[:result]
            file.write(file.position, data)
            file.position += result
            self._mark += 1

    def _pwrite64(self, _pid: bytes, words: list[bytes], result: int) -> None:
        if (file := self._file(words[0])) is not None:
            file.write(int(words[3]), _string(words[1])[:result])
            self._mark += 1

    def _ftruncate(self, _pid: bytes, words: list[bytes], _result: int) -> None:
        if (file := self._file(words[0])) is not None:
            file.resize(int(words[1]))
            self._mark += 1

    def _fallocate(self, _pid: bytes, words: list[bytes], _result: int) -> None:
        file = self._file(words[0])
        if file is not None and words[1] == b"0" and (end := int(words[2]) + int(words[3])) > file.size:
            file.resize(end)
            self._mark += 1

    def _fsync(self, words: list[bytes], until: int | None) -> None:
        path = _descriptor(words[0])
        node = self.disk.find(path) if self.disk.within(path) else None
        if isinstance(node, File):
            node.synced = max(node.synced, len(node.writes) if until is None else until)
            self._mark += 1
        elif isinstance(node, Directory):
            node.synced = max(node.synced, len(node.changes) if until is None else until)
            self._mark += 1

    def _syncfs(self, _pid: bytes, _words: list[bytes], _result: int) -> None:
        self.disk.sync_all()
        self._mark += 1

    def _rename(self, pid: bytes, words: list[bytes], _result: int) -> None:
        self._renamed(self._path(pid, words[0]), self._path(pid, words[1]))

    def _renameat(self, pid: bytes, words: list[bytes], _result: int) -> None:
        self._renamed(
            self._path(pid, words[1], _descriptor(words[0])), self._path(pid, words[3], _descriptor(words[2]))
        )

    _renameat2 = _renameat

    def _renamed(self, old: str, new: str) -> None:
        source, target = self.disk.parent(old), self.disk.parent(new)
        if source is None or (node := source[0].names.get(source[1])) is None:
            return
        if target is not None and source[0] is target[0]:
            source[0].change((source[1], None), (target[1], node))
        else:
            if target is not None:
                target[0].change((target[1], node))
            source[0].change((source[1], None))
        self._mark += 1

    def _link(self, pid: bytes, words: list[bytes], _result: int) -> None:
        self._linked(self._path(pid, words[0]), self._path(pid, words[1]))

    def _linkat(self, pid: bytes, words: list[bytes], _result: int) -> None:
        self._linked(self._path(pid, words[1], _descriptor(words[0])), self._path(pid, words[3], _descriptor(words[2])))

    def _linked(self, old: str, new: str) -> None:
        node, target = self.disk.find(old) if self.disk.within(old) else None, self.disk.parent(new)
        if node is not None and target is not None:
            target[0].change((target[1], node))
            self._mark += 1

    def _unlink(self, pid: bytes, words: list[bytes], _result: int) -> None:
        self._removed(self._path(pid, words[0]))

    _rmdir = _unlink

    def _unlinkat(self, pid: bytes, words: list[bytes], _result: int) -> None:
        self._removed(self._path(pid, words[1], _descriptor(words[0])))

    def _removed(self, path: str) -> None:
        place = self.disk.parent(path)
        if place is not None and place[1] in place[0].names:
            place[0].change((place[1], None))
            self._mark += 1

    def _mkdir(self, pid: bytes, words: list[bytes], _result: int) -> None:
        self._made(self._path(pid, words[0]), Directory())

    def _mkdirat(self, pid: bytes, words: list[bytes], _result: int) -> None:
        self._made(self._path(pid, words[1], _descriptor(words[0])), Directory())

    def _symlink(self, pid: bytes, words: list[bytes], _result: int) -> None:
        self._made(self._path(pid, words[1]), Link(os.fsdecode(_string(words[0]))))

    def _symlinkat(self, pid: bytes, words: list[bytes], _result: int) -> None:
        self._made(self._path(pid, words[2], _descriptor(words[1])), Link(os.fsdecode(_string(words[0]))))

    def _made(self, path: str, node: Node) -> None:
        if (place := self.disk.parent(path)) is not None:
            place[0].change((place[1], node))
            self._mark += 1


def _string(word: bytes) -> bytes:
    """The bytes of all strings in a word of strace's, which -xx has as hexadecimal."""
    return b"".join(bytes.fromhex(found.replace(b"\\x", b"").decode()) for found in _HEX.findall(word))


def _descriptor(word: bytes) -> str:
    """The path in `3<...>` or `AT_FDCWD<...>`."""
    inside = word.partition(b"<")[2].partition(b">")[0]
    if b"\\x" in inside:
        return os.fsdecode(_string(inside)).removesuffix(" (deleted)")
    return os.fsdecode(inside)


def write(left: dict[str, Left], below: str, target: Path) -> None:
    """Put what is left below a directory of the disk (`""`, or a path that ends with a slash) into a new directory."""
    target.mkdir(parents=True)
    for path in sorted(left):
        if path.startswith(below) and path != below:
            place = target / path.removeprefix(below)
            if path.endswith("/"):
                place.mkdir()
            else:
                left[path].write(place)
