//! A repository: create, open, and hand out what reads and writes it.

pub mod place;
pub mod filter;
pub mod checks;
pub mod condemned;
pub mod copies;
pub mod parity;
pub mod random;
pub mod segment;
pub mod tier;
pub mod tiers;
pub mod decoded;
pub mod distrust;
pub mod drills;
pub mod footer;
pub mod index;
pub mod sealed;
pub mod sides;
pub mod frames;
pub mod at_hand;
pub mod reader;
pub mod encode;
pub mod packer;
pub mod sessions;
pub mod stalled;
pub mod writer;
pub mod witness;
pub mod removal;
pub mod segments;
pub mod reserve;
pub mod restores;
pub mod schema;
pub mod notes;
pub mod trash;
pub mod keys;
pub mod sighting;
pub mod snapshots;

use crate::backend::{Backend, write_new};
use crate::chunker;
use crate::clock::Timestamp;
use crate::crypto::password::Password;
use crate::crypto::{Keyring, hash};
use crate::error::{Error, ErrorKind, Result};
use crate::format::config::{Config, Encryption, decode_plain_record, encode_plain_record};
use crate::format::key::KeySlots;
use crate::format::{FORMAT_VERSION, FileName, Folder};
use crate::id::{Name, unhex};
use index::{Index, Sources};
use keys::SlotOwner;
use reader::Reader;
use segment::SegmentPolicy;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

/// Packs of repositories in a directory, in bytes.
const PACK_BYTES: u64 = 32 << 20;

/// What a new repository should be.
pub struct NewRepository<'a> {
    /// `None` makes a repository without encryption.
    pub password: Option<&'a Password>,
    pub owner: SlotOwner,
    pub group_readable: bool,
    /// Chunk the way another repository does, so that copies and native chunks meet: its config.
    pub like: Option<&'a Config>,
    pub now: Timestamp,
}

/// A repository that has been found but not yet unlocked.
pub struct Located {
    backend: Arc<dyn Backend>,
    id: Name,
    config: Config,
    mac: [u8; 32],
    body: Vec<u8>,
    remark: Option<String>,
}

/// An open repository.
pub struct Repository {
    backend: Arc<dyn Backend>,
    keyring: Arc<Keyring>,
    config: Config,
    master: Zeroizing<[u8; 32]>,
    /// The slot that opened it; empty without encryption.
    pub slot: String,
    cache: Option<PathBuf>,
    segments: SegmentPolicy,
    /// What the user should know about how it was opened.
    remarks: Vec<String>,
}

/// Writes config and first key slot of a new repository into an empty backend.
pub fn create(backend: Arc<dyn Backend>, new: &NewRepository<'_>) -> Result<Repository> {
    create_with_parity(backend, new, 0)
}

/// As `create`; with each pack so many per cent of parity are stored, by which it can be mended.
pub fn create_with_parity(
    backend: Arc<dyn Backend>,
    new: &NewRepository<'_>,
    parity: u32,
) -> Result<Repository> {
    if !config_numbers(backend.as_ref())?.is_empty() {
        let what = format!("{} holds a repository already", backend.location());
        return Err(Error::new(ErrorKind::AlreadyExists, what));
    }
    let id = random::name()?;
    let master = keys::new_master()?;
    let encryption = if new.password.is_some() { Encryption::Aes256Gcm } else { Encryption::None };
    let class = |c: chunker::ChunkClass| [c.min, c.avg, c.max];
    let config = Config {
        version: u32::from(FORMAT_VERSION),
        id: id.to_string(),
        created: new.now.rfc3339(),
        encryption,
        public_key: new.password.is_none().then(|| keys::public_key_hex(&master)),
        content_chunks: new.like.map_or_else(|| class(chunker::CONTENT), |c| c.content_chunks),
        database_chunks: new.like.map_or_else(|| class(chunker::DATABASE), |c| c.database_chunks),
        pack_bytes: PACK_BYTES,
        group_readable: new.group_readable,
        parity,
    };
    let keyring = Arc::new(Keyring::new(id, encryption, &master));
    let mut slot_id = String::new();
    if let Some(password) = new.password {
        let cost = keys::new_slot_cost();
        let slot = keys::new_slot(&id, &master, password, &new.owner, new.now, cost)?;
        slot_id.clone_from(&slot.id);
        // A creation that was killed before may have left a key record of an id that never was.
        let number = keys::numbers(backend.as_ref())?.into_iter().max().unwrap_or(0) + 1;
        keys::write_slots(backend.as_ref(), &id, number, &KeySlots { slots: vec![slot] })?;
    }
    // The config last: a directory with one is a repository that can be opened.
    write_config(backend.as_ref(), &keyring, 1, &config)?;
    let segments = SegmentPolicy::default();
    let (slot, cache, remarks) = (slot_id, None, Vec::new());
    Ok(Repository { backend, keyring, config, master, slot, cache, segments, remarks })
}

