#!/usr/bin/env python3
"""Reads snapkeep repositories: lists, restores, checks. Written from format-spec/ alone; shares no code with snapkeep.

snapkeep_reader.py [--password-file FILE] REPO snapshots | ls SNAP | restore SNAP TARGET | check

SNAP is the beginning of a snapshot's id, or `latest`. Forgotten snapshots are listed as such, and read by their ids.
The password of an encrypted repository comes from --password-file or SNAPKEEP_PASSWORD. Ends with 0 when everything was as it should be, 1 otherwise.
"""
import argparse
import os
import re
import stat
import sys
from collections import OrderedDict, namedtuple

from blake3 import blake3

from snapkeep_format import (CONDEMNED, CONTENT, DATA, FOOTER, FRAME_HEADER, FRAME_OVERHEAD, HEADER, ID, MANIFEST, META,
                             MI, NAME, NOTE, SESSION, SNAPSHOT, TRAILER, Damage, Keyring, Newer, decode_condemned,
                             decode_config, decode_footer, decode_frame_header, decode_group, decode_header,
                             decode_json, decode_list, decode_plain_record, decode_root, decode_slots, decode_stats,
                             decode_trailer, decompress, field, keyed, need, open_slot, pack_sort, path_key,
                             split_frame, unhex)

Place = namedtuple("Place", "pack offset length body slot depth")
ZEROS = bytes(MI)


def order(snapshot):
    """What snapshots are sorted by: order_time, the start to the nanosecond, sequence, id."""
    name, record = snapshot
    whole, _, fraction = str(record.get("backup_start", "")).rstrip("Z").partition(".")
    return record["order_time"], whole, fraction.ljust(9, "0"), record["sequence"], name


class Refused(Exception):
    """The request cannot be fulfilled."""


class Cache:
    """What was used last, up to `most` bytes."""

    def __init__(self, most):
        self.items, self.room = OrderedDict(), most

    def get(self, key, weight, make):
        if key in self.items:
            self.items.move_to_end(key)
            return self.items[key][0]
        value = make()
        self.items[key] = (value, weight)
        self.room -= weight
        while self.room < 0 and len(self.items) > 1:
            self.room += self.items.popitem(last=False)[1][1]
        return value


# --- Chapters 1 to 5: the repository ---

