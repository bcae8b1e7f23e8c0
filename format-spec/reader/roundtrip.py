#!/usr/bin/env python3
"""For roundtrip.sh: makes a tree and changes it; writes down what is in a tree; compares a tree with what was written.

roundtrip.py make TREE | change TREE GENERATION | describe TREE FILE | compare FILE TREE
"""
import hashlib
import os
import pickle
import random
import sqlite3
import stat
import subprocess
import sys

ROOT = os.geteuid() == 0
NAMES = [b"plain", b"with space", "käse".encode(), b"not-utf8-\xff\xfe", b"100%", b"%41", b"new\nline", b"tab\there", b"-rf", b"...",
         b"back\\slash", b"'\"quote", b"a", b"a.b", b"a-b", "日本語".encode(), b"\x01control", b"n" * 255]


def write(path, data, mode=0o644):
    with open(path, "wb") as f:
        f.write(data)
    os.chmod(path, mode)


def text(rng, words):
    return b" ".join(b"%x" % rng.getrandbits(20) for _ in range(words))


def attribute(path, name, value):
    try:
        os.setxattr(path, name, value, follow_symlinks=False)
    except OSError:
        pass  # not every file system has them


def make(tree):
    rng = random.Random(1)
    os.mkdir(tree, 0o755)
    os.chdir(tree)
    for n, name in enumerate(NAMES):
        os.mkdir(b"d-" + name[:250])
        write(os.path.join(b"d-" + name[:250], name), text(rng, n * 40), [0o644, 0o600, 0o755, 0o444, 0o000 if ROOT else 0o400][n % 5])
    write(b"empty", b"")
    write(b"one-byte", b"x")
    write(b"setuid", b"#!/bin/sh\n", 0o4755)
    for size in (127, 128 * 1024, 128 * 1024 + 1, 700_000, 5_000_000):
        write(b"random-%d" % size, rng.randbytes(size))
    write(b"zeros", bytes(9_000_000))
    write(b"repeats", rng.randbytes(4096) * 2000)
    with open(b"sparse", "wb") as f:
        f.write(b"begin")
        f.seek(50_000_000)
        f.write(rng.randbytes(200_000))
        f.truncate(80_000_000)
    with open(b"only-a-hole", "wb") as f:
        f.truncate(10_000_000)
    os.mkdir(b"many", 0o2775)
    for n in range(5000):
        write(b"many/file-%05d.json" % n, b'{"number": %d, "text": "%s"}' % (n, text(rng, 3)))
    deep = b"deep"
    for n in range(60):
        os.mkdir(deep)
        deep += b"/level-%d" % n
    write(os.path.dirname(deep) + b"/bottom", b"bottom")
    os.symlink(b"../plain", b"link")
    os.symlink(b"nowhere-\xff\n", b"broken-link")
    os.symlink(b"/etc", b"link-to-dir")
    os.mkfifo(b"fifo", 0o640)
    os.mknod(b"socket", stat.S_IFSOCK | 0o600)
    os.link(b"random-700000", b"hard-1")
    os.link(b"random-700000", b"d-a/hard-2")
    os.link(b"link", b"hard-link-to-link", follow_symlinks=False)
    write(b"attributes", b"some")
    attribute(b"attributes", b"user.note", "grün".encode())
    attribute(b"attributes", b"user.binary", bytes(range(256)))
    attribute(b"many", b"user.dir", b"on a directory")
    subprocess.run(["setfacl", "-m", "u:65534:r", "attributes"], check=False, stderr=subprocess.DEVNULL)
    if ROOT:
        os.chown(b"one-byte", 1234, 5678)
        os.mknod(b"null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.chown(b"broken-link", 1234, 5678, follow_symlinks=False)
    write(b"notes.txt", b"".join(b"line %d %s\n" % (n, text(rng, 8)) for n in range(3000)))
    database(0)
    os.utime(b"one-byte", ns=(1, -1_500_000_000))
    os.utime(b"empty", ns=(1, 4_000_000_000_123_456_789))
    os.utime(b"link", ns=(1, 1_000_000_000_999_999_999), follow_symlinks=False)
    os.utime(b"d-plain", ns=(1, 1_234_567_890_000_000_001))


def database(generation):
    rng = random.Random(1000 + generation)
    db = sqlite3.connect("rows.sqlite")
    if generation == 0:
        db.execute("create table rows (id integer primary key, text text, number real)")
        db.executemany("insert into rows values (?,?,?)", ((n, text(rng, 6).decode(), rng.random()) for n in range(20000)))
    for _ in range(100):
        db.execute("update rows set text=?, number=? where id=?", (text(rng, 6).decode(), rng.random(), rng.randrange(20000)))
    db.commit()
    db.close()


def change(tree, generation):
    generation = int(generation)
    rng = random.Random(100 + generation)
    os.chdir(tree)
    database(generation)
    with open(b"notes.txt", "r+b") as f:
        f.seek(rng.randrange(100_000))
        f.write(b"CHANGED %d" % generation)
        f.seek(0, os.SEEK_END)
        f.write(b"line added in generation %d\n" % generation)
    with open(b"random-5000000", "r+b") as f:
        f.seek(rng.randrange(4_900_000))
        f.write(rng.randbytes(1000))
    for n in rng.sample(range(5000), 25):
        if os.path.exists(b"many/file-%05d.json" % n):
            write(b"many/file-%05d.json" % n, b'{"number": %d, "text": "%s"}' % (n, text(rng, 3)))
    write(b"many/new-%d" % generation, text(rng, 100))
    os.remove(b"many/file-%05d.json" % (generation * 7))
    if generation == 5:
        os.rename(b"deep", b"renamed")
        os.remove(b"link")
        os.mkdir(b"link")
        write(b"link/inside", b"a directory where a link was")
    if generation == 9:
        with open(b"random-5000000", "r+b") as f:
            data = f.read()
            f.seek(0)
            f.write(data[:1_000_000] + b"inserted" * 100 + data[1_000_000:])
        os.truncate(b"zeros", 4_000_001)


def describe(root):
    found, inodes = {}, {}
    for above, dirs, files in os.walk(os.fsencode(root)):
        for name in dirs + files:
            path = os.path.join(above, name)
            short = os.path.relpath(path, os.fsencode(root))
            s = os.lstat(path)
            kind = stat.S_IFMT(s.st_mode)
            line = {"mode": oct(s.st_mode), "mtime": s.st_mtime_ns, "rdev": s.st_rdev}
            if ROOT:
                line["owner"] = (s.st_uid, s.st_gid)
            elif kind == stat.S_IFREG:
                line["mode"] = oct(s.st_mode & ~0o6000)
            if kind == stat.S_IFREG:
                line["size"] = s.st_size
                if ROOT or s.st_mode & 0o400:
                    with open(path, "rb") as f:
                        line["sha256"] = hashlib.file_digest(f, "sha256").hexdigest()
                if s.st_size > 1_000_000:
                    line["sparse"] = s.st_blocks * 512 < s.st_size // 2
            if kind == stat.S_IFLNK:
                line["target"] = os.readlink(path)
            if kind != stat.S_IFDIR and s.st_nlink > 1:
                line["same as"] = inodes.setdefault(s.st_ino, short)
            try:
                names = os.listxattr(path, follow_symlinks=False)
                line["attributes"] = {n: os.getxattr(path, n, follow_symlinks=False) for n in names}
            except OSError:
                pass
            found[short] = line
    return found


def write_down(tree, file):
    with open(file, "wb") as f:
        pickle.dump(describe(tree), f)


def compare(file, tree):
    with open(file, "rb") as f:
        a, b = pickle.load(f), describe(tree)
    wrong = ["%r: only on one side" % path for path in sorted(set(a) ^ set(b))]
    for path in sorted(set(a) & set(b)):
        for key in sorted(set(a[path]) | set(b[path])):
            x, y = a[path].get(key), b[path].get(key)
            if x != y:
                wrong.append("%r: %s is %s, wanted %s" % (path, key, repr(y)[:80], repr(x)[:80]))
    for line in wrong[:20]:
        print("differs:", line, file=sys.stderr)
    if wrong or len(a) < 5000:
        sys.exit("%d differences, %d entries" % (len(wrong), len(a)))


if __name__ == "__main__":
    words = {"make": make, "change": change, "describe": write_down, "compare": compare}
    words[sys.argv[1]](*sys.argv[2:])