fn write_config(backend: &dyn Backend, keyring: &Keyring, number: u32, config: &Config) -> Result<()> {
    let name = FileName::Config(number);
    let body = config.encode();
    let mut bytes = encode_plain_record(&name, keyring.repository(), &body, &keyring.config_mac(&body));
    let sum = hash::plain(&bytes);
    bytes.extend_from_slice(&sum);
    write_new(backend, &name, &bytes)?;
    copies::write(backend, &name, &bytes)
}

/// Numbers of all configs, damaged ones and those known from their second copy too.
fn config_numbers(backend: &dyn Backend) -> Result<Vec<u32>> {
    let mut numbers: Vec<u32> = Vec::new();
    for stat in backend.list(Folder::Config)?.into_iter().chain(backend.list(Folder::Copies)?) {
        if let FileName::Config(n) | FileName::CopyOfConfig(n) = stat.name {
            numbers.push(n);
        }
    }
    numbers.sort_unstable();
    numbers.dedup();
    Ok(numbers)
}

/// Finds a repository and reads its config, which needs no password.
pub fn locate(backend: Arc<dyn Backend>) -> Result<Located> {
    let mut trouble = None;
    for number in config_numbers(backend.as_ref())?.into_iter().rev() {
        let name = FileName::Config(number);
        match copies::either(backend.as_ref(), &name, &|bytes, name| judge_config(bytes, name)) {
            Ok((judged, copied)) => {
                let JudgedConfig { id, config, mac, body } = judged;
                let remark = copied.then(|| copies::remark(&name));
                return Ok(Located { backend, id, config, mac, body, remark });
            }
            Err(e) if matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => trouble = Some(e),
            Err(e) => return Err(e),
        }
    }
    if let Some(trouble) = trouble {
        return Err(trouble);
    }
    if !backend.list(Folder::Packs)?.is_empty() || !backend.list(Folder::Snapshots)?.is_empty() {
        let what = "the repository has packs or snapshots but no config: its config file is lost";
        return Err(Error::corrupt(format!("{}: {what}", backend.location())));
    }
    Err(Error::new(ErrorKind::NotFound, format!("{} holds no repository", backend.location())))
}

/// A config file that is as it was written, as far as can be told without the key.
pub struct JudgedConfig {
    pub id: Name,
    pub config: Config,
    pub mac: [u8; 32],
    pub body: Vec<u8>,
}

/// Reads a config file's bytes.
pub fn judge_config(bytes: &[u8], name: &FileName) -> Result<JudgedConfig> {
    let record = decode_plain_record(bytes, name)?;
    if hash::plain(record.hashed) != record.hash {
        return Err(Error::corrupt(format!("{name} is damaged: its checksum does not fit")));
    }
    let config = Config::decode(record.body)?;
    if Name::parse(&config.id).ok() != Some(record.repository) {
        return Err(Error::corrupt(format!("{name} names two repositories")));
    }
    Ok(JudgedConfig { id: record.repository, config, mac: record.mac, body: record.body.to_vec() })
}

impl Located {
    pub fn config(&self) -> &Config {
        &self.config
    }

    pub fn id(&self) -> &Name {
        &self.id
    }