class Repository:
    def __init__(self, path, password):
        self.path, self.sealed, self.plain = path, Cache(16 * MI), Cache(48 * MI)
        owner, body, mac = self.newest("config", lambda d, n: decode_plain_record(d, "config", n))
        config = decode_config(body)
        need(unhex(config.get("id"), NAME, "config") == owner, "the config names two repositories")
        encrypted = config["encryption"] != "none"
        if encrypted:
            master = self.unlock(owner, password)
        elif password is not None:
            raise Refused("a password was given, but this repository claims to have none; it may have been exchanged")
        else:
            master = unhex(config.get("public_key"), 32, "config")
        self.keys = Keyring(owner, encrypted, master)
        need(keyed(self.keys.config, body) == mac, "the config was not written with this key")
        self.places, self.packs, self.troubles = {}, {}, []
        for name, size in self.list("packs"):
            try:
                self.add_pack(name, size)
            except (Damage, Newer) as e:
                self.troubles.append("pack %s: %s" % (name, e))

    def unlock(self, owner, password):
        if password is None:
            raise Refused("this repository is encrypted; give its password")

        def slots(data, name):
            _, body, mac = decode_plain_record(data, "keys", name, owner)
            need(mac == bytes(32), "a key file with a MAC")
            return decode_slots(body)
        for slot in self.newest("keys", slots):
            master = open_slot(slot, owner, password)
            if master:
                return master
        raise Refused("wrong password")

    def list(self, folder):
        shape = "[0-9]{8}" if folder in ("config", "keys", "condemned") else "[0-9a-f]{32}"
        dirs = ["packs/%02x" % n for n in range(256)] if folder == "packs" else [folder]
        found = []
        for sub in dirs:
            for e in os.scandir(os.path.join(self.path, sub)):
                shard = folder != "packs" or e.name[:2] == sub[-2:]
                if re.fullmatch(shape, e.name) and shard and e.is_file(follow_symlinks=False):
                    found.append((e.name, e.stat(follow_symlinks=False).st_size))
        return sorted(found)

    def newest(self, folder, decode):
        trouble = Damage("%s holds no %s" % (self.path, folder))
        for name, size in reversed(self.list(folder)):
            try:
                return decode(self.read(folder, name), name)
            except Damage as e:
                trouble = e
        raise trouble

    def read(self, folder, name, offset=0, length=None, most=MI):
        sub = os.path.join(folder, name[:2], name) if folder == "packs" else os.path.join(folder, name)
        with open(os.path.join(self.path, sub), "rb") as f:
            if length is None:
                length = os.fstat(f.fileno()).st_size
                need(length <= most, "%s is larger than such a file can be" % sub)
            f.seek(offset)
            data = f.read(length)
        need(len(data) == length, sub + " is cut short")
        return data

    def add_pack(self, name, size):
        need(HEADER + FRAME_OVERHEAD + TRAILER <= size <= 80 * MI, "an impossible size")
        header = self.read("packs", name, 0, HEADER + FRAME_HEADER)
        decode_header(header, "packs", name, self.keys.repository)
        pack_sort(header[HEADER:])
        offset, _ = decode_trailer(self.read("packs", name, size - TRAILER, TRAILER), size)
        footer = self.keys.unseal(FOOTER, self.read("packs", name, offset, size - TRAILER - offset))
        frames, end = decode_footer(footer)
        need(end == offset, "the footer does not fit the pack")
        self.packs[name] = frames
        for frame in frames:
            for b, body in enumerate(frame.bodies):
                for slot, (chunk, _, _) in enumerate(body.chunks):
                    place = Place(name, frame.offset, frame.length, b, slot, body.depth)
                    self.places.setdefault(chunk, []).append(place)

    def frame(self, sort, place):
        """Table and stored bodies of a frame."""
        def make():
            sealed = self.read("packs", place.pack, place.offset, place.length)
            return split_frame(self.keys.unseal(sort, sealed))
        return self.sealed.get((sort, place.pack, place.offset), place.length, make)

    def get(self, sort, chunk, depth=32, budget=None):
        """A chunk's plain bytes by way of any copy that can be decoded, checked against its id."""
        budget = [512 * MI] if budget is None else budget
        trouble = Damage("chunk %s is not in the repository" % chunk.hex())
        for place in sorted(self.places.get(chunk, ()), key=lambda p: p.depth):
            try:
                plain = self.get_at(sort, place, depth, budget)
                need(self.keys.chunk_id(sort, plain) == chunk, "a chunk has another content than its id says")
                return plain
            except (Damage, Newer, OSError) as e:
                trouble = Damage("chunk %s in pack %s: %s" % (chunk.hex(), place.pack, e))
        raise trouble

    def get_at(self, sort, place, depth, budget):
        table, stored = self.frame(sort, place)
        need(place.body < len(table) and place.slot < len(table[place.body].chunks), "frame and footer differ")
        body = table[place.body]
        length = sum(n for _, n, _ in body.chunks)

        def expand():
            budget[0] -= length
            need(budget[0] >= 0, "too much to decode for one chunk")
            need(depth > 0 or not body.bases, "a history nested too deeply")
            history = b""
            for base in body.bases:
                history += self.get(sort, base, depth - 1, budget)
                need(len(history) <= body.history, "a history longer than stated")
            need(len(history) == body.history, "a history shorter than stated")
            raw = stored[place.body]
            return raw if body.coding == 0 else decompress(raw, length, history)
        plain = self.plain.get((sort, place.pack, place.offset, place.body), length, expand)
        start = sum(n for _, n, _ in body.chunks[:place.slot])
        return plain[start:start + body.chunks[place.slot][1]]

    def snapshots(self):
        """(id, record) in order, with what was noted: tags, "forgotten", "pinned"; and what cannot be read."""
        found, bad, notes = {}, [], []
        for name, _ in self.list("snapshots"):
            try:
                data = self.read("snapshots", name)
                decode_header(data, "snapshots", name, self.keys.repository)
                _, length = decode_frame_header(data[HEADER:])
                decode_json(self.keys.unseal(SESSION, data[HEADER:HEADER + length]), "a session record")
                record = decode_json(self.keys.unseal(SNAPSHOT, data[HEADER + length:]), "a snapshot record")
                need(record.get("id") == name, "the record of another snapshot")
                unhex(record.get("root"), ID, "a snapshot record")
                field(record, "order_time", int, "record"), field(record, "sequence", int, "record")
                found[name] = record
            except (Damage, Newer) as e:
                bad.append("snapshot %s: %s" % (name, e))
        for name, _ in self.list("notes"):
            try:
                data = self.read("notes", name)
                decode_header(data, "notes", name, self.keys.repository)
                note = decode_json(self.keys.unseal(NOTE, data[HEADER:]), "a note")
                notes.append((field(note, "sequence", int, "a note"), name, note))
            except (Damage, Newer) as e:
                bad.append("note %s: %s" % (name, e))
        for _, name, note in sorted(notes, key=lambda n: n[:2]):
            record = found.get(note.get("snapshot"), {})
            try:
                if note.get("note") == "tags":
                    record["tags"] = field(note, "tags", list, "a note")
                elif note.get("note") == "forgotten":
                    record["forgotten"] = field(note, "time", str, "a note")
                elif note.get("note") == "pin":
                    record["pinned"] = field(note, "pinned", bool, "a note")
            except Damage as e:
                bad.append("note %s: %s" % (name, e))
        return sorted(found.items(), key=order), bad

    def snapshot(self, text):
        found = self.snapshots()[0]
        seen = [s for s in found if "forgotten" not in s[1]]
        fits = seen[-1:] if text == "latest" else [s for s in found if s[0].startswith(text)]
        if len(fits) != 1:
            raise Refused("`%s` names %s snapshot" % (text, "more than one" if fits else "no"))
        return fits[0]

    def groups(self, chunk, above=None):
        """The items of all roots of level 0, in order. `above`: the level wanted and what the root above says of it."""
        level, items = decode_root(self.get(MANIFEST, chunk))
        if above:
            size = min(sum(i[2] for i in items), (1 << 64) - 1)
            says = level, items and items[0][0], sum(i[1] for i in items), size
            need(says == above, "a root is not the one that the root above it names")
        for item in items:
            if level == 0:
                yield item
            else:
                yield from self.groups(item[4], (level - 1,) + item[:3])

    def entries(self, record, stats=False):
        last = None
        for first, count, size, stat_id, chunk in self.groups(bytes.fromhex(record["root"])):
            group = decode_group(self.get(MANIFEST, chunk))
            total = min(sum(e.size for e in group), (1 << 64) - 1)
            fits = group and group[0].path == first and len(group) == count and total == size
            need(fits, "a group is not the one its root names")
            need(last is None or path_key(last) < path_key(first), "groups overlap")
            last = group[-1].path
            if stats and stat_id:
                decode_stats(self.get(MANIFEST, stat_id), group)
            yield from group

    def pieces(self, entry):
        """(bytes or None for a hole, length) of a file's content, in order; its hash is checked at the end."""
        digest, total = blake3(), 0
        lists = ([entry.extents] if not entry.lists else (decode_list(self.get(MANIFEST, c)) for c in entry.lists))
        for extents in lists:
            for chunk, length, repeat in extents:
                total += length * repeat
                need(total <= entry.size, "a content list is longer than its file")
                plain = self.get(CONTENT, chunk) if chunk else None
                need(plain is None or len(plain) == length, "a chunk has another length than its file says")
                for _ in range(repeat if entry.hash and plain else 0):
                    digest.update(plain)
                for at in range(0, length if entry.hash and plain is None else 0, MI):
                    digest.update(ZEROS[:length - at])
                for _ in range(repeat):
                    yield plain, length
        need(total == entry.size, "a file whose pieces do not add up to its size")
        need(entry.hash in (None, digest.digest()), "a file has another hash than its entry says")


