//! The calls into SQLite's C interface that rusqlite does not wrap: SQLite's own file handles, the state of a pinned
//! write-ahead log, and a file system that reads databases from anywhere.
//!
//! All unsafe code of this room stands here. What must hold: file handles are asked for anew at each read and never outlive
//! the connection they belong to; objects handed to SQLite live until it closes the file they stand for.

#![allow(unsafe_code)]

use super::image::Bytes;
use super::wal::Mark;
use crate::error::{Error, Result};
use crate::os::held::{Hold, hold};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, ffi};
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// A read-only connection to a database that may be in use.
pub struct Database {
    // Closed before the hold ends: fields are dropped in this order.
    connection: Connection,
    _hold: Hold,
}

/// Which of a database's two files.
#[derive(Clone, Copy)]
pub enum Which {
    Main,
    /// Only while the database is open in write-ahead mode.
    Wal,
}

/// Whether SQLite was compiled with this option, as `ENABLE_SNAPSHOT`.
pub fn compiled_with(option: &CStr) -> bool {
    // SAFETY: the option is a C string; the call reads nothing else.
    unsafe { ffi::sqlite3_compileoption_used(option.as_ptr()) != 0 }
}

/// Whether a state of a write-ahead log can be pinned.
pub fn can_pin() -> bool {
    cfg!(sqlite_snapshot) && compiled_with(c"ENABLE_SNAPSHOT")
}

/// Whether pages of an open database can be written one by one.
pub fn can_write_pages() -> bool {
    compiled_with(c"ENABLE_DBPAGE_VTAB")
}

impl Database {
    /// Opens what stands at `path`, which must not lead through links; `id` is its device and inode.
    ///
    /// The main file is opened for reading only, so nothing can write to it, and closing never runs a checkpoint.
    pub fn open(path: &Path, id: (u64, u64)) -> rusqlite::Result<Self> {
        let hold = hold(id);
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_NOFOLLOW
            | OpenFlags::SQLITE_OPEN_EXRESCODE;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        connection.busy_timeout(std::time::Duration::from_millis(100))?;
        Ok(Database { connection, _hold: hold })
    }

    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    fn file(&self, which: Which) -> Result<*mut ffi::sqlite3_file> {
        let op = match which {
            Which::Main => ffi::SQLITE_FCNTL_FILE_POINTER,
            Which::Wal => ffi::SQLITE_FCNTL_JOURNAL_POINTER,
        };
        let mut file: *mut ffi::sqlite3_file = ptr::null_mut();
        // SAFETY: the handle is open; both operations write one pointer to where the last argument points.
        let code = unsafe {
            let db = self.connection.handle();
            ffi::sqlite3_file_control(db, c"main".as_ptr(), op, (&raw mut file).cast())
        };
        // SAFETY: a pointer given by SQLite is a file of the open connection, whose methods are null until it is opened.
        if code != ffi::SQLITE_OK || file.is_null() || unsafe { (*file).pMethods.is_null() } {
            return Err(Error::corrupt("SQLite does not give its file handle"));
        }
        Ok(file)
    }

    /// Reads by SQLite's own handle; zeros behind the end.
    pub fn read(&self, which: Which, at: u64, out: &mut [u8]) -> Result<()> {
        let file = self.file(which)?;
        for (number, part) in out.chunks_mut(1 << 20).enumerate() {
            let offset = at + ((number as u64) << 20);
            // SAFETY: `file` belongs to the open connection, which no other thread uses while `self` is borrowed (it
            // is not `Sync`); the buffer has the length given.
            let code = unsafe {
                match (*(*file).pMethods).xRead {
                    Some(read) => read(file, part.as_mut_ptr().cast(), part.len() as c_int, offset as i64),
                    None => ffi::SQLITE_IOERR,
                }
            };
            if code != ffi::SQLITE_OK && code != ffi::SQLITE_IOERR_SHORT_READ {
                return Err(Error::io("cannot read the database", &std::io::Error::last_os_error()));
            }
        }
        Ok(())
    }

