//! Metadata goes to files and comes back the same; nothing below a directory handle leads outside it.

use crate::source::temp;
use snapkeep::clock::Timestamp;
use snapkeep::format::entry::{Kind, Metadata, Owner, Xattrs};
use snapkeep::os::apply::{Options, apply};
use snapkeep::os::beneath::{self, Beneath};
use snapkeep::os::dir::{self, Handle};
use snapkeep::os::metadata::{self, Reader};
use snapkeep::os::owners::Owners;
use snapkeep::os::{process, xattr};
use std::ffi::CString;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

fn handle(path: &Path) -> Handle {
    Arc::new(dir::open_path(path).expect("open"))
}

fn read_back(dir: &Handle, name: &str) -> Metadata {
    let name = CString::new(name).expect("name");
    let status = dir::status(dir, &name).expect("status");
    let mut meta = Reader::new(Owners::load()).metadata(&status);
    meta.xattrs = xattr::read_at(dir, &name).expect("xattrs");
    meta
}

fn meta(mode: u32, mtime: (i64, u32), xattrs: &[(&str, &[u8])]) -> Metadata {
    let status = dir::status_of(dir::open_path(Path::new(".")).expect("open")).expect("status");
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let mut meta = Reader::new(Owners::load()).metadata(&dir::Status { uid, gid, ..status });
    meta.mode = mode;
    meta.mtime = Timestamp { secs: mtime.0, nanos: mtime.1 };
    let xattrs: Xattrs = xattrs.iter().map(|(n, v)| (n.as_bytes().to_vec(), v.to_vec())).collect();
    meta.xattrs = if xattrs.is_empty() { None } else { Some(Arc::new(xattrs)) };
    meta
}

/// `user::rw-, user:1000:r--, group::r--, mask::r--, other::---` as the kernel stores it.
fn acl() -> Vec<u8> {
    let mut out = 2u32.to_le_bytes().to_vec();
    let none = u32::MAX;
    for (tag, perm, id) in [(1u16, 6u16, none), (2, 4, 1000), (4, 4, none), (0x10, 4, none), (0x20, 0, none)]
    {
        out.extend(tag.to_le_bytes());
        out.extend(perm.to_le_bytes());
        out.extend(id.to_le_bytes());
    }
    out
}

/// Whether attributes `user.*` and ACLs can be set here.
fn attributes_work(root: &Path) -> bool {
    let probe = root.join("probe");
    fs::write(&probe, "").expect("write");
    let flags = rustix::fs::XattrFlags::empty();
    let works = rustix::fs::setxattr(&probe, "user.x", b"1", flags).is_ok()
        && rustix::fs::setxattr(&probe, "system.posix_acl_access", &acl(), flags).is_ok();
    fs::remove_file(&probe).expect("remove");
    if !works {
        println!("SKIPPED: this filesystem keeps no extended attributes or ACLs");
    }
    works
}

#[test]
fn metadata_comes_back_as_it_was_applied() {
    let (_keep, root) = temp();
    let at = handle(&root);
    fs::write(root.join("file"), "x").expect("write");
    fs::write(root.join("precious"), "x").expect("write");
    fs::create_dir(root.join("dir")).expect("mkdir");
    symlink("precious", root.join("link")).expect("symlink");
    beneath::create_fifo(&at, b"fifo").expect("fifo");
    let options = Options { owner: true, special_bits: true, ..Options::default() };
    let untouched = read_back(&at, "precious");
    let cases = [
        ("file", Kind::File, 0o4640, (-2_000_000_001, 999_999_999)),
        ("dir", Kind::Directory, 0o1750, (-1, 1)),
        ("link", Kind::Symlink(b"precious".to_vec()), 0o777, (1_234_567_890, 123_456_789)),
        ("fifo", Kind::Fifo, 0o000, (0, 500)),
    ];
    for (name, kind, mode, mtime) in cases {
        let wanted = meta(mode, mtime, &[]);
        let problems = apply(&at, name.as_bytes(), &wanted, &kind, &options);
        assert!(problems.is_empty(), "{name}: {problems:?}");
        assert_eq!(read_back(&at, name), wanted, "{name}");
    }
    assert_eq!(read_back(&at, "precious"), untouched, "nothing goes through a link");
    // Something else than recorded stands there: leave it alone.
    let link = read_back(&at, "link");
    let problems = apply(&at, b"link", &meta(0o666, (1, 1), &[]), &Kind::File, &options);
    assert_eq!(problems.len(), 1);
    assert_eq!(read_back(&at, "link"), link);
    assert_eq!(read_back(&at, "precious"), untouched);
    // Setuid only when asked for.
    apply(&at, b"file", &meta(0o6755, (1, 1), &[]), &Kind::File, &Options::default());
    assert_eq!(read_back(&at, "file").mode, 0o755);
}