    pub fn is_encrypted(&self) -> bool {
        self.config.encryption != Encryption::None
    }

    /// Where it lies, for repositories in a directory.
    pub fn local_place(&self) -> Option<PathBuf> {
        Some(PathBuf::from(self.backend.location())).filter(|p| p.is_absolute() || p.exists())
    }

    /// Opens the repository. `cache` is the folder of all repositories' caches. `password` is needed exactly when it
    /// is encrypted.
    pub fn open(self, password: Option<&Password>, cache: Option<&Path>) -> Result<Repository> {
        let cache = cache.map(|dir| dir.join(self.id.to_string()));
        let mut remarks: Vec<String> = self.remark.iter().cloned().collect();
        let (master, slot) = match (self.config.encryption, password) {
            (Encryption::None, _) => (self.public_master()?, String::new()),
            (_, None) => {
                return Err(Error::new(
                    ErrorKind::WrongKey,
                    "this repository is encrypted; give its password",
                ));
            }
            (_, Some(password)) => {
                let keys::FoundSlots { slots, remark } = keys::read_slots(self.backend.as_ref(), &self.id)?;
                remarks.extend(remark);
                let last = cache.as_ref().and_then(|dir| std::fs::read_to_string(dir.join("slot")).ok());
                keys::unlock(&slots, &self.id, password, last.as_deref())?
            }
        };
        let keyring = Arc::new(Keyring::new(self.id, self.config.encryption, &master));
        if keyring.config_mac(&self.body) != self.mac {
            return Err(Error::corrupt(
                "the repository's config is not the one that was written with this key",
            ));
        }
        if let Some(dir) = &cache
            && !slot.is_empty()
            && std::fs::read_to_string(dir.join("slot")).ok().as_deref() != Some(slot.as_str())
        {
            // Only a hint which slot to try first.
            let _ = std::fs::create_dir_all(dir).and_then(|()| std::fs::write(dir.join("slot"), &slot));
        }
        let Located { backend, config, .. } = self;
        let segments = SegmentPolicy::default();
        Ok(Repository { backend, keyring, config, master, slot, cache, segments, remarks })
    }

    fn public_master(&self) -> Result<Zeroizing<[u8; 32]>> {
        let bytes = self.config.public_key.as_deref().and_then(unhex).filter(|b| b.len() == 32);
        let bytes = bytes.ok_or_else(|| Error::corrupt("the repository's config lacks its key"))?;
        let mut master = Zeroizing::new([0; 32]);
        master.copy_from_slice(&bytes);
        Ok(master)
    }
}