    /// The file's length by SQLite's own handle.
    pub fn len(&self, which: Which) -> Result<u64> {
        let file = self.file(which)?;
        let mut len = 0i64;
        // SAFETY: as in `read`.
        let code = unsafe {
            match (*(*file).pMethods).xFileSize {
                Some(size) => size(file, &raw mut len),
                None => ffi::SQLITE_IOERR,
            }
        };
        match u64::try_from(len) {
            Ok(len) if code == ffi::SQLITE_OK => Ok(len),
            _ => Err(Error::io("cannot look at the database", &std::io::Error::last_os_error())),
        }
    }

    /// Begins to read the newest state and keeps its frames where they are; a transaction must be open. `None` when no
    /// frame of a log is part of the state: a rollback database, or one whose log is empty.
    #[cfg(sqlite_snapshot)]
    pub fn pin(&self) -> rusqlite::Result<Option<Mark>> {
        let mut snapshot: *mut ffi::sqlite3_snapshot = ptr::null_mut();
        // SAFETY: the handle is open. On success SQLite hands over one object of 48 bytes, copied and freed here.
        let (code, bytes) = unsafe {
            let db = self.connection.handle();
            let code = ffi::sqlite3_snapshot_get(db, c"main".as_ptr(), &raw mut snapshot);
            let bytes = snapshot.as_ref().map(|snapshot| snapshot.hidden);
            if !snapshot.is_null() {
                ffi::sqlite3_snapshot_free(snapshot);
            }
            (code, bytes)
        };
        match (code, bytes) {
            (ffi::SQLITE_OK, Some(bytes)) => Ok(Some(mark(&bytes))),
            (ffi::SQLITE_OK | ffi::SQLITE_ERROR, _) => Ok(None),
            (code, _) => Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)),
        }
    }

    /// Never called: `can_pin` says no.
    #[cfg(not(sqlite_snapshot))]
    pub fn pin(&self) -> rusqlite::Result<Option<Mark>> {
        Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_MISUSE), None))
    }
}

/// A snapshot is the header of SQLite's log index, in the machine's own byte order.
#[cfg(sqlite_snapshot)]
fn mark(bytes: &[u8; 48]) -> Mark {
    let number = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let size = u32::from(u16::from_ne_bytes([bytes[14], bytes[15]]));
    let mut salts = [0; 8];
    salts.copy_from_slice(&bytes[32..40]);
    Mark {
        salts,
        frames: number(16),
        checksum: [number(24), number(28)],
        pages: number(20),
        page_size: (size & 0xfe00) | (size & 1) << 16,
    }
}

/// What an open read-only database is read from, and what went wrong reading it.
struct Source {
    bytes: Mutex<Box<dyn Bytes>>,
    failure: Mutex<Option<Error>>,
    /// Bytes that SQLite asked for.
    read: AtomicU64,
}

/// A read-only database over any bytes.
pub struct Opened {
    pub connection: Connection,
    source: Arc<Source>,
}

