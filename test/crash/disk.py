# SPDX-License-Identifier: Apache-2.0
"""A directory as a power failure may leave it, made from the notes of unsynced.c.

A file's contents are durable as of its last sync, a name as of the last sync of its directory; what came later may be
there or not. No more than that is promised by POSIX, and no more is assumed here.
"""

import os
import shutil
import stat
import struct

NOTE = struct.Struct("=IIQQ")
SECTOR = 512


class WrongNotes(AssertionError):
    """The directory is not what the notes say: something was missed."""


class File:
    def __init__(self, content=b""):
        self.durable = bytearray(content)
        self.pending = []  # (order, offset, data), or (order, size, None): cut or lengthened

    @staticmethod
    def change(content, offset, data):
        if data is None:
            del content[offset:]
        if len(content) < offset:
            content.extend(bytes(offset - len(content)))
        if data is not None:
            content[offset:offset + len(data)] = data

    def sync(self, order):
        done = [c for c in self.pending if c[0] < order]
        self.pending = self.pending[len(done):]
        for _, offset, data in done:
            self.change(self.durable, offset, data)

    def content(self, keep=lambda change: change):
        """With those of the pending changes that keep gives back, as it gives them back."""
        content = bytearray(self.durable)
        for change in map(keep, self.pending):
            if change is not None:
                self.change(content, *change[1:])
        return content


class Directory:
    def __init__(self):
        self.durable = {}  # name -> File or Directory
        self.pending = []  # (order, names that change: {name: node or None})

    def sync(self, order):
        while self.pending and self.pending[0][0] < order:
            self.apply(self.durable, self.pending.pop(0)[1])

    @staticmethod
    def apply(names, change):
        for name, node in change.items():
            if node is None:
                names.pop(name, None)
            else:
                names[name] = node

    def names(self, keep=lambda change: change):
        names = dict(self.durable)
        for change in map(keep, self.pending):
            if change is not None:
                self.apply(names, change[1])
        return names