# --- Restoring, as chapter 5 asks for ---

class Target:
    """A directory below which everything happens, reached without following links."""
    FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

    def __init__(self, path):
        os.makedirs(path, 0o700, exist_ok=True)
        if os.listdir(path):
            raise Refused("%s is not empty" % path)
        self.root = os.open(path, self.FLAGS)
        self.path, self.fd = b"", os.dup(self.root)

    def dir(self, path):
        """A handle of the directory `path`, made where it is missing; good until the next call."""
        if path == self.path:
            return self.fd
        if self.path and path.startswith(self.path + b"/"):
            rest = path[len(self.path) + 1:]
        else:
            os.close(self.fd)
            self.path, self.fd, rest = b"", os.dup(self.root), path
        for name in rest.split(b"/") if rest else ():
            try:
                os.mkdir(name, 0o700, dir_fd=self.fd)
            except FileExistsError:
                pass
            below = os.open(name, self.FLAGS, dir_fd=self.fd)
            os.close(self.fd)
            self.path, self.fd = self.path + b"/" + name if self.path else name, below
        return self.fd

    def parent(self, path):
        above, _, name = path.rpartition(b"/")
        return self.dir(above), name


def apply(entry, dir_fd, name, troubles):
    """Owner, permissions, attributes, times, in this order."""
    mode, link = entry.mode, entry.kind == 2
    place = b"/proc/self/fd/%d/%s" % (dir_fd, name)

    def attempt(what, call, *args, **more):
        try:
            call(*args, **more)
        except OSError as e:
            troubles.append("/%s: cannot set %s: %s" % (show(entry.path), what, e.strerror))
    if os.geteuid() == 0:
        attempt("the owner", os.chown, name, entry.uid, entry.gid, dir_fd=dir_fd, follow_symlinks=False)
    elif entry.kind != 1:
        mode &= ~0o6000
    if not link:
        attempt("the permissions", os.chmod, name, mode, dir_fd=dir_fd)
    for key, value in entry.xattrs:
        if os.geteuid() == 0 or key.startswith((b"user.", b"system.posix_acl_")):
            attempt(show(key), os.setxattr, place, key, value, follow_symlinks=False)
    nanos = entry.mtime[0] * 10**9 + entry.mtime[1]
    attempt("the time", os.utime, name, ns=(nanos, nanos), dir_fd=dir_fd, follow_symlinks=False)


