#!/usr/bin/env python3
"""Reads snapkeep repositories: lists, restores and checks. Written from format-spec/ alone; shares no code with snapkeep.

snapkeep_reader.py [--password-file FILE] REPO snapshots | ls SNAP | restore SNAP TARGET | check
The password of an encrypted repository comes from --password-file or SNAPKEEP_PASSWORD.
"""
import argparse, json, os, re, stat, struct, sys
from collections import OrderedDict, namedtuple

import zstandard
from argon2.low_level import Type, hash_secret_raw
from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

KI, MI = 1 << 10, 1 << 20
HEADER, FRAME_HEADER, OVERHEAD, TRAILER, ID, NAME = 48, 8, 72, 48, 24, 16
KINDS = {"config": 1, "keys": 2, "packs": 3, "index": 4, "sessions": 5, "snapshots": 5, "evicted": 5, "notes": 6,
         "condemned": 7}
DATA, META, FOOTER, SESSION, SNAPSHOT, NOTE, SEGMENT, CONDEMNED = range(1, 9)
CONTENT, MANIFEST = DATA, META  # a chunk's sort, by the kind of the frames it lives in
CACHE_BYTES = 64 * MI


class Damage(Exception):
    """Stored bytes are not what they should be."""


def need(condition, why):
    if not condition:
        raise Damage(why)


# --- Chapter 1: primitives, headers, records ---

class Bytes:
    """Reads primitives from the front of a byte string."""

    def __init__(self, data, what):
        self.data, self.at, self.what = data, 0, what

    def left(self):
        return len(self.data) - self.at

    def take(self, n):
        need(0 <= n <= self.left(), self.what + ": ends too early")
        self.at += n
        return bytes(self.data[self.at - n:self.at])

    def u8(self):
        return self.take(1)[0]

    def u32(self):
        return struct.unpack("<I", self.take(4))[0]

    def u64(self):
        return struct.unpack("<Q", self.take(8))[0]

    def varint(self, most=(1 << 64) - 1):
        value = 0
        for shift in range(0, 70, 7):
            byte = self.u8()
            value |= (byte & 127) << shift
            if byte < 128:
                need(byte or not shift, self.what + ": a number is not in its shortest form")
                need(value <= most, self.what + ": a number exceeds its limit")
                return value
        raise Damage(self.what + ": a number is too long")

    def signed(self):
        n = self.varint()
        return n >> 1 ^ -(n & 1)

    def count(self, each):
        return self.varint(self.left() // each)

    def string(self, most):
        return self.take(self.varint(most))

    def end(self):
        need(not self.left(), self.what + ": has bytes after its end")


def decode_header(data, folder, name, repository=None):
    """Checks a stored file's header and returns the repository id in it."""
    what = "%s/%s" % (folder, name)
    need(len(data) >= HEADER and data[:8] == b"snapkeep", what + " does not begin as a snapkeep file does")
    version, kind, features = data[8], data[9], data[10:12]
    if version > 1 or (version == 1 and features != b"\0\0"):
        sys.exit("%s was written by a newer snapkeep" % what)
    need(version == 1 and kind == KINDS[folder] and data[12:16] == bytes(4), what + " has a damaged header")
    owner = bytes(data[16:32])
    need(repository in (None, owner), what + " belongs to another repository")
    own = struct.pack("<I12x", int(name)) if len(name) == 8 else bytes.fromhex(name)
    need(data[32:48] == own, what + " carries another file's name")
    return owner


def decode_json(data, what):
    def once(pairs):
        need(len(dict(pairs)) == len(pairs), what + ": a field stands twice")
        return dict(pairs)
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=once)
    except ValueError as e:
        raise Damage("%s: %s" % (what, e))
    need(isinstance(value, dict), what + ": is no object")
    return value


def field(record, key, kind, what):
    value = record.get(key)
    need(isinstance(value, kind) and not (kind is int and isinstance(value, bool)), "%s: bad %s" % (what, key))
    return value


def unhex(text, length, what):
    need(isinstance(text, str) and re.fullmatch("[0-9a-f]{%d}" % (2 * length), text), what + ": bad hex")
    return bytes.fromhex(text)


def decode_plain_record(data, folder, name, repository=None):
    """Repository id, body and MAC of a config or key file."""
    owner = decode_header(data, folder, name, repository)
    length = Bytes(data[HEADER:HEADER + 4], name).u32()
    need(length <= MI and len(data) == HEADER + 4 + length + 64, "%s/%s has a wrong length" % (folder, name))
    need(blake3(data[:-32]).digest() == data[-32:], "%s/%s: its checksum does not fit" % (folder, name))
    return owner, data[52:52 + length], data[52 + length:84 + length]