class Disk:
    """path: a directory, all of which is durable now. It may not be there yet."""

    def __init__(self, path):
        self.path = path
        self.order = 0
        self.nodes = {}  # by inode
        self.root = Directory()
        if os.path.isdir(path):
            self.root = self.scan(path)

    def scan(self, path):
        directory = Directory()
        self.nodes[os.stat(path).st_ino] = directory
        for entry in os.scandir(path):
            if entry.name.endswith("-shm"):
                continue
            if entry.is_dir(follow_symlinks=False):
                directory.durable[entry.name] = self.scan(entry.path)
            else:
                with open(entry.path, "rb") as f:
                    node = directory.durable[entry.name] = File(f.read())
                self.nodes[entry.inode()] = node
        return directory

    # ---- following ----

    def follow(self, log):
        """Takes over what a process has noted, which is dead now, and removes the notes."""
        if not os.path.exists(log):
            return  # killed before it began
        first = self.order
        if os.path.isdir(self.path):
            self.nodes.setdefault(os.stat(self.path).st_ino, self.root)
        with open(log, "rb") as f:
            while len(head := f.read(NOTE.size)) == NOTE.size:
                kind, length, ino, number = NOTE.unpack(head)
                data = f.read(length)
                if len(data) < length:
                    break  # killed within it
                self.step(chr(kind), ino, number, data, first)
                self.order += 1
        os.remove(log)

    def step(self, kind, ino, number, data, first):
        order = self.order
        if kind == "W":
            self.nodes[ino].pending.append((order, number, data))
        elif kind == "T":
            self.nodes[ino].pending.append((order, number, None))
        elif kind == "S":
            for node in [self.nodes[ino]] if ino else list(self.all_nodes()):
                node.sync(first + number)
        else:
            paths = [p.decode() for p in data.rstrip(b"\0").split(b"\0")]
            if kind in "CD":
                self.nodes[ino] = File() if kind == "C" else Directory()
                self.rename({paths[0]: self.nodes[ino]})
            elif kind == "U":
                self.rename({paths[0]: None})
            elif kind == "R":
                self.rename({paths[0]: None, paths[1]: self.find(paths[0])})
            else:
                raise WrongNotes(f"a note {kind!r}")

    def find(self, path):
        node = self.root
        for name in path.strip("/").split("/"):
            node = node.names()[name]
        return node

    def rename(self, changes):
        """One change of names: within one directory it is all there or not at all."""
        by_parent = {}
        for path, node in changes.items():
            parent, name = os.path.split(path)
            by_parent.setdefault(parent, {})[name] = node
        for parent, names in by_parent.items():
            directory = self.find(parent) if parent.strip("/") else self.root
            directory.pending.append((self.order, names))

    # ---- comparing ----

    def compare(self):
        """The directory must be what it is with all changes; but a kill may have kept the last one from being noted.
        Whether it is: if not, the power must fail now, as what comes later would not fit the notes."""
        wrong = self.differences(self.root, self.path)
        if len(wrong) > 1:
            raise WrongNotes(f"not as noted: {', '.join(wrong)}")
        return not wrong

    def differences(self, directory, path):
        names = {n: node for n, node in directory.names().items()}
        there = {n for n in (os.listdir(path) if os.path.isdir(path) else ()) if not n.endswith("-shm")}
        wrong = [os.path.join(path, n) for n in set(names) ^ there]
        for name in set(names) & there:
            node, where = names[name], os.path.join(path, name)
            if isinstance(node, Directory):
                wrong += self.differences(node, where)
            elif not stat.S_ISREG(os.lstat(where).st_mode):
                wrong.append(where)
            else:
                with open(where, "rb") as f:
                    if f.read() != node.content():
                        wrong.append(where)
        return wrong

    # ---- losing ----

    def lose(self, how, random):
        """The power fails: makes the directory anew, and all that is in it is durable. how:

        unsynced    whatever was not synced is gone
        torn        of what was not synced some is there: all that was changed before some moment; or of each file and
                    directory all before a moment of its own; or any sectors. The last write is cut at a sector
        """
        self.build(self.root, self.path + ".new", self.chooser(how, random))
        if os.path.isdir(self.path):
            shutil.rmtree(self.path)
        os.rename(self.path + ".new", self.path)
        self.__init__(self.path)

    def chooser(self, how, random):
        """A function of a node that gives the function "keep" for it."""
        if how == "unsynced":
            return lambda node: lambda change: None
        orders = sorted({c[0] for node in self.all_nodes() for c in node.pending}) or [0]
        way = random.choice(("all", "each", "sectors"))
        moment = random.choice(orders)

        def choose(node):
            if way == "all":
                return self.until(moment, random)
            if way == "each":
                return self.until(random.choice([c[0] for c in node.pending] or [0]), random)
            return lambda change: self.some_sectors(change, random)
        return choose

    def all_nodes(self, directory=None):
        directory = directory or self.root
        yield directory
        for node in {id(n): n for names in (directory.durable, directory.names()) for n in names.values()}.values():
            if isinstance(node, Directory):
                yield from self.all_nodes(node)
            else:
                yield node

    @staticmethod
    def until(moment, random):
        def keep(change):
            order, *rest = change
            if order < moment:
                return change
            if order > moment or len(rest) == 1 or rest[1] is None:
                return None
            offset, data = rest
            cuts = range(SECTOR - offset % SECTOR, len(data), SECTOR)
            return (order, offset, data[:random.choice(cuts)]) if cuts else None
        return keep

    @staticmethod
    def some_sectors(change, random):
        """Of a longer write, a run of sectors."""
        if random.random() < 0.4:
            return None
        if len(change) == 2 or change[2] is None or random.random() < 0.5:
            return change
        order, offset, data = change
        cuts = [0, *range(SECTOR - offset % SECTOR, len(data), SECTOR), len(data)]
        begin, end = sorted(random.sample(cuts, 2))
        return order, offset + begin, data[begin:end]

    def build(self, directory, path, choose):
        os.mkdir(path, 0o700)
        for name, node in directory.names(choose(directory)).items():
            where = os.path.join(path, name)
            if isinstance(node, Directory):
                self.build(node, where, choose)
            else:
                with open(where, "wb", opener=lambda p, f: os.open(p, f, 0o600)) as f:
                    f.write(node.content(choose(node)))