#[test]
fn attributes_and_acls_come_back_and_inherited_ones_go() {
    let (_keep, root) = temp();
    if !attributes_work(&root) {
        return;
    }
    let at = handle(&root);
    let long = vec![7u8; 2000];
    let options = Options { xattrs: true, ..Options::default() };
    let recorded: [(&str, &[u8]); 3] =
        [("system.posix_acl_access", &acl()), ("user.empty", b""), ("user.long", &long)];
    for (name, kind) in [("file", Kind::File), ("dir", Kind::Directory)] {
        match kind {
            Kind::File => fs::write(root.join(name), "x").expect("write"),
            _ => fs::create_dir(root.join(name)).expect("mkdir"),
        }
        // With an ACL the group bits of the mode are its mask.
        let wanted = meta(0o640, (-5, 5), &recorded);
        let problems = apply(&at, name.as_bytes(), &wanted, &kind, &options);
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(read_back(&at, name), wanted);
    }
    // A default ACL is inherited by new files; one recorded without an ACL must lose it.
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(&root, "system.posix_acl_default", &acl(), flags).expect("default acl");
    fs::write(root.join("heir"), "x").expect("write");
    let inherited = read_back(&at, "heir");
    assert!(inherited.xattrs.is_some());
    let wanted = meta(0o600, (5, 5), &[("user.mine", b"1")]);
    assert!(apply(&at, b"heir", &wanted, &Kind::File, &options).is_empty());
    assert_eq!(read_back(&at, "heir"), wanted);
    // Not asked for: left as they are.
    let other = Options::default();
    assert!(apply(&at, b"heir", &meta(0o600, (6, 6), &[]), &Kind::File, &other).is_empty());
    assert_eq!(read_back(&at, "heir").xattrs, wanted.xattrs);
}

#[test]
fn owners_are_set_by_number_or_name_and_failure_drops_setuid() {
    if !process::is_root() {
        return println!("SKIPPED: only root may give files away");
    }
    let (_keep, root) = temp();
    let at = handle(&root);
    fs::write(root.join("f"), "x").expect("write");
    let mut wanted = meta(0o4755, (9, 9), &[]);
    wanted.owner = Arc::new(Owner { uid: 4242, gid: 4243, user: "ana".into(), group: "team".into() });
    let options = Options { owner: true, special_bits: true, ..Options::default() };
    assert!(apply(&at, b"f", &wanted, &Kind::File, &options).is_empty());
    let now = fs::metadata(root.join("f")).expect("stat");
    assert_eq!((now.uid(), now.gid(), now.mode() & 0o7777), (4242, 4243, 0o4755));
    let here = Owners::parse(b"ana:x:77:1::\n", b"other:x:1:\n");
    let by_name = Options { names: Some(&here), ..options };
    assert!(apply(&at, b"f", &wanted, &Kind::File, &by_name).is_empty());
    let now = fs::metadata(root.join("f")).expect("stat");
    assert_eq!((now.uid(), now.gid()), (77, 4243), "a name known here, a number where it is not");

    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    fs::write(root.join("mine"), "x").expect("write");
    let problems = std::thread::spawn(move || {
        let mut sets = capabilities(None).expect("capabilities");
        sets.effective -= CapabilitySet::CHOWN;
        set_capabilities(None, sets).expect("drop capabilities");
        apply(&at, b"mine", &wanted, &Kind::File, &options)
    });
    let problems = problems.join().expect("thread");
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].message().starts_with("cannot set the owner"));
    let now = fs::metadata(root.join("mine")).expect("stat");
    assert_eq!((now.mode() & 0o7777, now.mtime()), (0o755, 9), "the rest is done, setuid is not");
}