impl Opened {
    /// Why reading failed, where SQLite only knows that it did.
    pub fn failure(&self) -> Option<Error> {
        self.source.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Bytes that SQLite has asked for so far.
    pub fn bytes_read(&self) -> u64 {
        self.source.read.load(Ordering::Relaxed)
    }
}

/// Databases about to be opened, by the number in their name.
static WAITING: Mutex<Option<HashMap<u64, Arc<Source>>>> = Mutex::new(None);
static NUMBERS: AtomicU64 = AtomicU64::new(1);
const VFS_NAME: &CStr = c"snapkeep-bytes";

/// Opens a read-only database on `bytes`, which must be a whole image; nothing can change it and nothing is locked.
pub fn open_bytes(bytes: Box<dyn Bytes>) -> Result<Opened> {
    register_vfs()?;
    let source =
        Arc::new(Source { bytes: Mutex::new(bytes), failure: Mutex::new(None), read: AtomicU64::new(0) });
    let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
    let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
    waiting.get_or_insert_default().insert(number, Arc::clone(&source));
    drop(waiting);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let opened = Connection::open_with_flags_and_vfs(format!("file:/{number}?immutable=1"), flags, VFS_NAME);
    let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
    waiting.get_or_insert_default().remove(&number);
    drop(waiting);
    let connection = opened.map_err(|e| {
        // The header has been read by then, or could not be.
        let failure = source.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        failure.unwrap_or_else(|| Error::corrupt(format!("cannot open the database image: {e}")))
    })?;
    Ok(Opened { connection, source })
}

fn register_vfs() -> Result<()> {
    static REGISTERED: OnceLock<bool> = OnceLock::new();
    let done = *REGISTERED.get_or_init(|| {
        // SAFETY: the default file system exists for ever once SQLite is initialised, which asking for it does. Ours is
        // a copy of it (time, randomness, sleep) with our own files; it is given to SQLite and never freed.
        unsafe {
            let usual = ffi::sqlite3_vfs_find(ptr::null());
            if usual.is_null() {
                return false;
            }
            let mut vfs = *usual;
            vfs.iVersion = 1;
            vfs.szOsFile = size_of::<ImageFile>() as c_int;
            vfs.mxPathname = 64;
            vfs.pNext = ptr::null_mut();
            vfs.zName = VFS_NAME.as_ptr();
            vfs.xOpen = Some(vfs_open);
            vfs.xDelete = Some(vfs_delete);
            vfs.xAccess = Some(vfs_access);
            vfs.xFullPathname = Some(vfs_full_path);
            ffi::sqlite3_vfs_register(Box::leak(Box::new(vfs)), 0) == ffi::SQLITE_OK
        }
    });
    match done {
        true => Ok(()),
        false => Err(Error::corrupt("SQLite cannot be set up on this machine")),
    }
}

/// SQLite allocates this; `base` comes first, as it expects.
#[repr(C)]
struct ImageFile {
    base: ffi::sqlite3_file,
    /// From `Arc::into_raw`; given back by `file_close`.
    source: *const Source,
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 1,
    xClose: Some(file_close),
    xRead: Some(file_read),
    xWrite: Some(file_write),
    xTruncate: Some(file_truncate),
    xSync: Some(file_sync),
    xFileSize: Some(file_size),
    xLock: Some(file_lock),
    xUnlock: Some(file_lock),
    xCheckReservedLock: Some(file_reserved),
    xFileControl: Some(file_control),
    xSectorSize: Some(file_sector),
    xDeviceCharacteristics: Some(file_traits),
    xShmMap: None,
    xShmLock: None,
    xShmBarrier: None,
    xShmUnmap: None,
    xFetch: None,
    xUnfetch: None,
};

/// SAFETY: called by SQLite with a file of `szOsFile` bytes and a name that is null or a C string.
unsafe extern "C" fn vfs_open(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    unsafe {
        (*file).pMethods = ptr::null();
        if name.is_null() || flags & ffi::SQLITE_OPEN_MAIN_DB == 0 {
            return ffi::SQLITE_CANTOPEN;
        }
        let number = CStr::from_ptr(name).to_str().ok().and_then(|n| n.trim_start_matches('/').parse().ok());
        let waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
        let source = number.and_then(|number: u64| waiting.as_ref()?.get(&number).cloned());
        let Some(source) = source else { return ffi::SQLITE_CANTOPEN };
        let file = file.cast::<ImageFile>();
        (*file).source = Arc::into_raw(source);
        (*file).base.pMethods = &raw const METHODS;
        if !out_flags.is_null() {
            *out_flags = ffi::SQLITE_OPEN_READONLY | ffi::SQLITE_OPEN_MAIN_DB;
        }
        ffi::SQLITE_OK
    }
}

unsafe extern "C" fn vfs_delete(_: *mut ffi::sqlite3_vfs, _: *const c_char, _: c_int) -> c_int {
    ffi::SQLITE_IOERR_DELETE
}

/// SAFETY: SQLite gives a place for the answer: nothing else exists here.
unsafe extern "C" fn vfs_access(
    _: *mut ffi::sqlite3_vfs,
    _: *const c_char,
    _: c_int,
    out: *mut c_int,
) -> c_int {
    unsafe { *out = 0 };
    ffi::SQLITE_OK
}

/// SAFETY: SQLite gives a C string and room for `room` bytes.
unsafe extern "C" fn vfs_full_path(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    room: c_int,
    out: *mut c_char,
) -> c_int {
    unsafe {
        let name = CString::from(CStr::from_ptr(name));
        let bytes = name.as_bytes_with_nul();
        if bytes.len() > room as usize {
            return ffi::SQLITE_CANTOPEN;
        }
        ptr::copy_nonoverlapping(bytes.as_ptr().cast(), out, bytes.len());
    }
    ffi::SQLITE_OK
}

/// SAFETY: called once for each file that `vfs_open` opened.
unsafe extern "C" fn file_close(file: *mut ffi::sqlite3_file) -> c_int {
    unsafe { drop(Arc::from_raw((*file.cast::<ImageFile>()).source)) };
    ffi::SQLITE_OK
}

/// SAFETY: the file is open, so its source lives; `out` has room for `amount` bytes.
unsafe extern "C" fn file_read(
    file: *mut ffi::sqlite3_file,
    out: *mut c_void,
    amount: c_int,
    at: i64,
) -> c_int {
    let (source, out) = unsafe {
        let source = &*(*file.cast::<ImageFile>()).source;
        (source, std::slice::from_raw_parts_mut(out.cast::<u8>(), amount as usize))
    };
    let mut bytes = source.bytes.lock().unwrap_or_else(PoisonError::into_inner);
    let at = at as u64;
    let there = bytes.len().saturating_sub(at).min(out.len() as u64) as usize;
    out[there..].fill(0);
    source.read.fetch_add(there as u64, Ordering::Relaxed);
    match bytes.read_at(at, &mut out[..there]) {
        Ok(()) if there == out.len() => ffi::SQLITE_OK,
        Ok(()) => ffi::SQLITE_IOERR_SHORT_READ,
        Err(e) => {
            *source.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(e);
            ffi::SQLITE_IOERR_READ
        }
    }
}

/// SAFETY: the file is open and `len` a place for the answer.
unsafe extern "C" fn file_size(file: *mut ffi::sqlite3_file, len: *mut i64) -> c_int {
    unsafe {
        let source = &*(*file.cast::<ImageFile>()).source;
        *len = source.bytes.lock().unwrap_or_else(PoisonError::into_inner).len() as i64;
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn file_write(_: *mut ffi::sqlite3_file, _: *const c_void, _: c_int, _: i64) -> c_int {
    ffi::SQLITE_READONLY
}

unsafe extern "C" fn file_truncate(_: *mut ffi::sqlite3_file, _: i64) -> c_int {
    ffi::SQLITE_READONLY
}

unsafe extern "C" fn file_sync(_: *mut ffi::sqlite3_file, _: c_int) -> c_int {
    ffi::SQLITE_OK
}

unsafe extern "C" fn file_lock(_: *mut ffi::sqlite3_file, _: c_int) -> c_int {
    ffi::SQLITE_OK
}

/// SAFETY: SQLite gives a place for the answer.
unsafe extern "C" fn file_reserved(_: *mut ffi::sqlite3_file, out: *mut c_int) -> c_int {
    unsafe { *out = 0 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn file_control(_: *mut ffi::sqlite3_file, _: c_int, _: *mut c_void) -> c_int {
    ffi::SQLITE_NOTFOUND
}

unsafe extern "C" fn file_sector(_: *mut ffi::sqlite3_file) -> c_int {
    4096
}

unsafe extern "C" fn file_traits(_: *mut ffi::sqlite3_file) -> c_int {
    ffi::SQLITE_IOCAP_IMMUTABLE
}