def restore(repo, record, path):
    target, dirs, links, troubles = Target(path), [], {}, []
    for entry in repo.entries(record):
        try:
            fd, name = target.parent(entry.path)
            if entry.kind == 1:
                target.dir(entry.path)
                dirs.append(entry)
                continue
            if entry.link in links:
                there = os.dup(fd)
                try:
                    other, other_name = target.parent(links[entry.link])
                    os.link(other_name, name, src_dir_fd=other, dst_dir_fd=there, follow_symlinks=False)
                finally:
                    os.close(there)
                continue
            if entry.kind == 0:
                write_file(repo, entry, fd, name)
            elif entry.kind == 2:
                os.symlink(entry.target, name, dir_fd=fd)
            else:
                kind = {3: stat.S_IFIFO, 4: stat.S_IFSOCK, 5: stat.S_IFCHR, 6: stat.S_IFBLK}[entry.kind]
                os.mknod(name, kind | 0o600, os.makedev(*entry.device) if entry.device else 0, dir_fd=fd)
            if entry.link:
                links[entry.link] = entry.path
            apply(entry, fd, name, troubles)
        except (Damage, OSError) as e:
            troubles.append("/%s: %s" % (show(entry.path), e))
    for entry in reversed(dirs):
        fd, name = target.parent(entry.path)
        apply(entry, fd, name, troubles)
    return troubles


def write_file(repo, entry, dir_fd, name):
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=dir_fd)
    try:
        with open(fd, "wb") as f:
            for plain, length in repo.pieces(entry):
                f.write(plain) if plain is not None else f.seek(length, os.SEEK_CUR)
            f.truncate(entry.size)
    except (Damage, OSError):
        os.unlink(name, dir_fd=dir_fd)
        raise