# --- Chapter 6: keys and seals ---

def keyed(key, *parts):
    return blake3(b"".join(parts), key=key).digest()


def hchacha20(key, nonce16):
    x = list(struct.unpack("<16I", b"expand 32-byte k" + key + nonce16))

    def quarter(a, b, c, d):
        for i, j, k, r in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            x[i] = x[i] + x[j] & 0xFFFFFFFF
            x[k] ^= x[i]
            x[k] = (x[k] << r | x[k] >> 32 - r) & 0xFFFFFFFF
    for _ in range(10):
        for i in range(4):
            quarter(i, i + 4, i + 8, i + 12)
        for i in range(4):
            quarter(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
    return struct.pack("<8I", *x[:4], *x[12:])


def decode_slots(body):
    slots = field(decode_json(body, "key slots"), "slots", list, "key slots")
    need(1 <= len(slots) <= 16, "key slots: none or too many")
    for slot in slots:
        need(isinstance(slot, dict) and slot.get("kdf") == "argon2id", "key slots: an unknown derivation")
        m, t, p = (field(field(slot, "cost", dict, "slot"), k, int, "slot") for k in ("m_kib", "t", "p"))
        need(8 <= m <= MI and 1 <= t <= 16 and 1 <= p <= 16 and m >= 8 * p, "key slots: an impossible derivation")
    return slots


def open_slot(slot, repository, password):
    """The master key, or None when the password does not open this slot."""
    cost = slot["cost"]
    salt, nonce = unhex(slot.get("salt"), 16, "slot"), unhex(slot.get("nonce"), 24, "slot")
    wrapped = unhex(slot.get("wrapped"), 48, "slot")
    key = hash_secret_raw(password, salt, cost["t"], cost["m_kib"], cost["p"], 32, Type.ID, 0x13)
    aad = b"snapkeep key slot v1" + repository + salt + struct.pack("<3I", cost["m_kib"], cost["t"], cost["p"])
    try:
        return ChaCha20Poly1305(hchacha20(key, nonce[:16])).decrypt(bytes(4) + nonce[16:], wrapped, aad)
    except InvalidTag:
        return None


def decode_frame_header(data):
    """Kind and whole length of the frame that begins here."""
    need(len(data) >= FRAME_HEADER, "a frame's header is cut short")
    kind, version, zero, length = struct.unpack("<BBHI", data[:FRAME_HEADER])
    need(1 <= kind <= 8 and version == 1 and zero == 0 and length <= 64 * MI, "a frame's header is damaged")
    return kind, length + OVERHEAD


class Keyring:
    def __init__(self, repository, encrypted, master):
        derive = lambda what: blake3(master + repository, derive_key_context="snapkeep v1 " + what).digest()
        self.repository, self.encrypted = repository, encrypted
        self.ids = {CONTENT: derive("content chunk id"), MANIFEST: derive("manifest chunk id")}
        self.frame, self.synthetic = derive("frame key"), derive("frame synthetic value")
        self.config = derive("config")

    def chunk_id(self, sort, plain):
        return keyed(self.ids[sort], plain)[:ID]

    def unseal(self, kind, frame):
        stated, length = decode_frame_header(frame)
        need(stated == kind, "a frame of another kind than it should be")
        need(length == len(frame), "a frame is cut short")
        header, salt, value, sealed, tag = frame[:8], frame[8:24], frame[24:56], frame[56:-16], frame[-16:]
        if not self.encrypted:
            sum_fits = keyed(self.synthetic, self.repository, header, salt, sealed) == value
            need(sum_fits and tag == value[:16], "a frame is damaged: its checksum does not fit")
            return sealed
        try:
            return AESGCM(keyed(self.frame, salt, value)).decrypt(bytes(12), sealed + tag, self.repository + header)
        except InvalidTag:
            raise Damage("a frame is damaged: its seal does not fit")


# --- Chapter 2: packs ---

Body = namedtuple("Body", "coding stored_len chunks bases history depth closure")  # chunks: (id, len, version)
Frame = namedtuple("Frame", "offset length bodies")
Place = namedtuple("Place", "pack offset length body slot depth")


def decode_table(r):
    return [decode_body(r) for _ in range(r.count(4))]


def decode_body(r):
    coding, stored_len = r.u8(), r.varint(20 * MI)
    count = r.count(1 + ID)
    lengths = [r.varint(16 * MI) for _ in range(count)]
    ids = [r.take(ID) for _ in range(count)]
    need(count > 0 and sum(lengths) <= 16 * MI and coding <= 2, "a body without chunks, too large, or of unknown coding")
    need(coding != 0 or stored_len == sum(lengths), "a raw body with two lengths")
    if coding < 2:
        return Body(coding, stored_len, [(i, n, 0) for i, n in zip(ids, lengths)], [], 0, 0, 0)
    versions = [r.u8() for _ in range(count)]
    depth, closure, history = r.u8(), r.varint(), r.varint(8 * MI)
    bases = [r.take(ID) for _ in range(r.count(ID))]
    need(all(versions) and 1 <= depth <= 32 and closure <= 512 * MI, "an impossible history")
    need(bases and not set(bases) & set(ids), "a history without bases, or of itself")
    return Body(coding, stored_len, list(zip(ids, lengths, versions)), bases, history, depth, closure)


def decode_footer(data):
    r = Bytes(data, "a footer")
    offset, frames = HEADER, []
    for _ in range(r.count(2)):
        length = r.varint(20 * MI + OVERHEAD)
        need(length >= OVERHEAD and offset + length <= 80 * MI, "a frame lies outside its pack")
        frames.append(Frame(offset, length, decode_table(r)))
        offset += length
    r.end()
    return frames, offset


def decode_trailer(data, size):
    r = Bytes(data, "a trailer")
    offset, length, digest = r.u64(), r.u64(), r.take(32)
    need(length == size, "a pack of %d bytes that was written with %d" % (size, length))
    need(HEADER <= offset <= size - TRAILER - OVERHEAD, "a footer outside its pack")
    return offset, digest


def split_frame(plain):
    """Table and stored bodies of an unsealed frame of kind data or meta."""
    r = Bytes(plain, "a frame")
    t = Bytes(r.take(r.varint(20 * MI)), "a frame's table")
    table = decode_table(t)
    t.end()
    stored = [r.take(body.stored_len) for body in table]
    r.end()
    return table, stored


def decompress(stored, length, history=None):
    try:
        frame = zstandard.get_frame_parameters(stored)
        need(frame.content_size in (length, zstandard.CONTENTSIZE_UNKNOWN) and frame.dict_id == 0, "a wrong zstd frame")
        past = zstandard.ZstdCompressionDict(history, dict_type=zstandard.DICT_TYPE_RAWCONTENT) if history else None
        decoder = zstandard.ZstdDecompressor(dict_data=past, max_window_size=16 * MI)
        plain = decoder.decompress(stored, max_output_size=max(length, 1), allow_extra_data=False)
    except zstandard.ZstdError as e:
        raise Damage("zstd: %s" % e)
    need(len(plain) == length, "a body of %d bytes expands to %d" % (length, len(plain)))
    return plain


# --- Chapter 5: manifests ---

Entry = namedtuple("Entry", "path kind mode uid gid user group mtime link xattrs flags target device size extents lists "
                            "hash")  # extents: (id or None, length, repeat)


def path_key(path):
    return path.split(b"/")


def check_path(path):
    parts = path.split(b"/")
    safe = all(p not in (b"", b".", b"..") and b"\0" not in p for p in parts)
    need(safe and len(path) <= MI, "a path that could lead outside: %r" % path[:80])
    need(len(parts) <= 4200 and max(map(len, parts)) <= 4096, "a path is too deep or a name too long")


def wrap(n):
    return (n + (1 << 63) & (1 << 64) - 1) - (1 << 63)


def decode_extents(r, ids):
    extents = []
    for _ in range(r.count(2)):
        repeat = r.varint()
        length = r.varint(16 * MI if repeat else (1 << 63) - 1)
        need(length, "a piece of no length")
        extents.append((ids.take(ID) if repeat else None, length, max(repeat, 1)))
    need(sum(n * k for _, n, k in extents) < 1 << 63, "a file that is too large")
    return extents


def decode_list(data):
    r = Bytes(data, "a content list")
    need(r.u8() == ord("L"), "a content list is something else")
    probe, chunks = Bytes(data[1:], "a content list"), 0
    for _ in range(probe.count(2)):
        chunks += probe.varint() > 0
        probe.varint()
    need(probe.left() == chunks * ID, "a content list names too few or too many chunks")
    return decode_extents(r, Bytes(data[len(data) - chunks * ID:], "a content list"))


def decode_group(data):
    r = Bytes(data, "a group")
    need(r.u8() == ord("G"), "a group is something else")
    count, owner_count, set_count = r.count(8), r.count(5), r.count(1)
    columns = [Bytes(r.string(8 * MI), "a group") for _ in range(11)]
    r.end()
    names, kinds, table, owner, secs, nanos, sizes, sets, extras, hashes, ids = columns
    owners = [(table.varint(0o7777), table.varint(2**32 - 1), table.varint(2**32 - 1), table.string(4096),
               table.string(4096)) for _ in range(owner_count)]
    xattrs = []
    for _ in range(set_count):
        pairs = [(sets.string(4096), sets.string(65536)) for _ in range(sets.count(2))]
        need(all(n and b"\0" not in n for n, _ in pairs), "an impossible extended attribute")
        need(sum(len(n) + len(v) for n, v in pairs) <= MI, "too many extended attributes")
        xattrs.append(pairs)
    entries, path, seconds = [], b"", 0
    for i in range(count):
        shared, rest = names.varint(len(path)), names.string(MI)
        before, path = path, path[:shared] + rest
        check_path(path)
        need(rest and (not i or path_key(before) < path_key(path)), "paths out of order")
        kind, at = kinds.u8(), owner.varint()
        need(at < len(owners), "an unknown owner")
        seconds = wrap(seconds + secs.signed())
        nano, target, device, link, own = nanos.u32(), None, None, 0, []
        need(nano < 10**9 and kind & 7 < 7, "an impossible time or kind")
        if kind & 7 == 2:
            target = extras.string(65536)
            need(target and b"\0" not in target, "an impossible link target")
        elif kind & 7 in (5, 6):
            device = (extras.varint(2**32 - 1), extras.varint(2**32 - 1))
        if kind & 16:
            link = extras.varint()
        if kind & 8:
            at_set = extras.varint()
            need(at_set < len(xattrs), "unknown attributes")
            own = xattrs[at_set]
        size, extents, lists, digest = 0, [], [], None
        need(kind & 7 == 0 or not kind & 32, "content where there can be none")
        if kind & 7 == 0:
            size = sizes.varint((1 << 63) - 1)
            if kind & 32:
                digest, parts = hashes.take(32), extras.varint(ids.left() // ID)
                if parts:
                    lists = [ids.take(ID) for _ in range(parts)]
                else:
                    extents = decode_extents(extras, ids)
                    need(sum(n * k for _, n, k in extents) == size, "a file whose pieces do not add up to its size")
            elif size:
                need(size <= 16 * MI, "one chunk larger than any chunk")
                extents = [(ids.take(ID), size, 1)]
        mode, uid, gid, user, group = owners[at]
        entries.append(Entry(path, kind & 7, mode, uid, gid, user, group, (seconds, nano), link, own, kind >> 6, target,
                             device, size, extents, lists, digest))
    for column in columns:
        column.end()
    return entries


def decode_stats(data, entries):
    """(inode, change time, must be read again) for each entry."""
    r = Bytes(data, "a stat column")
    need(r.u8() == ord("S") and r.varint() == len(entries), "a stat column does not fit its group")
    inodes, secs, words = columns = [Bytes(r.string(8 * MI), "a stat column") for _ in range(3)]
    r.end()
    inode, offset, stats = 0, 0, []
    for entry in entries:
        inode = inode + inodes.signed() & (1 << 64) - 1
        offset, word = wrap(offset + secs.signed()), words.u32()
        ctime = (wrap(entry.mtime[0] + offset), word & 0x7FFFFFFF ^ entry.mtime[1])
        stats.append((inode, ctime, word >> 31 == 1))
    for column in columns:
        column.end()
    return stats


def decode_root(data):
    r = Bytes(data, "a root")
    need(r.u8() == ord("R"), "a root is something else")
    level, items = r.u8(), []
    need(level <= 4, "a root of too many levels")
    for _ in range(r.count(4 + ID)):
        first, entries, size, has_stat = r.string(MI), r.varint(), r.varint(), r.u8()
        need(has_stat <= 1 and not (has_stat and level), "a damaged item of a root")
        need(not items or path_key(items[-1][0]) < path_key(first), "groups out of order")
        items.append([first, entries, size, has_stat])
    for item in items:
        item.append(r.take(ID))
        item[3] = r.take(ID) if item[3] else None
    r.end()
    return level, [tuple(i) for i in items]  # (first path, entries, bytes, stat column's id or None, id)


# --- Chapters 1, 2, 4: the repository ---

class Repository:
    def __init__(self, path, password):
        self.path, self.cache, self.cached = path, OrderedDict(), 0
        owner, body, mac = self.newest("config", lambda d, n: decode_plain_record(d, "config", n))
        config = decode_json(body, "config")
        if field(config, "version", int, "config") > 1:
            sys.exit("the repository has a newer format")
        need(unhex(config.get("id"), NAME, "config") == owner, "the config names two repositories")
        encrypted = config.get("encryption") != "none"
        need(config.get("encryption") in ("none", "aes-256-gcm"), "an unknown encryption")
        if encrypted:
            master = self.unlock(owner, password)
        elif password is not None:
            sys.exit("a password was given, but this repository says that it has none; it may have been exchanged")
        else:
            master = unhex(config.get("public_key"), 32, "config")
        self.keys = Keyring(owner, encrypted, master)
        need(keyed(self.keys.config, body) == mac, "the config was not written with this key")
        self.places, self.packs, self.troubles = {}, {}, []
        for name, size in self.list("packs"):
            try:
                self.add_pack(name, size)
            except Damage as e:
                self.troubles.append("pack %s: %s" % (name, e))

    def unlock(self, owner, password):
        if password is None:
            sys.exit("this repository is encrypted; give its password")

        def slots(data, name):
            _, body, mac = decode_plain_record(data, "keys", name, owner)
            need(mac == bytes(32), "a key file with a MAC")
            return decode_slots(body)
        for slot in self.newest("keys", slots):
            master = open_slot(slot, owner, password)
            if master:
                return master
        sys.exit("wrong password")

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
        need(HEADER + OVERHEAD + TRAILER <= size <= 80 * MI, "an impossible size")
        decode_header(self.read("packs", name, 0, HEADER), "packs", name, self.keys.repository)
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
        """Table, stored bodies and expanded bodies of a frame; kept while there is room."""
        key = (place.pack, place.offset)
        if key not in self.cache:
            sealed = self.read("packs", place.pack, place.offset, place.length)
            self.cache[key] = split_frame(self.keys.unseal(sort, sealed)) + ({},)
            self.cached += place.length
        self.cache.move_to_end(key)
        while self.cached > CACHE_BYTES and len(self.cache) > 1:
            (_, _), (_, stored, plain) = self.cache.popitem(last=False)
            self.cached -= sum(map(len, plain.values()))
            self.cached = max(self.cached - sum(map(len, stored)), 0)
        return self.cache[key]

    def get(self, sort, chunk, depth=32, budget=None):
        """A chunk's plain bytes by way of any copy that can be decoded, checked against its id."""
        budget = [512 * MI] if budget is None else budget
        trouble = Damage("chunk %s is not in the repository" % chunk.hex())
        for place in sorted(self.places.get(chunk, ()), key=lambda p: p.depth):
            try:
                plain = self.get_at(sort, place, depth, budget)
                need(self.keys.chunk_id(sort, plain) == chunk, "a chunk has another content than its id says")
                return plain
            except (Damage, OSError) as e:
                trouble = Damage("chunk %s in pack %s: %s" % (chunk.hex(), place.pack, e))
        raise trouble

    def get_at(self, sort, place, depth, budget):
        table, stored, plain = self.frame(sort, place)
        need(place.body < len(table) and place.slot < len(table[place.body].chunks), "frame and footer differ")
        body = table[place.body]
        if place.body not in plain:
            length, history = sum(n for _, n, _ in body.chunks), b""
            budget[0] -= length
            need(budget[0] >= 0, "too much to decode for one chunk")
            need(depth > 0 or not body.bases, "a history nested too deeply")
            for base in body.bases:
                history += self.get(sort, base, depth - 1, budget)
                need(len(history) <= body.history, "a history longer than stated")
            need(len(history) == body.history, "a history shorter than stated")
            raw = stored[place.body]
            plain[place.body] = raw if body.coding == 0 else decompress(raw, length, history)
            self.cached += length if (place.pack, place.offset) in self.cache else 0
        start = sum(n for _, n, _ in body.chunks[:place.slot])
        return plain[place.body][start:start + body.chunks[place.slot][1]]

    def snapshots(self):
        """(id, record) in order, with noted tags; and what cannot be read."""
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
            except Damage as e:
                bad.append("snapshot %s: %s" % (name, e))
        for name, _ in self.list("notes"):
            try:
                data = self.read("notes", name)
                decode_header(data, "notes", name, self.keys.repository)
                note = decode_json(self.keys.unseal(NOTE, data[HEADER:]), "a note")
                notes.append((field(note, "sequence", int, "a note"), name, note))
            except Damage as e:
                bad.append("note %s: %s" % (name, e))
        for _, _, note in sorted(notes, key=lambda n: n[:2]):
            if note.get("note") == "tags" and note.get("snapshot") in found:
                found[note["snapshot"]]["tags"] = field(note, "tags", list, "a note")
        return sorted(found.items(), key=lambda s: (s[1]["order_time"], s[1]["sequence"], s[0])), bad

    def snapshot(self, text):
        found = self.snapshots()[0]
        fits = found[-1:] if text == "latest" else [s for s in found if s[0].startswith(text)]
        if len(fits) != 1:
            sys.exit("`%s` names %s snapshot" % (text, "more than one" if fits else "no"))
        return fits[0]

    def groups(self, chunk, level=None, first=None):
        """The items of all roots of level 0, in order, each level checked against the one above."""
        own, items = decode_root(self.get(MANIFEST, chunk))
        need(level in (None, own), "roots are nested wrongly")
        need(first is None or items and items[0][0] == first, "a root is not the one that the root above it names")
        for item in items:
            if own == 0:
                yield item
            else:
                yield from self.groups(item[4], own - 1, item[0])

    def entries(self, record, stats=False):
        last = None
        for first, count, size, stat_id, chunk in self.groups(bytes.fromhex(record["root"])):
            group = decode_group(self.get(MANIFEST, chunk))
            fits = group and group[0].path == first and len(group) == count and sum(e.size for e in group) == size
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
                for at in range(0, 0 if plain or not entry.hash else length, MI):
                    digest.update(bytes(min(MI, length - at)))
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
            sys.exit("%s is not empty" % path)
        self.root, self.open_path, self.open_fd = os.open(path, self.FLAGS), None, None

    def dir(self, path):
        """A handle of the directory `path`, made where it is missing; good until the next call."""
        if path == self.open_path:
            return self.open_fd
        inside = self.open_path and path.startswith(self.open_path + b"/")
        fd = self.open_fd if inside else os.dup(self.root)
        if not inside and self.open_fd is not None:
            os.close(self.open_fd)
        for name in path[len(self.open_path) + 1 if inside else 0:].split(b"/") if path else ():
            try:
                os.mkdir(name, 0o700, dir_fd=fd)
            except FileExistsError:
                pass
            below = os.open(name, self.FLAGS, dir_fd=fd)
            os.close(fd)
            fd = below
        self.open_path, self.open_fd = path, fd
        return fd

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
        fd, name = target.parent(entry.path)
        try:
            if entry.kind == 1:
                target.dir(entry.path)
                dirs.append(entry)
                continue
            if entry.link in links:
                there = os.dup(fd)
                other, other_name = target.parent(links[entry.link])
                os.link(other_name, name, src_dir_fd=other, dst_dir_fd=there, follow_symlinks=False)
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
    except Damage:
        os.unlink(name, dir_fd=dir_fd)
        raise


def check(repo):
    troubles, chunks = list(repo.troubles), 0
    for name, frames in repo.packs.items():
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
            except Damage as e:
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
    print("%d packs, %d chunks, %d snapshots, %d troubles" % (len(repo.packs), chunks, len(snapshots), len(troubles)))
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
                print(name, r["time"], r["hostname"], " ".join(r["paths"]), ",".join(r.get("tags", [])))
        elif args.command == "ls":
            for e in repo.entries(repo.snapshot(args.args[0])[1]):
                target = " -> " + show(e.target) if e.target else ""
                print("%s%04o %d:%d %d %d.%09d /%s%s" % ("-dlpscb"[e.kind], e.mode, e.uid, e.gid, e.size, *e.mtime,
                                                       show(e.path), target))
        elif args.command == "restore":
            troubles = restore(repo, repo.snapshot(args.args[0])[1], args.args[1])
        else:
            troubles = check(repo)
    except (Damage, OSError) as e:
        sys.exit("error: %s" % e)
    for trouble in troubles:
        print("trouble:", trouble, file=sys.stderr)
    sys.exit(1 if troubles else 0)


if __name__ == "__main__":
    main()