impl Repository {
    pub fn id(&self) -> &Name {
        self.keyring.repository()
    }

    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    pub fn keyring(&self) -> &Arc<Keyring> {
        &self.keyring
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    pub fn is_encrypted(&self) -> bool {
        self.config.encryption != Encryption::None
    }

    /// What the user should know about how it was opened: damage that was got round.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// This repository's cache folder; everything in it may be deleted at any time.
    pub fn cache_dir(&self) -> Option<PathBuf> {
        self.cache.as_ref().map(|dir| dir.join("index"))
    }

    /// What collections remember beside that: authenticated, and just as disposable.
    pub fn collected_dir(&self) -> Option<PathBuf> {
        self.cache.as_ref().map(|dir| dir.join("collected"))
    }

    /// The same repository by way of another backend, without a cache.
    pub fn with_backend(&self, backend: Arc<dyn Backend>) -> Repository {
        Repository {
            backend,
            keyring: Arc::clone(&self.keyring),
            config: self.config.clone(),
            master: self.master.clone(),
            slot: self.slot.clone(),
            cache: None,
            segments: self.segments,
            remarks: Vec::new(),
        }
    }

    /// How files of this repository are cut.
    pub fn content_chunker(&self) -> Result<chunker::Chunker> {
        let [min, avg, max] = self.config.content_chunks;
        let class = chunker::ChunkClass { min, avg, max };
        class.check()?;
        Ok(chunker::Chunker::new(&chunker::Gear::new(&self.keyring.gear_bytes()), class))
    }

    /// How databases of this repository are cut.
    pub fn database_chunker(&self) -> Result<chunker::Chunker> {
        let [min, avg, max] = self.config.database_chunks;
        let class = chunker::ChunkClass { min, avg, max };
        class.check()?;
        Ok(chunker::Chunker::new(&chunker::Gear::new(&self.keyring.gear_bytes()), class))
    }

    pub fn set_cache(&mut self, caches: Option<&Path>) {
        self.cache = caches.map(|dir| dir.join(self.id().to_string()));
    }

    pub fn set_segments(&mut self, policy: SegmentPolicy) {
        self.segments = policy;
    }

    /// Whether copies of new packs' footers are stored in index segments.
    pub fn writes_segments(&self) -> bool {
        match self.segments {
            SegmentPolicy::Always => true,
            SegmentPolicy::Never => false,
            SegmentPolicy::Auto => self.backend.requests_are_slow(),
        }
    }

    /// Looks at what is there now.
    pub fn load_index(&self) -> Result<Index> {
        let cache = self.cache_dir();
        let sources = Sources { cache: cache.as_deref(), segments: true };
        Index::load(self.backend.as_ref(), &self.keyring, sources)
    }

    /// As `load_index`, but whatever the cache does not know comes from the packs themselves.
    pub fn load_index_of_packs(&self) -> Result<Index> {
        let cache = self.cache_dir();
        let sources = Sources { cache: cache.as_deref(), segments: false };
        Index::load(self.backend.as_ref(), &self.keyring, sources)
    }

    /// As `load_index`, from the packs alone.
    pub fn load_index_uncached(&self) -> Result<Index> {
        Index::load(self.backend.as_ref(), &self.keyring, Sources::default())
    }

    /// A reader over what is there now.
    pub fn reader(&self) -> Result<Reader> {
        Ok(self.reader_with(self.load_index()?))
    }

    pub fn reader_with(&self, index: Index) -> Reader {
        Reader::new(Arc::clone(&self.backend), Arc::clone(&self.keyring), Arc::new(index))
    }

    /// New packs get so many per cent of parity from now on: a config that differs in nothing else takes the place of
    /// the one there is.
    pub fn set_parity(&self, percent: u32) -> Result<()> {
        let backend = self.backend.as_ref();
        let number = config_numbers(backend)?.into_iter().max().unwrap_or(0);
        let config = Config { parity: percent, ..self.config.clone() };
        Config::decode(&config.encode())?;
        write_config(backend, &self.keyring, number + 1, &config)?;
        removal::configs(backend, number)
    }

    /// A new slot for another password; returns its id.
    pub fn add_key(&self, password: &Password, owner: &SlotOwner, now: Timestamp) -> Result<String> {
        let cost = keys::new_slot_cost();
        let slot = keys::new_slot(self.id(), &self.master, password, owner, now, cost)?;
        let id = slot.id.clone();
        keys::change_slots(self.backend.as_ref(), self.id(), &|slots| {
            slots.slots.push(slot.clone());
            Ok(())
        })?;
        Ok(id)
    }

    /// The password that opened the repository is replaced in one step.
    pub fn change_password(&self, password: &Password, owner: &SlotOwner, now: Timestamp) -> Result<String> {
        let cost = keys::new_slot_cost();
        let slot = keys::new_slot(self.id(), &self.master, password, owner, now, cost)?;
        let id = slot.id.clone();
        let old = self.slot.clone();
        keys::change_slots(self.backend.as_ref(), self.id(), &|slots| {
            slots.slots.retain(|s| s.id != old);
            slots.slots.push(slot.clone());
            Ok(())
        })?;
        Ok(id)
    }

    pub fn remove_key(&self, id: &str) -> Result<()> {
        keys::change_slots(self.backend.as_ref(), self.id(), &|slots| {
            slots.slots.retain(|s| s.id != id);
            Ok(())
        })
        .map(|_| ())
    }

    pub fn key_slots(&self) -> Result<KeySlots> {
        keys::read_slots(self.backend.as_ref(), self.id()).map(|found| found.slots)
    }
}