def check(repo):
    troubles, chunks = list(repo.troubles), 0
    doomed = set()
    for name, _ in repo.list("condemned"):
        try:
            data = repo.read("condemned", name, most=64 * MI)
            decode_header(data, "condemned", name, repo.keys.repository)
            doomed.update(decode_condemned(repo.keys.unseal(CONDEMNED, data[HEADER:])))
        except (Damage, Newer) as e:
            troubles.append("condemned list %s: %s" % (name, e))
    # A pack that is about to be deleted may be damaged: what is needed of it lies elsewhere.
    troubles = [t for t in troubles if t[5:37] not in doomed]
    for name, frames in repo.packs.items():
        if name in doomed:
            continue
        data = repo.read("packs", name, most=80 * MI)
        if blake3(data[:-TRAILER]).digest() != data[-32:]:
            troubles.append("pack %s: its checksum does not fit" % name)
        for frame in frames:
            try:
                kind, length = decode_frame_header(data[frame.offset:])
                need(kind in (DATA, META) and length == frame.length, "frame and footer differ")
                table, _ = split_frame(repo.keys.unseal(kind, data[frame.offset:frame.offset + length]))
                need(table == frame.bodies, "frame and footer differ")
                for b, body in enumerate(table):
                    for slot, (chunk, _, _) in enumerate(body.chunks):
                        place = Place(name, frame.offset, frame.length, b, slot, body.depth)
                        plain = repo.get_at(kind, place, 32, [512 * MI])
                        need(repo.keys.chunk_id(kind, plain) == chunk, "chunk %s has another content" % chunk.hex())
                        chunks += 1
            except (Damage, Newer) as e:
                troubles.append("pack %s, frame at %d: %s" % (name, frame.offset, e))
    snapshots, bad = repo.snapshots()
    troubles += bad
    for name, record in snapshots:
        try:
            for entry in repo.entries(record, stats=True):
                for _ in repo.pieces(entry):
                    pass
        except Damage as e:
            troubles.append("snapshot %s: %s" % (name, e))
    depths = [b.depth for frames in repo.packs.values() for f in frames for b in f.bodies if b.depth]
    print("%d packs, %d chunks, %d bodies with a history (up to %d deep), %d snapshots, %d troubles" % (
        len(repo.packs), chunks, len(depths), max(depths, default=0), len(snapshots), len(troubles)))
    return troubles


def show(path):
    """A path as text (chapter 4), with control characters made harmless."""
    text = path.replace(b"%", b"%25").decode("utf-8", "surrogateescape")
    return "".join(c if c.isprintable() else "".join("%%%02X" % b for b in c.encode("utf-8", "surrogateescape"))
                   for c in text)


def main():
    parser = argparse.ArgumentParser(description="Reads snapkeep repositories.")
    parser.add_argument("--password-file")
    parser.add_argument("repo")
    parser.add_argument("command", choices=["snapshots", "ls", "restore", "check"])
    parser.add_argument("args", nargs="*", metavar="SNAP [TARGET]")
    args = parser.parse_args()
    if len(args.args) != {"snapshots": 0, "ls": 1, "restore": 2, "check": 0}[args.command]:
        parser.error("wrong number of arguments")
    password = os.environb.get(b"SNAPKEEP_PASSWORD")
    if args.password_file:
        password = open(args.password_file, "rb").read()
    if password is not None:
        password = password.removesuffix(b"\n").removesuffix(b"\r") if password.endswith(b"\n") else password
    troubles = []
    try:
        repo = Repository(args.repo, password or None)
        if args.command == "snapshots":
            snapshots, troubles = repo.snapshots()
            for name, r in snapshots:
                noted = [w for w, there in (("pinned", r.get("pinned")), ("forgotten", "forgotten" in r)) if there]
                print(name, r["time"], r["hostname"], " ".join(r["paths"]), ",".join(r.get("tags", [])), *noted)
        elif args.command == "ls":
            for e in repo.entries(repo.snapshot(args.args[0])[1]):
                target = " -> " + show(e.target) if e.target else ""
                print("%s%04o %d:%d %d %d.%09d /%s%s" % ("-dlpscb"[e.kind], e.mode, e.uid, e.gid, e.size, *e.mtime,
                                                       show(e.path), target))
        elif args.command == "restore":
            troubles = restore(repo, repo.snapshot(args.args[0])[1], args.args[1])
        else:
            troubles = check(repo)
    except (Damage, Newer, Refused, OSError) as e:
        sys.exit("error: %s" % e)
    for trouble in troubles:
        print("trouble:", trouble, file=sys.stderr)
    sys.exit(1 if troubles else 0)


if __name__ == "__main__":
    main()