#[test]
fn no_path_leads_out_of_the_root() {
    let (_keep, base) = temp();
    let root = base.join("root");
    fs::create_dir_all(root.join("real/sub")).expect("mkdir");
    fs::create_dir_all(base.join("outside/sub")).expect("mkdir");
    symlink("../outside", root.join("evil")).expect("symlink");
    symlink("real", root.join("inner")).expect("symlink");
    symlink("/proc/self/cwd", root.join("magic")).expect("symlink");
    for stepwise in [false, true] {
        let at = Beneath::open(&root).expect("open");
        let at = if stepwise { at.stepwise() } else { at };
        assert!(at.dir(b"real/sub").is_ok());
        for path in
            ["evil", "evil/sub", "inner", "inner/sub", "magic", "../outside", "real/..", "/etc", "real//sub"]
        {
            assert!(at.dir(path.as_bytes()).is_err(), "{path} opened");
            assert!(at.dir_or_create(path.as_bytes()).is_err(), "{path} created");
        }
        let (parent, name) = at.parent(b"new/deep/file", true).expect("parent");
        assert_eq!(name, b"file");
        drop(beneath::create_file(&parent, name, 0o600).expect("create"));
        let again = beneath::create_file(&parent, name, 0o600).expect_err("exists");
        assert_eq!(again.kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::metadata(root.join("new/deep")).expect("stat").permissions().mode() & 0o777, 0o700);
        for bad in [&b""[..], b".", b"..", b"a/b", b"a\0b"] {
            assert!(beneath::create_dir(&parent, bad).is_err());
            assert!(at.parent(&[b"real/", bad].concat(), false).is_err() || bad == b"a/b" || bad == b"a\0b");
        }
        // A file is never created through a link, dangling or not.
        symlink(base.join("outside/made"), root.join("new/trap")).expect("symlink");
        let dir = at.dir(b"new").expect("open");
        assert!(beneath::create_file(&dir, b"trap", 0o600).is_err());
        assert!(!base.join("outside/made").exists());
        // Removing a tree takes links, not what they point to.
        symlink("../../../outside", root.join("new/deep/out")).expect("symlink");
        beneath::remove_tree(&at.root(), b"new").expect("remove");
        assert!(!root.join("new").exists() && base.join("outside/sub").exists());
    }
}

#[test]
fn paths_longer_than_the_kernel_takes_are_walked_in_pieces() {
    let (_keep, root) = temp();
    let at = Beneath::open(&root).expect("open");
    let long = vec!["x".repeat(100); 200].join("/");
    assert_eq!(at.dir(long.as_bytes()).expect_err("not there").kind(), ErrorKind::NotFound);
    let (dir, name) = at.parent(long.as_bytes(), true).expect("made");
    beneath::create_dir(&dir, name).expect("mkdir");
    beneath::create_symlink(&dir, b"link", b"nowhere").expect("symlink");
    beneath::rename(&dir, b"link", at.root(), b"moved").expect("rename");
    assert!(root.join("moved").is_symlink());
    beneath::link(at.root(), b"moved", &dir, b"again").expect("link");
    assert_eq!(fs::symlink_metadata(root.join("moved")).expect("stat").nlink(), 2);
    let id = dir::status_of(at.dir(long.as_bytes()).expect("open")).expect("status").id();
    assert_eq!(dir::status_of(at.stepwise().dir(long.as_bytes()).expect("open")).expect("status").id(), id);
    beneath::remove_tree(&handle(&root), "x".repeat(100).as_bytes()).expect("remove");
    assert_eq!(fs::read_dir(&root).expect("list").count(), 1);
}

#[test]
fn devices_keep_their_numbers() {
    let (_keep, root) = temp();
    let at = handle(&root);
    match beneath::create_device(&at, b"null", false, (1, 3)) {
        Err(e) if e.kind() == ErrorKind::PermissionDenied => {
            return println!("SKIPPED: no devices for us here");
        }
        other => other.expect("mknod"),
    }
    let status = dir::status(&at, c"null").expect("status");
    assert_eq!(metadata::kind(&status, &at, c"null").expect("kind"), Kind::CharDevice(1, 3));
}

#[test]
fn the_process_knows_itself() {
    assert!(process::raise_open_files() >= 256);
    assert!(!process::host_name().is_empty());
    assert!(!process::user_name().is_empty());
    assert_eq!(process::boot_id(), process::boot_id());
}

#[test]
fn giving_way_lowers_the_priority_of_this_thread() {
    let lowered = || {
        let before = rustix::process::getpriority_process(None).expect("a priority");
        snapkeep::os::process::give_way();
        let after = rustix::process::getpriority_process(None).expect("a priority");
        assert!(after > before || before >= 19, "{before}, then {after}");
        std::thread::spawn(move || {
            assert_eq!(rustix::process::getpriority_process(None).expect("a priority"), after);
        })
        .join()
        .expect("it inherits");
    };
    std::thread::spawn(lowered).join().expect("lowered");
}
